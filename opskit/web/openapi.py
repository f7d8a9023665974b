"""The OpenAPI documents of the two API faces, and a page that lists their operations.

FastAPI describes parameters, bodies and answers; what it can't know is added here: problem answers (RFC 9457) in place
of its own errors, and which operations need credentials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from fastapi import APIRouter, Request
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts

from opskit import __version__
from opskit.web import gate
from opskit.web.render import render

PROBLEM = "application/problem+json"
_ANSWERS = {
    400: "The request can't be understood, or asks for what can't be.",
    401: "Credentials are missing or wrong.",
    403: "The permission is missing, or a setting forbids it.",
    404: "There is nothing of this name.",
    409: "There is one of this name already, or it is in use.",
    413: "The body is too large.",
    429: "Too many wrong passwords: wait.",
    501: "This call has no meaning here; the answer says why.",
    503: "The metastore is not reachable.",
}
_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "What is wrong (RFC 9457), and in `hint` what can be done.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
    },
}
_SCHEMES = {
    "basic": {"type": "http", "scheme": "basic"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "A personal token."},
}


def pages_of(title: str, base: str, modules: str) -> APIRouter:
    """Routes `/openapi.json`, `/openapi.yaml` and `/ui` of a face. `modules`: the name of its tuple in `app`."""
    router = APIRouter(include_in_schema=False)

    def described() -> dict[str, Any]:
        # Only when it is asked for: app.py imports the module that calls this.
        names: tuple[str, ...] = getattr(import_module("opskit.web.app"), modules)
        return document(title, base, names)

    @router.get("/openapi.json")
    def as_json() -> JSONResponse:
        return JSONResponse(described())

    @router.get("/openapi.yaml")
    def as_yaml() -> JSONResponse:
        # JSON is YAML, too: no library is needed for those who ask where Airflow has it.
        return JSONResponse(described(), media_type="application/yaml")

    @router.get("/ui", response_model=None)
    def ui(request: Request) -> Response:
        found = described()
        return render(request, "api_operations.html", document=found, groups=_groups(found), base=base, type_of=type_of)

    return router


@cache
def document(title: str, base: str, modules: tuple[str, ...]) -> dict[str, Any]:
    """The document of a face whose routers stand in these modules of `opskit.web`."""
    routes = [route for name in modules for route in import_module(f"opskit.web.{name}").router.routes]
    made = get_openapi(
        title=title,
        version=__version__,
        description="Times are ISO 8601 with an offset. Errors are problems as in RFC 9457. A browser's session is "
        "accepted, too; changes then need the header X-CSRF-Token.",
        routes=routes,
        servers=[{"url": base}],
    )
    open_ones = set(_open_operations(routes))
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            is_open = (path, method.upper()) in open_ones
            _add_answers(operation, method, is_open=is_open)
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
            operation["security"] = [] if is_open else [{name: []} for name in _SCHEMES]
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM_SCHEMA
    made["components"]["securitySchemes"] = _SCHEMES
    return made


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a parameter: it is there or not, and never null."""
    kinds = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if not kinds:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, "anyOf": kinds}


def _open_operations(routes: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """`(path, METHOD)` of the operations that ask nobody who they are."""
    for route in iter_route_contexts(routes):
        dependant = getattr(route, "dependant", None)
        if dependant is not None and not _identifies(dependant):
            yield from ((str(route.path_format), method) for method in route.methods or ())


def _identifies(dependant: Dependant) -> bool:
    return dependant.call is gate.identify or any(map(_identifies, dependant.dependencies))


def _add_answers(operation: dict[str, Any], method: str, *, is_open: bool) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    statuses = [400]
    if not is_open:
        statuses += [401, 403, 404, 429, 503]
    if method != "get":
        statuses += [409, 413]
    for status in statuses:
        _add_problem(answers, status)
    for status, answer in answers.items():
        if status in ("406", "501", "502") and "content" not in answer:
            answer["content"] = _problem_content()
    operation["responses"] = dict(sorted(answers.items()))


def _add_problem(answers: dict[str, Any], status: int) -> None:
    if str(status) not in answers:
        answers[str(status)] = {"description": _ANSWERS[status], "content": _problem_content()}


def _problem_content() -> dict[str, Any]:
    return {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}


def _groups(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Operations by their tag, as the page shows them."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["Other"])[0]
            shown = {"method": method.upper(), "path": path, **operation, "body": _body(found, operation)}
            groups.setdefault(tag, []).append(shown)
    return dict(sorted(groups.items()))


def _body(found: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of a JSON body: name, type, whether it is needed, description."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return []
    schema = content["schema"]
    if "$ref" in schema:
        schema = found["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return [
        {
            "name": name,
            "type": type_of(field),
            "required": name in schema.get("required", ()),
            "description": field.get("description", ""),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def type_of(schema: dict[str, Any]) -> str:
    """A schema in one or two words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "anything")
