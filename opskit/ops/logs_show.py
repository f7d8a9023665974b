"""Reads the log of an attempt wherever it is: in the log folder, or by one ranged read in the archive."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

from opskit.config import Config
from opskit.errors import ConfigError, NotFound, VerificationFailed
from opskit.ops.logs_archive import FORMAT, INDEX, Member, archive_store, folder_of
from opskit.platforms.base import Platform
from opskit.system import encryption
from opskit.system.object_store import ObjectStore
from opskit.system.streams import checked, gunzipped
from opskit.system.trees import open_chain, open_directory

_CHUNK_BYTES = 1 << 20
_IN_MEMORY_BYTES = 8 << 20
_ATTEMPT = re.compile(r"attempt=(\d+)\.log")


def read(
    platform: Platform, dag_id: str, task_id: str, run_id: str, attempt: int | None = None, map_index: int = -1
) -> Iterator[bytes]:
    """The bytes of a log, in pieces; the newest attempt's where none is named. NotFound when there is none anywhere.

    VerificationFailed when the archive does not give back what was put into it; GuardRefused when no key fits.
    """
    directory = platform.folders.log_directory(dag_id, run_id, task_id, map_index)
    found = _local(platform.folders.logs, directory, attempt)
    if found is not None:
        return _pieces(found)
    store = archive_store(platform.config)
    if store is not None:
        return _archived(platform.config, store, directory, attempt)
    which = f"attempt {attempt}" if attempt else "any attempt"
    raise NotFound(
        f"there is no log of {which} of {task_id} in run {run_id} of {dag_id}",
        hint="has it started, and was the log cleaned? logs.archive_to names no archive",
    )


def _local(folder: Path, directory: str, attempt: int | None) -> int | None:
    """Descriptor of a log in the log folder; None when there is none."""
    if not folder.is_dir():
        return None  # a lost log folder is no reason not to look into the archive
    root = open_directory(folder)
    try:
        place = open_chain(root, directory.split("/"))
    except OSError:
        return None
    finally:
        os.close(root)
    try:
        numbers = [int(match[1]) for name in os.listdir(place) if (match := _ATTEMPT.fullmatch(name))]
        wanted = attempt or max(numbers, default=0)
        if wanted not in numbers:
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        found = os.open(f"attempt={wanted}.log", flags, dir_fd=place)
    finally:
        os.close(place)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        return None
    return found


def _pieces(descriptor: int) -> Iterator[bytes]:
    with open(descriptor, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _archived(config: Config, store: ObjectStore, directory: str, attempt: int | None) -> Iterator[bytes]:
    keys = store.objects(f"{folder_of(directory.partition('/')[0])}/")
    indexes = [info.key for info in keys if info.key.endswith((INDEX, f"{INDEX}.age"))]
    for key in reversed(indexes):  # their names begin with the time: the newest first
        index = _read_index(config, store, key)
        found = {}
        for row in index["logs"]:
            place, _, name = row["path"].rpartition("/")
            if place == directory and (match := _ATTEMPT.fullmatch(name)):
                found[int(match[1])] = Member(**row)
        wanted = attempt or max(found, default=0)
        if wanted in found:
            pack = f"{key.rpartition('/')[0]}/{index['object']}"
            return _member(config, store, pack, found[wanted], bool(index["encrypted"]))
    raise NotFound(
        f"there is no log of {f'attempt {attempt}' if attempt else 'any attempt'} below {directory}",
        hint=f"neither in the log folder nor in {store.url} ({len(indexes)} indexes of this DAG)",
    )


def _read_index(config: Config, store: ObjectStore, key: str) -> dict[str, Any]:
    data = b"".join(store.get(key))
    if key.endswith(".age"):
        plain = io.BytesIO()
        _decrypt(io.BytesIO(data), plain, _identities(config), f"{store.url}/{key}")
        data = plain.read()
    try:
        index: dict[str, Any] = json.loads(data)
        known = index["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationFailed(f"{store.url}/{key} is damaged: it is no index of logs") from error
    if not known:
        raise VerificationFailed(f"{store.url}/{key} has a format that this opskit does not know")
    return index


def _member(config: Config, store: ObjectStore, key: str, member: Member, is_encrypted: bool) -> Iterator[bytes]:
    what = f"{member.path} in {store.url}/{key}"
    with ExitStack() as stack:
        data = stack.enter_context(_spool())
        _fetch(store, key, member, data)
        if is_encrypted:
            target = stack.enter_context(_spool())
            _decrypt(data, target, _identities(config), what)
            data = target
        plain = gunzipped(iter(lambda: data.read(_CHUNK_BYTES), b""), what)
        yield from checked(plain, what, size_bytes=member.size_bytes, sha256=member.sha256)


def _spool() -> BinaryIO:
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES))


def _fetch(store: ObjectStore, key: str, member: Member, target: BinaryIO) -> None:
    read = 0
    while read < member.length:
        piece = store.get_range(key, member.offset + read, min(_IN_MEMORY_BYTES, member.length - read))
        if not piece:
            raise VerificationFailed(f"{store.url}/{key} is damaged: it ends before {member.path} does")
        target.write(piece)
        read += len(piece)
    target.seek(0)


def _decrypt(source: BinaryIO, target: BinaryIO, identities: list[str], what: str) -> None:
    try:
        encryption.decrypt(source, target, identities)
    except ValueError as error:
        raise VerificationFailed(f"{what} is damaged: {error}") from error
    target.seek(0)


def _identities(config: Config) -> list[str]:
    path = str(config.get("logs", "identity"))
    if not path:
        raise ConfigError(
            "the archived logs are encrypted", hint="set [logs] identity to the file with your secret key"
        )
    try:
        return encryption.read_identities(Path(path).expanduser().read_text())
    except OSError as error:
        raise ConfigError(f"logs.identity is {path}, which can't be read: {error.strerror}") from error
