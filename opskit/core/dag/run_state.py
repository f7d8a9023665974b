"""One DagRun in the scheduler's memory: which task instances may run, decided with counters instead of queries.

Everything here is pure: events come in with their time, changes are collected in `changed` and `ended`, nothing is
written or started. The loop writes what was collected, in one transaction, and starts what it claimed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from opskit.core.dag import retries, states
from opskit.core.dag.serialized import SerializedDag, SerializedTask
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
    superseded: list[Superseded] = field(default_factory=list)
    due: list[tuple[datetime, Key]] = field(default_factory=list)
    """Times at which a retry or a reschedule becomes ready; the loop moves them to its timers."""
    ended: bool = False

    # --- building ---

    def wire(self, skipped: Iterable[str] = ()) -> None:
        """Count upstream states and find what is ready, after `instances` has been filled from rows.

        `skipped`: tasks that a branch or short circuit of this run has skipped; a clear does not bring them back.
        """
        self.unfinished = 0
        for instance in self.instances.values():
            if instance.state not in states.FINISHED:
                self.unfinished += 1
            for task_id in instance.task.downstream:
                below = self.instances.get((task_id, -1))
                if below is not None:
                    below.total += 1
                    below.count(instance.state, 1)

        skip = set(skipped)
        for instance in list(self.instances.values()):
            if instance.state == states.UP_FOR_RETRY or instance.state == states.UP_FOR_RESCHEDULE:
                if instance.next_at is not None:
                    self.due.append((instance.next_at, instance.key))
            elif instance.state in (None, states.SCHEDULED):
                if instance.task.task_id in skip:
                    self._finish(instance, states.SKIPPED, None)
                else:
                    self._consider(instance)
        self._check_end()

    # --- events ---

    def consider(self, key: Key) -> None:
        """Look again at one task instance: its retry is due, or a condition outside of the run has changed."""
        instance = self.instances.get(key)
        if instance is None or instance.state in states.FINISHED or instance.state in states.IN_FLIGHT:
            return
        self._consider(instance)
        self._check_end()

    def claim(self, instance: TaskInstance, worker_id: str, now: datetime) -> None:
        """A slot was found: the attempt is to be dispatched once this is durable."""
        del self.ready[instance.key]
        if instance.state == states.UP_FOR_RETRY:
            self._supersede(instance)
        if instance.state != states.UP_FOR_RESCHEDULE:
            instance.try_number += 1
            instance.first_poke_at = None
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
        if state == states.FAILED and result.get("retry", True) and instance.try_number <= instance.max_tries:
            instance.state = states.UP_FOR_RETRY
            instance.next_at = instance.end_date + timedelta(seconds=self._retry_delay(instance))
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
        # What a branch skips is skipped before its own end lets the others go: an empty task would end at once.
        for task_id in result.get("skip") or ():
            below = self.instances.get((task_id, -1))
            if below is not None and below.state not in states.FINISHED and below.state not in states.IN_FLIGHT:
                self._finish(below, states.SKIPPED, instance.end_date)
        self._finish(instance, state, instance.end_date)
        self._check_end()
        return state

    def time_out(self, now: datetime) -> list[TaskInstance]:
        """dagrun_timeout has passed: the run fails. Returns the attempts that are to be killed."""
        running = [instance for instance in self.instances.values() if instance.state in states.IN_FLIGHT]
        for instance in self.instances.values():
            if instance.state not in states.FINISHED:
                instance.reason = "the DagRun ran longer than dagrun_timeout"
                instance.state = states.SKIPPED
                instance.end_date = now
                self.changed[instance.key] = instance
        self.unfinished = 0
        self.ready.clear()
        self._end(states.FAILED, now)
        return running

    # --- inside ---

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
        if instance.state in (states.UP_FOR_RETRY, states.UP_FOR_RESCHEDULE):
            # It has run before: its upstream has been judged already.
            self._make_ready(instance)
            return
        decision = instance.decide()
        if decision == "wait":
            return
        if decision == "run":
            if not self._past_allows(instance.task):
                return
            if instance.task.is_empty:
                self._finish(instance, states.SUCCESS, None, ran=True)
            else:
                self._make_ready(instance)
            return
        self._finish(instance, decision, None)

    def _make_ready(self, instance: TaskInstance) -> None:
        if instance.key not in self.ready:
            self.ready[instance.key] = instance
            self.newly_ready.append(instance)

    def _past_allows(self, task: SerializedTask) -> bool:
        if not task.depends_on_past and not task.wait_for_downstream:
            return True
        wanted = [task.task_id, *(task.downstream if task.wait_for_downstream else ())]
        if self.previous is not None:
            instances = self.previous.instances
            return all(
                instances[(task_id, -1)].state in (states.SUCCESS, states.SKIPPED)
                for task_id in wanted
                if (task_id, -1) in instances
            )
        if self.past is None:
            return True
        return all(self.past[task_id] in (states.SUCCESS, states.SKIPPED) for task_id in wanted if task_id in self.past)

    def _finish(self, instance: TaskInstance, state: str, at: datetime | None, *, ran: bool = False) -> None:
        """End an instance and all that follows from it, without recursion: chains may be long."""
        todo = deque([(instance, state)])
        while todo:
            current, new = todo.popleft()
            if current.state in states.FINISHED:
                continue
            current.state = new
            self.ready.pop(current.key, None)
            self.unfinished -= 1
            if current is not instance or at is None:
                # It ended without a process: the wave sets its time.
                current.end_date = at
                if ran and current is instance:
                    current.try_number += 1
            self.changed[current.key] = current
            for task_id in current.task.downstream:
                below = self.instances.get((task_id, -1))
                if below is None:
                    continue
                below.count(new, 1)
                if below.state not in (None, states.SCHEDULED):
                    continue
                decision = below.decide()
                if decision == "wait":
                    continue
                if decision != "run":
                    todo.append((below, decision))
                elif self._past_allows(below.task):
                    if below.task.is_empty:
                        below.try_number += 1
                        todo.append((below, states.SUCCESS))
                    else:
                        self._make_ready(below)
            for run in self.following:
                for task_id in (current.task.task_id, *current.task.upstream):
                    later = run.instances.get((task_id, -1))
                    if later is not None and later.state in (None, states.SCHEDULED) and later.key not in run.ready:
                        run._consider(later)
                run._check_end()

    def _check_end(self) -> None:
        if self.unfinished or self.ended:
            return
        bad = (states.FAILED, states.UPSTREAM_FAILED)
        leaves = [instance for instance in self.instances.values() if not instance.task.downstream]
        failed = any(instance.state in bad for instance in leaves)
        ends = [instance.end_date for instance in self.instances.values() if instance.end_date is not None]
        self._end(states.FAILED if failed else states.SUCCESS, max(ends, default=None))

    def _end(self, state: str, at: datetime | None) -> None:
        self.state = state
        self.end_date = at
        self.ended = True
