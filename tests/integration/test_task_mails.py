"""Mails of tasks, to a real SMTP server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag import runtime
from opskit.core.dag.execution import execute
from opskit.core.dag.mail import MailServer, build_mime_message, get_email_address_list, send_email
from opskit.core.dag.serialization import serialize
from opskit.operators import EmailOperator, PythonOperator
from tests.smtp import Mailbox, smtp_server


@pytest.fixture
def mailbox(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A server that only the connection `post` knows."""
    monkeypatch.setenv("OPSKIT_HOME", str(home))
    runtime.set_store(runtime.MemoryStore())
    with smtp_server(password="geheim") as server:
        connection = {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": server.port,
            "login": "me",
            "password": "geheim",
            "extra": {"disable_tls": True, "disable_ssl": True, "from_email": "dags@example.com"},
        }
        monkeypatch.setenv("AIRFLOW_CONN_POST", json.dumps(connection))
        yield server
    runtime.set_store(None)


def test_a_task_sends_a_mail_with_attachments_to_all_kinds_of_recipients(mailbox: Mailbox, tmp_path: Path) -> None:
    (tmp_path / "ré.csv").write_text("a;b\n")
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as dag:
        EmailOperator(
            task_id="t",
            to="a@example.com; b@example.com",
            cc=["c@example.com"],
            bcc="hidden@example.com",
            subject="Run {{ run_id }}",
            html_content="<b>Grüße, {{ dag.dag_id }}</b>",
            files=[str(tmp_path / "ré.csv")],
            conn_id="post",
            custom_headers={"X-Run": "1"},
        )
    run = dag.test()
    assert (run.state, run.reasons) == ("success", {})
    [message] = mailbox.messages
    assert mailbox.logins == [("me", "geheim")]
    assert mailbox.senders == ["dags@example.com"]
    assert mailbox.recipients == [["a@example.com", "b@example.com", "c@example.com", "hidden@example.com"]]
    assert (message["To"], message["Cc"]) == ("a@example.com, b@example.com", "c@example.com")
    assert message["Subject"].startswith("Run manual__")
    assert message["X-Run"] == "1"
    assert "hidden" not in str(message)
    body, attachment = message.iter_parts()
    assert body.get_content().strip() == "<b>Grüße, d</b>"
    assert (attachment.get_filename(), attachment.get_content()) == ("ré.csv", b"a;b\n")


def test_a_mail_that_is_refused_fails_the_task_with_the_reason(mailbox: Mailbox) -> None:
    mailbox.refuse = True
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as dag:
        EmailOperator(task_id="t", to="a@example.com", subject="s", html_content="x", conn_id="post")
    run = dag.test()
    assert run.state == "failed"
    assert "did not take the mail to a@example.com" in run.reasons["t"]


def test_a_wrong_password_is_not_told(mailbox: Mailbox) -> None:
    mailbox.password = "other"
    with pytest.raises(Exception, match="refused the login") as caught:
        send_email("a@example.com", "s", "x", conn_id="post")
    assert "geheim" not in str(caught.value)


def test_nothing_is_sent_without_a_recipient_or_when_it_is_a_dry_run(mailbox: Mailbox) -> None:
    send_email("a@example.com", "s", "x", conn_id="post", dryrun=True)
    with pytest.raises(Exception, match="has no recipient"):
        send_email([], "s", "x", conn_id="post")
    assert mailbox.messages == []


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [("a@x, b@x;c@x ", ["a@x", "b@x", "c@x"]), (["a@x,b@x"], ["a@x", "b@x"]), ((), []), ("", [])],
)
def test_addresses_come_in_texts_and_lists(addresses: Any, expected: list[str]) -> None:
    assert get_email_address_list(addresses) == expected


@pytest.mark.parametrize("addresses", [3, [None]])
def test_addresses_that_are_no_texts_are_refused(addresses: Any) -> None:
    with pytest.raises(TypeError):
        get_email_address_list(addresses)


def test_a_subject_can_not_smuggle_headers() -> None:
    message, recipients = build_mime_message("me@x", "a@x", "one\nBcc: evil@x", "y")
    assert message["Subject"] == "one Bcc: evil@x"
    assert recipients == ["a@x"]


def fail() -> None:
    raise ValueError("<no> such thing")


def test_a_task_with_addresses_sends_a_mail_for_each_try_that_fails(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", os.environ["AIRFLOW_CONN_POST"])
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as dag:
        PythonOperator(task_id="t", python_callable=fail, retries=1, retry_delay=0, email=["a@example.com"])
        PythonOperator(task_id="only_at_last", python_callable=fail, retries=1, email="b@x", email_on_retry=False)
        PythonOperator(task_id="never", python_callable=fail, email="c@x", email_on_failure=False)
        PythonOperator(task_id="good", python_callable=lambda: None, email="d@x")
    assert dag.test().state == "failed"
    subjects = sorted(str(message["Subject"]).rpartition(" ")[0] for message in mailbox.messages)
    assert subjects == ["Task failed: d.only_at_last", "Task failed: d.t", "Task up for retry: d.t"]
    first = next(message for message in mailbox.messages if message["To"] == "a@example.com")
    assert "<td>1 of 2</td>" in first.get_content()
    assert "&lt;no&gt; such thing" in first.get_content()


def test_a_mail_that_is_not_taken_does_not_change_the_outcome(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", os.environ["AIRFLOW_CONN_POST"])
    mailbox.refuse = True
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as dag:
        PythonOperator(task_id="t", python_callable=fail, email="a@example.com")
    assert dag.test().reasons == {"t": "ValueError: <no> such thing"}
    assert "Failed to send email to: a@example.com" in caplog.text


def test_a_task_whose_process_died_still_gets_its_mail(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", os.environ["AIRFLOW_CONN_POST"])
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as dag:
        PythonOperator(task_id="t", python_callable=fail, email="a@x", email_on_retry=False)
        PythonOperator(task_id="silent", python_callable=fail)
    told = {task["task_id"]: task.get("has_on_failure_callback") for task in serialize(dag)["tasks"]}
    assert (told["t"], bool(told["silent"])) == (True, False)
    frame = {
        "kind": "on_failure_callback",
        "task_id": "t",
        "run_id": "r",
        "reason": "killed by SIGKILL",
        "run": {"run_type": "manual", "logical_date": "2024-03-01T00:00:00+00:00"},
    }
    execute(dag, frame)
    [message] = mailbox.messages
    assert "killed by SIGKILL" in message.get_content()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"host": "mx", "port": 465}, ("mx", 465, None, False, True)),
        ({"host": "mx", "port": 465, "extra": {"disable_ssl": "true"}}, ("mx", 465, None, False, False)),
        ({"host": "mx", "login": "me", "password": "x"}, ("mx", 25, "me", True, False)),
        (
            {"host": "mx", "login": "me", "password": "x", "extra": {"disable_tls": True}},
            ("mx", 25, "me", False, False),
        ),
        ({}, ("localhost", 25, None, False, False)),
    ],
)
def test_a_connection_says_how_the_server_is_spoken_to_and_the_configuration_the_rest(
    home: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    monkeypatch.setenv("OPSKIT_HOME", str(home))
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps({"conn_type": "smtp", **fields}))
    server = MailServer.of(None)
    assert (server.host, server.port, server.user, server.starttls, server.tls) == expected
