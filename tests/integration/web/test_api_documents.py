"""The OpenAPI documents say what the API does: schemathesis asks for what they promise, and for what they forbid."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api_site import PASSWORD, ApiSite, api_site
from tests.databases import Databases

schemathesis = pytest.importorskip("schemathesis")
requests = pytest.importorskip("requests")
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from schemathesis import checks  # noqa: E402
from schemathesis.generation import GenerationMode  # noqa: E402

FACES = ("/api/v1", "/opskit/v1")
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    url = databases.migrated("sqlite")
    with api_site(tmp_path_factory.mktemp("home"), url, {"OPSKIT__WEBSERVER__EXPOSE_CONFIG": "yes"}) as made:
        yield made
    databases.drop(url)


def documented(site: ApiSite, face: str) -> Any:
    with site.http(None) as http:
        return http.get(f"{face}/openapi.json").raise_for_status().json()


def operations(document: Any) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, found in document["paths"].items() for method in found}


@pytest.mark.timeout(900)  # some 12 s of processor time, whatever the machine does besides
@pytest.mark.parametrize("face", FACES)
def test_no_documented_operation_gives_an_answer_that_its_document_does_not_promise(site: ApiSite, face: str) -> None:
    assert trespasses(site, face, examples=1) == {}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("face", FACES)
def test_hundreds_of_requests_to_each_operation_find_no_answer_that_is_not_documented(site: ApiSite, face: str) -> None:
    assert trespasses(site, face, examples=150) == {}


def trespasses(site: ApiSite, face: str, examples: int) -> dict[str, str]:
    """Operation → what was wrong with an answer: so many requests that fit the document, and so many that don't."""
    schema = schemathesis.openapi.from_dict(documented(site, face))
    found: dict[str, str] = {}
    with requests.Session() as session:
        session.auth = ("ada", PASSWORD)
        for result in schema.get_all_operations():
            operation = result.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                problem = _tried(operation, mode, f"{site.url}{face}", session, examples)
                if problem is not None:
                    found[f"{operation.label} ({mode.value})"] = problem
    return found


def _tried(operation: Any, mode: GenerationMode, base_url: str, session: Any, examples: int) -> str | None:
    @seed(1)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(base_url=base_url, session=session, checks=CHECKS, timeout=60)

    try:
        ask()
    except (Exception, BaseExceptionGroup) as problem:  # noqa: BLE001 -- whatever it is, it belongs into the list
        if type(problem).__name__ == "Unsatisfiable":
            return None  # nothing can be sent that does not fit: no body, no parameters
        return f"{type(problem).__name__}: {problem}"
    return None


def test_each_operation_of_the_official_client_is_in_the_document(site: ApiSite) -> None:
    apis = pytest.importorskip("airflow_client.client.apis")
    wanted = set()
    for name, made in inspect.getmembers(apis, inspect.isclass):
        if name.endswith("Api"):
            for endpoint in vars(made()).values():
                if hasattr(endpoint, "settings"):
                    wanted.add((endpoint.settings["http_method"], endpoint.settings["endpoint_path"]))
    there = {(method, _without_names(path)) for method, path in operations(documented(site, "/api/v1"))}
    assert {(method, path) for method, path in wanted if (method, _without_names(path)) not in there} == set()


@pytest.mark.parametrize("face", FACES)
def test_without_credentials_only_what_the_document_calls_open_is_served(site: ApiSite, face: str) -> None:
    document = documented(site, face)
    with site.http(None) as http:
        for path, found in document["paths"].items():
            for method, operation in found.items():
                answer = http.request(method, face + _filled(path))
                if operation["security"]:
                    assert answer.status_code == 401, (method, path)
                    assert answer.headers["content-type"] == "application/problem+json"
                    assert "Basic" in answer.headers["www-authenticate"]
                else:
                    assert answer.status_code == 200, (method, path)


@pytest.mark.parametrize("face", FACES)
def test_what_is_no_operation_answers_with_a_problem_too(site: ApiSite, face: str) -> None:
    with site.http() as http:
        for answer, status in (
            (http.get(f"{face}/nothing-of-this-name"), 404),
            (http.request("DELETE", f"{face}/openapi.json"), 405),
        ):
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status


def test_a_parameter_or_field_that_nobody_knows_is_refused_with_its_name(site: ApiSite) -> None:
    with site.http() as http:
        _refused(http.get("/api/v1/pools?colour=red"), "colour")
        _refused(http.get("/api/v1/pools?order_by=colour"), "colour")
        _refused(http.get("/api/v1/pools?limit=-1"), "limit")
        _refused(http.get("/api/v1/pools?limit=1&limit=2"), "limit")
        _refused(http.get("/api/v1/eventLogs?before=yesterday"), "before")
        _refused(http.post("/api/v1/pools", json={"name": "p", "slots": 1, "colour": "red"}), "colour")
        _refused(http.post("/api/v1/pools", json={"name": "p", "slots": "1"}), "slots")
        _refused(http.post("/api/v1/variables", json={"key": "k", "value": "a\0b"}), "U+0000")
        _refused(http.post("/api/v1/variables", content=b'{"key": "k", "value": "\\ud800"}'), "")
        _refused(http.post("/api/v1/variables", content=b"{"), "")
        _refused(http.get("/api/v1/connections/a%00b"), "connection_id")
        _refused(http.patch("/api/v1/pools/default_pool?update_mask=colour", json={"slots": 1}), "colour")


def _refused(answer: httpx.Response, named: str) -> None:
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert named in answer.json()["detail"]


def test_the_page_of_operations_needs_no_script_and_names_each_of_them(site: ApiSite) -> None:
    with site.http() as http:
        page = http.get("/api/v1/ui")
        assert page.headers["content-type"].startswith("text/html")
        for method, path in operations(documented(site, "/api/v1")):
            assert f"{method} /api/v1{path}" in page.text
        assert "cdn" not in page.text.lower()
        as_yaml = http.get("/api/v1/openapi.yaml")
        assert as_yaml.json() == documented(site, "/api/v1")


def _without_names(path: str) -> str:
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def _filled(path: str) -> str:
    return "/".join("1" if part.startswith("{") else part for part in path.split("/"))
