"""One DagRun in the scheduler's memory: which task instances may run, decided with counters instead of queries.

Everything here is pure: events come in with their time, changes are collected in `changed` and `ended`, nothing is
written or started. The loop writes what was collected, in one transaction, and starts what it claimed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from opskit.core.dag import expansion, retries, states
from opskit.core.dag.run_instance import Key, Superseded, TaskInstance, Todo
from opskit.core.dag.serialized import SerializedDag, SerializedTask

TRIGGER_PAUSE_SECONDS = 5.0
"""From the loss of a trigger's process to the next one."""
TRIGGER_DEATHS = 3
"""So often a trigger's process may crash; then the task fails. One that is lost with its worker is not counted."""


@dataclass(slots=True)
class RunState:
    """One running DagRun."""

    id: int
    dag: SerializedDag
    run_id: str
    run_type: str
    logical_date: datetime
    data_interval_start: datetime
    data_interval_end: datetime
    conf: dict[str, Any]
    start_date: datetime | None
    partition_key: str | None = None
    partition_date: datetime | None = None
    queued_at: datetime | None = None
    missed: set[str] = field(default_factory=set)
    """Deadlines and SLAs that have passed, and were told (`opskit.core.scheduler.deadlines`)."""
    late: list[tuple[datetime, str]] = field(default_factory=list)
    """When something of this run is late, and what."""
    instances: dict[Key, TaskInstance] = field(default_factory=dict)
    state: str = states.RUNNING
    end_date: datetime | None = None
    unfinished: int = 0
    ready: dict[Key, TaskInstance] = field(default_factory=dict)
    """May run now, and waits only for a slot."""
    newly_ready: list[TaskInstance] = field(default_factory=list)
    """Those of `ready` that the loop has not put into its queues yet."""
    past: Mapping[str, str | None] | None = None
    """Final states of the previous run's task instances, where that run is over. None: there is no previous run."""
    previous: RunState | None = None
    """The previous run, while it is active."""
    following: list[RunState] = field(default_factory=list)
    # --- collected for the next wave ---
    changed: dict[Key, TaskInstance] = field(default_factory=dict)
    added: list[TaskInstance] = field(default_factory=list)
    """Task instances without a row yet."""
    dropped: list[Key] = field(default_factory=list)
    """Rows of mapped tasks that others have taken the place of."""
    superseded: list[Superseded] = field(default_factory=list)
    to_trigger: list[TaskInstance] = field(default_factory=list)
    """Deferred ones whose trigger is to be dispatched once that is durable."""
    asked: list[TaskInstance] = field(default_factory=list)
    """Deferred ones that ask a person: the question is to be kept; or that asked in vain, and go on."""
    resumed: list[Key] = field(default_factory=list)
    """Those whose deferral is over."""
    stopped: list[TaskInstance] = field(default_factory=list)
    """Given up while they ran; the loop kills them."""
    unneeded: list[tuple[Key, int]] = field(default_factory=list)
    """Triggers, with their dispatch, that nobody waits for any more; the loop kills them."""
    due: list[tuple[datetime, Key]] = field(default_factory=list)
    """Times at which a retry or a reschedule becomes ready; the loop moves them to its timers."""
    ended: bool = False
    lengths: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)
    """`(task_id, key)` → map_index → length of the XCom, for those that something is mapped over."""
    by_task: dict[str, list[TaskInstance]] = field(default_factory=dict)
    """`instances` by task_id, in the order of their map_index."""

    # --- building ---

    def begin(self) -> None:
        """The task instances of a run that starts now: of the tasks whose own dates include it."""
        for task in self.dag.tasks:
            if self.takes_part(task):
                instance = TaskInstance(task, max_tries=task.retries)
                self.instances[instance.key] = instance

    def takes_part(self, task: SerializedTask) -> bool:
        begun = task.start_date is None or task.start_date <= self.logical_date
        return begun and (task.end_date is None or self.logical_date <= task.end_date)

    def wire(self, skipped: Iterable[tuple[Key, Iterable[str]]] = ()) -> None:
        """Count upstream states and find what is ready, after `instances` (and `lengths`) have been filled from rows.

        `skipped`: branches and short circuits of this run, with the tasks that they have skipped; a clear does not
        bring these back.
        """
        self.by_task.clear()
        for key in sorted(self.instances):
            self.by_task.setdefault(key[0], []).append(self.instances[key])
        for instances in self.by_task.values():
            self.count_upstream(instances)
        self.unfinished = sum(instance.state not in states.FINISHED for instance in self.instances.values())
        skip = {instance.key for by, task_ids in skipped for instance in self._skipped_by(by, task_ids)}
        for instance in list(self.instances.values()):
            if instance.state in (states.UP_FOR_RETRY, states.UP_FOR_RESCHEDULE, states.DEFERRED):
                if instance.next_at is not None:
                    self.due.append((instance.next_at, instance.key))
            elif instance.deferral is not None and instance.waits:
                self._make_ready(instance)
            elif instance.waits:
                if instance.key in skip:
                    self._finish(instance, states.SKIPPED, None)
                else:
                    self._consider(instance)
        todo: Todo = deque()
        for unit in self.dag.all_units:
            expansion.fit(self, unit, todo)
        self._settle(todo)
        self._check_end()

    # --- events ---

    def consider(self, key: Key) -> None:
        """Look again at one task instance: its retry is due, or a condition outside of the run has changed."""
        instance = self.instances.get(key)
        if instance is None or instance.state in states.FINISHED or instance.state in states.IN_FLIGHT:
            return
        if instance.state != states.DEFERRED:
            self._consider(instance)
        elif instance.deferral is not None and "question" in instance.deferral:
            self._stop_asking(instance)
        else:
            self._trigger(instance)
        self._check_end()

    def claim(self, instance: TaskInstance, worker_id: str, now: datetime) -> None:
        """A slot was found: the attempt is to be dispatched once this is durable."""
        del self.ready[instance.key]
        if instance.state == states.UP_FOR_RETRY:
            self._supersede(instance)
        if instance.state != states.UP_FOR_RESCHEDULE and instance.deferral is None:
            instance.try_number += 1
            if not instance.task.reschedules:
                instance.first_poke_at = None  # as in Airflow, the timeout of a sensor that reschedules spans its tries
        instance.state = states.QUEUED
        instance.dispatches += 1
        instance.worker_id = worker_id
        instance.queued_at = now
        instance.start_date = instance.end_date = instance.next_at = None
        instance.pid = instance.hostname = instance.reason = None
        self.changed[instance.key] = instance

    def started(self, instance: TaskInstance, pid: int, hostname: str, at: datetime) -> None:
        instance.state = states.RUNNING
        instance.pid = pid
        instance.hostname = hostname
        instance.start_date = at
        if instance.first_poke_at is None and instance.task.reschedules:
            instance.first_poke_at = at
        self.changed[instance.key] = instance

    def finished(self, instance: TaskInstance, result: Mapping[str, Any], now: datetime) -> str:
        """An attempt has ended; the state that follows. `result` is a *Result* of ARCHITECTURE.md, times parsed."""
        instance.start_date = result.get("started_at") or instance.start_date
        instance.end_date = result.get("ended_at") or now
        instance.pid = result.get("pid") or instance.pid
        instance.hostname = result.get("hostname") or instance.hostname
        instance.reason = result.get("reason")
        instance.unconfirmed = False
        state = str(result["state"])
        handed_back = state == states.UP_FOR_RESCHEDULE and result.get("started_at") is None
        if instance.deferral is not None and not handed_back:
            instance.deferral = None
            self.resumed.append(instance.key)
        if state == states.DEFERRED:
            self._defer(instance, result["deferral"])
            return state
        if instance.task.task_id in self.dag.mapped_over:
            expansion.measure(self, instance, result.get("xcoms") or ())
        if state == states.FAILED and result.get("retry", True) and instance.try_number <= instance.max_tries:
            instance.state = states.UP_FOR_RETRY
            delay = result.get("retry_delay")
            seconds = self._retry_delay(instance) if delay is None else float(delay)
            instance.next_at = instance.end_date + timedelta(seconds=seconds)
            self.due.append((instance.next_at, instance.key))
            self.changed[instance.key] = instance
            return states.UP_FOR_RETRY
        if state == states.UP_FOR_RESCHEDULE:
            instance.state = state
            instance.first_poke_at = instance.first_poke_at or instance.start_date
            instance.next_at = result.get("reschedule_at") or now
            self.due.append((instance.next_at, instance.key))
            self.changed[instance.key] = instance
            return state
        # What a branch skips is skipped before its own end lets the others go: an empty task would end at once. And all
        # of it before what follows from that: a short circuit skips tasks that run after skipped ones, too.
        skipped = [
            below
            for below in self._skipped_by(instance.key, result.get("skip") or ())
            if below.state not in states.FINISHED and below.state not in states.HELD
        ]
        for below in skipped:
            below.end_date = instance.end_date
        self._settle(deque((below, states.SKIPPED) for below in skipped))
        if state == states.FAILED and self.dag.fail_fast:
            self._stop_rest(instance, now)
        self._finish(instance, state, instance.end_date)
        self._check_end()
        return state

    def _defer(self, instance: TaskInstance, deferral: dict[str, Any]) -> None:
        instance.state = states.DEFERRED
        instance.deferral = deferral
        self.resumed = [key for key in self.resumed if key != instance.key]
        if "question" in deferral:
            self._ask(instance, deferral)
        else:
            self._trigger(instance)

    def _ask(self, instance: TaskInstance, deferral: dict[str, Any]) -> None:
        """Let it wait for a person. Who answers makes it ready in the rows, as a change from outside."""
        instance.next_at = None
        if deferral["timeout_at"]:
            instance.next_at = datetime.fromisoformat(deferral["timeout_at"])
            self.due.append((instance.next_at, instance.key))
        self.changed[instance.key] = instance
        self.asked.append(instance)

    def _stop_asking(self, instance: TaskInstance) -> None:
        """Nobody has answered in time: the task goes on, with its defaults or with an error."""
        assert instance.deferral is not None
        at = instance.deferral["timeout_at"]
        instance.deferral = {**instance.deferral, "event": {"timed_out_at": at}}
        instance.state = states.SCHEDULED
        instance.next_at = None
        self.changed[instance.key] = instance
        self.asked.append(instance)
        self._make_ready(instance)

    def _trigger(self, instance: TaskInstance) -> None:
        """Let a worker wait for what a deferred task waits for, in a process that occupies no slot."""
        instance.dispatches += 1
        instance.next_at = None
        instance.unconfirmed = False
        self.changed[instance.key] = instance
        self.to_trigger.append(instance)

    def triggered(self, instance: TaskInstance, result: Mapping[str, Any], now: datetime) -> None:
        """The process that waited for a deferred task has ended: with an event or an error, and the task goes on; or it
        was lost, and another one is started. One that dies again and again is an error, too."""
        assert instance.deferral is not None
        instance.unconfirmed = False
        died = result.get("exit_code") is not None or result.get("signal") not in (None, "lost", "worker lost")
        deaths = instance.deferral.get("deaths", 0) + died
        if result["state"] == states.SUCCESS:
            instance.deferral = {**instance.deferral, "event": result.get("event")}
        elif result["state"] == states.FAILED and (deaths >= TRIGGER_DEATHS or (not died and not result.get("signal"))):
            instance.deferral = {**instance.deferral, "error": result.get("reason") or "the trigger failed"}
        else:
            instance.deferral = {**instance.deferral, "deaths": deaths}
            instance.next_at = now + timedelta(seconds=TRIGGER_PAUSE_SECONDS)
            self.due.append((instance.next_at, instance.key))
            self.changed[instance.key] = instance
            return
        instance.state = states.SCHEDULED
        self.changed[instance.key] = instance
        self._make_ready(instance)

    def time_out(self, now: datetime) -> list[TaskInstance]:
        """dagrun_timeout has passed: the run fails. Returns the attempts that are to be killed."""
        running = [instance for instance in self.instances.values() if instance.state in states.IN_FLIGHT]
        for instance in self.instances.values():
            if instance.state not in states.FINISHED:
                self._give_up_trigger(instance)
                instance.reason = "the DagRun ran longer than dagrun_timeout"
                instance.state = states.SKIPPED
                instance.end_date = now
                self.changed[instance.key] = instance
        self.unfinished = 0
        self.ready.clear()
        self._end(states.FAILED, now)
        return running

    def _stop_rest(self, failed: TaskInstance, now: datetime) -> None:
        """A task fails for good in a DAG with fail_fast: what runs fails, what waits is skipped, also what would be
        upstream_failed; teardowns still run."""
        why = "another task has failed, and the DAG has fail_fast"
        rest = [
            one
            for one in self.instances.values()
            if one.state not in states.FINISHED and not one.task.is_teardown and one is not failed
        ]
        running = [one for one in rest if one.state in states.IN_FLIGHT]
        for one in rest:
            one.reason = why
            self._give_up_trigger(one)
        for one in running:
            one.end_date = now
        self._settle(deque((one, states.FAILED if one in running else states.SKIPPED) for one in rest))
        self.stopped.extend(running)

    # --- inside ---

    def _give_up_trigger(self, instance: TaskInstance) -> None:
        if instance.state == states.DEFERRED:
            # Of one that asks a person there is no such process; who is told to end it finds none.
            self.unneeded.append((instance.key, instance.dispatches))
        if instance.deferral is not None:
            instance.deferral = None
            self.resumed.append(instance.key)

    def _retry_delay(self, instance: TaskInstance) -> float:
        task = instance.task
        return retries.retry_delay(
            delay=task.retry_delay,
            exponential=task.retry_exponential_backoff,
            max_delay=task.max_retry_delay,
            dag_id=self.dag.dag_id,
            task_id=task.task_id,
            logical_date=self.logical_date,
            try_number=instance.try_number,
            map_index=instance.map_index,
        )

    def _supersede(self, instance: TaskInstance) -> None:
        self.superseded.append(
            Superseded(
                instance.key,
                instance.try_number,
                states.FAILED,
                instance.start_date,
                instance.end_date,
                instance.hostname,
                instance.pid,
                instance.reason,
            )
        )

    def _consider(self, instance: TaskInstance) -> None:
        if instance.state in (states.UP_FOR_RETRY, states.UP_FOR_RESCHEDULE) or instance.deferral is not None:
            # It has run before: its upstream has been judged already.
            self._make_ready(instance)
        else:
            self._settle(deque([(instance, None)]))

    def _decide(self, instance: TaskInstance) -> str:
        """What is to become of an instance that has not begun: run, wait, or the state that it ends with."""
        task = instance.task
        if instance.is_unexpanded and task.mapped_group is not None:
            return "wait"  # the group is expanded as a whole, by expansion.fit
        for setup in task.setups:
            found = {above.state for above in self.by_task.get(setup, ())}
            if found & {states.FAILED, states.UPSTREAM_FAILED}:
                return states.UPSTREAM_FAILED
            if states.SKIPPED in found:
                return states.SKIPPED
            if found - {states.SUCCESS, states.REMOVED}:
                return "wait"
        decision = instance.decide()
        if decision == "run" and task.is_teardown and task.trigger_rule == "all_done_setup_success":
            decision = self._after_setups(instance)
        if decision == "run" and not self._past_allows(task):
            return "wait"
        return decision

    def _after_setups(self, instance: TaskInstance) -> str:
        """A teardown runs when one of its setups has succeeded, whatever came of the work between."""
        setups = [above for above in self._above(instance) if above.task.is_setup]
        if not setups or any(above.state == states.SUCCESS for above in setups):
            return "run"
        if all(above.state == states.SKIPPED for above in setups):
            return states.SKIPPED
        return states.UPSTREAM_FAILED

    def _make_ready(self, instance: TaskInstance) -> None:
        if instance.key not in self.ready:
            self.ready[instance.key] = instance
            self.newly_ready.append(instance)

    def _past_allows(self, task: SerializedTask) -> bool:
        if not task.depends_on_past and not task.wait_for_downstream:
            return True
        wanted = [task.task_id, *(task.downstream if task.wait_for_downstream else ())]
        if self.previous is not None:
            before = self.previous.by_task
            return all(
                instance.state in (states.SUCCESS, states.SKIPPED, states.REMOVED)
                for task_id in wanted
                for instance in before.get(task_id, ())
            )
        if self.past is None:
            return True
        return all(self.past[task_id] in (states.SUCCESS, states.SKIPPED) for task_id in wanted if task_id in self.past)

    def _finish(self, instance: TaskInstance, state: str, at: datetime | None) -> None:
        """End an instance, and all that ends because of it. None: the wave gives the time."""
        instance.end_date = at
        self._settle(deque([(instance, state)]))

    def _settle(self, todo: Todo) -> None:
        """Work through instances to end, and instances to decide about (state None), with all that follows from it,
        without recursion: chains may be long."""
        while todo:
            current, new = todo.popleft()
            if new is None:
                new = self._what_follows(current, todo)
            if new is None or current.state in states.FINISHED:
                continue
            current.state = new
            self.ready.pop(current.key, None)
            self.unfinished -= 1
            self.changed[current.key] = current
            for below in self._below(current):
                below.count(new, 1)
                if below.waits:
                    todo.append((below, None))
            task_id = current.task.task_id
            for user in self.dag.set_up_by.get(task_id, ()):
                todo.extend((below, None) for below in self.by_task.get(user, ()))
            for unit in self.dag.mapped_over.get(task_id, ()):
                expansion.fit(self, unit, todo)
            for run in self.following:
                for near in (task_id, *current.task.upstream):
                    run._settle(deque((later, None) for later in run.by_task.get(near, ())))
                run._check_end()

    def _what_follows(self, instance: TaskInstance, todo: Todo) -> str | None:
        """The state with which an instance that has not begun ends now without a process; None when it does not."""
        if not instance.waits or instance.key in self.ready:
            return None
        decision = self._decide(instance)
        if decision == "wait":
            return None
        if decision != "run":
            return decision
        if instance.is_unexpanded:
            return expansion.expand(self, instance, todo)
        if not instance.task.is_empty:
            self._make_ready(instance)
            return None
        instance.try_number += 1
        return states.SUCCESS

    # --- neighbours ---

    def _below(self, instance: TaskInstance) -> Iterator[TaskInstance]:
        group = instance.task.mapped_group
        for task_id in instance.task.downstream:
            for below in self.by_task.get(task_id, ()):
                # Inside a mapped group instance i follows instance i.
                if group is None or below.task.mapped_group != group or below.map_index == instance.map_index:
                    yield below

    def _above(self, instance: TaskInstance) -> Iterator[TaskInstance]:
        group = instance.task.mapped_group
        for task_id in instance.task.upstream:
            for above in self.by_task.get(task_id, ()):
                if group is None or above.task.mapped_group != group or above.map_index == instance.map_index:
                    yield above

    def count_upstream(self, instances: list[TaskInstance]) -> None:
        """Count anew what these instances of one task have above them."""
        group = instances[0].task.mapped_group
        shared = TaskInstance(instances[0].task)
        inside = []
        for task_id in shared.task.upstream:
            above = self.by_task.get(task_id, ())
            if group is not None and above and above[0].task.mapped_group == group:
                inside.append(task_id)
                continue
            shared.total += len(above)
            for one in above:
                shared.count(one.state, 1)
        for instance in instances:
            instance.total, instance.success, instance.failed = shared.total, shared.success, shared.failed
            instance.skipped, instance.upstream_failed = shared.skipped, shared.upstream_failed
            instance.removed = shared.removed
            for task_id in inside:
                other = self.instances.get((task_id, instance.map_index))
                if other is not None:
                    instance.total += 1
                    instance.count(other.state, 1)

    def _skipped_by(self, by: Key, task_ids: Iterable[str]) -> list[TaskInstance]:
        """The instances that a branch or short circuit means by these task_ids."""
        branch = self.instances.get(by)
        group = branch.task.mapped_group if branch is not None else None
        return [
            instance
            for task_id in task_ids
            for instance in self.by_task.get(task_id, ())
            if group is None or instance.task.mapped_group != group or instance.map_index == by[1]
        ]

    # --- the end ---

    def _check_end(self) -> None:
        if self.unfinished or self.ended:
            return
        bad = (states.FAILED, states.UPSTREAM_FAILED)
        failed = any(
            instance.state in bad
            and (not instance.task.downstream if instance.task.leaf is None else instance.task.leaf)
            for instance in self.instances.values()
        )
        ends = [instance.end_date for instance in self.instances.values() if instance.end_date is not None]
        self._end(states.FAILED if failed else states.SUCCESS, max(ends, default=None))

    def _end(self, state: str, at: datetime | None) -> None:
        self.state = state
        self.end_date = at
        self.ended = True
