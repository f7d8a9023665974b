"""The cluster's turn to restart something: a row of `instance` that one host at a time holds, and never for long."""

from __future__ import annotations

import json
import os
import socket
from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.engine import Connection

from opskit import __version__
from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.tables import instance

ID = "the-turn-to-restart"
KIND = "restart_turn"
_COLUMNS = ["kind", "hostname", "home", "pid", "pid_started", "version", "started_at", "heartbeat_at", "progress"]
_COLUMNS += ["progress_at", "ended_at", "detail"]


def take(connection: Connection, home: str, pid_started: float, deed: str, now: datetime, seconds: float) -> str | None:
    """Take the turn for this process; None when we have it, else who has it and until when, as a sentence.

    Its `heartbeat_at` is the time until which it is held: a holder that dies keeps nobody waiting for longer.
    """
    hostname = socket.gethostname()
    values = {
        "hostname": hostname,
        "home": home,
        "pid": os.getpid(),
        "pid_started": pid_started,
        "started_at": now,
        "heartbeat_at": now + timedelta(seconds=seconds),
        "ended_at": None,
        "detail": json.dumps({"deed": deed}),
        "version": __version__,
    }
    free = or_(instance.c.ended_at.is_not(None), instance.c.heartbeat_at < now)
    taken = update(instance).where(instance.c.id == ID, free).values(**values)
    if connection.execute(taken).rowcount == 1:
        return None
    row = connection.execute(select(instance).where(instance.c.id == ID)).first()
    if row is None:
        # Whoever inserts first has it; an end in the past makes the row free for the update.
        bulk_insert(
            connection,
            instance,
            ["id", *_COLUMNS],
            [(ID, KIND, hostname, home, 0, 0.0, __version__, now, now, 0, now, now, "{}")],
            on_conflict="ignore",
        )
        if connection.execute(taken).rowcount == 1:
            return None
        row = connection.execute(select(instance).where(instance.c.id == ID)).one()
    what = json.loads(row.detail).get("deed", "something")
    return f"{row.hostname} (pid {row.pid}) is at it ({what}), until {row.heartbeat_at:%H:%M:%S} UTC at the latest"


def give_back(connection: Connection, pid_started: float, now: datetime) -> None:
    """End the turn, if this process still has it."""
    connection.execute(
        update(instance)
        .where(
            instance.c.id == ID,
            instance.c.hostname == socket.gethostname(),
            instance.c.pid == os.getpid(),
            instance.c.pid_started == pid_started,
            instance.c.ended_at.is_(None),
        )
        .values(ended_at=now)
    )
