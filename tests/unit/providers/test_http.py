"""HTTP against a real server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from opskit import DAG
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException, AirflowNotFoundException
from opskit.core.dag.sensors.base import PokeReturnValue
from opskit.providers.http import HttpHook, HttpOperator, HttpSensor
from opskit.providers.optional import AirflowOptionalProviderFeatureException
from tests.unit.providers.web import Web, web_server

Connect = Callable[..., Connection]


@pytest.fixture
def web(connect: Connect) -> Iterator[Web]:
    """A server behind the connection http_default."""
    with web_server() as server:
        connect(
            "http_default", conn_type="http", host="127.0.0.1", port=server.port, login="ada", password="pw",
            extra={"X-Team": "data", "timeout": 20},
        )  # fmt: skip
        yield server


def test_a_request_has_what_the_connection_says(web: Web) -> None:
    response = HttpHook(method="get").run("v1/people", data={"page": 2}, headers={"Accept": "text/plain"})
    assert response.text == "ok"
    seen = web.requests[0]
    assert (seen.method, seen.path, seen.query) == ("GET", "/v1/people", {"page": "2"})
    assert seen.headers["X-Team"] == "data"
    assert seen.headers["Accept"] == "text/plain"
    assert seen.headers["Authorization"] == "Basic YWRhOnB3"
    assert "timeout" not in seen.headers
    HttpHook().run("/v1/people", json={"name": "Ada"})
    assert (web.requests[1].method, json.loads(web.requests[1].body)) == ("POST", {"name": "Ada"})
    HttpHook(method="PUT").run("/x", data="text")
    assert web.requests[2].body == b"text"


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "example.org"}, "http://example.org/e"),
        ({"host": "example.org", "schema": "https", "port": 8443}, "https://example.org:8443/e"),
        ({"host": "https://example.org/base/"}, "https://example.org/base/e"),
        ({"host": "https://example.org/base"}, "https://example.org/base/e"),
    ],
)
def test_urls_start_as_the_connection_says(connect: Connect, fields: dict[str, Any], url: str) -> None:
    connect("http_default", conn_type="http", **fields)
    hook = HttpHook()
    hook.get_conn().close()
    assert hook.url_from_endpoint("e") == url


def test_errors_of_the_server_and_of_the_connection_are_told(web: Web, connect: Connect) -> None:
    web.answer = lambda request: (418, "short and stout")
    with pytest.raises(AirflowException, match=r"^418:I'm a Teapot$"):
        HttpHook().run("tea")
    assert HttpHook().run("tea", extra_options={"check_response": False}).status_code == 418
    assert HttpHook().test_connection() == (False, "418:I'm a Teapot")
    connect("nobody", conn_type="http", host="127.0.0.1", port=1)
    with pytest.raises(requests.exceptions.ConnectionError):
        HttpHook(http_conn_id="nobody").run()
    with pytest.raises(AirflowNotFoundException):
        HttpHook(http_conn_id="unknown").get_conn()


def test_redirects_are_followed_unless_told_otherwise(web: Web) -> None:
    web.answer = lambda request: (302, "/new") if request.path == "/old" else (200, "here")
    assert HttpHook("GET").run("old").text == "here"
    assert HttpHook("GET").run("old", extra_options={"allow_redirects": False}).status_code == 302


def test_an_operator_pushes_what_the_server_said(web: Web, dag: DAG) -> None:
    web.answer = lambda request: (200, json.dumps({"path": request.path, **request.query}))
    common: dict[str, Any] = {"method": "GET"}
    HttpOperator(task_id="plain", endpoint="runs/{{ dag.dag_id }}", data={"day": "{{ ds }}"}, **common)
    HttpOperator(
        task_id="filtered",
        endpoint="a",
        response_filter=lambda response, ti: [response.json()["path"], ti.task_id],
        response_check=lambda response, **context: response.json()["path"] == "/a" and "ds" in context,
        log_response=True,
        **common,
    )
    HttpOperator(task_id="bad", endpoint="b", response_check=lambda response: False, **common)
    result = dag.test()
    assert result.task_states == {"plain": "success", "filtered": "success", "bad": "failed"}, result.reasons
    day = next(request.query["day"] for request in web.requests if request.path == "/runs/d")
    assert json.loads(result.xcoms["plain"]["return_value"]) == {"path": "/runs/d", "day": day}
    assert result.xcoms["filtered"]["return_value"] == ["/a", "filtered"]
    assert result.reasons["bad"] == "AirflowException: Response check returned False."


def test_pages_are_asked_for_until_the_last_one(web: Web) -> None:
    web.answer = lambda request: (200, json.dumps({"page": int(request.query.get("page", 1))}))

    def following(response: Any) -> dict[str, Any] | None:
        page = response.json()["page"]
        return {"data": {"page": page + 1}, "headers": {"X-Page": str(page)}} if page < 3 else None

    task = HttpOperator(
        task_id="t", endpoint="list", method="GET", data={"size": "9"}, pagination_function=following,
        response_filter=lambda responses: [response.json()["page"] for response in responses],
    )  # fmt: skip
    assert task.execute({}) == [1, 2, 3]
    assert [request.query for request in web.requests] == [
        {"size": "9"}, {"size": "9", "page": "2"}, {"size": "9", "page": "3"},
    ]  # fmt: skip
    assert web.requests[2].headers["X-Page"] == "2"


def test_a_sensor_waits_while_there_is_nothing(web: Web) -> None:
    def poke(**options: Any) -> bool | PokeReturnValue:
        return HttpSensor(task_id="s", endpoint="ready", **options).poke({})

    web.answer = lambda request: (404, "")
    assert poke() is False
    web.answer = lambda request: (503, "")
    assert poke(response_error_codes_allowlist=["404", "503"]) is False
    with pytest.raises(AirflowException, match="503"):
        poke()
    web.answer = lambda request: (200, "later")
    assert poke() is True
    assert poke(response_check=lambda response: "done" in response.text) is False
    answer = poke(response_check=lambda response: PokeReturnValue(True, response.text))
    assert isinstance(answer, PokeReturnValue)
    assert answer.xcom_value == "later"


def test_the_library_is_named_when_it_is_missing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    task = HttpOperator(task_id="t", endpoint="e")
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"pip install 'opskit\[http\]'"):
        task.execute({})


def test_a_request_is_sent_again_as_the_arguments_say(web: Web) -> None:
    import tenacity

    again = {"stop": tenacity.stop_after_attempt(3), "retry": tenacity.retry_if_exception_type(AirflowException)}
    web.answer = lambda request: (503, "") if len(web.requests) < 3 else (200, "at last")
    assert HttpOperator(task_id="t", endpoint="e", retry_args=again).execute({}) == "at last"
    assert len(web.requests) == 3
    web.answer = lambda request: (503, "")
    with pytest.raises(tenacity.RetryError):
        HttpHook().run_with_advanced_retry(again, endpoint="e")
    assert len(web.requests) == 6
