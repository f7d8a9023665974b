"""One turn of a thread for a whole request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Form, Request, UploadFile
from fastapi.responses import JSONResponse, Response

from opskit.errors import NotFound
from opskit.web import faults
from opskit.web.routes import Table
from opskit.web.turns import Streamed, Turns, blocking

Asked = Callable[..., httpx.Response]


def _thread() -> str:
    return threading.current_thread().name


async def _who(request: Request) -> str:
    return await blocking(request, _thread)


async def _spare() -> str:
    return _thread()


Who = Annotated[str, Depends(_who)]
Spare = Annotated[str, Depends(_spare)]
router = APIRouter()


@router.get("/here/{name}")
def here(name: str, who: Who, spare: Spare) -> dict[str, str]:
    return {"name": name, "who": who, "spare": spare, "handler": _thread()}


@router.get("/loop")
async def loop(who: Who) -> dict[str, str]:
    await asyncio.sleep(0)
    return {"who": who, "handler": _thread()}


@router.get("/stream")
def stream() -> Response:
    def parts() -> Iterator[str]:
        yield "one "
        yield "two"

    return Streamed(parts(), media_type="text/plain")


@router.get("/missing")
def missing() -> None:
    raise NotFound("there is no such thing")


@router.post("/file")
def file(file: UploadFile, more: Annotated[str, Form()]) -> dict[str, Any]:
    return {"bytes": len(file.file.read()), "more": more}


@router.post("/json")
def json(body: dict[str, int]) -> dict[str, int]:
    return body


@router.get("/waits")
def waits() -> Response:
    class Late(JSONResponse):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0)
            await super().__call__(scope, receive, send)

    return Late({})


_meeting = threading.Barrier(6)


@router.get("/meets")
def meets() -> dict[str, int]:
    return {"place": _meeting.wait(20)}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    from starlette.formparsers import MultiPartParser

    monkeypatch.setattr(MultiPartParser, "spool_max_size", 16 << 20)
    app = FastAPI()
    faults.install(app)
    app.router = table = Table(Turns(), dependency_overrides_provider=app)
    table.take(router, "/api", [])
    return app


@pytest.fixture
def asked(app: FastAPI) -> Asked:
    def ask(method: str, path: str, **values: Any) -> httpx.Response:
        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, "/api" + path, **values)

        return asyncio.run(one())

    return ask


def test_a_plain_handler_and_all_that_it_depends_on_run_in_one_thread_beside_the_loop(asked: Asked) -> None:
    found = asked("GET", "/here/x").json()
    assert found["name"] == "x"
    assert found["who"] == found["spare"] == found["handler"] != _thread()
    assert found["handler"].startswith("request")


def test_an_async_handler_stays_in_the_loop_and_what_may_wait_goes_to_a_thread(asked: Asked) -> None:
    found = asked("GET", "/loop").json()
    assert found["handler"] == _thread() != found["who"]


def test_a_stream_of_a_plain_handler_comes_whole(asked: Asked) -> None:
    assert asked("GET", "/stream").text == "one two"


def test_errors_unknown_paths_and_wrong_methods_are_answered(asked: Asked) -> None:
    assert asked("GET", "/missing").json()["detail"] == "there is no such thing"
    assert asked("GET", "/nowhere").status_code == 404
    assert asked("POST", "/here/x").status_code == 405
    assert asked("POST", "/json", json={"a": "text"}).status_code == 400


def test_bodies_come_whole_also_files_of_megabytes(asked: Asked) -> None:
    assert asked("POST", "/json", json={"a": 1}).json() == {"a": 1}
    found = asked("POST", "/file", files={"file": b"x" * (3 << 20)}, data={"more": "text"})
    assert found.json() == {"bytes": 3 << 20, "more": "text"}


def test_who_waits_for_the_loop_before_the_answer_begins_gets_an_error_and_not_a_stuck_thread(asked: Asked) -> None:
    assert asked("GET", "/waits").status_code == 500
    assert asked("GET", "/here/x").status_code == 200


def test_requests_that_wait_for_something_else_do_not_hold_up_others(app: FastAPI) -> None:
    async def meet() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here") as client:
            return await asyncio.gather(*[client.get("/api/meets") for _ in range(6)])

    assert sorted(one.json()["place"] for one in asyncio.run(meet())) == list(range(6))


def test_a_plain_function_is_no_dependency() -> None:
    def plain() -> None: ...

    other = APIRouter()

    @other.get("/", dependencies=[Depends(plain)])
    def handler() -> None: ...

    with pytest.raises(TypeError, match="plain"):
        Table(Turns()).take(other, "", [])
