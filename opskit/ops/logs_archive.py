"""Archives logs before they are removed: many in one object, with an index that tells where each lies in it.

An object `dag_id=…/<time>-….logs` holds gzip members one after the other, `….index.json` beside it says for each log:
path, offset, length, and the SHA-256 of the log. So one log is read by one ranged request, and `gunzip` reads all of
them without opskit. With recipients, each member and the index are age files. An object without an index does not
count: its writing was interrupted.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from opskit.config import Config
from opskit.errors import ConfigError, VerificationFailed
from opskit.ops.logs_remove import Removed, unlink
from opskit.ops.logs_walk import Log, Tally
from opskit.system import encryption
from opskit.system.object_store import ObjectStore, open_store
from opskit.system.pace import Pace
from opskit.system.streams import gunzipped, gzipped
from opskit.system.trees import identity, open_chain

FORMAT = "opskit-logs/1"
PACK_BYTES, PACK_LOGS = 4 << 20, 2000
"""An object is closed when it has as much."""
LARGE_BYTES = 1 << 20
"""A larger log has an object of its own, and is streamed."""
INDEX = ".index.json"
_LEVEL = 6
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Member:
    """Where one log lies in its object. Offset and length count stored bytes, size and hash are of the log itself."""

    path: str
    offset: int
    length: int
    size_bytes: int
    sha256: str
    written_at: str


@dataclass(slots=True)
class _Pending:
    """A log whose copy is not proved yet."""

    log: Log
    why: str


def archive_store(config: Config) -> ObjectStore | None:
    """Where logs go, and where archived ones are; None where no archive is set."""
    url = str(config.get("logs", "archive_to"))
    if not url:
        return None
    store = open_store(url, endpoint_url=str(config.get("logs", "endpoint_url")), part_size_bytes=5 << 20)
    if not url.startswith("s3://") and Path(store.url).resolve().is_relative_to(config.logs_folder.resolve()):
        raise ConfigError(f"logs.archive_to is {store.url}, which lies in the log folder", hint="name another folder")
    return store


def folder_of(top: str) -> str:
    """The folder of the archive for what lies below one directory of the log folder; `daemons` for its own files."""
    return quote(os.fsencode(top), safe="=-_.~+:@,") if top else "daemons"


class Packer:
    """Takes logs in, stores them in packs, proves each pack by reading it back, and only then removes what is in it."""

    def __init__(
        self, store: ObjectStore, recipients: Sequence[str], root: int, now: datetime, removed: Removed, pace: Pace
    ) -> None:
        if recipients:
            encryption.check_recipients(recipients)
        self.tally = Tally()
        self._store, self._recipients, self._root, self._pace = store, list(recipients), root, pace
        self._removed, self._now = removed, now.astimezone(UTC)
        self._stem = f"{self._now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        self._number = 0
        self._top = ""
        self._body = bytearray()
        self._members: list[Member] = []
        self._pending: list[_Pending] = []

    def add(self, log: Log, why: str) -> None:
        """Take a copy of a log. OSError when it can't be read."""
        top = log.path.partition("/")[0]
        if self._members and (top != self._top or len(self._body) >= PACK_BYTES or len(self._members) >= PACK_LOGS):
            self.flush()
        self._top = top
        descriptor = os.open(log.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=log.directory)
        with open(descriptor, "rb", buffering=0) as file:
            if not _is_same(os.fstat(descriptor), log.status):
                self.tally.kept["changed during the clean-up"] += 1
                return
            if log.status.st_size > LARGE_BYTES:
                self.flush()
                self._top = top
                self._store_alone(log, why, file)
                return
            data = file.read(LARGE_BYTES + 1)
            if not _is_same(os.fstat(descriptor), log.status):
                self.tally.kept["changed during the clean-up"] += 1
                return
        member = gzip.compress(data, _LEVEL, mtime=0)
        if self._recipients:
            member = encryption.encrypt_bytes(member, self._recipients)
        self._members.append(_member(log, len(self._body), len(member), len(data), hashlib.sha256(data).hexdigest()))
        self._body += member
        self._pending.append(_Pending(log, why))

    def flush(self) -> None:
        """Store what was taken, prove it, remove it. StoreError or VerificationFailed: nothing of it was removed."""
        if not self._members:
            return
        key = self._next_key()
        body = bytes(self._body)
        self._store.put(f"{key}.logs", [body], expected_bytes=len(body), new=True)
        stored = b"".join(self._store.get(f"{key}.logs"))
        if stored != body:
            raise VerificationFailed(
                f"{self._store.url}: {key}.logs is not what was written", hint="nothing was removed"
            )
        if not self._recipients:
            for member in self._members:
                data = gzip.decompress(stored[member.offset : member.offset + member.length])
                if hashlib.sha256(data).hexdigest() != member.sha256:
                    raise VerificationFailed(f"{self._store.url}: {key}.logs does not give {member.path} back")
        self._finish(key, len(body), hashlib.sha256(body).hexdigest())

    def _store_alone(self, log: Log, why: str, file: Any) -> None:
        """A large log: streamed into the store and back."""
        key, digest, size = self._next_key(), hashlib.sha256(), 0

        def chunks() -> Iterator[bytes]:
            nonlocal size
            while size < log.status.st_size and (chunk := file.read(min(_CHUNK_BYTES, log.status.st_size - size))):
                size += len(chunk)
                digest.update(chunk)
                yield chunk

        packed = gzipped(chunks(), _LEVEL)
        if self._recipients:
            with encryption.encrypted(packed, self._recipients) as pieces:
                stored = self._store.put(f"{key}.logs", pieces, expected_bytes=log.status.st_size // 4, new=True)
        else:
            stored = self._store.put(f"{key}.logs", packed, expected_bytes=log.status.st_size // 4, new=True)
        if not _is_same(os.fstat(file.fileno()), log.status):
            self._store.delete(f"{key}.logs")
            self.tally.kept["changed during the clean-up"] += 1
            return
        what = f"{self._store.url}/{key}.logs"
        back, plain = hashlib.sha256(), hashlib.sha256()

        def hashed() -> Iterator[bytes]:
            for chunk in self._store.get(f"{key}.logs"):
                back.update(chunk)
                yield chunk

        for piece in hashed() if self._recipients else gunzipped(hashed(), what):
            plain.update(piece)
        if back.hexdigest() != stored.sha256 or (not self._recipients and plain.hexdigest() != digest.hexdigest()):
            raise VerificationFailed(f"{what} is not what was written", hint="nothing of it was removed")
        self._members.append(_member(log, 0, stored.size_bytes, size, digest.hexdigest()))
        self._pending.append(_Pending(log, why))
        self._finish(key, stored.size_bytes, stored.sha256)

    def _finish(self, key: str, size_bytes: int, sha256: str) -> None:
        index = json.dumps(
            {
                "format": FORMAT,
                "object": f"{key.rpartition('/')[2]}.logs",
                "archived_at": self._now.isoformat(),
                "size_bytes": size_bytes,
                "sha256": sha256,
                "encrypted": bool(self._recipients),
                "logs": [asdict(member) for member in self._members],
            },
            indent=1,
        ).encode()
        name = f"{key}{INDEX}"
        if self._recipients:
            index, name = encryption.encrypt_bytes(index, self._recipients), f"{name}.age"
        self._store.put(name, [index], expected_bytes=len(index), new=True)
        if b"".join(self._store.get(name)) != index:
            raise VerificationFailed(f"{self._store.url}: {name} is not what was written", hint="nothing was removed")
        pending, self._pending, self._members, self._body = self._pending, [], [], bytearray()
        for entry in pending:
            self._remove(entry)

    def _remove(self, entry: _Pending) -> None:
        """Remove an archived log, reached anew from the root, and the directories that are empty then."""
        log = entry.log
        parts = log.path.split("/") if log.path else []
        self._pace.step()
        try:
            directory = open_chain(self._root, parts)
        except OSError:
            self.tally.kept["moved during the clean-up"] += 1
            return
        try:
            log.directory = directory
            if not unlink(log):
                self.tally.kept["changed during the clean-up"] += 1
                return
        except FileNotFoundError:
            return  # another cleaner was faster
        except OSError as error:
            self.tally.meet(f"{log.path}/{log.name}", error.strerror or str(error))
            return
        finally:
            os.close(directory)
        self._removed.add(log, entry.why)
        self._removed.archived += 1
        while len(parts) > log.fixed_levels:
            try:
                parent = open_chain(self._root, parts[:-1])
                try:
                    os.rmdir(parts[-1], dir_fd=parent)
                finally:
                    os.close(parent)
            except OSError:
                return
            self._removed.directories += 1
            parts.pop()

    def _next_key(self) -> str:
        self._number += 1
        return f"{folder_of(self._top)}/{self._stem}-{self._number:06}"


def _member(log: Log, offset: int, length: int, size_bytes: int, sha256: str) -> Member:
    path = f"{log.path}/{log.name}".lstrip("/")
    written = datetime.fromtimestamp(log.status.st_mtime, UTC).isoformat()
    return Member(path, offset, length, size_bytes, sha256, written)


def _is_same(now: os.stat_result, seen: os.stat_result) -> bool:
    return identity(now) == identity(seen) and (now.st_mtime_ns, now.st_size) == (seen.st_mtime_ns, seen.st_size)
