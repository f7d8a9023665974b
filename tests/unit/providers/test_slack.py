"""Slack's web API and webhooks, as far as a small server plays them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from opskit import DAG
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException, AirflowNotFoundException
from opskit.core.dag.operators.python import PythonOperator
from opskit.providers.slack.hooks import SlackHook, SlackWebhookHook
from opskit.providers.slack.notifiers import SlackNotifier, send_slack_webhook_notification
from opskit.providers.slack.operators import (
    SlackAPIFileOperator,
    SlackAPIOperator,
    SlackAPIPostOperator,
    SlackWebhookOperator,
)
from tests.unit.providers.web import Request, Web, web_server

CHANNELS = {
    "": {"channels": [{"name": "one", "id": "C1"}], "response_metadata": {"next_cursor": "more"}},
    "more": {"channels": [{"name": "alerts", "id": "C2"}]},
}


@pytest.fixture
def slack(connect: Callable[..., Connection]) -> Iterator[Web]:
    """A server that says ok, behind slack_api_default (the API) and slack_default (a webhook)."""
    with web_server() as server:

        def answer(request: Request) -> tuple[int, str]:
            if request.path.startswith(("/services/", "/upload")):
                return 200, "ok"
            if request.headers.get("Authorization") != "Bearer xoxb-1":
                return 200, json.dumps({"ok": False, "error": "invalid_auth"})
            fields = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
            if request.path == "/api/conversations.list":
                return 200, json.dumps({"ok": True, **CHANNELS[fields.get("cursor", "")]})
            if request.path == "/api/files.getUploadURLExternal":
                return 200, json.dumps({"ok": True, "upload_url": f"{server.url}/upload", "file_id": "F1"})
            return 200, json.dumps({"ok": True, "ts": "1.2"})

        server.answer = answer
        connect("slack_api_default", conn_type="slack", password="xoxb-1", extra={"base_url": f"{server.url}/api"})
        connect("slack_default", conn_type="slackwebhook", password="T/B/X", host=f"{server.url}/services")
        yield server


def body(request: Request) -> dict[str, object]:
    return json.loads(request.body)  # type: ignore[no-any-return]


def test_a_method_of_the_api_is_called(slack: Web) -> None:
    hook = SlackHook(slack_conn_id="slack_api_default")
    answer = hook.call("chat.postMessage", json={"channel": "#a", "text": "hi", "thread_ts": None})
    assert (answer["ok"], answer.data["ts"], answer.status_code) == (True, "1.2", 200)
    assert (slack.requests[0].path, body(slack.requests[0])) == (
        "/api/chat.postMessage",
        {"channel": "#a", "text": "hi"},
    )
    assert hook.test_connection()[0]
    assert hook.get_channel_id("#alerts") == "C2"
    with pytest.raises(LookupError, match="nowhere"):
        hook.get_channel_id("nowhere")


def test_a_token_that_is_wrong_or_missing_is_told(slack: Web, connect: Callable[..., Connection]) -> None:
    with pytest.raises(AirflowException, match="invalid_auth"):
        SlackHook(token="no", base_url=f"{slack.url}/api").call("auth.test")
    connect("empty", conn_type="slack")
    with pytest.raises(AirflowNotFoundException, match="password"):
        SlackHook(slack_conn_id="empty").call("auth.test")


def test_operators_post_messages(slack: Web, dag: DAG) -> None:
    SlackAPIPostOperator(task_id="post", channel="#a", text="from {{ dag.dag_id }}", blocks=[{"type": "divider"}])
    SlackAPIOperator(task_id="any", method="reactions.add", api_params={"name": "tada"})
    SlackWebhookOperator(
        task_id="hook", slack_webhook_conn_id="slack_default", message="{{ task.task_id }}", username="a"
    )
    SlackWebhookOperator(
        task_id="old", http_conn_id="slack_default", webhook_token="T/B/Y", message="old", link_names=True
    )
    result = dag.test()
    assert result.state == "success", result.reasons
    by_path = {request.path: body(request) for request in slack.requests}
    assert by_path["/api/chat.postMessage"]["text"] == "from d"
    assert by_path["/api/chat.postMessage"]["blocks"] == '[{"type": "divider"}]'
    assert by_path["/api/reactions.add"] == {"name": "tada"}
    assert by_path["/services/T/B/X"] == {"text": "hook", "username": "a"}
    assert by_path["/services/T/B/Y"] == {"text": "old", "link_names": 1}


def test_files_are_uploaded(slack: Web, tmp_path: Path) -> None:
    (tmp_path / "report.csv").write_text("a,b")
    SlackAPIFileOperator(task_id="f", channels="#alerts", filename=str(tmp_path / "report.csv"), title="R").execute({})
    uploaded = next(request for request in slack.requests if request.path == "/upload")
    assert uploaded.body == b"a,b"
    done = {name: values[0] for name, values in parse_qs(slack.requests[-1].body.decode()).items()}
    assert (done["channel_id"], json.loads(done["files"])) == ("C2", [{"id": "F1", "title": "R"}])
    with pytest.raises(ValueError, match="not both"):
        SlackHook().send_file_v1_to_v2(file="a", content="b")


def test_a_webhook_that_refuses_fails_the_task(slack: Web, connect: Callable[..., Connection]) -> None:
    hook = SlackWebhookHook(slack_webhook_conn_id="slack_default")
    hook.send_text("hi", unfurl_links=False)
    assert body(slack.requests[-1]) == {"text": "hi", "unfurl_links": False}
    hook.send_dict('{"text": "raw"}', headers={"X-A": "b"})
    assert slack.requests[-1].headers["X-A"] == "b"
    slack.answer = lambda request: (404, "no_team")
    with pytest.raises(AirflowException, match=r"no_team.*404"):
        hook.send(text="hi")
    with pytest.raises(AirflowException, match="valid JSON"):
        hook.send_dict("text")
    connect("whole", conn_type="slackwebhook", password="https://hooks.example.org/a/b")
    assert SlackWebhookHook(slack_webhook_conn_id="whole").url == "https://hooks.example.org/a/b"
    connect("usual", conn_type="slackwebhook", password="T1/B1/x")
    assert SlackWebhookHook(slack_webhook_conn_id="usual").url == "https://hooks.slack.com/services/T1/B1/x"


def test_notifiers_tell_what_happened(slack: Web, dag: DAG) -> None:
    PythonOperator(
        task_id="bad",
        python_callable=lambda: 1 / 0,
        on_failure_callback=[
            SlackNotifier(text="{{ ti.task_id }} failed", channel="#alerts"),
            send_slack_webhook_notification(text="{{ dag.dag_id }}"),
        ],
    )
    assert dag.test().state == "failed"
    assert [body(request)["text"] for request in slack.requests] == ["bad failed", "d"]
