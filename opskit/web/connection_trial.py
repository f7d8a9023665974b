"""Tries a connection for a page or the API: in a process of its own, for a limited time, when settings allow it."""

from __future__ import annotations

import json
import subprocess
import sys

from opskit.core.dag.connection import Connection
from opskit.errors import UsageError
from opskit.web.changes import connections as changes
from opskit.web.faults import Forbidden
from opskit.web.identity import CREATE, Who
from opskit.web.store import Store

_SECONDS = 30.0


def is_allowed(store: Store) -> bool:
    """Whether `core.test_connection` allows it."""
    return str(store.config.get("core", "test_connection")) == "Enabled"


def attempt(store: Store, who: Who, connection: Connection) -> tuple[bool, str]:
    """Whether the other side answers, and what was said, without the connection's secrets. Nothing is stored.

    Forbidden unless settings allow it, and for who may not create connections; UsageError without a type."""
    who.require(CREATE, changes.RESOURCE)
    if not is_allowed(store):
        raise Forbidden("connections may not be tried here", hint="core.test_connection = Enabled allows it")
    if not connection.conn_type:
        raise UsageError("conn_type is missing", hint="for example postgres, http, ssh")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "opskit.providers.trial"],
            input=json.dumps(connection.to_dict()),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {_SECONDS:.0f} s"
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return False, f"the process that tried it ended with {done.returncode}"
    return bool(answer["status"]), str(answer["message"])
