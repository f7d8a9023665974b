"""Brings the history of one DAG from a restored copy into the live metastore, and touches nothing that is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table, insert, select, update
from sqlalchemy.engine import Connection, Engine, RowMapping

from opskit.core.dag import states
from opskit.core.metastore.engine import reading, transaction
from opskit.core.metastore.partial import Brought
from opskit.core.metastore.tables import (
    dag,
    dag_run,
    dag_version,
    question,
    task_attempt,
    task_instance,
    task_instance_note,
    xcom,
)
from opskit.errors import NotFound

REASON = "restored from a backup: it was {state} when the backup was taken, and did not end there"
_RUNS = 200
"""Per transaction."""
_CHILDREN: tuple[Table, ...] = (task_instance, task_attempt, xcom, task_instance_note, question)
_ENDED = (states.SUCCESS, states.FAILED)


def bring_history(
    source: Engine, live: Engine, dag_id: str, now: datetime, on_runs: Callable[[int, int], None], *, dry_run: bool
) -> Brought:
    """Insert the DagRuns of `dag_id` that the live metastore lacks, with task instances, tries and XComs; and what it
    lacks of those that both have, where the live one has ended. `on_runs(done, total)` tells how far it is.

    A run that had not ended when the backup was taken comes as failed: nobody works on it any more. A DAG that the live
    metastore does not know comes paused and inactive, until its file is loaded. A batch is one transaction; a second
    call finds nothing to do. NotFound when the backup has no such DAG.
    """
    brought = Brought()
    with reading(source) as old:
        described = old.execute(select(dag).where(dag.c.dag_id == dag_id)).mappings().first()
        runs = old.execute(select(dag_run).where(dag_run.c.dag_id == dag_id).order_by(dag_run.c.id)).mappings().all()
        if described is None and not runs:
            known = old.execute(select(dag.c.dag_id).order_by(dag.c.dag_id).limit(3)).scalars().all()
            raise NotFound(f"the backup has no DAG {dag_id!r}", hint=f"for example {', '.join(known) or 'none at all'}")
        for start in range(0, max(1, len(runs)), _RUNS):
            some = runs[start : start + _RUNS]
            children = {table: _children(old, table, [run["id"] for run in some]) for table in _CHILDREN}
            versions = _versions(old, {run["version_hash"] for run in some})
            with (reading if dry_run else transaction)(live) as target:
                step = _Step(target, now, brought, dry_run)
                if start == 0:
                    step.bring_dag(described)
                step.bring_versions(versions)
                step.bring_runs(dag_id, some, children)
            on_runs(start + len(some), len(runs))
    return brought


def _children(old: Connection, table: Table, run_ids: Sequence[int]) -> list[RowMapping]:
    return list(old.execute(select(table).where(table.c.dag_run_id.in_(run_ids))).mappings())


def _versions(old: Connection, hashes: Iterable[str | None]) -> list[RowMapping]:
    wanted = sorted(one for one in hashes if one)
    return list(old.execute(select(dag_version).where(dag_version.c.hash.in_(wanted))).mappings())


class _Step:
    """One batch in one transaction of the live metastore."""

    def __init__(self, target: Connection, now: datetime, brought: Brought, dry_run: bool) -> None:
        self._target, self._now, self._brought, self._dry_run = target, now, brought, dry_run

    def bring_dag(self, described: RowMapping | None) -> None:
        if described is None:
            return
        known = self._target.execute(select(dag.c.dag_id).where(dag.c.dag_id == described["dag_id"])).first()
        if known is None:
            quiet = {"is_paused": True, "is_active": False, "lease_owner": None, "wake_at": None}
            self._insert(dag, [{**described, **quiet}])
        elif not self._dry_run:
            # Its owner counts runs in memory.
            changed = {"revision": dag.c.revision + 1, "wake_at": self._now}
            self._target.execute(update(dag).where(dag.c.dag_id == described["dag_id"]).values(**changed))

    def bring_versions(self, versions: Sequence[RowMapping]) -> None:
        hashes = [version["hash"] for version in versions]
        there = set(self._target.execute(select(dag_version.c.hash).where(dag_version.c.hash.in_(hashes))).scalars())
        self._insert(dag_version, [dict(version) for version in versions if version["hash"] not in there])

    def bring_runs(self, dag_id: str, runs: Sequence[RowMapping], children: dict[Table, list[RowMapping]]) -> None:
        there = self._live_runs(dag_id, runs)
        by_run = {row.run_id: row for row in there}
        dates = {row.logical_date for row in there}
        fresh, ids = [], {}
        for run in runs:
            present = by_run.get(run["run_id"])
            if present is not None:
                self._brought.skip("in the live metastore already")
                if present.state in _ENDED:
                    ids[run["id"]] = present.id
            elif run["logical_date"] in dates:
                self._brought.skip("another run of its logical date is in the live metastore")
            else:
                fresh.append(run)
        unended = {run["id"] for run in fresh if run["state"] not in _ENDED}
        self._insert(dag_run, [self._ended_run(run) for run in fresh])
        both = dict(ids)
        if self._dry_run:
            ids |= {run["id"]: -run["id"] for run in fresh}
        else:
            new = {row.run_id: row.id for row in self._live_runs(dag_id, fresh)}
            ids |= {run["id"]: new[run["run_id"]] for run in fresh}
        for table in _CHILDREN:
            present_keys = self._keys(table, sorted(both.values()))
            keys = [column.name for column in table.primary_key.columns]
            rows = []
            for child in children[table]:
                if child["dag_run_id"] not in ids:
                    continue
                row = {**child, "dag_run_id": ids[child["dag_run_id"]]}
                if tuple(row[key] for key in keys) in present_keys:
                    continue
                if table is task_instance and child["dag_run_id"] in unended:
                    row |= self._ended_task(child)
                rows.append(row)
            self._insert(table, rows)

    def _live_runs(self, dag_id: str, runs: Sequence[RowMapping]) -> list[Any]:
        columns = (dag_run.c.id, dag_run.c.run_id, dag_run.c.state, dag_run.c.logical_date)
        mine = dag_run.c.dag_id == dag_id
        found = {}
        for column in (dag_run.c.run_id, dag_run.c.logical_date):
            values = [run[column.name] for run in runs]
            for row in self._target.execute(select(*columns).where(mine, column.in_(values))):
                found[row.id] = row
        return list(found.values())

    def _keys(self, table: Table, run_ids: Sequence[int]) -> set[tuple[Any, ...]]:
        if not run_ids:
            return set()
        columns = list(table.primary_key.columns)
        found = self._target.execute(select(*columns).where(table.c.dag_run_id.in_(run_ids)))
        return {tuple(row) for row in found}

    def _ended_run(self, run: RowMapping) -> dict[str, Any]:
        row = {name: value for name, value in run.items() if name != "id"}
        if run["state"] not in _ENDED:
            row |= {"state": states.FAILED, "end_date": self._now}
        return row

    def _ended_task(self, child: RowMapping) -> dict[str, Any]:
        state = child["state"]
        if state in states.FINISHED:
            return {}
        begun = child["start_date"] is not None and state is not None
        return {
            "state": states.FAILED if begun else states.SKIPPED,
            "end_date": self._now,
            "next_at": None,
            "worker_id": None,
            "reason": REASON.format(state=state or "waiting"),
        }

    def _insert(self, table: Table, rows: list[dict[str, Any]]) -> None:
        self._brought.count(table.name, len(rows))
        if rows and not self._dry_run:
            self._target.execute(insert(table), rows)
