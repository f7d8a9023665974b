"""GSheetsHook with Google's API client, against a small server that plays its API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from opskit import DAG
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException
from opskit.providers.google_sheets import (
    GoogleSheetsCreateSpreadsheetOperator,
    GSheetsHook,
    GSheetsValuesOperator,
)
from tests.unit.providers.web import Request, Web, web_server


@pytest.fixture
def google(connect: Callable[..., Connection]) -> Iterator[Web]:
    """A server behind google_cloud_default, which gives tokens to the key of the connection."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with web_server() as server:

        def answer(request: Request) -> tuple[int, str]:
            if request.path == "/token":
                return 200, json.dumps({"access_token": "a1", "expires_in": 3600, "token_type": "Bearer"})
            assert request.headers["authorization"] == "Bearer a1"
            if request.path.endswith("/values/S!A1:B2"):
                return 200, json.dumps({"values": [["a", "b"], ["1"]]})
            if request.path.endswith("values:batchGet"):
                return 200, json.dumps({"valueRanges": []})
            made = {"spreadsheetId": "id1", "spreadsheetUrl": "u", "sheets": [{"properties": {"title": "S"}}]}
            return 200, json.dumps(made)

        server.answer = answer
        account = {
            "type": "service_account", "client_email": "a@b.c", "private_key": key.decode().replace("\n", "\\n"),
            "token_uri": f"{server.url}/token",
        }  # fmt: skip
        connect("google_cloud_default", conn_type="google_cloud_platform", extra={"keyfile_dict": json.dumps(account)})
        yield server


def test_values_are_read_and_written(google: Web) -> None:
    hook = GSheetsHook(api_endpoint=google.url)
    assert hook.get_values("id1", "S!A1:B2") == [["a", "b"], ["1"]]
    assert hook.batch_get_values("id1", ["S!A1"]) == {"valueRanges": []}
    hook.update_values("id1", "S!C1", [["x"]])
    written = google.requests[-1]
    assert (written.method, written.query["valueInputOption"]) == ("PUT", "RAW")
    assert json.loads(written.body) == {"range": "S!C1", "majorDimension": "ROWS", "values": [["x"]]}
    hook.append_values("id1", "S!A1", [["y"]])
    assert google.requests[-1].path.endswith("/values/S!A1:append")
    hook.batch_update_values("id1", ["S!A1"], [[["z"]]])
    assert json.loads(google.requests[-1].body)["data"][0]["values"] == [["z"]]
    hook.clear("id1", "S!A1")
    assert google.requests[-1].path.endswith("/values/S!A1:clear")
    assert hook.get_sheet_titles("id1") == ["S"]
    assert hook.get_sheet_titles("id1", ["T"]) == []
    with pytest.raises(AirflowException, match="equal length"):
        hook.batch_update_values("id1", ["a"], [])


def test_operators_push_what_they_read_and_made(google: Web, dag: DAG) -> None:
    options: dict[str, Any] = {"api_endpoint": google.url}
    GSheetsValuesOperator(task_id="read", spreadsheet_id="id1", range_="S!A1:B2", **options)
    GoogleSheetsCreateSpreadsheetOperator(task_id="make", spreadsheet={"properties": {"title": "{{ ds }}"}}, **options)
    result = dag.test()
    assert result.state == "success", result.reasons
    assert result.xcoms["read"]["return_value"] == [["a", "b"], ["1"]]
    assert result.xcoms["make"]["spreadsheet_id"] == "id1"


def test_a_connection_that_says_two_things_is_refused(connect: Callable[..., Connection]) -> None:
    connect("google_cloud_default", conn_type="google_cloud_platform", extra={"keyfile_dict": "{}", "key_path": "x"})
    with pytest.raises(AirflowException, match="exclude each other"):
        GSheetsHook().get_conn()
    with pytest.raises(AirflowException, match="impersonation_chain"):
        GSheetsHook(impersonation_chain="a@b.c")
