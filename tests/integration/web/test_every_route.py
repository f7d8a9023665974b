"""Each route of the application that changes something, as somebody who may not, and as a forged request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from opskit.core.metastore import passwords, roles, users
from opskit.core.metastore.engine import transaction
from opskit.core.metastore.permissions import ACTIONS, EDIT, READ, ROLES, one_dag
from opskit.web import app as application
from tests import dag_page_sample as sample
from tests.api_site import CONSUMER, PASSWORD, ApiSite, api_site
from tests.databases import Databases
from tests.sample_metastore import everything
from tests.web_site import CHEAP, csrf_token

# What everybody who has signed in may do: to oneself, and asking with a body.
ONES_OWN = {
    ("POST", "/login"),
    ("POST", "/logout"),
    ("POST", "/me/password"),
    ("POST", "/me/tokens"),
    ("POST", "/me/tokens/{number}/revoke"),
    ("POST", "/me/sessions/{identifier}/end"),
}
QUESTIONS = {
    ("POST", "/api/v1/dags/~/dagRuns/list"),
    ("POST", "/api/v1/dags/~/dagRuns/~/taskInstances/list"),
}
_RUN = "the run_id of a run"
_TASKS = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances"
# Bodies that are understood, so that nothing but the lack of a permission is in the way.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/connections"): {"connection_id": "x", "conn_type": "http"},
    ("POST", "/connections/test"): {"conn_type": "http"},
    ("PATCH", "/dags"): {"is_paused": True},
    ("PATCH", "/dags/{dag_id}"): {"is_paused": True},
    ("PATCH", "/dags/{dag_id}/dagRuns/{dag_run_id}"): {"state": "failed"},
    ("POST", "/dags/{dag_id}/updateTaskInstancesState"): {
        "task_id": "report",
        "dag_run_id": _RUN,
        "new_state": "failed",
    },
    ("PATCH", f"{_TASKS}/{{task_id}}"): {"new_state": "failed"},
    ("PATCH", f"{_TASKS}/{{task_id}}/{{map_index}}"): {"new_state": "failed"},
    ("POST", "/datasets/events"): {"dataset_uri": "s3://lake/orders/2026"},
    ("POST", "/pools"): {"name": "x", "slots": 1},
    ("PATCH", "/pools/{pool_name}"): {"name": "default_pool", "slots": 1},
    ("POST", "/roles"): {"name": "x", "actions": []},
    ("POST", "/users"): {"username": "x", "password": "long enough"},
    ("POST", "/variables"): {"key": "x", "value": "y"},
    ("PATCH", "/variables/{variable_key}"): {"key": "x", "value": "y"},
    ("POST", "/jobs"): {"verb": "doctor"},
    ("PATCH", f"{_TASKS}/{{task_id}}/{{map_index}}/hitlDetails"): {"chosen_options": ["x"]},
}
QUERIES = {("PATCH", "/dags"): {"dag_id_pattern": "%"}}
FIELDS = {"name": "x", "key": "x", "value": "y", "state": "failed", "paused": "true", "note": "x", "conf": "{}"}


NAMES_OF_DAGS = ("/api/v1/datasets", "/api/v1/eventLogs", "/audit", "/datasets")
"""Who may read datasets or the audit log reads there which DAGs they are of."""


def routes(reading: bool = False) -> list[tuple[str, str]]:
    """(method, path) of all faces: of all that is no question, or of what only reads."""
    faces = (("/api/v1", application.AIRFLOW_API), ("/opskit/v1", application.OPSKIT_API), ("", application.PAGES))
    found = []
    for prefix, modules in faces:
        for name in modules:
            for route in import_module(f"opskit.web.{name}").router.routes:
                methods = route.methods & {"GET"} if reading else route.methods - {"GET", "HEAD", "OPTIONS"}
                found += [(method, prefix + route.path) for method in methods]
    assert len(found) > 60
    return sorted(set(found) - ONES_OWN - QUESTIONS)


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_METHOD", CHEAP)
        environment = {"OPSKIT__CORE__TEST_CONNECTION": "Enabled"}
        with api_site(tmp_path_factory.mktemp("home"), databases.migrated("sqlite"), environment) as made:
            yield made


@pytest.fixture
def http(site: ApiSite) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=site.url, timeout=60, verify=False) as made:
        yield made


def sign_in(http: httpx.Client, username: str) -> str:
    """The session's token."""
    assert http.post("/login", data={"username": username, "password": PASSWORD}).status_code == 303
    return csrf_token(http.get("/me").text)


def send(site: ApiSite, http: httpx.Client, method: str, path: str, token: str) -> httpx.Response:
    values = {
        "dag_id": sample.DAG_ID,
        "dag_run_id": site.run.run_id,
        "run_id": site.run.run_id,
        "task_id": "report",
        "map_index": "-1",
        "username": "ada",
        "name": "Viewer",
        "role_name": "Viewer",
        "pool_name": "default_pool",
        "number": "1",
        "file_token": token_of_file(site),
    }
    if method == "GET":
        values["name"] = "x"
    url = re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: quote(values.get(found[1], "x"), safe=""), path)
    headers = {"X-CSRF-Token": token} if token else {}
    if not path.startswith(("/api/", "/opskit/")):
        return http.request(method, url, data=FIELDS, headers=headers)
    key = (method, re.sub(r"^/(api|opskit)/v1|:\w+(?=})", "", path))
    body = BODIES.get(key, {"note": "x"} if path.endswith("setNote") else {})
    body = {name: site.run.run_id if value == _RUN else value for name, value in body.items()}
    return http.request(method, url, json=body, headers=headers, params=QUERIES.get(key))


_tokens: dict[str, str] = {}


def token_of_file(site: ApiSite) -> str:
    if site.url not in _tokens:
        with site.http("ada") as http:
            _tokens[site.url] = http.get(f"/api/v1/dags/{sample.DAG_ID}").json()["file_token"]
    return _tokens[site.url]


def world(site: ApiSite) -> dict[str, Any]:
    found = everything(str(site.config.database_url))
    for name in ("web_session", "web_sign_in_limit", "web_user"):
        del found[name]
    found["log"] = [row for row in found["log"] if not row["event"].startswith("users sign")]
    return found


def test_a_viewer_can_not_write_anything_by_page_or_by_api(site: ApiSite, http: httpx.Client) -> None:
    token = sign_in(http, "viola")
    before, wrong = world(site), []
    for method, path in routes():
        answer = send(site, http, method, path, token)
        if answer.status_code not in (401, 403, 501):
            wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200] if '/v1' in path else ''}")
    assert wrong == [], "a route that answers 400 needs a body in BODIES that is understood"
    assert world(site) == before


def test_an_admin_changes_nothing_by_a_request_that_another_site_could_have_made(
    site: ApiSite, http: httpx.Client
) -> None:
    sign_in(http, "ada")
    before = world(site)
    wrong = [
        f"{method} {path}"
        for method, path in sorted({*routes(), *ONES_OWN, *QUESTIONS} - {("POST", "/login")})
        if send(site, http, method, path, "").status_code != 403
    ]
    assert wrong == []
    assert world(site) == before


def test_a_stranger_is_asked_to_sign_in_wherever_something_changes(site: ApiSite, http: httpx.Client) -> None:
    before = world(site)
    asked = {*routes(), *ONES_OWN, *QUESTIONS} - {("POST", "/login")}
    wrong = []
    for method, path in sorted(asked):
        answer = send(site, http, method, path, "")
        if answer.status_code not in (401, 501):
            wrong.append(f"{method} {path}: {answer.status_code}")
    assert wrong == []
    assert world(site) == before


def test_who_may_see_one_dag_sees_nothing_of_another(site: ApiSite) -> None:
    of_all = {(action, "DAGs") for action in ACTIONS}
    of_one = {(action, one_dag(CONSUMER)) for action in (READ, EDIT)}
    with transaction(site.engine) as connection:
        roles.create_role(connection, "Team", (ROLES["Op"] - of_all) | of_one)
        hashed = passwords.hashed(PASSWORD)
        users.create_user(connection, "tina", datetime.now(UTC), roles=["Team"], password_hash=hashed)
    wrong = []
    with site.http("tina") as tina:
        assert tina.get(f"/api/v1/dags/{CONSUMER}").status_code == 200
        assert [one["dag_id"] for one in tina.get("/api/v1/dags").json()["dags"]] == [CONSUMER]
        for method, path in sorted({*routes(reading=True), *routes(), *QUESTIONS} - {("GET", "/live")}):
            if method != "GET" and "{dag_id}" not in path and (method, path) not in QUESTIONS:
                continue
            answer = send(site, tina, method, path, "")
            told = sample.DAG_ID in answer.text.replace(answer.request.url.path, "") and answer.status_code < 400
            allowed = (403, 404, 501) if "{dag_id}" in path else (200, 303, 400, 401, 403, 404, 405, 501, 503)
            if answer.status_code not in allowed or (told and not path.startswith(NAMES_OF_DAGS)):
                wrong.append(f"{method} {path}: {answer.status_code}{' tells of it' if told else ''}")
    assert wrong == []
