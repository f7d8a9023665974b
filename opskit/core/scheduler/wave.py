"""A wave: everything decided since the last one becomes durable in one transaction; only then is it acted upon.

See ARCHITECTURE.md, "A wave".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opskit.core.dag import states
from opskit.core.dag.run_instance import TaskInstance
from opskit.core.dag.run_state import RunState
from opskit.core.metastore import asset_events, dags, questions, scheduling
from opskit.core.metastore.engine import Connection, Engine, TransactionConflict, transaction
from opskit.core.scheduler import claims
from opskit.core.scheduler.claims import Claim
from opskit.core.scheduler.owned_dag import (
    OwnedDag,
    add_run,
    instance_row,
    new_instance_row,
    run_from_row,
)


@dataclass(slots=True)
class Pending:
    """What has been decided and is not durable yet."""

    xcoms: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    """`(dag_id, row)`"""
    acknowledge: list[tuple[str, tuple[int, str, int, int]]] = field(default_factory=list)
    """`(dag_id, key)` of results that this wave makes durable."""
    taken_results: list[tuple[str, int]] = field(default_factory=list)
    """`(dag_id, attempt_result.id)` of those that came through the metastore."""
    asset_events: list[tuple[str, asset_events.NewEvent]] = field(default_factory=list)
    """`(dag_id of the producer, event)`"""
    touched: set[str] = field(default_factory=set)
    """DAGs with changes."""


@dataclass(slots=True)
class Outcome:
    """What a durable wave leaves to be done."""

    claims: list[Claim] = field(default_factory=list)
    triggers: list[Claim] = field(default_factory=list)
    """Deferred task instances whose trigger is to be dispatched."""
    ended: list[tuple[OwnedDag, RunState]] = field(default_factory=list)
    started: list[tuple[OwnedDag, RunState]] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    """DAGs that others have changed meanwhile: to be read again."""
    lost: list[str] = field(default_factory=list)
    """DAGs whose lease another scheduler has taken."""
    released: list[str] = field(default_factory=list)
    woken: set[str] = field(default_factory=set)
    """DAGs whose condition over assets is met now, and that this wave did not look at."""

    @property
    def routine(self) -> bool:
        """Nothing but claims: no news for a log."""
        return not (self.started or self.ended or self.stale or self.lost)

    def sentence(self) -> str:
        parts = [
            f"started {len(self.started)} runs" if self.started else "",
            f"claimed {len(self.claims)} task instances" if self.claims else "",
            f"ended {', '.join(f'{o.dag_id} {r.run_id} {r.state}' for o, r in self.ended)}" if self.ended else "",
            f"read again {', '.join(self.stale)}" if self.stale else "",
            f"lost {', '.join(self.lost)}" if self.lost else "",
        ]
        return "; ".join(part for part in parts if part)


@dataclass(slots=True)
class Wave:
    """One scheduler's way to write. `previous` reads the run before a given one, for depends_on_past."""

    engine: Engine
    me: str
    previous: Callable[[Connection, OwnedDag, RunState], tuple[int, Mapping[str, str | None]] | None]
    tight_pools: set[str] = field(default_factory=set)
    """Pools that were found over their limit: a freed slot there is not ours to reuse."""
    short_way: bool = False
    """Whether the database can lock, compare and write in one statement (PostgreSQL)."""

    def write(
        self,
        owned: Mapping[str, OwnedDag],
        pending: Pending,
        now: datetime,
        *,
        worker_id: str | None,
        free: int,
    ) -> Outcome:
        """Commit one wave. On an exception nothing has happened in the metastore, and memory must be read again."""
        concerned = {
            dag_id: dag
            for dag_id, dag in owned.items()
            if dag_id in pending.touched
            or dag.start_due(now)
            or (free > 0 and dag.held and not dag.is_paused and any(dag.queues.values()))
        }
        outcome = Outcome()
        if not concerned:
            return outcome
        if self.short_way and len(concerned) == 1:
            (dag,) = concerned.values()
            if self._write_quickly(dag, pending, now, worker_id, free, outcome):
                return outcome
            free -= len(outcome.claims)
        with transaction(self.engine) as connection:
            events = [event for _, event in pending.asset_events]
            consumers = asset_events.consumers(connection, events) if events else ()
            rows = scheduling.lock_dags(connection, {*concerned, *consumers})
            for dag_id in list(concerned):
                dag = concerned[dag_id]
                owner, epoch, revision = rows.get(dag_id, (None, -1, -1))
                if owner != self.me or epoch != dag.epoch:
                    outcome.lost.append(dag_id)
                    del concerned[dag_id]
                elif revision != dag.revision:
                    outcome.stale.append(dag_id)
                    del concerned[dag_id]
            outcome.claims = [claim for claim in outcome.claims if claim[0].dag_id in concerned]
            if events:
                self._record_events(connection, pending, concerned, now, outcome)
            for dag in concerned.values():
                self._start_runs(connection, dag, now, outcome)
            if worker_id is not None and free > 0:
                self._claim(connection, concerned, worker_id, free, now, outcome)
            self._write_rows(connection, concerned, pending, now, outcome)
        return outcome

    @staticmethod
    def _record_events(
        connection: Connection, pending: Pending, concerned: Mapping[str, OwnedDag], now: datetime, outcome: Outcome
    ) -> None:
        mine = [event for dag_id, event in pending.asset_events if dag_id in concerned]
        met = asset_events.record(connection, mine, now) if mine else set()
        for dag_id in met & concerned.keys():
            concerned[dag_id].look_for_events = True
        outcome.woken = met - concerned.keys()
        dags.touch(connection, outcome.woken, now)

    # --- runs ---

    def _start_runs(self, connection: Connection, owned: OwnedDag, now: datetime, outcome: Outcome) -> None:
        planned = False
        while owned.start_due(now):
            if owned.events_due():
                owned.look_for_events = False
                row = asset_events.start_run(connection, owned.dag_id, owned.dag.timetable, now)
                owned.waiting += [] if row is None else [row]
                # All events make one run, but those of partitions one for each of them.
                owned.look_for_events = row is not None and row.partition_key is not None
                continue
            if owned.waiting and (owned.next is None or owned.next.run_after > now or not self._next_first(owned)):
                row = owned.waiting.pop(0)
                run = run_from_row(row, owned.dag)
            else:
                new = self._create_scheduled(connection, owned, now)
                planned = True
                if new is None:
                    continue
                run = new
            run.start_date = now
            run.begin()
            scheduling.insert_instances(
                connection, [new_instance_row(run, instance) for instance in run.instances.values()]
            )
            add_run(owned, run, lambda dag, new: self.previous(connection, dag, new))
            outcome.started.append((owned, run))
        if planned:
            upcoming = owned.next
            scheduling.set_next_run(
                connection,
                owned.dag_id,
                {
                    "next_logical_date": upcoming and upcoming.logical_date,
                    "next_interval_start": upcoming and upcoming.data_interval.start,
                    "next_interval_end": upcoming and upcoming.data_interval.end,
                    "next_run_after": upcoming and upcoming.run_after,
                },
            )

    @staticmethod
    def _next_first(owned: OwnedDag) -> bool:
        """Whether the due scheduled run is older than the oldest waiting one."""
        assert owned.next is not None
        return bool(owned.next.logical_date < owned.waiting[0].logical_date)

    @staticmethod
    def _create_scheduled(connection: Connection, owned: OwnedDag, now: datetime) -> RunState | None:
        """The due scheduled run; None when someone has made a run for that date by hand."""
        info = owned.next
        assert info is not None
        run_id = owned.next_run_id or owned.timetable.generate_run_id(
            run_type="scheduled",
            logical_date=info.logical_date,
            run_after=info.run_after,
            data_interval=info.data_interval,
            **({} if info.partition_key is None else {"partition_key": info.partition_key}),
        )
        owned.last_automated = info.data_interval
        exists = scheduling.run_exists(connection, owned.dag_id, info.logical_date, run_id)
        owned.plan_next(now)
        if exists:
            return None
        values = {
            "dag_id": owned.dag_id,
            "run_id": run_id,
            "run_type": "scheduled",
            "state": states.RUNNING,
            "logical_date": info.logical_date,
            "data_interval_start": info.data_interval.start,
            "data_interval_end": info.data_interval.end,
            "conf": "{}",
            "version_hash": owned.version_hash,
            "queued_at": now,
            "start_date": now,
            "partition_key": info.partition_key,
            "partition_date": info.partition_date,
        }
        number = scheduling.insert_run(connection, values)
        return RunState(
            id=number,
            dag=owned.dag,
            run_id=run_id,
            run_type="scheduled",
            logical_date=info.logical_date,
            data_interval_start=info.data_interval.start,
            data_interval_end=info.data_interval.end,
            conf={},
            start_date=now,
            partition_key=info.partition_key,
            partition_date=info.partition_date,
            queued_at=now,
        )

    # --- claims ---

    def _claim(
        self,
        connection: Connection,
        concerned: Mapping[str, OwnedDag],
        worker_id: str,
        free: int,
        now: datetime,
        outcome: Outcome,
    ) -> None:
        dags = list(concerned.values())
        demand = claims.demand(dags, free, self.tight_pools)
        budget = dict(demand.freed)
        if demand.ask:
            rows = scheduling.lock_pools(connection, demand.ask)
            for pool in demand.ask:
                slots, used = rows.get(pool, (0, 0))
                budget[pool] = slots - used + demand.freed.get(pool, 0)
        outcome.claims.extend(claims.choose(dags, budget, worker_id, free, now))

    # --- the short way ---

    def _write_quickly(
        self, dag: OwnedDag, pending: Pending, now: datetime, worker_id: str | None, free: int, outcome: Outcome
    ) -> bool:
        """One statement, and one round trip, for a wave that only moves task instances of one DAG; whether it did.

        When it did not, the long way finds out why. What was claimed in memory stays claimed.
        """
        if pending.taken_results or pending.asset_events or dag.start_due(now):
            return False
        if worker_id is not None and free > 0:
            demand = claims.demand([dag], free, self.tight_pools)
            if demand.ask:
                return False
            outcome.claims.extend(claims.choose([dag], demand.freed, worker_id, free, now))
        if any(dag.pool_delta.values()) or not dag.runs:
            return False
        changed = []
        for run in dag.runs.values():
            if run.ended or run.added or run.dropped or run.superseded or run.to_trigger or run.resumed or run.asked:
                return False
            for instance in run.changed.values():
                if instance.state == states.QUEUED and instance.dispatches > 1:
                    return False
                changed.append(_finished_row(run, instance, now))
        if not changed:
            return False
        xcoms = [row for _, row in pending.xcoms]
        found = scheduling.move_instances(self.engine, self.me, dag.dag_id, dag.epoch, dag.revision, changed, xcoms)
        if not found:
            return False
        if found != len(changed):
            raise TransactionConflict(f"{dag.dag_id}: task instances are gone from the metastore; reading all again")
        dag.pool_delta.clear()
        for run in dag.runs.values():
            run.changed.clear()
        return True

    # --- rows ---

    def _write_rows(
        self,
        connection: Connection,
        concerned: Mapping[str, OwnedDag],
        pending: Pending,
        now: datetime,
        outcome: Outcome,
    ) -> None:
        changed: list[tuple[Any, ...]] = []
        new: list[tuple[Any, ...]] = []
        attempts: list[tuple[Any, ...]] = []
        runs: list[tuple[Any, ...]] = []
        forget: list[tuple[int, str, int]] = []
        dropped: list[tuple[int, str, int]] = []
        resumed: list[tuple[int, str, int]] = []
        asked: list[tuple[int, TaskInstance]] = []
        deltas: dict[str, int] = {}
        release: dict[str, datetime | None] = {}
        started = {id(run) for _, run in outcome.started}
        for dag in concerned.values():
            for name, delta in dag.pool_delta.items():
                deltas[name] = deltas.get(name, 0) + delta
            dag.pool_delta.clear()
            for run in list(dag.runs.values()):
                fresh = {instance.key for instance in run.added}
                for instance in run.changed.values():
                    if instance.key in fresh:
                        continue
                    changed.append(_finished_row(run, instance, now))
                    if instance.state == states.QUEUED and instance.dispatches > 1 and instance.deferral is None:
                        forget.append((run.id, *instance.key))
                new.extend(_new_row(run, instance, now) for instance in run.added)
                dropped.extend((run.id, *key) for key in run.dropped)
                resumed.extend((run.id, *key) for key in run.resumed)
                outcome.triggers.extend((dag, run, instance) for instance in run.to_trigger)
                asked.extend((run.id, instance) for instance in run.asked)
                attempts.extend(
                    (
                        run.id,
                        *past.key,
                        past.try_number,
                        past.state,
                        past.start_date,
                        past.end_date,
                        past.hostname,
                        past.pid,
                        past.reason,
                    )
                    for past in run.superseded
                )
                if run.ended:
                    run.end_date = run.end_date or now
                    outcome.ended.append((dag, run))
                    dag.look_for_events = dag.waits_for_assets
                if run.ended or id(run) in started:
                    runs.append((run.id, run.state, run.start_date, run.end_date, dag.version_hash))
                run.changed.clear()
                run.added.clear()
                run.dropped.clear()
                run.resumed.clear()
                run.to_trigger.clear()
                run.asked.clear()
                run.superseded.clear()
            for _, run in outcome.ended:
                dag.runs.pop(run.id, None)
            if not dag.runs and not dag.waiting and not dag.start_due(now):
                release[dag.dag_id] = dag.idle_until(now)
        if dropped:
            scheduling.delete_instances(connection, dropped)
        if new:
            scheduling.insert_instances(connection, new)
        if changed:
            found = scheduling.update_instances(connection, changed)
            if found != len(changed):
                raise TransactionConflict(
                    f"{len(changed) - found} task instances are gone from the metastore; reading all again"
                )
        if forget:
            scheduling.delete_xcoms(connection, forget)
        if resumed:
            scheduling.delete_xcoms(connection, resumed, scheduling.DEFER_KEY)
        if attempts:
            scheduling.insert_attempts(connection, attempts)
        if asked:
            questions.keep(connection, asked, now)
        xcoms = [row for dag_id, row in pending.xcoms if dag_id in concerned]
        if xcoms:
            scheduling.insert_xcoms(connection, xcoms)
        if runs:
            scheduling.update_runs(connection, runs)
            self._pause_failing(connection, outcome.ended, now)
        scheduling.add_used_slots(connection, deltas)
        taken = [number for dag_id, number in pending.taken_results if dag_id in concerned]
        if taken:
            scheduling.delete_results(connection, taken)
        if release:
            scheduling.release(connection, release, self.me)
            outcome.released.extend(release)

    @staticmethod
    def _pause_failing(connection: Connection, ended: list[tuple[OwnedDag, RunState]], now: datetime) -> None:
        """Pause DAGs whose newest runs have failed, as many as max_consecutive_failed_dag_runs says."""
        failed = {id(dag): dag for dag, run in ended if run.state == states.FAILED and dag.most_failures > 0}
        for dag in failed.values():
            if not dag.is_paused and scheduling.has_failed_in_a_row(connection, dag.dag_id, dag.most_failures):
                scheduling.pause(connection, dag.dag_id, dag.most_failures, now)
                dag.is_paused = True


def _finished_row(run: RunState, instance: TaskInstance, now: datetime) -> tuple[Any, ...]:
    """The row of a changed instance; one that ended without a process gets its times now."""
    _set_times(instance, now)
    return instance_row(run, instance)


def _new_row(run: RunState, instance: TaskInstance, now: datetime) -> tuple[Any, ...]:
    _set_times(instance, now)
    return new_instance_row(run, instance)


def _set_times(instance: TaskInstance, now: datetime) -> None:
    if instance.state in states.FINISHED:
        instance.end_date = instance.end_date or now
        instance.start_date = instance.start_date or instance.end_date


def xcom_rows(
    run_id: int, task_id: str, map_index: int, result: Mapping[str, Any], now: datetime
) -> list[tuple[Any, ...]]:
    """The XComs of a result, and a branch's choice under Airflow's key."""
    values = {str(key): value for key, value in result.get("xcoms") or ()}
    if result.get("skip"):
        values[scheduling.SKIP_KEY] = {"skipped": list(result["skip"])}
    return [
        (run_id, task_id, map_index, key, json.dumps(value, ensure_ascii=False), now) for key, value in values.items()
    ]
