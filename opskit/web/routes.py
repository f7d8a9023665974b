"""The routes of all parts in one table, which knows by the words of a path which of them to try."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from fastapi import APIRouter, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from opskit.web.turns import Turns, takes_a_turn

_APIS = ("/api/v1/", "/opskit/v1/")
_SAME = (
    "response_model", "status_code", "summary", "methods", "name", "response_class",
    "response_model_include", "response_model_exclude", "response_model_by_alias", "response_model_exclude_unset",
    "response_model_exclude_defaults", "response_model_exclude_none",
)  # fmt: skip


class Table(APIRouter):
    """FastAPI's router, without a pattern tried in vain. Plain handlers take one turn in a thread, with all that stands
    around them; `async` ones stay in the event loop."""

    def __init__(self, turns: Turns, **options: Any) -> None:
        super().__init__(**options)
        self._turns = turns
        self._by_words: dict[str, list[APIRoute]] = defaultdict(list)
        self._in_loop: set[int] = set()

    def take(self, router: APIRouter, prefix: str, dependencies: Iterable[params.Depends]) -> None:
        """The routes of a part, in their order: which is asked first is decided by who came first."""
        for route in router.routes:
            assert isinstance(route, APIRoute)
            in_loop = asyncio.iscoroutinefunction(route.endpoint)
            same = {name: getattr(route, name) for name in _SAME}
            endpoint = route.endpoint if in_loop else takes_a_turn(route.endpoint)
            required = [*dependencies, *route.dependencies]
            self.add_api_route(prefix + route.path, endpoint, dependencies=required, **same)
            added = self.routes[-1]
            assert isinstance(added, APIRoute)
            _refuse_threads(added.dependant)
            words = _first_words(added.path)
            if words is None:
                raise TypeError(f"{added.path}: its first words are parameters, and the table is told by them")
            self._by_words[words].append(added)
            if in_loop:
                self._in_loop.add(id(added))

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for route in self._by_words.get(_first_words(scope["path"]) or "", ()):
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    if id(route) in self._in_loop:
                        await route.handle(scope, receive, send)
                    else:
                        await self._turns.take(route.handle, scope, receive, send)
                    return
        await super().app(scope, receive, send)  # files, and what is not there or not so


def _refuse_threads(dependant: Dependant) -> None:
    """A plain function as a dependency would ask for a thread of its own, and there is none within a turn."""
    for one in _all(dependant):
        if not asyncio.iscoroutinefunction(one.call):
            raise TypeError(f"{one.call} is a dependency and no async function: see turns.py")


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from _all(one)


def _first_words(path: str) -> str | None:
    """What routes are told by: the first part of a path, three of an API's. None where one is a parameter."""
    parts = path.split("/", 4)[1:]
    words = parts[:3] if path.startswith(_APIS) else parts[:1]
    return None if any("{" in word for word in words) else "/".join(words)
