"""What the DAG processor learnt of DAG files, written in bulk: `dag`, `dag_version` and `dag_file` rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.engine import Connection

from opskit.core.metastore import asset_rows
from opskit.core.metastore.bulk import bulk_insert, bulk_update
from opskit.core.metastore.dags import owners_text, touch
from opskit.core.metastore.tables import dag, dag_file, dag_run, dag_version


@dataclass(frozen=True, slots=True)
class NextRun:
    """The next scheduled run, for display and for waking."""

    logical_date: datetime
    interval_start: datetime
    interval_end: datetime
    run_after: datetime


@dataclass(frozen=True, slots=True)
class LoadedDag:
    """One DAG of a file. `data` is the form of core/dag/serialized.py."""

    dag_id: str
    data: Mapping[str, Any]
    schedule: str = ""
    """As text, for people; empty: the one in `data`."""
    is_paused_at_creation: bool = True
    next_run: NextRun | None = None


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """One DAG file. With an `import_error` its DAGs stay as they were, and `dags` is ignored."""

    path: str
    content_hash: str
    dags: Sequence[LoadedDag] = ()
    import_error: str | None = None
    parse_seconds: float = 0.0
    source: str | None = None
    release: str | None = None
    """The release of the DAG folder that it was loaded from; None: a plain folder."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What the metastore remembers of a file."""

    path: str
    content_hash: str
    dag_ids: list[str]
    parsed_at: datetime
    import_error: str | None


@dataclass(slots=True)
class Stored:
    """dag_ids by what happened to them. With any, schedulers are to be woken after the commit."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """A new version, another file, or active again."""
    released: list[str] = field(default_factory=list)
    """The same version, from another release of the DAG folder: its modules may be others."""
    deactivated: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.released or self.deactivated)


def read_files(connection: Connection) -> dict[str, StoredFile]:
    """All known files, by path."""
    return {
        row.path: StoredFile(row.path, row.content_hash, json.loads(row.dag_ids), row.parsed_at, row.import_error)
        for row in connection.execute(select(dag_file))
    }


def read_owners(connection: Connection) -> dict[str, str]:
    """dag_id → path of the file that defines it, of active DAGs."""
    rows = connection.execute(select(dag.c.dag_id, dag.c.fileloc).where(dag.c.is_active.is_(True)))
    return {row.dag_id: row.fileloc for row in rows}


def read_versions(connection: Connection, dag_ids: Collection[str]) -> dict[str, str]:
    """dag_id → version_hash of those that exist."""
    rows = connection.execute(select(dag.c.dag_id, dag.c.version_hash).where(dag.c.dag_id.in_(list(dag_ids))))
    return {row.dag_id: row.version_hash for row in rows}


def last_automated(connection: Connection, dag_ids: Collection[str]) -> dict[str, tuple[datetime, datetime]]:
    """Data interval of the newest scheduled or backfill run of each DAG that has one: what its timetable goes by."""
    newest = (
        select(dag_run.c.dag_id, func.max(dag_run.c.logical_date).label("at"))
        .where(dag_run.c.dag_id.in_(list(dag_ids)), dag_run.c.run_type.in_(["scheduled", "backfill"]))
        .group_by(dag_run.c.dag_id)
        .subquery()
    )
    rows = connection.execute(
        select(dag_run.c.dag_id, dag_run.c.data_interval_start, dag_run.c.data_interval_end).join(
            newest, (dag_run.c.dag_id == newest.c.dag_id) & (dag_run.c.logical_date == newest.c.at)
        )
    )
    return {row.dag_id: (row.data_interval_start, row.data_interval_end) for row in rows}


def version_of(data: Mapping[str, Any]) -> tuple[str, str]:
    """`(hash, text)` of a serialized DAG: the same for equal content, whatever the order of its keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest(), text


def store_loaded_files(
    connection: Connection, files: Sequence[LoadedFile], now: datetime, gone: Collection[str] = ()
) -> Stored:
    """Write what was learnt of `files`; deactivate DAGs that a good load no longer defines, and those of `gone` files.

    `gone` are paths that a complete listing of the DAG folder no longer has: the caller vouches for it. No DAG is
    defined by two of the files. A fixed number of statements, whatever the number of files.
    """
    good = [file for file in files if file.import_error is None]
    loaded = {one.dag_id: (one, file) for file in good for one in file.dags}
    known = _lock(connection, loaded.keys(), [file.path for file in good], gone)
    stored = Stored()
    versions = {dag_id: version_of(one.data) for dag_id, (one, _) in loaded.items()}
    for dag_id, (_, file) in loaded.items():
        row = known.get(dag_id)
        if row is None:
            stored.new.append(dag_id)
        elif (row.version_hash, row.fileloc, row.is_active) != (versions[dag_id][0], file.path, True):
            stored.changed.append(dag_id)
        elif row.release != file.release:
            stored.released.append(dag_id)
    paths = {file.path for file in good} | set(gone)
    stored.deactivated = sorted(
        dag_id for dag_id, row in known.items() if row.is_active and row.fileloc in paths and dag_id not in loaded
    )
    touch(connection, [*stored.changed, *stored.released, *stored.deactivated], now)
    _write_versions(connection, loaded, versions, now)
    _write_dags(connection, loaded, versions, stored, now)
    news = {*stored.new, *stored.changed}
    if news:
        asset_rows.store_references(connection, {dag_id: loaded[dag_id][0].data for dag_id in news}, now)
    _write_files(connection, files, now)
    if gone:
        connection.execute(delete(dag_file).where(dag_file.c.path_hash.in_([_path_hash(path) for path in gone])))
    return stored


def move_to_release(connection: Connection, release: str | None, now: datetime) -> list[str]:
    """Say of every active DAG that it is loaded from this release, once all of it was; the dag_ids that were not so.

    A DAG whose file can't be loaded there stays with the release that it could be loaded from.
    """
    broken = select(dag_file.c.path).where(dag_file.c.import_error.is_not(None))
    elsewhere = dag.c.release.is_not(None) if release is None else func.coalesce(dag.c.release, "") != release
    rows = connection.execute(
        select(dag.c.dag_id).where(dag.c.is_active.is_(True), elsewhere, dag.c.fileloc.not_in(broken))
    )
    dag_ids = sorted(rows.scalars())
    if dag_ids:
        touch(connection, dag_ids, now)
        connection.execute(update(dag).where(dag.c.dag_id.in_(dag_ids)).values(release=release))
    return dag_ids


def _lock(
    connection: Connection, dag_ids: Collection[str], good: Collection[str], gone: Collection[str]
) -> dict[str, Any]:
    """Rows of the DAGs that may change. Locked in the schedulers' order, so that no one waits in a circle."""
    query = (
        select(dag.c.dag_id, dag.c.version_hash, dag.c.release, dag.c.fileloc, dag.c.is_active)
        .where(dag.c.dag_id.in_(list(dag_ids)) | dag.c.fileloc.in_([*good, *gone]))
        .order_by(dag.c.dag_id)
        .with_for_update()
    )
    return {row.dag_id: row for row in connection.execute(query)}


def _write_versions(
    connection: Connection,
    loaded: Mapping[str, tuple[LoadedDag, LoadedFile]],
    versions: Mapping[str, tuple[str, str]],
    now: datetime,
) -> None:
    there = set(
        connection.execute(
            select(dag_version.c.hash).where(dag_version.c.hash.in_([number for number, _ in versions.values()]))
        ).scalars()
    )
    rows = {
        versions[dag_id][0]: (versions[dag_id][0], file.path, file.source, dag_id, versions[dag_id][1], now)
        for dag_id, (_, file) in loaded.items()
    }
    # The same tasks and settings from another text: what a callable does is not part of the version.
    known = [row[:3] for number, row in rows.items() if number in there]
    missing = [row for number, row in rows.items() if number not in there]
    if bulk_update(connection, dag_version, ["hash"], ["fileloc", "source"], known) != len(known):
        missing = list(rows.values())  # the retention has just removed one that was out of use
    columns = ["hash", "fileloc", "source", "dag_id", "data", "created_at"]
    bulk_insert(connection, dag_version, columns, missing, on_conflict="ignore")


_SHOWN = [
    "fileloc",
    "is_active",
    "version_hash",
    "release",
    "description",
    "owners",
    "tags",
    "schedule",
    "last_parsed_at",
    "asset_condition",
    "access_control",
]
_NEXT = ["next_logical_date", "next_interval_start", "next_interval_end", "next_run_after"]


def _write_dags(
    connection: Connection,
    loaded: Mapping[str, tuple[LoadedDag, LoadedFile]],
    versions: Mapping[str, tuple[str, str]],
    stored: Stored,
    now: datetime,
) -> None:
    rows = {}
    for dag_id, (one, file) in loaded.items():
        upcoming = one.next_run
        rows[dag_id] = (
            dag_id,
            file.path,
            True,
            versions[dag_id][0],
            file.release,
            one.data.get("description"),
            owners_text(one.data.get("owners") or ()),
            json.dumps(list(one.data.get("tags") or ()), ensure_ascii=False),
            one.schedule or str(one.data.get("ui", {}).get("schedule", "")),
            now,
            asset_rows.condition_text(one.data),
            json.dumps(one.data["access_control"], ensure_ascii=False) if one.data.get("access_control") else None,
            upcoming and upcoming.logical_date,
            upcoming and upcoming.interval_start,
            upcoming and upcoming.interval_end,
            upcoming and upcoming.run_after,
        )
    bulk_insert(
        connection,
        dag,
        ["dag_id", *_SHOWN, *_NEXT, "is_paused", "unpaused_at", "wake_at", "revision", "lease_epoch"],
        [
            (*rows[dag_id], loaded[dag_id][0].is_paused_at_creation, _unpaused_at(loaded[dag_id][0], now), now, 0, 0)
            for dag_id in sorted(stored.new)
        ],
    )
    bulk_update(connection, dag, ["dag_id"], [*_SHOWN, *_NEXT], [rows[dag_id] for dag_id in sorted(stored.changed)])
    same = sorted(rows.keys() - set(stored.new) - set(stored.changed))
    if same:
        connection.execute(update(dag).where(dag.c.dag_id.in_(same)).values(last_parsed_at=now))
    released = [(dag_id, loaded[dag_id][1].release) for dag_id in sorted(stored.released)]
    bulk_update(connection, dag, ["dag_id"], ["release"], released)
    if stored.deactivated:
        connection.execute(
            update(dag).where(dag.c.dag_id.in_(stored.deactivated)).values(is_active=False, **dict.fromkeys(_NEXT))
        )


def _unpaused_at(one: LoadedDag, now: datetime) -> datetime | None:
    return None if one.is_paused_at_creation else now


def _write_files(connection: Connection, files: Sequence[LoadedFile], now: datetime) -> None:
    columns = ["path_hash", "path", "content_hash", "parsed_at", "parse_seconds", "import_error"]
    good, bad = [], []
    for file in files:
        row = (_path_hash(file.path), file.path, file.content_hash, now, file.parse_seconds, file.import_error)
        if file.import_error is None:
            good.append((*row, json.dumps([one.dag_id for one in file.dags], ensure_ascii=False)))
        else:
            bad.append(row)
    bulk_insert(connection, dag_file, [*columns, "dag_ids"], good, on_conflict="update")
    # The list of the last good load stays, so the column is named for new rows only.
    bulk_insert(connection, dag_file, [*columns, "dag_ids"], [(*row, "[]") for row in bad], on_conflict="ignore")
    bulk_update(connection, dag_file, columns[:1], columns[1:], bad)


def _path_hash(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()


def load_again(connection: Connection, path: str) -> None:
    """Let the DAG processor load a DAG file anew, whether it has changed or not. After the commit, wake it."""
    connection.execute(delete(dag_file).where(dag_file.c.path_hash == _path_hash(path)))
