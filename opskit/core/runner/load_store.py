"""How a DAG file asks the metastore while it is loaded; what it was told is remembered, so that a change is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from opskit.core.dag.connection import Connection
from opskit.core.runner.gateway_store import GatewayStore

VARIABLE, CONNECTION = "variable", "connection"
Question = tuple[str, str]
"""VARIABLE or CONNECTION, and its key."""


def digest(answer: str | Connection | None) -> str:
    """What tells answers apart, and gives no secret away."""
    if isinstance(answer, Connection):
        text = json.dumps(answer.to_dict(), sort_keys=True)
    else:
        text = json.dumps(answer)
    return hashlib.sha256(text.encode()).hexdigest()


class LoadStore(GatewayStore):
    """A GatewayStore that tells each question: `tell(question, None)` before it is asked, then with the answer's
    digest. So it is known, too, what a load waited for that came to no end."""

    def __init__(
        self,
        socket_path: str,
        mask: Callable[[list[str]], None] | None,
        tell: Callable[[Question, str | None], None],
    ) -> None:
        super().__init__(socket_path, mask)
        self._tell = tell

    def get_variable(self, key: str) -> str | None:
        self._tell((VARIABLE, key), None)
        value = super().get_variable(key)
        self._tell((VARIABLE, key), digest(value))
        return value

    def get_connection(self, conn_id: str) -> Connection | None:
        self._tell((CONNECTION, conn_id), None)
        found = super().get_connection(conn_id)
        self._tell((CONNECTION, conn_id), digest(found))
        return found
