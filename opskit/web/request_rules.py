"""What holds for every request to the API: its query parameters are known ones, and its texts can be stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from opskit.errors import UsageError


async def refuse_unknown(request: Request) -> None:
    """UsageError (400) for a query parameter that the operation does not have, as in Airflow, or that stands there
    twice and is no list; and for texts with U+0000."""
    known = _parameters(request)
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if known is not None and name not in known:
            raise UsageError(
                f"there is no query parameter {name!r} here",
                hint=f"there are {', '.join(sorted(known))}" if known else "there are none",
            )
        if known is not None and name in seen and not known[name]:
            raise UsageError(f"{name}: it stands there twice")
        seen.add(name)
        if "\0" in value:
            raise UsageError(f"{name}: it holds U+0000, which nothing here does")
    for name, value in request.path_params.items():
        if "\0" in str(value):
            raise UsageError(f"{name}: it holds U+0000, which nothing here does")


_known: dict[int, tuple[APIRoute, dict[str, bool]]] = {}
"""By the id of a route, which is kept beside it: which query parameters it has, and whether each is a list."""


def _parameters(request: Request) -> dict[str, bool] | None:
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return None
    if id(route) not in _known:
        _known[id(route)] = route, dict(_fields(route.dependant))
    return _known[id(route)][1]


def _fields(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for field in dependant.query_params:
        yield field.alias, _is_list(field.field_info.annotation)
    for inner in dependant.dependencies:
        yield from _fields(inner)


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) in (list, tuple, set) or any(map(_is_list, get_args(annotation)))
