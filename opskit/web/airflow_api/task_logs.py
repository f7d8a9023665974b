"""…/logs/{task_try_number}: the log of a try, as text or piece by piece."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.responses import JSONResponse, Response

from opskit.config import Config
from opskit.core.metastore import crypto, task_instances
from opskit.core.metastore.task_instances import TaskInstance
from opskit.errors import NotFound, UsageError
from opskit.telemetry import task_logs
from opskit.web import archived_logs
from opskit.web.airflow_api.accepting import best_type
from opskit.web.airflow_api.collections import Answer
from opskit.web.faults import NotAcceptable
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.store import Store, TheStore
from opskit.web.turns import Streamed

router = APIRouter(tags=["TaskInstance"])
_PURPOSE = "continuation_token"
_PIECE = 1024 * 1024
"""Bytes of one piece of JSON, and of a stream."""
_MOST = 64 * _PIECE
"""Bytes of an archived log in one piece of JSON."""
_BOTH: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


class TaskLog(Answer):
    """A piece of a log. With the token one gets what follows it; an empty content: nothing has, yet."""

    content: str
    continuation_token: str


@router.get(
    "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/logs/{task_try_number}",
    operation_id="get_log",
    response_model=TaskLog,
    responses=_BOTH,
)
def get_log(
    store: TheStore,
    _: Annotated[Who, Depends(allow(READ, "Task Logs"))],
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    task_try_number: Annotated[int, Path(ge=0, le=2**31 - 1)],
    full_content: Annotated[bool, Query(description="As JSON: all of it at once.")] = False,
    map_index: Annotated[int, Query(ge=-1, le=2**31 - 1, description="Which one of a mapped task.")] = -1,
    token: Annotated[str | None, Query(description="The continuation_token of the piece before.")] = None,
    accept: Annotated[str | None, Header()] = None,
) -> Response:
    """Get the log of a try. As text/plain it is all that there is now; as JSON it comes in pieces of 1 MiB. One that
    clean-up has archived is read from the archive."""
    wanted = best_type(accept, ("text/plain", "application/json"))
    if wanted is None:
        raise NotAcceptable("a log comes as text/plain or application/json")
    with store.reading() as database:
        instance = task_instances.get_task_instance(database, dag_id, dag_run_id, task_id, map_index)
    path = task_logs.log_path(dag_id, dag_run_id, task_id, map_index, task_try_number)
    folder = store.config.logs_folder
    offset = _offset(store.config, path, token) if token else 0
    try:
        text, after = task_logs.read(folder, path, offset=offset, limit=_PIECE)
    except NotFound as error:
        if task_try_number and archived_logs.is_kept(store) and archived_logs.is_over(instance, task_try_number):
            return _archived(store, instance, path, task_try_number, offset, wanted, full_content)
        there = task_logs.list_attempts(folder, dag_id, dag_run_id, task_id, map_index)
        known = f"there are logs of {', '.join(map(str, there))}" if there else f"its state is {instance.state}"
        raise NotFound(
            f"{task_id} of run {dag_run_id} has no log of try {task_try_number} on this host",
            hint=f"{known}; logs.archive_to names no archive" if not archived_logs.is_kept(store) else known,
        ) from error
    if wanted == "text/plain":
        return Streamed(_stream(folder, path, text, after), media_type="text/plain")
    if full_content:
        more, after = task_logs.read(folder, path, offset=after)
        text += more
    return JSONResponse({"content": text, "continuation_token": _token(store.config, path, after)})


def _archived(
    store: Store, instance: TaskInstance, path: str, attempt: int, offset: int, wanted: str, full_content: bool
) -> Response:
    """A log that clean-up has archived, as one that is there; all at once is at most 64 MiB of it."""
    if wanted == "text/plain":
        pieces = archived_logs.read(store, instance, attempt)
        first = next(pieces, b"")  # what is wrong is said before the answer begins
        return Streamed(_all(first, pieces), media_type="text/plain")
    text, after = archived_logs.piece(store, instance, attempt, offset, _MOST if full_content else _PIECE)
    return JSONResponse({"content": text, "continuation_token": _token(store.config, path, after)})


def _all(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _stream(folder: Any, path: str, text: str, offset: int) -> Iterator[str]:
    yield text
    yield from _rest(folder, path, text, offset)


def _rest(folder: Any, path: str, text: str, offset: int) -> Iterator[str]:
    """What follows, up to the present end."""
    while text:
        try:
            text, offset = task_logs.read(folder, path, offset=offset, limit=_PIECE)
        except NotFound:
            return  # it was cleaned meanwhile
        if text:
            yield text


def _token(config: Config, path: str, offset: int) -> str:
    data = json.dumps([path, offset]).encode()
    fingerprint, signature = crypto.open_cipher(config).sign(_PURPOSE, data)
    return ".".join((base64.urlsafe_b64encode(data).decode().rstrip("="), fingerprint, signature))


def _offset(config: Config, path: str, token: str) -> int:
    encoded, _, rest = token.partition(".")
    fingerprint, _, signature = rest.partition(".")
    try:
        data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        if crypto.open_cipher(config).is_signed(_PURPOSE, data, fingerprint, signature):
            of, offset = json.loads(data)
            if of == path:
                return int(offset)
    except (binascii.Error, UnicodeError, ValueError, TypeError):
        pass
    raise UsageError("token: it was not given for this log", hint="send the continuation_token of the piece before")
