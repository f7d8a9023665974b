"""What a verb may ask about a cluster's history: what is old, and that it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol

STATES = ("success", "failed")
TABLES = ("xcom", "task_attempt", "log", "instance", "attempt_result", "dag_version", "asset_event")
"""Tables that may have an age of their own. Task instances go with their DagRun."""

Rows = Callable[[], Iterator[Mapping[str, Any]]]
Keep = Callable[[str, Mapping[str, Rows]], None]
"""Called before rows are removed, with what they are (`runs`, or a table) and, by table, a function that reads them.
When it raises, they stay."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How many days after its end what goes."""

    days: float
    """DagRuns, and everything that has no rule of its own."""
    tables: Mapping[str, float] = field(default_factory=dict)
    """Of TABLES."""
    states: Mapping[str, float] = field(default_factory=dict)
    """DagRuns that ended in this state."""
    dags: tuple[tuple[str, Mapping[str, float]], ...] = ()
    """`(pattern of dag_ids, state → days)`: the first pattern that fits counts. `*` stands for both states."""

    def of(self, dag_id: str, is_paused: bool) -> Mapping[str, float]:
        """State → days for the runs of a DAG. Runs of a paused DAG stay, unless a pattern names it."""
        for pattern, by_state in self.dags:
            if fnmatchcase(dag_id, pattern):
                everywhere = by_state.get("*")
                return {
                    state: days
                    for state in STATES
                    if (
                        days := by_state.get(
                            state, self.states.get(state, self.days) if everywhere is None else everywhere
                        )
                    )
                    is not None
                }
        if is_paused:
            return {}
        return {state: self.states.get(state, self.days) for state in STATES}


@dataclass(frozen=True, slots=True)
class OldRows:
    """Rows of one table that would go, and why."""

    table: str
    rows: int
    why: str
    size_bytes: int = 0
    """Estimated from the size of the table."""
    seconds: float = 0.0
    """Estimated."""


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    rows: tuple[OldRows, ...]
    kept: Mapping[str, int]
    """Why old DagRuns stay → how many."""
    advice: tuple[str, ...]
    """What would make it faster, or the database smaller: statements for its shell."""


@dataclass(frozen=True, slots=True)
class TableSpace:
    """Bytes of a table with its indexes, and those in it that hold nothing any more."""

    table: str
    before_bytes: int
    after_bytes: int
    reusable_bytes: int


@dataclass(frozen=True, slots=True)
class Removed:
    rows: Mapping[str, int]
    about: frozenset[str]
    """Tables of which `rows` has an estimate: they went in partitions."""
    partitions: tuple[str, ...]
    """Partitions that went whole."""
    left: tuple[str, ...]
    """What was to go and did not, because the time was up."""
    failed: Mapping[str, str]
    """Table → error. The others were cleaned."""
    notes: tuple[str, ...]
    transactions: int
    longest_transaction_seconds: float
    rested_seconds: float
    """Waited for schedulers or replicas that were behind."""
    space: tuple[TableSpace, ...]
    advice: tuple[str, ...]


class Retention(Protocol):
    """Removes history from the metastore. Never a run that has not ended, never the newest run of a DAG, none of a DAG
    with an unfinished backfill."""

    def plan(self, policy: RetentionPolicy, now: datetime) -> RetentionPlan:
        """What `remove` would remove now. MetastoreUnavailable when nobody can say."""
        ...

    def remove(
        self,
        policy: RetentionPolicy,
        now: datetime,
        *,
        batch_size: int,
        deadline_seconds: float | None = None,
        keep: Keep | None = None,
        told: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> Removed:
        """Remove it in transactions of up to `batch_size` rows; `told` hears what has gone so far. What is gone stays
        gone when it fails in the middle. LockHeld while another host cleans the same metastore."""
        ...
