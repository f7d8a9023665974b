"""One DAG whose lease this scheduler holds: its active runs in memory, read again when others changed the rows."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opskit.core.dag import schedules, states, timetables
from opskit.core.dag.run_instance import TaskInstance
from opskit.core.dag.run_state import RunState
from opskit.core.dag.serialized import SerializedDag, SerializedTask
from opskit.core.metastore.scheduling import INSTANCE_COLUMNS, DagRows
from opskit.core.scheduler import next_runs

_order = itertools.count()

Candidate = tuple[int, datetime, int, RunState, TaskInstance]
"""(-priority_weight, logical date, order, run, instance): sorts as Airflow queues."""


Lengths = Callable[[Mapping[int, RunState], SerializedDag], None]
"""Fills `lengths` of these runs, by dag_run.id."""
Previous = Callable[["OwnedDag", RunState], tuple[int, Mapping[str, str | None]] | None]
"""Reads the newest run before a given one: its dag_run.id and the states of its task instances."""


@dataclass(slots=True)
class OwnedDag:
    dag_id: str
    fileloc: str
    version_hash: str
    is_paused: bool
    is_active: bool
    epoch: int
    revision: int
    dag: SerializedDag
    timetable: timetables.Timetable
    catchup: bool
    max_active_runs: int
    max_active_tasks: int
    most_failures: int = 0
    """So many failed runs in a row pause it; 0: never."""
    release: str | None = None
    """Of the DAG folder, from which the version was loaded; None: a plain folder."""
    runs: dict[int, RunState] = field(default_factory=dict)
    waiting: list[Any] = field(default_factory=list)
    """Rows of queued DagRuns, in the order of their logical dates."""
    last_automated: timetables.DataInterval | None = None
    next: timetables.DagRunInfo | None = None
    first_run: str = "latest"
    """Which run is the first, without catchup: see `opskit.core.dag.schedules`."""
    unpaused_at: datetime | None = None
    asks_file: bool = False
    """Only the DAG file can tell the next run: the DAG processor asks it, `plan` is the answer."""
    plan: str | None = None
    next_run_id: str | None = None
    """Of `next`, where the DAG file has said it."""
    queues: dict[str, list[Candidate]] = field(default_factory=dict)
    """Ready task instances by pool; entries that are no longer ready are dropped when they surface."""
    active: int = 0
    """Task instances in flight."""
    look_for_events: bool = False
    """Events of assets may have met the condition of its schedule: the next wave looks."""
    deferred: int = 0
    """Task instances that wait for a trigger."""
    per_task: dict[str, int] = field(default_factory=dict)
    """In flight by task_id, for tasks with max_active_tis_per_dag."""
    per_run: dict[tuple[int, str], int] = field(default_factory=dict)
    """In flight by dag_run.id and task_id, for tasks with max_active_tis_per_dagrun."""
    held: bool = False
    """The worker has said which attempts of this DAG it has; nothing is dispatched before."""
    asked: int = 0
    """The newest fence: its answer is the one that counts."""
    pool_delta: dict[str, int] = field(default_factory=dict)
    """Slots taken (+) and freed (-) since the last durable wave."""

    def in_flight(self) -> Iterator[tuple[RunState, TaskInstance]]:
        """Every task instance that a worker has something of."""
        if not self.active and not self.deferred:
            return
        for run in self.runs.values():
            for instance in run.instances.values():
                if instance.state in states.HELD:
                    yield run, instance

    def take_ready(self, run: RunState) -> None:
        """Move what has become ready into the queues."""
        for instance in run.newly_ready:
            heap = self.queues.setdefault(instance.task.pool, [])
            heapq.heappush(heap, (-instance.task.priority_weight, run.logical_date, next(_order), run, instance))
        run.newly_ready.clear()

    def head(self, pool: str) -> Candidate | None:
        """The next ready task instance of a pool."""
        heap = self.queues.get(pool)
        while heap:
            _, _, _, run, instance = heap[0]
            if not run.ended and run.ready.get(instance.key) is instance:
                return heap[0]
            heapq.heappop(heap)
        return None

    def occupy(self, run: RunState, instance: TaskInstance, slots: int = 1) -> None:
        """Count a task instance as in flight; `slots=-1`: no longer."""
        task = instance.task
        self.active += slots
        self.pool_delta[task.pool] = self.pool_delta.get(task.pool, 0) + slots * task.pool_slots
        if task.max_active_tis_per_dag is not None:
            self.per_task[task.task_id] = self.per_task.get(task.task_id, 0) + slots
        if task.max_active_tis_per_dagrun is not None:
            key = (run.id, task.task_id)
            self.per_run[key] = self.per_run.get(key, 0) + slots

    def vacate(self, run: RunState, instance: TaskInstance) -> None:
        self.occupy(run, instance, -1)

    def is_limited(self, run: RunState, task: SerializedTask) -> bool:
        """Whether as many instances of this task are in flight as may be."""
        limit, limit_in_run = task.max_active_tis_per_dag, task.max_active_tis_per_dagrun
        if limit is not None and self.per_task.get(task.task_id, 0) >= limit:
            return True
        return limit_in_run is not None and self.per_run.get((run.id, task.task_id), 0) >= limit_in_run

    def plan_next(self, now: datetime) -> None:
        """Find the next scheduled run, from the newest automated one."""
        if not self.is_active:
            self.next = None
            return
        if self.asks_file:
            self.next, self.next_run_id = next_runs.planned(self.plan, self.version_hash, self.last_automated)
            return
        restriction = timetables.TimeRestriction(self.dag.start_date, self.dag.end_date, self.catchup, now)
        since = (self.unpaused_at or now) if self.first_run == "next" else None
        self.next = schedules.upcoming(self.timetable, self.last_automated, restriction, since)

    def start_due(self, now: datetime) -> bool:
        """Whether a queued run may start, or a scheduled run is to be created."""
        if self.is_paused or len(self.runs) >= self.max_active_runs:
            return False
        return self.events_due() or bool(self.waiting) or (self.next is not None and self.next.run_after <= now)

    @property
    def waits_for_assets(self) -> bool:
        """Whether events of assets make runs of it."""
        return "condition" in self.dag.timetable and self.is_active

    def events_due(self) -> bool:
        """Whether a run may be made of events, when there are any. As long as it has all the runs that it may have,
        events wait; the next run is made of all of them."""
        return self.look_for_events and len(self.runs) + len(self.waiting) < self.max_active_runs

    def idle_until(self, now: datetime) -> datetime | None:
        """When someone should look at this DAG again, once it has no active run."""
        if self.is_paused or not self.is_active or self.next is None:
            return None
        return max(self.next.run_after, now)


def build(
    rows: DagRows,
    dag: SerializedDag,
    *,
    catchup_by_default: bool,
    first_run_by_default: str = "latest",
    max_active_runs: int,
    max_active_tasks: int,
    most_failures: int = 0,
    previous: Previous,
    lengths: Lengths,
    now: datetime,
) -> OwnedDag:
    """Make the memory of a DAG from its rows."""
    owned = OwnedDag(
        dag_id=rows.dag_id,
        fileloc=rows.fileloc,
        version_hash=rows.version_hash,
        release=rows.release,
        is_paused=rows.is_paused,
        is_active=rows.is_active,
        epoch=rows.epoch,
        revision=rows.revision,
        dag=dag,
        timetable=timetables.deserialize(dag.timetable),
        catchup=catchup_by_default if dag.catchup is None else dag.catchup,
        first_run=dag.first_run or first_run_by_default,
        unpaused_at=rows.unpaused_at,
        asks_file=timetables.is_asked(dag.timetable),
        plan=rows.plan,
        max_active_runs=dag.max_active_runs or max_active_runs,
        max_active_tasks=dag.max_active_tasks or max_active_tasks,
        most_failures=(
            most_failures if dag.max_consecutive_failed_dag_runs is None else dag.max_consecutive_failed_dag_runs
        ),
    )
    if rows.last_automated is not None:
        owned.last_automated = timetables.DataInterval(*rows.last_automated)
    runs = {}
    for row in rows.runs:
        if row.state == states.QUEUED:
            owned.waiting.append(row)
            continue
        run = runs[row.id] = run_from_row(row, dag)
        restore_instances(run, rows.instances.get(row.id, ()))
        run.missed.update(rows.missed.get(row.id, ()))
        for key, deferral in rows.deferrals.get(row.id, {}).items():
            if key in run.instances:
                run.instances[key].deferral = deferral
    if runs and dag.mapped_over:
        lengths(runs, dag)
    for run in runs.values():
        add_run(owned, run, previous, skipped=rows.skipped.get(run.id, ()))
    owned.pool_delta.clear()  # what is in flight is counted in the pools already
    owned.look_for_events = owned.waits_for_assets
    owned.plan_next(now)
    return owned


def run_from_row(row: Any, dag: SerializedDag) -> RunState:
    return RunState(
        id=row.id,
        dag=dag,
        run_id=row.run_id,
        run_type=row.run_type,
        logical_date=row.logical_date,
        data_interval_start=row.data_interval_start,
        data_interval_end=row.data_interval_end,
        conf=json.loads(row.conf),
        start_date=row.start_date,
        partition_key=row.partition_key,
        partition_date=row.partition_date,
        queued_at=row.queued_at,
    )


def restore_instances(run: RunState, rows: Any) -> None:
    """The task instances of a run under way; `changed` and `added` get what a new version of the DAG changes."""
    tasks = {task.task_id: task for task in run.dag.tasks}
    seen = set()
    for row in rows:
        task = tasks.get(row.task_id)
        if task is not None and row.map_index >= 0 and task.expand is None:
            task = None  # it was mapped in the version that the run began with
        known = task is not None
        if task is None:
            if row.state in states.FINISHED:
                continue
            task = SerializedTask(row.task_id, row.operator, pool=row.pool, pool_slots=row.pool_slots)
        if known:
            seen.add(row.task_id)
        instance = TaskInstance(task, row.map_index, max_tries=row.max_tries)
        for column in INSTANCE_COLUMNS:
            setattr(instance, column, getattr(row, column))
        if known and instance.state == states.REMOVED and row.map_index < 0:
            instance.state = None
            run.changed[instance.key] = instance
        elif instance.state in states.HELD:
            instance.unconfirmed = True
        elif not known:
            instance.state = states.REMOVED
            run.changed[instance.key] = instance
        run.instances[instance.key] = instance
    for task in run.dag.tasks:
        if task.task_id not in seen and run.takes_part(task):
            instance = TaskInstance(task, max_tries=task.retries)
            run.instances[instance.key] = instance
            run.added.append(instance)


def add_run(
    owned: OwnedDag,
    run: RunState,
    previous: Previous,
    skipped: Any = (),
) -> None:
    """Let a run take part: link it to the run before it where its tasks depend on the past, and find what is ready."""
    if any(task.depends_on_past or task.wait_for_downstream for task in run.dag.tasks):
        found = previous(owned, run)
        if found is not None:
            before_id, before_states = found
            before = owned.runs.get(before_id)
            if before is not None:
                run.previous = before
                before.following.append(run)
            else:
                run.past = before_states
    owned.runs[run.id] = run
    for instance in run.instances.values():
        if instance.state in states.IN_FLIGHT:
            owned.occupy(run, instance)
        owned.deferred += instance.state == states.DEFERRED
    run.wire(skipped)
    owned.take_ready(run)


def instance_row(run: RunState, instance: TaskInstance) -> tuple[Any, ...]:
    """Key and INSTANCE_COLUMNS of a task instance: what the scheduler writes of it."""
    return (
        run.id,
        instance.task.task_id,
        instance.map_index,
        instance.state,
        instance.try_number,
        instance.dispatches,
        instance.queued_at,
        instance.start_date,
        instance.end_date,
        instance.next_at,
        instance.first_poke_at,
        instance.worker_id,
        instance.hostname,
        instance.pid,
        instance.reason,
    )


def new_instance_row(run: RunState, instance: TaskInstance) -> tuple[Any, ...]:
    """Key, INSTANCE_COLUMNS and NEW_INSTANCE_COLUMNS of a new task instance."""
    task = instance.task
    return (
        *instance_row(run, instance),
        instance.max_tries,
        task.operator,
        task.pool,
        task.pool_slots,
        task.priority_weight,
    )
