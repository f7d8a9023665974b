"""A child of the webserver's supervisor, as the supervisor sees it."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from opskit.system.processes import Process
from opskit.web.board import Seat

SLOW_SECONDS = 2.0
"""A worker whose event loop has not turned for so long is given no connections while another one turns."""
STUCK_SECONDS = 20.0
"""One whose event loop has not turned for so long is killed."""
BUSY_SECONDS = 40.0
"""And one that had no thread for a request for so long, while another has."""


@dataclass(slots=True)
class Child:
    """A process and its successors."""

    name: str
    kind: str
    seat: Seat
    process: Process | None = None
    pidfd: int = -1
    channel: socket.socket | None = None
    """Through which a worker gets its connections."""
    given: int = 0
    """Connections, since it was started."""
    not_taken: deque[socket.socket] = field(default_factory=deque)
    """Of these, what it has not said to have: when it dies, others get them."""
    started_at: float = 0.0
    due_at: float = 0.0
    pause: float = 0.0
    failures: int = 0
    dumped_at: float = 0.0
    """When it was asked for its stacks, because it hangs."""

    @property
    def load(self) -> int:
        taken, opened = self.seat.connections
        return opened + self.given - taken

    def turned_ago(self, now: float) -> float:
        return now - max(self.seat.turned_at, self.started_at)

    def proved_ago(self, now: float) -> float:
        return now - max(self.seat.proved_at, self.started_at)

    def hangs(self, others: Sequence[Child], now: float) -> str:
        """Why it is to be replaced; empty: it is not. `others`: the other workers that run."""
        if (silent := self.turned_ago(now)) > STUCK_SECONDS:
            return f"its main loop has not gone round for {silent:.0f} s"
        # When none has a thread, it is the metastore or the machine: another process would help nobody.
        others_have = any(other.proved_ago(now) < BUSY_SECONDS / 4 for other in others)
        if self.kind == "worker" and others_have and (silent := self.proved_ago(now)) > BUSY_SECONDS:
            return f"it has had no thread for a request for {silent:.0f} s, while others have"
        return ""
