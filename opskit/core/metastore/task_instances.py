"""Task instances: list them, read their history, clear and mark them.

Every change here concerns a DAG that a scheduler may hold in memory, so it begins with `dags.touch`. Slots of task
instances that were in flight are given back in the same transaction; their attempts are the scheduler's to end.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.dag.serialized import SerializedDag
from opskit.core.metastore.bulk import bulk_insert, bulk_update
from opskit.core.metastore.dags import get_serialized, nearest, touch
from opskit.core.metastore.runs import get_run
from opskit.core.metastore.tables import dag_run, pool, task_attempt, task_instance, xcom
from opskit.errors import NotFound, UsageError

_FAILED = (states.FAILED, states.UPSTREAM_FAILED)
_ENDED_RUN = (states.SUCCESS, states.FAILED)
_KEY = ["dag_run_id", "task_id", "map_index"]
_OF_ONE_TRY = [
    "queued_at",
    "start_date",
    "end_date",
    "next_at",
    "first_poke_at",
    "worker_id",
    "hostname",
    "pid",
    "reason",
]


@dataclass(frozen=True, slots=True)
class TaskInstance:
    """One task of one run: its newest try."""

    dag_run_id: int
    dag_id: str
    run_id: str
    logical_date: datetime
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    max_tries: int
    dispatches: int
    operator: str
    pool: str
    pool_slots: int
    priority_weight: int
    queued_at: datetime | None
    start_date: datetime | None
    end_date: datetime | None
    next_at: datetime | None
    worker_id: str | None
    hostname: str | None
    pid: int | None
    reason: str | None

    @property
    def key(self) -> tuple[int, str, int]:
        return self.dag_run_id, self.task_id, self.map_index

    @property
    def duration_seconds(self) -> float | None:
        if self.start_date is None or self.end_date is None:
            return None
        return (self.end_date - self.start_date).total_seconds()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a task instance."""

    try_number: int
    state: str | None
    start_date: datetime | None
    end_date: datetime | None
    hostname: str | None
    pid: int | None
    reason: str | None


TI_COLUMNS = [column for column in task_instance.c if column.name != "first_poke_at"]
_TI_QUERY = select(dag_run.c.dag_id, dag_run.c.run_id, dag_run.c.logical_date, *TI_COLUMNS).join_from(
    task_instance, dag_run, dag_run.c.id == task_instance.c.dag_run_id
)


# Made once: pages and the REST API ask it all the time.
_ONE = _TI_QUERY.where(
    dag_run.c.dag_id == bindparam("of_dag"),
    dag_run.c.run_id == bindparam("of_run"),
    task_instance.c.task_id == bindparam("of_task"),
    task_instance.c.map_index == bindparam("of_index"),
)


def list_task_instances(
    connection: Connection,
    dag_id: str,
    *,
    run_ids: Collection[str] | None = None,
    task_ids: Collection[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    in_states: Collection[str | None] | None = None,
) -> list[TaskInstance]:
    """Task instances by logical date, task_id and map_index. `start` and `end` bound the date, both included."""
    query = _TI_QUERY.where(dag_run.c.dag_id == dag_id).order_by(
        dag_run.c.logical_date, task_instance.c.dag_run_id, task_instance.c.task_id, task_instance.c.map_index
    )
    if run_ids is not None:
        query = query.where(dag_run.c.run_id.in_(list(run_ids)))
    if task_ids is not None:
        query = query.where(task_instance.c.task_id.in_(list(task_ids)))
    if start is not None:
        query = query.where(dag_run.c.logical_date >= start)
    if end is not None:
        query = query.where(dag_run.c.logical_date <= end)
    if in_states is not None:
        named = task_instance.c.state.in_([state for state in in_states if state is not None])
        query = query.where(named | task_instance.c.state.is_(None) if None in in_states else named)
    return [TaskInstance(**row._mapping) for row in connection.execute(query)]


def of_runs(connection: Connection, run_numbers: Collection[int], *, in_flight: bool = False) -> list[TaskInstance]:
    """The task instances of runs, by `dag_run.id`; only those that are claimed, with `in_flight`."""
    query = _TI_QUERY.where(task_instance.c.dag_run_id.in_(sorted(set(run_numbers))))
    if in_flight:
        query = query.where(task_instance.c.state.in_(sorted(states.IN_FLIGHT)))
    return [TaskInstance(**row._mapping) for row in connection.execute(query)]


def get_task_instance(
    connection: Connection, dag_id: str, run_id: str, task_id: str, map_index: int = -1
) -> TaskInstance:
    """One task instance. NotFound when the DAG, the run or the task in it is not there."""
    named = {"of_dag": dag_id, "of_run": run_id, "of_task": task_id, "of_index": map_index}
    row = connection.execute(_ONE, named).first()
    if row is None:
        run = get_run(connection, dag_id, run_id)
        known = connection.execute(
            select(task_instance.c.task_id).where(task_instance.c.dag_run_id == run.id)
        ).scalars()
        index = f" with map_index {map_index}" if map_index >= 0 else ""
        raise NotFound(
            f"run {run_id} of DAG {dag_id} has no task {task_id!r}{index}", hint=nearest(task_id, set(known))
        )
    return TaskInstance(**row._mapping)


def task_states(connection: Connection, dag_id: str, run_id: str) -> dict[tuple[str, int], str | None]:
    """State of every task instance of a run, by `(task_id, map_index)`; empty for an unknown run."""
    rows = connection.execute(
        select(task_instance.c.task_id, task_instance.c.map_index, task_instance.c.state)
        .join_from(task_instance, dag_run, dag_run.c.id == task_instance.c.dag_run_id)
        .where(dag_run.c.dag_id == dag_id, dag_run.c.run_id == run_id)
    )
    return {(row.task_id, row.map_index): row.state for row in rows}


def attempts(connection: Connection, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[Attempt]:
    """All tries of a task instance, the oldest first; the last one is its present state when it has begun one."""
    newest = get_task_instance(connection, dag_id, run_id, task_id, map_index)
    rows = connection.execute(
        select(task_attempt)
        .where(
            task_attempt.c.dag_run_id == newest.dag_run_id,
            task_attempt.c.task_id == task_id,
            task_attempt.c.map_index == map_index,
        )
        .order_by(task_attempt.c.try_number)
    )
    found = [
        Attempt(row.try_number, row.state, row.start_date, row.end_date, row.hostname, row.pid, row.reason)
        for row in rows
    ]
    if newest.try_number and newest.try_number not in {attempt.try_number for attempt in found}:
        found.append(
            Attempt(
                newest.try_number,
                newest.state,
                newest.start_date,
                newest.end_date,
                newest.hostname,
                newest.pid,
                newest.reason,
            )
        )
    return found


def in_flight_attempts(connection: Connection) -> list[TaskInstance]:
    """Every task instance that a worker has something of: what a log cleaner must not touch."""
    query = _TI_QUERY.where(task_instance.c.state.in_(sorted(states.HELD)))
    return [TaskInstance(**row._mapping) for row in connection.execute(query)]


# --- clear ---


def select_to_clear(
    connection: Connection,
    dag_id: str,
    *,
    run_ids: Collection[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    task_ids: Collection[str] | None = None,
    task_regex: str | None = None,
    upstream: bool = False,
    downstream: bool = False,
    only_failed: bool = False,
    only_running: bool = False,
) -> list[TaskInstance]:
    """What `clear` would clear: task instances that have a state, of these tasks (all, when none are named).

    `only_failed`: failed and upstream_failed ones. NotFound for an unknown DAG, run or task; UsageError for a pattern
    that is no regular expression.
    """
    dag = get_serialized(connection, dag_id)
    for run_id in run_ids or ():
        get_run(connection, dag_id, run_id)
    chosen = chosen_tasks(dag, task_ids, task_regex)
    chosen = related(dag, chosen, upstream=upstream, downstream=downstream)
    wanted: list[str | None] | None = None
    if only_failed or only_running:
        wanted = [*(_FAILED if only_failed else ()), *(sorted(states.IN_FLIGHT) if only_running else ())]
    found = list_task_instances(
        connection, dag_id, run_ids=run_ids, task_ids=chosen, start=start, end=end, in_states=wanted
    )
    return [instance for instance in found if instance.state is not None]


def chosen_tasks(dag: SerializedDag, task_ids: Collection[str] | None, task_regex: str | None = None) -> set[str]:
    """The tasks that are named, or whose ids match; all when neither says anything. NotFound for an unknown one."""
    known = {task.task_id for task in dag.tasks}
    if task_ids is None and task_regex is None:
        return known
    chosen = set(task_ids or ())
    for task_id in sorted(chosen - known):
        raise NotFound(f"DAG {dag.dag_id} has no task {task_id!r}", hint=nearest(task_id, known))
    if task_regex is not None:
        try:
            pattern = re.compile(task_regex)
        except re.error as error:
            raise UsageError(f"{task_regex!r} is no regular expression: {error}") from error
        matched = {task_id for task_id in known if pattern.search(task_id)}
        if not matched:
            raise NotFound(f"DAG {dag.dag_id} has no task that matches {task_regex!r}")
        chosen |= matched
    return chosen


def related(dag: SerializedDag, task_ids: Iterable[str], *, upstream: bool, downstream: bool) -> set[str]:
    """These tasks, and all that they depend on (`upstream`) or that depend on them (`downstream`), however far."""
    tasks = {task.task_id: task for task in dag.tasks}
    found = set(task_ids)
    for wanted, direction in ((upstream, "upstream"), (downstream, "downstream")):
        todo = list(task_ids) if wanted else []
        seen = set(todo)
        while todo:
            for task_id in getattr(tasks[todo.pop()], direction):
                if task_id not in seen:
                    seen.add(task_id)
                    todo.append(task_id)
        found |= seen
    return found


def clear(
    connection: Connection,
    dag_id: str,
    instances: Sequence[TaskInstance],
    now: datetime,
    *,
    resume_runs: bool = True,
) -> int:
    """Let these task instances run again; how many were cleared. (Those that have no state now are left as they are.)

    Their tries so far become history, their XComs go, and as in Airflow the task's retries are granted anew. A run that
    had ended goes on, unless `resume_runs` is False. An attempt that is in flight is void from now on: its result will
    be refused.
    """
    touch(connection, [dag_id], now)
    fresh = _read_again(connection, instances)
    fresh = [instance for instance in fresh if instance.state is not None]
    if not fresh:
        return 0
    retries = {task.task_id: task.retries for task in get_serialized(connection, dag_id).tasks}
    _keep_history(connection, fresh, now)
    _forget_xcoms(connection, fresh)
    bulk_update(
        connection,
        task_instance,
        _KEY,
        ["state", "max_tries", *_OF_ONE_TRY],
        [
            (
                *instance.key,
                None,
                # Tries begun are `try_number`; so many more may fail before the last.
                instance.try_number + retries[instance.task_id]
                if instance.task_id in retries
                else max(instance.max_tries, instance.try_number),
                *[None] * len(_OF_ONE_TRY),
            )
            for instance in fresh
        ],
    )
    free_slots(connection, fresh)
    if resume_runs:
        _resume_runs(connection, {instance.dag_run_id for instance in fresh}, now)
    return len(fresh)


def _read_again(connection: Connection, instances: Sequence[TaskInstance]) -> list[TaskInstance]:
    """Their rows as they are now, under the lock of the DAG."""
    wanted = {instance.key for instance in instances}
    runs = sorted({instance.dag_run_id for instance in instances})
    tasks = sorted({instance.task_id for instance in instances})
    rows = connection.execute(_TI_QUERY.where(task_instance.c.dag_run_id.in_(runs), task_instance.c.task_id.in_(tasks)))
    found = [TaskInstance(**row._mapping) for row in rows]
    return [instance for instance in found if instance.key in wanted]


def _keep_history(connection: Connection, instances: Iterable[TaskInstance], now: datetime) -> None:
    bulk_insert(
        connection,
        task_attempt,
        [*_KEY, "try_number", "state", "start_date", "end_date", "hostname", "pid", "reason"],
        [
            (
                *instance.key,
                instance.try_number,
                states.FAILED if instance.state == states.UP_FOR_RETRY else instance.state,
                instance.start_date,
                instance.end_date or now,
                instance.hostname,
                instance.pid,
                "cleared while it was in flight" if instance.state in states.IN_FLIGHT else instance.reason,
            )
            for instance in instances
            if instance.try_number > 0
        ],
        on_conflict="update",
    )


def _forget_xcoms(connection: Connection, instances: Iterable[TaskInstance]) -> None:
    by_run: dict[tuple[int, int], list[str]] = {}
    for instance in instances:
        by_run.setdefault((instance.dag_run_id, instance.map_index), []).append(instance.task_id)
    for (run, map_index), task_ids in sorted(by_run.items()):
        connection.execute(
            delete(xcom).where(xcom.c.dag_run_id == run, xcom.c.map_index == map_index, xcom.c.task_id.in_(task_ids))
        )


def free_slots(connection: Connection, instances: Iterable[TaskInstance]) -> None:
    """Give back the pool slots of those that were in flight; `instances` as they were before the change."""
    freed: dict[str, int] = {}
    for instance in instances:
        if instance.state in states.IN_FLIGHT:
            freed[instance.pool] = freed.get(instance.pool, 0) + instance.pool_slots
    for name in sorted(freed):
        connection.execute(update(pool).where(pool.c.pool == name).values(used_slots=pool.c.used_slots - freed[name]))


def _resume_runs(connection: Connection, run_numbers: Collection[int], now: datetime) -> None:
    """Runs that had ended go on; dagrun_timeout counts from now."""
    connection.execute(
        update(dag_run)
        .where(dag_run.c.id.in_(sorted(run_numbers)), dag_run.c.state.in_(_ENDED_RUN))
        .values(state=states.RUNNING, start_date=now, end_date=None)
    )


# --- mark ---


def mark_tasks(
    connection: Connection, dag_id: str, run_id: str, task_ids: Collection[str], state: str, now: datetime
) -> list[TaskInstance]:
    """Set tasks of a run to success or failed by hand; which were changed, as they were before.

    As in Airflow, downstream tasks that had failed because of them are cleared. A run that had ended goes on until a
    scheduler has judged it again.
    """
    dag = get_serialized(connection, dag_id)
    get_run(connection, dag_id, run_id)
    found = list_task_instances(connection, dag_id, run_ids=[run_id], task_ids=chosen_tasks(dag, task_ids))
    return mark(connection, dag_id, found, state, now)


def mark(
    connection: Connection, dag_id: str, instances: Sequence[TaskInstance], state: str, now: datetime
) -> list[TaskInstance]:
    """As `mark_tasks`, for task instances of one DAG that were read before, of any of its runs; those that are in this
    state already stay as they are."""
    if state not in (states.SUCCESS, states.FAILED, states.SKIPPED):
        raise UsageError(f"a task can't be marked {state!r}", hint="choose success, failed or skipped")
    touch(connection, [dag_id], now)
    before = [instance for instance in _read_again(connection, instances) if instance.state != state]
    if not before:
        return []
    dag = get_serialized(connection, dag_id)
    _write_states(connection, [(instance, state) for instance in before], f"marked {state} by hand", now)
    known = {task.task_id for task in dag.tasks}
    marked = {instance.task_id for instance in instances} & known
    below = related(dag, marked, upstream=False, downstream=True) - marked
    runs = sorted({instance.run_id for instance in before})
    clear(
        connection,
        dag_id,
        list_task_instances(connection, dag_id, run_ids=runs, task_ids=below, in_states=_FAILED),
        now,
    )
    _resume_runs(connection, {instance.dag_run_id for instance in before}, now)
    return before


def mark_run(connection: Connection, dag_id: str, run_id: str, state: str, now: datetime) -> list[TaskInstance]:
    """End a run by hand, or let it go on; which task instances were changed, as they were before.

    success: all its tasks become success. failed: those in flight fail, those that wait are skipped. queued: a run that
    had ended goes on with what is not finished.
    """
    if state not in (*_ENDED_RUN, states.QUEUED):
        raise UsageError(f"a DagRun can't be marked {state!r}", hint="choose success, failed or queued")
    run = get_run(connection, dag_id, run_id)
    touch(connection, [dag_id], now)
    if state == states.QUEUED:
        _resume_runs(connection, {run.id}, now)
        return []
    changes = []
    for instance in list_task_instances(connection, dag_id, run_ids=[run_id]):
        if state == states.SUCCESS:
            after = states.SUCCESS
        elif instance.state in states.FINISHED:
            continue
        elif instance.state in states.IN_FLIGHT or instance.state == states.DEFERRED:
            after = states.FAILED
        else:
            after = states.SKIPPED
        if instance.state != after:
            changes.append((instance, after))
    _write_states(connection, changes, f"the DagRun was marked {state} by hand", now)
    connection.execute(
        update(dag_run)
        .where(dag_run.c.id == run.id)
        .values(state=state, start_date=run.start_date or now, end_date=now)
    )
    return [instance for instance, _ in changes]


def _write_states(
    connection: Connection, changes: Sequence[tuple[TaskInstance, str]], reason: str, now: datetime
) -> None:
    bulk_update(
        connection,
        task_instance,
        _KEY,
        ["state", "start_date", "end_date", "next_at", "reason"],
        [
            (*instance.key, state, instance.start_date or now, instance.end_date or now, None, reason)
            for instance, state in changes
        ],
    )
    free_slots(connection, [instance for instance, _ in changes])
