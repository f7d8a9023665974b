"""Tries one connection: `python -m opskit.providers.trial`, in a process of its own, which may be ended at any time.

Standard input: the connection as JSON (the fields of Connection). Standard output: `{"status": bool, "message": str}`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from opskit.core.dag.connection import ENV_PREFIXES, Connection
from opskit.core.dag.exceptions import AirflowException
from opskit.errors import UsageError

_CONN_ID = "opskit_trial"


def attempt(fields: dict[str, Any]) -> tuple[bool, str]:
    """Whether the other side answers, and what it or the library said. Secrets of the connection are masked."""
    connection = Connection.from_dict(fields, _CONN_ID)
    # Hooks look their connection up by its id.
    os.environ[ENV_PREFIXES[0] + _CONN_ID.upper()] = connection.as_json()
    try:
        hook = connection.get_hook()
        if not hasattr(hook, "test_connection"):
            return False, f"connections of type {connection.conn_type!r} can't be tried"
        status, message = hook.test_connection()
    except (AirflowException, UsageError) as error:
        status, message = False, str(error)
    except Exception as error:  # noqa: BLE001 -- whatever a client library raises is the answer
        status, message = False, f"{type(error).__name__}: {error}"
    text = str(message)
    for secret in connection.secrets():
        text = text.replace(secret, "***")
    return bool(status), text


def main() -> int:
    answer, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no part of the answer
    status, message = attempt(json.load(sys.stdin))
    answer.write(json.dumps({"status": status, "message": message}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
