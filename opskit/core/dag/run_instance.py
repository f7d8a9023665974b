"""One task instance in the scheduler's memory, with what its upstream has come to."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opskit.core.dag import states
from opskit.core.dag.serialized import SerializedTask
from opskit.core.dag.trigger_rules import decide

Key = tuple[str, int]
"""`(task_id, map_index)`"""


@dataclass(slots=True)
class TaskInstance:
    """One task instance: its row, and what its upstream tasks have come to."""

    task: SerializedTask
    map_index: int = -1
    state: str | None = None
    try_number: int = 0
    max_tries: int = 0
    dispatches: int = 0
    queued_at: datetime | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    next_at: datetime | None = None
    first_poke_at: datetime | None = None
    worker_id: str | None = None
    hostname: str | None = None
    pid: int | None = None
    reason: str | None = None
    deferral: dict[str, Any] | None = None
    """What a deferred task waits for and how it goes on, until an attempt of it ends."""
    unconfirmed: bool = False
    """Claimed by an earlier scheduler; the worker has not said yet whether it knows the key."""
    # --- upstream task instances by what they came to ---
    total: int = 0
    success: int = 0
    failed: int = 0
    skipped: int = 0
    upstream_failed: int = 0
    removed: int = 0

    @property
    def is_unexpanded(self) -> bool:
        """Stands for the instances of a mapped task that are not known yet."""
        return self.map_index < 0 and self.task.expand is not None

    @property
    def waits(self) -> bool:
        """It has not begun."""
        return self.state is None or self.state == states.SCHEDULED

    @property
    def key(self) -> Key:
        return (self.task.task_id, self.map_index)

    @property
    def done(self) -> int:
        return self.success + self.failed + self.skipped + self.upstream_failed + self.removed

    def count(self, state: str | None, step: int) -> None:
        if state == states.SUCCESS:
            self.success += step
        elif state == states.FAILED:
            self.failed += step
        elif state == states.SKIPPED:
            self.skipped += step
        elif state == states.UPSTREAM_FAILED:
            self.upstream_failed += step
        elif state == states.REMOVED:
            self.removed += step

    def decide(self) -> str:
        return decide(
            self.task.trigger_rule,
            total=self.total,
            success=self.success,
            failed=self.failed,
            skipped=self.skipped,
            upstream_failed=self.upstream_failed,
            removed=self.removed,
            done=self.done,
        )


Todo = deque[tuple[TaskInstance, str | None]]
"""Task instances with the state that they end with; None: that is to be decided."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """A try that is over because another will follow: a row of task_attempt."""

    key: Key
    try_number: int
    state: str
    start_date: datetime | None
    end_date: datetime | None
    hostname: str | None
    pid: int | None
    reason: str | None
