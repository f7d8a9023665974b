"""What holds for every request to the API: its query parameters are known ones, and its texts can be stored."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from opskit.errors import UsageError


def refuse_unknown(request: Request) -> None:
    """UsageError (400) for a query parameter that the operation does not have, as in Airflow, and for U+0000."""
    known = _parameters(request)
    for name, value in request.query_params.multi_items():
        if known is not None and name not in known:
            raise UsageError(
                f"there is no query parameter {name!r} here",
                hint=f"there are {', '.join(sorted(known))}" if known else "there are none",
            )
        if "\0" in value:
            raise UsageError(f"{name}: it holds U+0000, which nothing here does")
    for name, value in request.path_params.items():
        if "\0" in str(value):
            raise UsageError(f"{name}: it holds U+0000, which nothing here does")


_known: dict[int, tuple[APIRoute, frozenset[str]]] = {}


def _parameters(request: Request) -> frozenset[str] | None:
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return None
    if id(route) not in _known:
        _known[id(route)] = route, frozenset(_names(route.dependant))
    return _known[id(route)][1]


def _names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _names(inner)
