"""Adds one line to the audit log without SQLAlchemy: a verb that needs no ORM otherwise pays for none."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from opskit.core.dag.secret_names import is_secret_name
from opskit.core.metastore.probe import ProbeFailed, open_database
from opskit.errors import MetastoreUnavailable

OWNER_LENGTH = 500
_TIMEOUT_SECONDS = 30.0


def append(url: str, event: str, now: datetime, extra: Mapping[str, Any]) -> None:
    """As `audit.write`, in a transaction of its own. MetastoreUnavailable when it can't be written."""
    texts = (whoami()[:OWNER_LENGTH], event, encoded(extra))
    moment = now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    try:
        if url.startswith("sqlite"):
            _append_to_file(url, (moment, *texts))
            return
        database = open_database(url, _TIMEOUT_SECONDS)
        try:
            if url.startswith("postgres"):
                database.query("SET default_transaction_read_only = off")
            values = ", ".join(text_literal(url, text) for text in (moment, *texts))
            database.query(f"INSERT INTO log (at, owner, event, extra) VALUES ({values})")
        finally:
            database.close()
    except ProbeFailed as failure:
        raise MetastoreUnavailable(f"the audit log can't be written: {failure}") from failure


def _append_to_file(url: str, values: tuple[str, ...]) -> None:
    import sqlite3

    path = Path(unquote(url.split(":///", 1)[1].split("?", 1)[0]))
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_TIMEOUT_SECONDS)
        try:
            with connection:
                connection.execute("INSERT INTO log (at, owner, event, extra) VALUES (?, ?, ?, ?)", values)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise MetastoreUnavailable(f"the audit log can't be written: {error}") from error


def text_literal(url: str, value: str) -> str:
    """A text in an SQL statement, for the database that a URL names."""
    data = value.encode(errors="replace").replace(b"\0", b"")
    if url.startswith(("mysql", "mariadb")):  # where a backslash may or may not escape
        return f"CONVERT(0x{data.hex()} USING utf8mb4) COLLATE utf8mb4_bin" if data else "''"
    return "'" + data.decode().replace("'", "''") + "'"


def encoded(extra: Mapping[str, Any]) -> str:
    """JSON of what a line says beside its event; values whose names look secret are masked."""
    return json.dumps(_masked(dict(extra)), default=str, ensure_ascii=False)


def whoami() -> str:
    """The person behind this process: who called sudo, else the user it runs as."""
    user = os.environ.get("SUDO_USER")
    if user:
        return user
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # a container's user without a name


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): "***" if is_secret_name(str(key)) else _masked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item) for item in value]
    return value
