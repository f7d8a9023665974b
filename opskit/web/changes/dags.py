"""Changes of DAGs: pause, trigger, delete. Each checks the permission and leaves an audit line."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from opskit.core.metastore import dag_loads, dags, runs
from opskit.core.metastore.runs import Run
from opskit.web.changes import auditing
from opskit.web.identity import CREATE, DELETE, EDIT, Who
from opskit.web.store import Store


def set_paused(store: Store, who: Who, dag_ids: Collection[str], paused: bool) -> list[str]:
    """Pause or unpause; the ids of those that were not so before. Forbidden or NotFound for one: then none changes."""
    for dag_id in dag_ids:
        who.require(EDIT, "DAGs", dag_id)
    now = datetime.now(UTC)
    with store.changing() as connection:
        changed = dags.set_paused(connection, dag_ids, paused, now)
        for dag_id in changed:
            auditing.write(connection, who, "dags pause" if paused else "dags unpause", now, dag_id=dag_id)
    return changed


def trigger(
    store: Store,
    who: Who,
    dag_id: str,
    *,
    conf: Mapping[str, Any] | None = None,
    run_id: str | None = None,
    logical_date: datetime | None = None,
    note: str | None = None,
    data_interval: tuple[datetime, datetime] | None = None,
) -> Run:
    """Start a run. UsageError for what `runs.trigger` refuses, and for a param that has no value or a forbidden one."""
    who.require(CREATE, "DAG Runs", dag_id)
    now = datetime.now(UTC)
    with store.changing() as connection:
        run = runs.trigger(
            connection,
            dag_id,
            now,
            run_id=run_id,
            logical_date=logical_date,
            conf=conf,
            data_interval=data_interval,
            note=note,
        )
        # What conf holds may be secret: its names tell enough.
        auditing.write(
            connection,
            who,
            "dags trigger",
            now,
            dag_id=dag_id,
            run_id=run.run_id,
            conf_keys=sorted(map(str, conf or {})),
        )
    return run


def delete(store: Store, who: Who, dag_id: str) -> int:
    """Forget a DAG with its history; how many runs went. GuardRefused while an attempt of it is in flight."""
    who.require(DELETE, "DAGs", dag_id)
    with store.changing() as connection:
        removed = dags.delete_dag(connection, dag_id)
        auditing.write(connection, who, "dags delete", datetime.now(UTC), dag_id=dag_id, runs=removed)
    return removed


def load_again(store: Store, who: Who, path: str, dag_ids: Collection[str]) -> None:
    """Let the DAG processor load a file (its path below the DAG folder) anew. `dag_ids`: the DAGs that it defines; the
    person must be allowed to change all of them."""
    for dag_id in dag_ids:
        who.require(EDIT, "DAGs", dag_id)
    with store.changing() as connection:
        dag_loads.load_again(connection, path)
        auditing.write(connection, who, "dags reparse", datetime.now(UTC), file=path, dags=sorted(dag_ids)[:50])
