"""One scheduler: sleeps until something can happen, decides in memory, writes a wave, then acts.

One thread. What it knows of DAGs is a cache of rows (ARCHITECTURE.md, "Leases"): whenever that cache may be wrong
it is dropped and read again, and the worker is asked what it holds. `daemon.py` is the process around it.
"""

from __future__ import annotations

import heapq
import itertools
import json
import logging
import math
import select
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.config import Config
from opskit.core.dag import serialized, states
from opskit.core.dag.deadlines import DEADLINE_CALLBACK
from opskit.core.dag.run_instance import TaskInstance
from opskit.core.dag.run_state import RunState
from opskit.core.executors import contract
from opskit.core.metastore import asset_events, instances, partitions, scheduling
from opskit.core.metastore.engine import Connection, Engine, reading, transaction
from opskit.core.runner.wire import as_key
from opskit.core.scheduler import attempts, deadlines
from opskit.core.scheduler.owned_dag import OwnedDag, build
from opskit.core.scheduler.wave import Outcome, Pending, Wave, xcom_rows
from opskit.errors import MetastoreUnavailable
from opskit.system import daemon
from opskit.system.wake import WakeSocket, wake

logger = logging.getLogger(__name__)

_START_FOLD_SECONDS = 0.1
"""A start is written together with what else happens, at the latest after this time."""
_GATHER_SECONDS = 0.015
"""While the worker has more attempts than it can run at once, results are gathered for so long: fewer, larger waves."""
_RECOUNT_SECONDS = 60.0

_Timer = tuple[datetime, int, str, int, tuple[str, int] | None]
"""(when, order, dag_id, dag_run.id or 0 for the DAG's schedule, task instance or None for the run's timeout)"""


class Scheduler:
    """The memory of one scheduler. Call `cycle` again and again."""

    def __init__(self, config: Config, engine: Engine, me: str, executor: contract.Executor, wake: WakeSocket) -> None:
        self.executor = executor
        self.owned: dict[str, OwnedDag] = {}
        self.cycles = 0
        self._config = config
        self._engine = engine
        self._me = me
        self._wake = wake
        self._wave = Wave(engine, me, self._previous, short_way=scheduling.moves_in_one_statement(engine))
        self._pending = Pending()
        self._by_run: dict[int, OwnedDag] = {}
        self._timers: list[_Timer] = []
        self._order = itertools.count()
        self._versions: dict[str, serialized.SerializedDag] = {}
        self._read_again: set[str] = set()
        self._given_back: dict[str, tuple[int, int]] = {}
        """Epoch and question of leases that were given back before the worker had said what it holds."""
        self._wave_at = math.inf
        """Monotonic time at which a wave is to be written."""
        self._look_at = 0.0
        self._recount_at = 0.0
        self._callbacks: list[dict[str, Any]] = []
        """Callbacks whose reason becomes durable with the next wave."""
        self._callback_numbers = itertools.count(time.time_ns() // 1000)
        self._asks = itertools.count(1)
        self._hostname = ""
        self._joined: contract.WorkerJoined | None = None
        """A worker that has no instance row yet."""
        self._poll_interval = float(config.get("scheduler", "poll_interval"))
        self._lease_time = timedelta(seconds=config.get("scheduler", "scheduler_health_check_threshold"))
        self._worker_silence = timedelta(seconds=config.get("scheduler", "task_instance_heartbeat_timeout"))
        self._isolation = str(config.get("core", "isolation"))
        self._sequential = config.get("core", "executor") == "SequentialExecutor"

    @property
    def in_flight(self) -> int:
        """Attempts that are claimed or run."""
        return sum(owned.active for owned in self.owned.values())

    def cycle(self, longest_sleep: float, poller: select.poll) -> str:
        """Sleep until something can happen, at most `longest_sleep` seconds, and handle it.

        Returns what was done in one sentence, "" for nothing. `poller` may hold descriptors of the caller that end the
        sleep. MetastoreUnavailable: nothing is remembered any more; call again later.
        """
        self._sleep(longest_sleep, poller)
        try:
            sentence = self._handle(datetime.now(UTC))
        except MetastoreUnavailable:
            self.forget()
            raise
        self.cycles += 1
        return sentence

    def forget(self) -> None:
        """Drop all that is remembered: what is durable is in the rows, what has ended is with the worker."""
        self.owned.clear()
        self._by_run.clear()
        self._timers.clear()
        self._read_again.clear()
        self._callbacks.clear()
        self._pending = Pending()
        self._wave_at = math.inf
        self._look_at = self._recount_at = 0.0

    def stop(self) -> None:
        """Write what is decided and give the leases back. Attempts go on; their worker keeps the results."""
        now = datetime.now(UTC)
        if self._wave_at < math.inf:
            self._write_wave(now)
        with transaction(self._engine) as connection:
            scheduling.release_all(connection, self._me, now)
        self.executor.flush()
        self.forget()

    # --- sleeping ---

    def _sleep(self, longest: float, poller: select.poll) -> None:
        fd = self.executor.fileno()
        if fd >= 0:
            poller.register(fd, select.POLLIN | (select.POLLOUT if self.executor.wants_write() else 0))
        poller.register(self._wake.fileno(), select.POLLIN)
        now = time.monotonic()
        timeout = min(longest, self._look_at - now, self._wave_at - now)
        if self._read_again:
            timeout = 0.0
        if self._timers:
            timeout = min(timeout, (self._timers[0][0] - datetime.now(UTC)).total_seconds())
        poller.poll(math.ceil(max(0.0, timeout) * 1000))
        if fd >= 0:
            poller.unregister(fd)

    # --- one turn ---

    def _handle(self, now: datetime) -> str:
        if self._wake.drain():
            self._look_at = 0.0
        for event in self.executor.events(now):
            self._on_event(event, now)
        self._fire_timers(now)
        notes = []
        if time.monotonic() >= self._look_at:
            notes.append(self._look(now))
        if self._read_again:
            self._adopt(sorted(self._read_again))
        if time.monotonic() >= self._wave_at:
            notes.append(self._write_wave(now))
        self.executor.flush()
        return "; ".join(note for note in notes if note)

    def _wave_within(self, seconds: float) -> None:
        self._wave_at = min(self._wave_at, time.monotonic() + seconds)

    # --- what the executor says ---

    def _on_event(self, event: contract.Event, now: datetime) -> None:
        match event:
            case contract.Ended():
                self._on_ended(event.key, event.dag_id, event.result, now)
            case contract.Started():
                self._on_started(event)
            case contract.Held():
                self._on_held(event)
            case contract.WorkerJoined():
                logger.info("connected to worker %s (pid %d, %d slots)", event.worker_id, event.pid, event.slots)
                self._hostname = event.hostname
                self._joined = event
                for owned in self.owned.values():
                    self._ask_worker(owned)
                self._look_at = 0.0
            case contract.WorkerGone():
                logger.warning("the connection to worker %s is lost", event.worker_id)
                for owned in self.owned.values():
                    self._doubt(owned)
            case contract.Refused():
                # Only a fence or a known key refuses: either way our memory is not the truth.
                logger.warning("the worker refused %s: %s", event.key, event.reason)
                owner = self._by_run.get(event.key[0])
                if owner is not None:
                    self._read_again.add(owner.dag_id)

    def _ask_worker(self, owned: OwnedDag) -> None:
        """Nothing of this DAG is dispatched before the worker has said what it holds."""
        self._doubt(owned)
        owned.asked = next(self._asks)
        self.executor.fence(owned.dag_id, owned.epoch, owned.asked)

    @staticmethod
    def _doubt(owned: OwnedDag) -> None:
        owned.held = False
        for _, instance in owned.in_flight():
            instance.unconfirmed = True

    def _on_held(self, event: contract.Held) -> None:
        owned = self.owned.get(event.dag_id)
        if owned is None and self._given_back.pop(event.dag_id, None) == (event.epoch, event.ask):
            # It had no active run any more, so nobody waits for these.
            void = [key for key in event.keys if key[3] > 0]
            if void:
                self.executor.kill(void, "cleared or marked from outside, or its DagRun is over")
            return
        if owned is None or owned.epoch != event.epoch or owned.asked != event.ask:
            # The answer to an earlier question knows nothing of what was dispatched since: taken for the newest one, it
            # would let us dispatch that a second time.
            return
        owned.held = True
        again = []
        for run, instance in owned.in_flight():
            key = (run.id, instance.task.task_id, instance.map_index, instance.dispatches)
            if key in event.keys:
                instance.unconfirmed = False
            elif instance.worker_id == self.executor.worker_id and instance.next_at is None:
                # Claimed, never received, and by the fence never to be received from anyone else.
                instance.unconfirmed = False
                again.append(self._message(owned, run, instance))
        unwanted = [key for key in event.keys if key[3] > 0 and self._find(key) is None]
        if unwanted:
            self.executor.kill(unwanted, "cleared or marked from outside, or its DagRun is over")
        if again:
            logger.info("%s: dispatching %d claims that no worker had received", owned.dag_id, len(again))
            self.executor.dispatch(again)
        self._wave_within(0)

    def _message(self, owned: OwnedDag, run: RunState, instance: TaskInstance) -> dict[str, Any]:
        if instance.state == states.DEFERRED:
            return attempts.trigger(owned, run, instance)
        return attempts.task_attempt(owned, run, instance, self._isolation)

    def _on_started(self, event: contract.Started) -> None:
        found = self._find(event.key)
        if found is None:
            return
        owned, run, instance = found
        if instance.state == states.QUEUED:
            run.started(instance, event.pid, self._hostname, event.at)
            self._pending.touched.add(owned.dag_id)
            self._wave_within(_START_FOLD_SECONDS)

    def _on_ended(self, key: contract.AttemptKey, dag_id: str, result: dict[str, Any], now: datetime) -> None:
        if key[3] < 0:
            self.executor.acknowledge([key])  # a callback: it changes nothing, and its DAG may be at rest by now
            return
        if dag_id not in self.owned:
            return  # whoever owns the DAG will be told again
        found = self._find(key)
        # Also of an attempt that nobody waits for (cleared, given up, or told twice): why nobody does may be a decision
        # that is not durable yet. A worker that forgets the attempt before would be given it again.
        self._pending.acknowledge.append((dag_id, key))
        if found is None:
            self._pending.touched.add(dag_id)
            self._wave_within(0)
        else:
            self._end_attempt(*found, result, now)

    def _end_attempt(
        self, owned: OwnedDag, run: RunState, instance: TaskInstance, result: dict[str, Any], now: datetime
    ) -> None:
        result.setdefault("hostname", self._hostname)
        if instance.state == states.DEFERRED:
            self._end_trigger(owned, run, instance, result, now)
            return
        owned.vacate(run, instance)
        state = run.finished(instance, result, now)
        if state == states.DEFERRED:
            owned.deferred += 1
            # No worker has anything of one that asks a person.
            instance.worker_id = None if run.asked and run.asked[-1] is instance else self.executor.worker_id
            self._keep_deferral(owned, run, instance, now)
        for row in xcom_rows(run.id, instance.task.task_id, instance.map_index, result, now):
            self._pending.xcoms.append((owned.dag_id, row))
        if state == states.SUCCESS and result.get("events"):
            source = (owned.dag_id, instance.task.task_id, run.run_id, instance.map_index)
            partition = (run.partition_key, run.partition_date)
            made = asset_events.of_result(result["events"], source, partition)
            self._pending.asset_events.extend((owned.dag_id, event) for event in made)
        if result.get("signal") or result.get("exit_code"):
            self._late_callback(owned, run, instance, state, str(result.get("reason") or ""))
        if run.stopped or run.unneeded:
            stopped, run.stopped = run.stopped, []
            self._kill(owned, run, stopped, "another task has failed, and the DAG has fail_fast")
        self._after_change(owned, run)

    def _end_trigger(
        self, owned: OwnedDag, run: RunState, instance: TaskInstance, result: dict[str, Any], now: datetime
    ) -> None:
        run.triggered(instance, result, now)
        if instance.state != states.DEFERRED:
            owned.deferred -= 1
            self._keep_deferral(owned, run, instance, now)
        self._after_change(owned, run)

    def _keep_deferral(self, owned: OwnedDag, run: RunState, instance: TaskInstance, now: datetime) -> None:
        value = json.dumps(instance.deferral, ensure_ascii=False)
        self._pending.xcoms.append((owned.dag_id, (run.id, *instance.key, scheduling.DEFER_KEY, value, now)))

    def _kill(self, owned: OwnedDag, run: RunState, given_up: list[TaskInstance], why: str) -> None:
        for instance in given_up:
            owned.vacate(run, instance)
        keys = [(run.id, *instance.key, instance.dispatches) for instance in given_up]
        keys += [(run.id, *key, dispatch) for key, dispatch in run.unneeded]
        owned.deferred -= len(run.unneeded)
        run.unneeded.clear()
        self.executor.kill(keys, why)

    def _late_callback(self, owned: OwnedDag, run: RunState, instance: TaskInstance, state: str, reason: str) -> None:
        """The process that would have run the callback is gone: another one does it."""
        kind = None
        if state == states.FAILED and instance.task.has_on_failure_callback:
            kind = "on_failure_callback"
        elif state == states.UP_FOR_RETRY and instance.task.has_on_retry_callback:
            kind = "on_retry_callback"
        if kind is not None:
            number = next(self._callback_numbers)
            self._callbacks.append(attempts.task_callback(owned, run, instance, kind, reason, number))

    def _after_change(self, owned: OwnedDag, run: RunState) -> None:
        for changed in (run, *run.following):
            owned.take_ready(changed)
            for at, key in changed.due:
                self._set_timer(at, owned.dag_id, changed.id, key)
            changed.due.clear()
        self._pending.touched.add(owned.dag_id)
        self._wave_within(_GATHER_SECONDS if self.in_flight >= self._slots > 1 else 0)

    def _find(self, key: contract.AttemptKey) -> tuple[OwnedDag, RunState, TaskInstance] | None:
        """The task instance that waits for the result of this key."""
        run_id, task_id, map_index, dispatch = key
        owned = self._by_run.get(run_id)
        run = None if owned is None else owned.runs.get(run_id)
        if owned is None or run is None:
            return None
        instance = run.instances.get((task_id, map_index))
        if instance is None or instance.state not in states.HELD or instance.dispatches != dispatch:
            return None
        return owned, run, instance

    # --- time ---

    def _set_timer(self, at: datetime, dag_id: str, run_id: int = 0, key: tuple[str, int] | None = None) -> None:
        heapq.heappush(self._timers, (at, next(self._order), dag_id, run_id, key))

    def _fire_timers(self, now: datetime) -> None:
        while self._timers and self._timers[0][0] <= now:
            at, _, dag_id, run_id, key = heapq.heappop(self._timers)
            owned = self.owned.get(dag_id)
            if owned is None:
                continue
            if run_id == 0:
                self._wave_within(0)
                continue
            run = owned.runs.get(run_id)
            if run is None:
                continue
            if key is None:
                self._time_out(owned, run, now)
            elif not key[0]:
                self._miss(owned, run, at, key[1], now)
            else:
                instance = run.instances.get(key)
                if instance is not None and instance.next_at is not None and instance.next_at <= now:
                    waited = instance.state == states.DEFERRED
                    run.consider(key)
                    if waited and instance.state != states.DEFERRED:
                        owned.deferred -= 1
                        self._keep_deferral(owned, run, instance, now)
                    self._after_change(owned, run)

    def _time_out(self, owned: OwnedDag, run: RunState, now: datetime) -> None:
        timeout = owned.dag.dagrun_timeout
        if timeout is None or run.start_date is None or run.start_date + timedelta(seconds=timeout) > now:
            return
        logger.warning("%s %s: dagrun_timeout of %g s has passed", owned.dag_id, run.run_id, timeout)
        self._kill(owned, run, run.time_out(now), "the DagRun ran longer than dagrun_timeout")
        self._after_change(owned, run)

    def _watch_deadlines(self, owned: OwnedDag, run: RunState) -> None:
        """Timers for the deadlines and SLAs of a run: a task_id "" and a place in `run.late`."""
        run.late = list(deadlines.times(owned, run, self._average_seconds))
        for place, (at, _) in enumerate(run.late):
            self._set_timer(at, owned.dag_id, run.id, ("", place))

    def _miss(self, owned: OwnedDag, run: RunState, at: datetime, place: int, now: datetime) -> None:
        """A timer of `_watch_deadlines`; perhaps one of before the DAG was read again."""
        if place >= len(run.late) or run.late[place][0] != at or run.late[place][1] in run.missed:
            return
        name = run.late[place][1]
        found = deadlines.missed(owned, run, name, at)
        if found is None:
            return
        kind, words, told = found
        logger.warning("%s %s: %s", owned.dag_id, run.run_id, words)
        run.missed.add(name)
        row = (run.id, "", -1, scheduling.MISSED_KEY, deadlines.note(run), now)
        # One row holds all of a run's: what an earlier miss has put there for this wave is in it.
        self._pending.xcoms = [item for item in self._pending.xcoms if item[1][:4] != row[:4]]
        self._pending.xcoms.append((owned.dag_id, row))
        if kind == DEADLINE_CALLBACK or owned.dag.has_sla_miss_callback:
            number = next(self._callback_numbers)
            self._callbacks.append(attempts.dag_callback(owned, run, kind, words, number, missed=told))
        self._after_change(owned, run)

    def _average_seconds(self, dag_id: str, most: int, least: int) -> float | None:
        with reading(self._engine) as connection:
            return scheduling.average_seconds(connection, dag_id, most, least)

    # --- the metastore ---

    def _look(self, now: datetime) -> str:
        """See what others have changed, take DAGs that are due and free."""
        self._look_at = time.monotonic() + self._poll_interval
        alive_since = now - self._lease_time
        if self._joined is not None:
            self._register_worker(self._joined, now)
        with reading(self._engine) as connection:
            seen = scheduling.look(connection, self._me, now, alive_since)
            pools = scheduling.read_pools(connection) if self.owned else {}
            left = scheduling.take_results(connection, list(self.owned)) if self.owned else []
            lost = self._lost_workers(connection, now)
        self._wave.tight_pools = {name for name, (slots, used) in pools.items() if used > slots}
        for number, payload in left:
            self._on_left_result(number, json.loads(payload), now)
        self._fail_lost(lost, now)
        notes = [self._compare(seen)]
        if seen.claimable:
            share = max(1, math.ceil(len(seen.claimable) / seen.schedulers))
            with transaction(self._engine) as connection:
                taken = scheduling.claim(connection, seen.claimable[:share], self._me, alive_since)
            self._read_again.update(taken)
            if share < len(seen.claimable):
                self._look_at = 0.0 if taken else self._look_at
        if time.monotonic() >= self._recount_at:
            with transaction(self._engine) as connection:
                scheduling.recount_pools(connection)
            if made := partitions.make_ahead(self._engine, now):
                notes.append(f"made the partitions {', '.join(made)}")
            self._recount_at = time.monotonic() + _RECOUNT_SECONDS
        if any(owned.queues for owned in self.owned.values()):
            self._wave_within(0)
        return "; ".join(note for note in notes if note)

    def _register_worker(self, joined: contract.WorkerJoined, now: datetime) -> None:
        """The worker has no metastore connection of its own. Only one holds the socket: one before it is gone."""
        with transaction(self._engine) as connection:
            instances.end_dead_of_this_host(connection, joined.hostname, daemon.is_alive, now)
            instances.register(
                connection,
                instance_id=joined.worker_id,
                kind="worker",
                hostname=joined.hostname,
                home=str(self._config.home),
                pid=joined.pid,
                pid_started=daemon.process_started(joined.pid) or 0.0,
                now=now,
                detail=json.dumps({"slots": joined.slots}),
            )
        self._joined = None

    def _compare(self, seen: scheduling.Look) -> str:
        gone = [dag_id for dag_id in self.owned if dag_id not in seen.mine]
        for dag_id in gone:
            self._drop(dag_id)
        for dag_id, (epoch, revision) in seen.mine.items():
            owned = self.owned.get(dag_id)
            if owned is None or (owned.epoch, owned.revision) != (epoch, revision):
                self._read_again.add(dag_id)
        return f"lost {', '.join(gone)}" if gone else ""

    def _drop(self, dag_id: str) -> None:
        owned = self.owned.pop(dag_id, None)
        if owned is not None:
            for run_id in owned.runs:
                self._by_run.pop(run_id, None)

    def _adopt(self, dag_ids: list[str]) -> None:
        """Read DAGs that are ours, and ask the worker what it holds of them."""
        self._read_again.clear()
        with reading(self._engine) as connection:
            found = scheduling.read_dags(connection, dag_ids)
            missing = {rows.version_hash for rows in found.values()} - self._versions.keys()
            if missing:
                for version, text in scheduling.read_versions(connection, missing).items():
                    self._versions[version] = serialized.load(json.loads(text))
            now = datetime.now(UTC)
            for dag_id in dag_ids:
                self._drop(dag_id)
                self._forget_pending(dag_id)
                rows = found.get(dag_id)
                if rows is None:
                    continue  # deleted meanwhile
                owned = build(
                    rows,
                    self._versions[rows.version_hash],
                    catchup_by_default=bool(self._config.get("scheduler", "catchup_by_default")),
                    first_run_by_default=str(self._config.get("scheduler", "first_run")),
                    max_active_runs=int(self._config.get("core", "max_active_runs_per_dag")),
                    max_active_tasks=int(self._config.get("core", "max_active_tasks_per_dag")),
                    most_failures=int(self._config.get("core", "max_consecutive_failed_dag_runs_per_dag")),
                    previous=lambda owned, run: self._previous(connection, owned, run),
                    lengths=lambda runs, dag: self._lengths(connection, runs, dag),
                    now=now,
                )
                self._take(owned)

    def _take(self, owned: OwnedDag) -> None:
        self.owned[owned.dag_id] = owned
        for run in owned.runs.values():
            self._register(owned, run)
        if owned.next is not None and not owned.is_paused:
            self._set_timer(owned.next.run_after, owned.dag_id)
        self._pending.touched.add(owned.dag_id)
        self._ask_worker(owned)
        self._wave_within(0)

    def _register(self, owned: OwnedDag, run: RunState) -> None:
        self._by_run[run.id] = owned
        if owned.dag.dagrun_timeout is not None and run.start_date is not None:
            self._set_timer(run.start_date + timedelta(seconds=owned.dag.dagrun_timeout), owned.dag_id, run.id)
        if owned.dag.deadlines or owned.dag.has_slas:
            self._watch_deadlines(owned, run)
        for at, key in run.due:
            self._set_timer(at, owned.dag_id, run.id, key)
        run.due.clear()

    def _forget_pending(self, dag_id: str) -> None:
        """What was decided for this DAG is void; its results come again after the fence."""
        pending = self._pending
        pending.touched.discard(dag_id)
        pending.xcoms = [item for item in pending.xcoms if item[0] != dag_id]
        pending.asset_events = [item for item in pending.asset_events if item[0] != dag_id]
        pending.acknowledge = [item for item in pending.acknowledge if item[0] != dag_id]
        pending.taken_results = [item for item in pending.taken_results if item[0] != dag_id]
        self._callbacks = [item for item in self._callbacks if item["dag_id"] != dag_id]

    @staticmethod
    def _previous(
        connection: Connection, owned: OwnedDag, run: RunState
    ) -> tuple[int, Mapping[str, str | None]] | None:
        return scheduling.previous_states(
            connection, owned.dag_id, run.logical_date, scheduled_only=owned.catchup and run.run_type == "scheduled"
        )

    @staticmethod
    def _lengths(connection: Connection, runs: Mapping[int, RunState], dag: serialized.SerializedDag) -> None:
        """Read how long the XComs are that something is mapped over."""
        sources = {source for unit in dag.all_units for source in unit.sources}
        for run_id, task_id, map_index, key, length in scheduling.xcom_lengths(connection, list(runs), sources):
            runs[run_id].lengths.setdefault((task_id, key), {})[map_index] = length

    # --- results that come otherwise, and never ---

    def _on_left_result(self, number: int, result: dict[str, Any], now: datetime) -> None:
        dag_id = str(result["dag_id"])
        self._pending.taken_results.append((dag_id, number))
        self._pending.touched.add(dag_id)
        self._wave_within(0)
        key = as_key(result["key"])
        found = self._find(key)
        if found is not None:
            self._end_attempt(*found, contract.parse_result(result), now)

    def _lost_workers(self, connection: Connection, now: datetime) -> set[str]:
        """Workers that hold attempts of ours, that we have no connection to, and whose heartbeat is stale."""
        doubtful = {
            instance.worker_id
            for owned in self.owned.values()
            for _, instance in owned.in_flight()
            if instance.unconfirmed and instance.worker_id != self.executor.worker_id
        } - {None}
        if not doubtful:
            return set()
        return {str(worker) for worker in doubtful - scheduling.live_workers(connection, now - self._worker_silence)}

    def _fail_lost(self, workers: set[str], now: datetime) -> None:
        if not workers:
            return
        for owned in self.owned.values():
            for run, instance in list(owned.in_flight()):
                if instance.worker_id in workers and instance.unconfirmed:
                    if instance.state == states.DEFERRED:
                        instance.worker_id = self.executor.worker_id
                        self._end_trigger(owned, run, instance, {"state": states.FAILED, "signal": "worker lost"}, now)
                        continue
                    reason = f"worker lost: {instance.worker_id} has ended or gives no heartbeat"
                    logger.warning("%s %s %s: %s", owned.dag_id, run.run_id, instance.task.task_id, reason)
                    result = {
                        "state": states.FAILED,
                        "reason": reason,
                        "hostname": instance.hostname,
                        "ended_at": now,
                        "signal": "worker lost",
                    }
                    self._end_attempt(owned, run, instance, result, now)

    # --- writing ---

    @property
    def _slots(self) -> int:
        """Attempts that run at once."""
        return min(1, self.executor.slots) if self._sequential else self.executor.slots

    def _free(self) -> int:
        """Attempts that may be claimed. Half as many as run at once wait with the worker: no slot waits for us."""
        return self._slots + self._slots // 2 - self.in_flight

    def _write_wave(self, now: datetime) -> str:
        self._wave_at = math.inf
        pending, self._pending = self._pending, Pending()
        outcome = self._wave.write(self.owned, pending, now, worker_id=self.executor.worker_id, free=self._free())
        self._act(outcome, pending)
        return "" if outcome.routine else outcome.sentence()

    def _act(self, outcome: Outcome, pending: Pending) -> None:
        """What may be done now that the wave is durable."""
        void = {*outcome.stale, *outcome.lost}
        self._read_again.update(outcome.stale)
        messages = [
            attempts.task_attempt(owned, run, instance, self._isolation) for owned, run, instance in outcome.claims
        ]
        messages += [attempts.trigger(owned, run, instance) for owned, run, instance in outcome.triggers]
        callbacks, self._callbacks = self._callbacks, []
        messages.extend(message for message in callbacks if message["dag_id"] not in void)
        for owned, run in outcome.started:
            self._register(owned, run)
        for owned, run in outcome.ended:
            self._by_run.pop(run.id, None)
            kind = "success" if run.state == states.SUCCESS else "failure"
            wanted = owned.dag.has_on_success_callback if kind == "success" else owned.dag.has_on_failure_callback
            if wanted:
                number = next(self._callback_numbers)
                reason = "success" if kind == "success" else "task_failure"
                messages.append(attempts.dag_callback(owned, run, f"dag_on_{kind}_callback", reason, number))
        if messages:
            self.executor.dispatch(messages)
        if pending.acknowledge:
            self.executor.acknowledge(key for dag_id, key in pending.acknowledge if dag_id not in void)
        if outcome.woken:
            self._read_again.update(outcome.woken & self.owned.keys())
            wake(self._config.run_folder, "scheduler")
        for dag_id in outcome.lost:
            logger.warning("%s: another scheduler has taken the lease", dag_id)
        for dag_id in outcome.released:
            given_back = self.owned.get(dag_id)
            if given_back is not None and not given_back.held:
                self._given_back[dag_id] = (given_back.epoch, given_back.asked)
        for dag_id in (*outcome.lost, *outcome.released):
            self._drop(dag_id)
        for owned in {id(o): o for o, _ in (*outcome.started, *outcome.ended)}.values():
            if owned.dag_id in self.owned and owned.next is not None and not owned.is_paused:
                self._set_timer(owned.next.run_after, owned.dag_id)
            if outcome.ended:
                # The end of a run may let another one start.
                self._wave_within(0)
        for owned, run in outcome.started:
            if run.changed or run.ended:
                self._pending.touched.add(owned.dag_id)
                self._wave_within(0)
