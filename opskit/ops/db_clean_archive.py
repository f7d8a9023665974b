"""The archive of history: rows that left the metastore, as objects that are proven before the rows go, and found again.

A chunk is a folder `history/<time>-<number>-<what>/`: `<table>.jsonl.gz` (with recipients `.age` behind it), one JSON
object a line, and `manifest.json`, which is written last: a chunk without it does not exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from opskit.config import Config
from opskit.errors import GuardRefused, NotFound, UsageError, VerificationFailed
from opskit.platforms.retention import Rows
from opskit.system import encryption
from opskit.system.object_store import ObjectStore, open_store
from opskit.system.streams import checked, gunzipped, gzipped, pumped

PREFIX = "history/"
MANIFEST = "manifest.json"
FORMAT = 1
_TIMES = ("logical_date", "at", "start_date", "created_at", "started_at")
_KEYS = {
    "dag_run": ("id",),
    "task_instance": ("dag_run_id", "task_id", "map_index"),
    "task_attempt": ("dag_run_id", "task_id", "map_index", "try_number"),
    "xcom": ("dag_run_id", "task_id", "map_index", "key"),
    "dag_version": ("hash",),
}
"""What tells rows of a table apart; `id` elsewhere."""


@dataclass(frozen=True, slots=True)
class ArchivedTable:
    object: str
    rows: int
    sha256: str
    """Of the lines, before compression and encryption."""
    stored_bytes: int
    stored_sha256: str


@dataclass(frozen=True, slots=True)
class ArchivedChunk:
    key: str
    """The folder of its objects."""
    what: str
    created_at: datetime
    encrypted: bool
    tables: Mapping[str, ArchivedTable]


@dataclass(slots=True)
class Archive:
    """Writes the chunks of one clean-up."""

    store: ObjectStore
    recipients: tuple[str, ...]
    now: datetime
    written: list[ArchivedChunk] = field(default_factory=list)

    @classmethod
    def of(cls, config: Config, now: datetime) -> Archive | None:
        """The archive that [cleanup] names; None for none. ConfigError for recipients that are none."""
        url = str(config.get("cleanup", "archive_to"))
        if not url:
            return None
        recipients = tuple(config.get("cleanup", "archive_recipients"))
        if recipients:
            encryption.check_recipients(recipients)
        return cls(_store(config, url), recipients, now)

    @property
    def url(self) -> str:
        return self.store.url

    def write(self, what: str, tables: Mapping[str, Rows]) -> None:
        """Store rows, read them back, and only then let the chunk be. StoreError or VerificationFailed when they are
        not safe: the caller must not remove them."""
        # The time in front, so that keys are in the order of time; several chunks belong to one clean-up.
        folder = f"{PREFIX}{self.now:%Y%m%dT%H%M%S%f}Z-{len(self.written):04d}-{what}/"
        found = {}
        for table, rows in tables.items():
            one = self._table(folder, table, rows)
            if one is not None:
                found[table] = one
        chunk = ArchivedChunk(folder, what, self.now, bool(self.recipients), found)
        body = json.dumps({"format": FORMAT, **_plain(chunk)}, ensure_ascii=False, indent=1).encode()
        self.store.put(folder + MANIFEST, [body], new=True)
        self.written.append(chunk)

    def _table(self, folder: str, table: str, rows: Rows) -> ArchivedTable | None:
        key = f"{folder}{table}.jsonl.gz" + (".age" if self.recipients else "")
        lines = _Lines(rows())
        packed = gzipped(lines, 6)
        if self.recipients:
            with pumped(partial(_encrypt, recipients=self.recipients), packed) as chunks:
                stored = self.store.put(key, chunks)
        else:
            stored = self.store.put(key, packed)
        if not lines.count:
            self.store.delete(key)
            return None
        one = ArchivedTable(key, lines.count, lines.sha256, stored.size_bytes, stored.sha256)
        back = checked(self.store.get(key), key, size_bytes=one.stored_bytes, sha256=one.stored_sha256)
        if self.recipients:
            # Only the recipients can look inside: what was sent is what is there.
            for _ in back:
                pass
        else:
            _proven(one, gunzipped(back, key))
        return one


class _Lines:
    """Rows as bytes of JSON lines, in pieces; counted and hashed."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._rows = rows
        self._digest = hashlib.sha256()
        self.count = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        piece = bytearray()
        encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_json).encode
        for row in self._rows:
            piece += encode(row).encode("utf-8", "surrogatepass") + b"\n"
            self.count += 1
            if len(piece) > 1 << 18:
                self._digest.update(piece)
                yield bytes(piece)
                piece.clear()
        self._digest.update(piece)
        yield bytes(piece)


def _encrypt(source: Any, target: Any, recipients: tuple[str, ...]) -> None:
    encryption.encrypt(source, target, recipients)


def _decrypt(source: Any, target: Any, identities: tuple[str, ...]) -> None:
    encryption.decrypt(source, target, identities)


def _proven(one: ArchivedTable, chunks: Iterable[bytes]) -> None:
    digest, lines = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        lines += chunk.count(b"\n")
    if lines != one.rows or digest.hexdigest() != one.sha256:
        raise VerificationFailed(
            f"{one.object} was read back with {lines} rows instead of {one.rows}, or with other content",
            hint="nothing of it was removed from the metastore: check the store, then clean again",
        )


def _json(value: Any) -> Any:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, (bytes, memoryview)):
        return {"hex": bytes(value).hex()}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _plain(chunk: ArchivedChunk) -> dict[str, Any]:
    tables = {
        name: {field_name: getattr(one, field_name) for field_name in ArchivedTable.__slots__}
        for name, one in chunk.tables.items()
    }
    return {
        "key": chunk.key,
        "what": chunk.what,
        "created_at": chunk.created_at.isoformat(),
        "encrypted": chunk.encrypted,
        "tables": tables,
    }


def _store(config: Config, url: str) -> ObjectStore:
    return open_store(url, endpoint_url=str(config.get("cleanup", "archive_endpoint_url")))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows of the archive: all conditions must hold; a row that has no such column never fits."""

    table: str = "dag_run"
    dag: str = "*"
    """A pattern of dag_ids."""
    run_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100

    def fits(self, row: Mapping[str, Any]) -> bool:
        if self.dag != "*" and not fnmatchcase(str(row.get("dag_id") or ""), self.dag):
            return False
        if self.run_id is not None and row.get("run_id") != self.run_id:
            return False
        if self.since is None and self.until is None:
            return True
        at = next((datetime.fromisoformat(str(row[name])) for name in _TIMES if row.get(name)), None)
        return at is not None and (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def chunks(store: ObjectStore) -> list[ArchivedChunk]:
    """Complete chunks of an archive, the oldest first. VerificationFailed for a manifest that can't be read."""
    found = []
    for info in store.objects(PREFIX):
        if not info.key.endswith("/" + MANIFEST):
            continue
        try:
            data = json.loads(b"".join(store.get(info.key)))
            tables = {name: ArchivedTable(**one) for name, one in data["tables"].items()}
            at = datetime.fromisoformat(data["created_at"])
            found.append(ArchivedChunk(data["key"], data["what"], at, bool(data["encrypted"]), tables))
        except (ValueError, KeyError, TypeError) as error:
            raise VerificationFailed(f"{info.key} is no manifest of an archive: {error}") from error
    return found


def query(
    config: Config, wanted: Wanted, *, url: str | None = None, identities: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Rows of the archive, the newest first archived last; a row that was archived twice is given once.

    NotFound when there is no archive, GuardRefused when it is encrypted and no identity fits, VerificationFailed for
    an object that was changed.
    """
    if wanted.limit < 1:
        raise UsageError("a limit is one row at least")
    place = url or str(config.get("cleanup", "archive_to"))
    if not place:
        raise NotFound("there is no archive of history", hint="set [cleanup] archive_to, or name it with --archive")
    store = _store(config, place)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    keys = _KEYS.get(wanted.table, ("id",))
    all_chunks = chunks(store)
    if not all_chunks:
        raise NotFound(f"{store.url} holds no archive of history", hint="is it the right folder or bucket?")
    if not any(wanted.table in chunk.tables for chunk in all_chunks):
        known = sorted({name for chunk in all_chunks for name in chunk.tables})
        raise NotFound(f"the archive holds no rows of {wanted.table!r}", hint=f"there are {', '.join(known)}")
    for chunk in all_chunks:
        one = chunk.tables.get(wanted.table)
        if one is None:
            continue
        with _opened(store, one, chunk.encrypted, identities) as lines:
            for row in lines:
                if wanted.fits(row):
                    found[tuple(row.get(key) for key in keys)] = row
                    if len(found) >= wanted.limit:
                        return list(found.values())
    return list(found.values())


@contextmanager
def _opened(
    store: ObjectStore, one: ArchivedTable, encrypted: bool, identities: tuple[str, ...]
) -> Iterator[Iterator[dict[str, Any]]]:
    if encrypted and not identities:
        raise GuardRefused(f"{one.object} is encrypted, and there is no identity", hint="name its file with --identity")
    stored = checked(store.get(one.object), one.object, size_bytes=one.stored_bytes, sha256=one.stored_sha256)
    if not encrypted:
        yield _rows(gunzipped(stored, one.object))
        return
    with pumped(partial(_decrypt, identities=identities), stored) as plain:
        yield _rows(gunzipped(plain, one.object))


def _rows(chunks_of: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    rest = b""
    for chunk in chunks_of:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)
