"""What holds a process back in the database: the lock its session waits for, and who has it. No SQLAlchemy."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from opskit.core.metastore.probe_drivers import Database, ProbeFailed, open_database

_OURS = "opskit"
_LONG_STATEMENT_SECONDS = 1.0
_MIGRATION_LOCK = 0x6F70736B6974
"""As `schema` takes it on PostgreSQL; there is a test that compares."""
_WAL_WRITE_LOCK = 120
"""Offset of the byte that a writer locks in the -shm file: https://www.sqlite.org/walformat.html#wal_locks."""
_FLOCK = "hhqqi4x"
_LOCK_WAITS = (
    (
        "SELECT r.trx_mysql_thread_id, b.trx_mysql_thread_id FROM information_schema.innodb_lock_waits w"
        " JOIN information_schema.innodb_trx r ON r.trx_id = w.requesting_trx_id"
        " JOIN information_schema.innodb_trx b ON b.trx_id = w.blocking_trx_id"
    ),  # MariaDB
    "SELECT waiting_pid, blocking_pid FROM sys.innodb_lock_waits",  # MySQL
)
"""Both need the right to see it."""


@dataclass(frozen=True, slots=True)
class Session:
    """One session of the metastore's database."""

    id: int
    name: str
    port: int | None
    """The client's TCP port; None for a Unix socket."""
    text: str
    """Its statement and how long that or its transaction lasts, for people."""
    runs_seconds: float
    """How long its present statement runs; 0: it rests."""
    waits: bool
    """For a lock."""
    blockers: tuple[int, ...] = ()


def held_back(url: str, timeout: float, pid: int, ports: Collection[int]) -> str:
    """What keeps the process `pid` with connections from these local ports waiting in the database, as a sentence.

    Empty: nothing does. Raises ProbeFailed.
    """
    if url.startswith("sqlite"):
        holder = write_lock_holder(url)
        return f"the write lock of the metastore is held by {_describe(holder)}" if holder not in (None, pid) else ""
    database = open_database(url, timeout)
    try:
        every = {session.id: session for session in _sessions(database, url)}
    finally:
        database.close()
    own = [session for session in every.values() if session.port in ports]
    if not own:
        # Through a Unix socket or a pooler nobody can tell whose session it is: any of ours may be.
        own = [session for session in every.values() if session.name == _OURS]
    for session in own:
        if session.waits:
            who = "; ".join(_blocker(every.get(number), number) for number in session.blockers) or "another session"
            return f"its session {session.id} waits for a lock ({session.text}), held by {who}"
    for session in own:
        if session.runs_seconds >= _LONG_STATEMENT_SECONDS:
            return f"its session {session.id} waits for the database for {session.runs_seconds:.0f} s: {session.text}"
    return ""


def describe_sessions(url: str, timeout: float) -> list[str]:
    """What each session does and who blocks it, a line each: evidence. Raises ProbeFailed."""
    if url.startswith("sqlite"):
        holder = write_lock_holder(url)
        return [] if holder is None else [f"write lock: {_describe(holder)}"]
    database = open_database(url, timeout)
    try:
        return [
            f"{one.id} {one.name} port {one.port or '-'}: {one.text}"
            + (f" | waits for a lock of {', '.join(map(str, one.blockers)) or 'another session'}" if one.waits else "")
            for one in _sessions(database, url)
        ]
    finally:
        database.close()


def migration_under_way(url: str, timeout: float) -> str:
    """Who is changing the schema at this moment, as `opskit db migrate` marks it; empty: nobody. Raises ProbeFailed."""
    if url.startswith("sqlite"):
        holder = write_lock_holder(url)
        text = "" if holder is None else _describe(holder)
        return text if " db migrate" in text or " db reset" in text else ""
    database = open_database(url, timeout)
    try:
        if url.startswith("postgres"):
            rows = database.query(
                f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
                f" AND classid = {_MIGRATION_LOCK >> 32} AND objid = {_MIGRATION_LOCK & 0xFFFFFFFF}"
            )
        else:
            name = str(database.query("SELECT DATABASE()")[0][0])
            lock = "opskit-" + hashlib.sha256(name.encode()).hexdigest()[:40]
            rows = database.query(f"SELECT IS_USED_LOCK('{lock}')")
    finally:
        database.close()
    return f"session {rows[0][0]}" if rows and rows[0][0] is not None else ""


def write_lock_holder(url: str) -> int | None:
    """The process that writes to a SQLite metastore at this moment; None: nobody (or nobody can tell)."""
    path = Path(unquote(url.split(":///", 1)[1].split("?", 1)[0]) + "-shm")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None  # nobody has it open
    # Closing it would drop the locks of a connection of this process to the same file: there must be none here.
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _WAL_WRITE_LOCK, 1, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else int(pid)


def _sessions(database: Database, url: str) -> list[Session]:
    return _of_postgresql(database) if url.startswith("postgres") else _of_mysql(database)


def _of_postgresql(database: Database) -> list[Session]:
    rows = database.query(
        "SELECT pid, COALESCE(application_name, ''), COALESCE(client_port, -1), COALESCE(state, ''),"
        " COALESCE(wait_event_type, ''), EXTRACT(epoch FROM clock_timestamp() - state_change),"
        " EXTRACT(epoch FROM clock_timestamp() - xact_start), array_to_string(pg_blocking_pids(pid), ','),"
        " left(query, 200) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " ORDER BY xact_start NULLS LAST LIMIT 200"
    )
    found = []
    for number, name, port, state, waits, since, transaction, blockers, sql in rows:
        lasts = f", its transaction is {float(transaction):.0f} s old" if transaction else ""
        found.append(
            Session(
                id=int(number),
                name=str(name),
                port=int(port) if int(port) > 0 else None,
                text=f"{state or 'unknown'} for {float(since or 0):.0f} s{lasts}: {' '.join(str(sql or '').split())}",
                runs_seconds=float(since or 0) if state == "active" else 0.0,
                waits=waits == "Lock",
                blockers=tuple(int(one) for one in str(blockers or "").split(",") if one),
            )
        )
    return found


def _of_mysql(database: Database) -> list[Session]:
    waits: dict[int, list[int]] = {}
    for sql in _LOCK_WAITS:
        try:
            for waiting, blocking in database.query(sql):
                waits.setdefault(int(waiting), []).append(int(blocking))
            break
        except ProbeFailed:
            continue
    rows = database.query(
        "SELECT id, host, command, time, COALESCE(state, ''), COALESCE(left(info, 200), '')"
        " FROM information_schema.processlist WHERE db = database() AND id <> connection_id() LIMIT 200"
    )
    found = []
    for number, host, command, since, state, sql in rows:
        port = str(host).rpartition(":")[2]
        identifier = int(number)
        found.append(
            Session(
                id=identifier,
                name=_OURS if str(sql) else "",
                port=int(port) if port.isdigit() else None,
                text=f"{command} for {float(since or 0):.0f} s, {state or 'no state'}: {' '.join(str(sql).split())}",
                runs_seconds=float(since or 0) if command in ("Query", "Execute") else 0.0,
                waits=identifier in waits or "lock" in str(state).lower(),
                blockers=tuple(waits.get(identifier, ())),
            )
        )
    return found


def _blocker(session: Session | None, number: int) -> str:
    return f"session {number}" if session is None else f"session {session.id} {session.name} ({session.text})"


def _describe(pid: int | None) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    return f"pid {pid} ({command[:200] or 'unknown'})"
