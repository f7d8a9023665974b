"""The tasks of one run as lines: a task, or a mapped task with all its instances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from opskit.core.dag import states
from opskit.core.metastore.browsing.run_page import EarlierTry, TaskRow
from opskit.web.definitions import Definition
from opskit.web.summaries import ORDER, Summary


@dataclass(slots=True)
class TaskLine:
    """One task of a run."""

    task_id: str
    kind: str = ""
    is_mapped: bool = False
    summary: Summary = field(default_factory=Summary)
    queued_at: datetime | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    try_number: int = 0
    max_tries: int = 0
    next_at: datetime | None = None
    hostname: str | None = None
    reason: str = ""
    """Why it is in its state: of the weightiest one."""
    earlier: list[EarlierTry] = field(default_factory=list)

    @property
    def state(self) -> str | None:
        return self.summary.state

    @property
    def is_over(self) -> bool:
        return all(state in states.FINISHED for state in self.summary.counts)

    def seconds(self, now: datetime) -> float | None:
        """From the first start to the last end; until now while something of it runs."""
        if self.start_date is None:
            return None
        end = self.end_date if self.is_over else now if states.RUNNING in self.summary.counts else self.end_date
        return None if end is None else max(0.0, (end - self.start_date).total_seconds())


def task_lines(definition: Definition, rows: Iterable[TaskRow], earlier: Sequence[EarlierTry] = ()) -> list[TaskLine]:
    """In the order of the DAG; tasks that it no longer has come last."""
    found: dict[str, TaskLine] = {}
    weightiest: dict[str, int] = {}
    for row in rows:
        line = found.setdefault(row.task_id, TaskLine(row.task_id))
        line.summary.add(row.state, row.count)
        line.is_mapped = line.is_mapped or row.first_map_index >= 0
        line.queued_at = _least(line.queued_at, row.queued_at)
        line.start_date = _least(line.start_date, row.start_date)
        line.end_date = max((at for at in (line.end_date, row.end_date) if at is not None), default=None)
        line.next_at = _least(line.next_at, row.next_at)
        line.try_number = max(line.try_number, row.try_number)
        line.max_tries = max(line.max_tries, row.max_tries)
        weight = ORDER.get(row.state, len(ORDER))
        if weight <= weightiest.get(row.task_id, weight):
            weightiest[row.task_id] = weight
            line.reason, line.hostname = row.reason or "", row.hostname
    for one in earlier:
        if one.task_id in found:
            found[one.task_id].earlier.append(one)
    order = {task.task_id: number for number, task in enumerate(definition.dag.tasks)}
    for task_id, line in found.items():
        task = definition.dag.by_id.get(task_id)
        if task is not None:
            line.kind = task.operator
            line.is_mapped = line.is_mapped or definition.is_mapped(task)
    return sorted(found.values(), key=lambda line: (order.get(line.task_id, len(order)), line.task_id))


def _least(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((at for at in (one, other) if at is not None), default=None)
