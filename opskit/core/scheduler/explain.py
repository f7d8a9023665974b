"""Why a task instance is not running: each condition that is not met, as a sentence.

`observe` reads the rows and makes the same memory of the DAG that its scheduler has; `unmet` asks that memory, and is
pure. Names of conditions are Airflow's, where it has such a one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from opskit.config import Config
from opskit.core.dag import states
from opskit.core.dag.run_instance import TaskInstance
from opskit.core.dag.run_state import RunState
from opskit.core.dag.serialized import SerializedDag, SerializedTask
from opskit.core.metastore import dags, instances, runs, scheduling
from opskit.core.metastore.browsing import waiting
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.runs import Run
from opskit.core.scheduler.owned_dag import OwnedDag, build
from opskit.errors import NotFound

_NAMED = 5
"""So many upstream tasks are named in a sentence."""
_ENDED = (states.SUCCESS, states.FAILED)


@dataclass(frozen=True, slots=True)
class Unmet:
    """A condition that is not met."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen at one moment."""

    now: datetime
    run: Run
    task_id: str
    map_index: int
    task: SerializedTask | None
    """As the DAG's current version has it; None: it has it no more."""
    stored: TaskInstance | None
    """The task instance as its row has it; None: there is none."""
    owned: OwnedDag | None = None
    """The DAG as its scheduler would have it in memory; its runs are decided as far as they can be now. None: what the
    rows of the run and the task instance say is enough."""
    waiting_before: int = 0
    """Queued runs that start before this one."""
    pools: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Name → (slots, used)."""
    schedulers: int = 1
    """Alive."""
    workers: Mapping[str, int] = field(default_factory=dict)
    """Ids of living workers → how many attempts each runs at once."""
    in_flight: int = 0
    """Task instances of all DAGs that are claimed or run."""
    last_scheduler: datetime | None = None
    """The newest sign of life of a scheduler."""
    import_error: str | None = None
    """The first line of why the DAG's file could not be loaded."""


def observe(
    connection: Connection,
    config: Config,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: int,
    now: datetime,
) -> Observation:
    """Read what matters for one task instance. NotFound for a DAG, a run, a task or a map index that is not there."""
    run = runs.get_run(connection, dag_id, run_id)
    definition = dags.get_serialized(connection, dag_id)
    task = definition.by_id.get(task_id)
    stored = _stored(connection, definition, run, task_id, map_index)
    if stored is None and (map_index >= 0 or task is None or waiting.is_expanded(connection, run.id, task_id)):
        mapped = f" with map_index {map_index}" if map_index >= 0 else ""
        raise NotFound(
            f"run {run_id} of DAG {dag_id} has no task {task_id!r}{mapped}",
            hint=dags.nearest(task_id, definition.by_id),
        )
    if run.state in _ENDED or (stored is not None and _is_told_by_its_row(stored)):
        return Observation(now, run, task_id, map_index, task, stored)
    owned = _owned(connection, config, scheduling.read_dags(connection, [dag_id])[dag_id], definition, now)
    alive = now - timedelta(seconds=config.get("scheduler", "scheduler_health_check_threshold"))
    silent = now - timedelta(seconds=config.get("scheduler", "task_instance_heartbeat_timeout"))
    living = instances.list_instances(connection, living_only=True)
    schedulers = sum(one.kind == "scheduler" and one.heartbeat_at > alive for one in living)
    error = (waiting.import_error_of(connection, owned.fileloc) or "").strip()
    return Observation(
        now,
        run,
        task_id,
        map_index,
        task,
        stored,
        owned,
        waiting_before=next((place for place, row in enumerate(owned.waiting) if row.id == run.id), 0),
        pools=scheduling.read_pools(connection),
        schedulers=schedulers,
        workers={
            one.id: int(one.detail.get("slots") or 0)
            for one in living
            if one.kind == "worker" and one.heartbeat_at > silent
        },
        in_flight=waiting.count_in_flight(connection),
        last_scheduler=None if schedulers else waiting.last_heartbeat(connection, "scheduler"),
        import_error=error.splitlines()[-1] if error else None,
    )


def _is_told_by_its_row(stored: TaskInstance) -> bool:
    return stored.state in states.FINISHED or stored.state == states.RUNNING


def unmet(seen: Observation) -> list[Unmet]:
    """Every condition that keeps the task instance from running; empty: nothing does, it is about to be started."""
    return [Unmet(name, reason) for name, reason in _unmet(seen)]


_Found = Iterator[tuple[str, str]]


def _unmet(seen: Observation) -> _Found:
    stored = seen.stored
    if stored is not None and _is_told_by_its_row(stored):
        yield "Task Instance State", _ended_or_runs(stored)
        return
    if seen.run.state in _ENDED:
        yield "Dagrun Running", f"the run has ended: its state is {seen.run.state}; clear the task to let it go on"
        return
    owned = seen.owned
    assert owned is not None
    yield from _services(seen)
    if stored is not None and stored.state == states.QUEUED:
        yield from _claimed(seen, stored)
        return
    yield from _dag(seen, owned)
    if seen.run.state == states.QUEUED:
        yield "Dagrun Running", _why_queued(seen, owned)
        return
    if stored is not None and stored.state == states.DEFERRED:
        yield "Trigger", _deferred(seen, stored)
        return
    run = owned.runs.get(seen.run.id)
    instance = None if run is None else run.instances.get((seen.task_id, seen.map_index))
    if run is None or instance is None:
        yield from _no_part(seen, run)
        return
    if stored is not None and stored.next_at is not None and stored.next_at > seen.now:
        yield from _not_due(stored, seen.now)
    elif instance.key not in run.ready:
        yield from _within_run(run, instance)
        return
    yield from _limits(seen, owned, run, instance)


# --- the world around ---


def _services(seen: Observation) -> _Found:
    if not seen.schedulers:
        last = f"the last sign of life is of {seen.last_scheduler:%Y-%m-%d %H:%M:%S %Z}" if seen.last_scheduler else ""
        yield "Scheduler", f"no scheduler is alive{f': {last}' if last else ''}; start one: opskit scheduler"
    if not seen.workers:
        yield "Worker", "no worker is alive: nothing can be started; start one: opskit worker"


def _dag(seen: Observation, owned: OwnedDag) -> _Found:
    if owned.is_paused:
        yield "Dag Not Paused", f"the DAG is paused: opskit dags unpause {owned.dag_id}"
    if not owned.is_active:
        why = f": {seen.import_error}" if seen.import_error else ""
        yield "DAG File", f"{owned.fileloc} does not define the DAG any more{why}"
    elif seen.import_error:
        yield "DAG File", f"{owned.fileloc} could not be loaded; the last good version goes on: {seen.import_error}"


def _why_queued(seen: Observation, owned: OwnedDag) -> str:
    if len(owned.runs) >= owned.max_active_runs:
        return (
            f"the run waits: {len(owned.runs)} of {owned.max_active_runs} runs of the DAG are active (max_active_runs)"
            + _before(seen)
        )
    if seen.waiting_before:
        return f"the run is queued{_before(seen)}"
    return "the run is queued: a scheduler is about to start it"


def _before(seen: Observation) -> str:
    if not seen.waiting_before:
        return ""
    return (
        f", and {seen.waiting_before} queued run{'s' if seen.waiting_before > 1 else ''} with earlier dates come first"
    )


# --- the task instance ---


def _ended_or_runs(stored: TaskInstance) -> str:
    if stored.state == states.RUNNING:
        return f"it runs, on {stored.hostname or 'its worker'} since {_moment(stored.start_date)}"
    why = f" ({stored.reason})" if stored.reason else ""
    return f"it has ended: its state is {stored.state}{why}; it runs again when it is cleared"


def _claimed(seen: Observation, stored: TaskInstance) -> _Found:
    if stored.worker_id is not None and stored.worker_id not in seen.workers:
        yield (
            "Worker",
            f"it was given to the worker {stored.worker_id}, which gives no sign of life: the retry rules will apply",
        )
        return
    slots = seen.workers.get(stored.worker_id or "", 0)
    if slots and seen.in_flight > slots:
        yield (
            "Executor Slots",
            f"{seen.in_flight} task instances are claimed, and its worker runs {slots} at once (core.parallelism)",
        )


def _deferred(seen: Observation, stored: TaskInstance) -> str:
    deferral = stored.deferral or {}
    if "question" in deferral:
        users = ", ".join(one["name"] for one in deferral["question"]["assigned_users"])
        end = "takes its defaults" if deferral["question"]["defaults"] is not None else "fails"
        limit = f"; without one it {end} at {_moment(stored.next_at)}" if stored.next_at is not None else ""
        return f"it waits for an answer of {users or 'somebody who may edit it'}{limit}"
    name = str(deferral.get("class", "a trigger")).rpartition(":")[2]
    until = f"; it gives up at {deferral['timeout_at']}" if deferral.get("timeout_at") else ""
    if stored.next_at is not None and stored.next_at > seen.now:
        return (
            f"it waits for the trigger {name}, whose process was lost: the next one starts at {_moment(stored.next_at)}"
        )
    return f"it is deferred: it waits for the trigger {name}{until}"


def _no_part(seen: Observation, run: RunState | None) -> _Found:
    task = seen.task
    if task is None:
        yield "Task", f"the current version of the DAG has no task {seen.task_id}"
    elif run is not None and not run.takes_part(task):
        at = seen.run.logical_date
        if task.start_date is not None and task.start_date > at:
            yield (
                "Execution Date",
                f"the run is of {_moment(at)}, before the task's start_date {_moment(task.start_date)}",
            )
        else:
            yield "Execution Date", f"the run is of {_moment(at)}, after the task's end_date {_moment(task.end_date)}"
    elif run is not None and seen.map_index >= 0:
        yield "Mapping", "what it is mapped over has fewer elements now"


def _not_due(stored: TaskInstance, now: datetime) -> _Found:
    left = _seconds(((stored.next_at or now) - now).total_seconds())
    if stored.state == states.UP_FOR_RETRY:
        tries = f"try {stored.try_number} of {stored.max_tries + 1} has failed"
        yield "Not In Retry Period", f"{tries}; the next one is due at {_moment(stored.next_at)}, in {left}"
    else:
        yield "Ready To Reschedule", f"it looks again at {_moment(stored.next_at)}, in {left}"


def _within_run(run: RunState, instance: TaskInstance) -> _Found:
    """The scheduler has looked at it and not found it ready: why."""
    if instance.state in states.FINISHED:
        yield "Trigger Rule", f"a scheduler is about to set it to {instance.state}: {_upstream(run, instance)}"
        return
    if instance.is_unexpanded:
        yield from _unexpanded(run, instance)
    for setup in instance.task.setups:
        found = [above for above in run.by_task.get(setup, ()) if above.state not in _GOOD]
        if found:
            yield "Setup", f"its setup task {setup} has not succeeded yet: it {_counts(found)}"
    if instance.decide() == "wait":
        yield "Trigger Rule", _upstream(run, instance)
    if not run._past_allows(instance.task):
        yield "Previous Dagrun State", _past(run, instance.task)


_GOOD = (states.SUCCESS, states.REMOVED)


def _unexpanded(run: RunState, instance: TaskInstance) -> _Found:
    unit = run.dag.mapped_units[instance.task.task_id]
    sources = list(dict.fromkeys(task_id for task_id, _ in unit.sources))
    missing = [
        source for source in sources if any(one.state not in states.FINISHED for one in run.by_task.get(source, ()))
    ]
    if missing:
        whose = f"the mapped group {unit.group}" if unit.group else "it"
        yield "Mapping", f"how many instances {whose} has is not known before {', '.join(missing)} has ended"


def _upstream(run: RunState, instance: TaskInstance) -> str:
    rule = instance.task.trigger_rule
    above: dict[str, list[TaskInstance]] = {}
    for one in run._above(instance):
        above.setdefault(one.task.task_id, []).append(one)
    open_ones = {name: found for name, found in above.items() if any(one.state not in states.FINISHED for one in found)}
    told = open_ones or {name: found for name, found in above.items() if any(one.state not in _GOOD for one in found)}
    parts = [f"{name} {_counts(found)}" for name, found in list(told.items())[:_NAMED]]
    more = f", and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    done = f"{instance.done} of {instance.total} upstream task instances have ended"
    return f"its trigger rule {rule} {_RULES.get(rule, 'is not met yet')}; {done}" + (
        f": {', '.join(parts)}{more}" if parts else ""
    )


_RULES = {
    "all_success": "needs all upstream tasks to succeed",
    "all_failed": "needs all upstream tasks to fail",
    "all_done": "needs all upstream tasks to end",
    "all_done_min_one_success": "needs all upstream tasks to end and one to succeed",
    "all_done_setup_success": "needs all upstream tasks to end and a setup to succeed",
    "one_success": "needs one upstream task to succeed",
    "one_failed": "needs one upstream task to fail",
    "one_done": "needs one upstream task to succeed or fail",
    "none_failed": "needs all upstream tasks to end and none to fail",
    "none_failed_min_one_success": "needs all upstream tasks to end, one to succeed and none to fail",
    "none_skipped": "needs all upstream tasks to end and none to be skipped",
    "all_skipped": "needs all upstream tasks to be skipped",
}


def _counts(found: list[TaskInstance]) -> str:
    """`is running`, or of a mapped task `is 3 running, 2 success`."""
    words = Counter(_word(one) for one in found)
    if len(found) == 1:
        return f"is {next(iter(words))}"
    return "is " + ", ".join(f"{count} {word}" for word, count in sorted(words.items()))


def _word(one: TaskInstance) -> str:
    return "waiting" if one.state is None else one.state


def _past(run: RunState, task: SerializedTask) -> str:
    what = "depends_on_past" if task.depends_on_past else "wait_for_downstream"
    wanted = [task.task_id, *(task.downstream if task.wait_for_downstream else ())]
    before: dict[str, str | None] = {}
    if run.previous is not None:
        for task_id in wanted:
            bad = [one for one in run.previous.by_task.get(task_id, ()) if one.state not in (*_GOOD, states.SKIPPED)]
            if bad:
                before[task_id] = bad[0].state
        which = f"the previous run {run.previous.run_id}, which goes on"
    else:
        past: Mapping[str, Any] = run.past or {}
        before = {name: past[name] for name in wanted if name in past and past[name] not in (*_GOOD, states.SKIPPED)}
        which = "the previous run, which is over"
    told = ", ".join(f"{name} is {state or 'waiting'}" for name, state in before.items())
    return f"it has {what}, and in {which}: {told}"


# --- limits: the same questions that `claims` asks ---


def _limits(seen: Observation, owned: OwnedDag, run: RunState, instance: TaskInstance) -> _Found:
    task = instance.task
    if owned.active >= owned.max_active_tasks:
        yield (
            "Task Instance Slots Available",
            f"{owned.active} of {owned.max_active_tasks} task instances of the DAG are in flight (max_active_tasks)",
        )
    if owned.is_limited(run, task):
        yield "Task Concurrency", _task_limit(owned, run, task)
    if task.pool not in seen.pools:
        yield "Pool Slots Available", f"there is no pool {task.pool}: opskit pools set {task.pool} SLOTS"
    else:
        slots, used = seen.pools[task.pool]
        if task.pool_slots > slots - used:
            needs = f"it needs {task.pool_slots} slot{'s' if task.pool_slots > 1 else ''}"
            yield "Pool Slots Available", f"{needs} of the pool {task.pool}, where {used} of {slots} are used"
    room = sum(slots + slots // 2 for slots in seen.workers.values())
    if seen.workers and room and seen.in_flight >= room:
        yield (
            "Executor Slots",
            f"{seen.in_flight} task instances are claimed already, as many as the workers take (core.parallelism)",
        )


def _task_limit(owned: OwnedDag, run: RunState, task: SerializedTask) -> str:
    limit = task.max_active_tis_per_dag
    active = owned.per_task.get(task.task_id, 0)
    if limit is not None and active >= limit:
        return f"{active} of {limit} instances of the task are in flight in all runs (max_active_tis_per_dag)"
    active = owned.per_run.get((run.id, task.task_id), 0)
    most = task.max_active_tis_per_dagrun
    return f"{active} of {most} instances of the task are in flight in this run (max_active_tis_per_dagrun)"


# --- reading ---


def _owned(
    connection: Connection, config: Config, rows: scheduling.DagRows, definition: SerializedDag, now: datetime
) -> OwnedDag:
    def previous(owned: OwnedDag, run: RunState) -> tuple[int, Mapping[str, str | None]] | None:
        only = owned.catchup and run.run_type == "scheduled"
        return scheduling.previous_states(connection, owned.dag_id, run.logical_date, scheduled_only=only)

    def lengths(active: Mapping[int, RunState], dag: SerializedDag) -> None:
        sources = {source for unit in dag.all_units for source in unit.sources}
        for number, task_id, index, key, length in scheduling.xcom_lengths(connection, list(active), sources):
            active[number].lengths.setdefault((task_id, key), {})[index] = length

    return build(
        rows,
        definition,
        catchup_by_default=bool(config.get("scheduler", "catchup_by_default")),
        first_run_by_default=str(config.get("scheduler", "first_run")),
        max_active_runs=int(config.get("core", "max_active_runs_per_dag")),
        max_active_tasks=int(config.get("core", "max_active_tasks_per_dag")),
        most_failures=int(config.get("core", "max_consecutive_failed_dag_runs_per_dag")),
        previous=previous,
        lengths=lengths,
        now=now,
    )


def _stored(
    connection: Connection, definition: SerializedDag, run: Run, task_id: str, map_index: int
) -> TaskInstance | None:
    row = waiting.row_of(connection, run.id, task_id, map_index)
    if row is None:
        return None
    task = definition.by_id.get(task_id) or SerializedTask(
        task_id, row.operator, pool=row.pool, pool_slots=row.pool_slots
    )
    instance = TaskInstance(task, map_index, max_tries=row.max_tries)
    for column in scheduling.INSTANCE_COLUMNS:
        setattr(instance, column, getattr(row, column))
    if instance.state == states.DEFERRED:
        instance.deferral = waiting.deferral_of(connection, run.id, task_id, map_index)
    return instance


def _moment(at: datetime | None) -> str:
    return "?" if at is None else at.strftime("%Y-%m-%d %H:%M:%S %Z")


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
