"""What a DELETE on one of Airflow's tables does to ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore import pools, task_instances
from opskit.core.metastore.airflow_models import database
from opskit.core.metastore.dags import touch
from opskit.core.metastore.history import CHILDREN, delete_runs
from opskit.core.metastore.tables import (
    asset_event,
    asset_event_run,
    asset_queue,
    connection,
    dag,
    dag_file,
    dag_run,
    instance,
    log,
    question,
    task_attempt,
    task_instance,
    task_instance_note,
    variable,
    xcom,
)
from opskit.errors import GuardRefused

Keys = Sequence[tuple[Any, ...]]
_CHUNK = 500
_ALIVE = timedelta(minutes=5)
"""An instance that was heard of within this time may be at work."""


def delete_rows(database_: Connection, table: str, keys: Keys) -> int:
    """Delete the rows with these keys (see changes.KEYS); how many went."""
    return sum(_DELETES[table](database_, some) for some in _chunks(keys))


def _chunks(keys: Keys) -> Iterator[Keys]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]


def _runs(database_: Connection, keys: Keys) -> int:
    """With their task instances and XComs. Attempts in flight are ended by the scheduler, which sees them gone."""
    numbers = [int(key[0]) for key in keys]
    _touch(
        database_, [row.dag_id for row in database_.execute(select(dag_run.c.dag_id).where(dag_run.c.id.in_(numbers)))]
    )
    for some in task_instances.of_runs(database_, numbers, in_flight=True):
        task_instances.free_slots(database_, [some])
    return delete_runs(database_, numbers)


def _instances(database_: Connection, keys: Keys) -> int:
    """With their tries and XComs. Those of a run that goes on are made anew at once, as Airflow's scheduler does."""
    wanted = {(int(key[0]), str(key[1]), int(key[2])) for key in keys}
    found = task_instances.of_runs(database_, sorted({key[0] for key in wanted}))
    chosen = [one for one in found if one.key in wanted]
    _touch(database_, [one.dag_id for one in chosen])
    known = set(
        database_.execute(select(dag.c.dag_id).where(dag.c.dag_id.in_({one.dag_id for one in chosen}))).scalars()
    )
    going_on = set(
        database_.execute(
            select(dag_run.c.id).where(
                dag_run.c.id.in_({one.dag_run_id for one in chosen}),
                dag_run.c.state.in_((states.QUEUED, states.RUNNING)),
            )
        ).scalars()
    )
    again = [one for one in chosen if one.dag_run_id in going_on and one.dag_id in known]
    for dag_id in sorted({one.dag_id for one in again}):
        task_instances.clear(database_, dag_id, [one for one in again if one.dag_id == dag_id], datetime.now(UTC))
    kept = {one.key for one in again}
    gone = [one for one in chosen if one.key not in kept]
    task_instances.free_slots(database_, gone)
    by_run: dict[tuple[int, int], list[str]] = {}
    for one in gone:
        by_run.setdefault((one.dag_run_id, one.map_index), []).append(one.task_id)
    # Most runs of a DAG have the same tasks: these go together.
    alike: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for (number, map_index), task_ids in by_run.items():
        alike.setdefault((map_index, tuple(sorted(task_ids))), []).append(number)
    for (map_index, names), numbers in alike.items():
        for table in (*CHILDREN, task_instance_note, question):
            database_.execute(
                delete(table).where(
                    table.c.dag_run_id.in_(numbers), table.c.map_index == map_index, table.c.task_id.in_(names)
                )
            )
    return len(chosen)


def _dags(database_: Connection, keys: Keys) -> int:
    """The DAG alone: its runs stay, as in Airflow. One whose file is still there comes back as a new one."""
    dag_ids = [str(key[0]) for key in keys]
    _touch(database_, dag_ids)
    busy = database_.execute(
        select(dag_run.c.dag_id, func.count())
        .select_from(task_instance.join(dag_run, dag_run.c.id == task_instance.c.dag_run_id))
        .where(dag_run.c.dag_id.in_(dag_ids), task_instance.c.state.in_(sorted(states.IN_FLIGHT)))
        .group_by(dag_run.c.dag_id)
    ).first()
    if busy is not None:
        raise GuardRefused(f"DAG {busy[0]} has {busy[1]} task instances in flight", hint="delete its row when it rests")
    files = select(dag.c.fileloc).where(dag.c.dag_id.in_(dag_ids))
    _forget_files(database_, list(database_.execute(files).scalars()))
    return database_.execute(delete(dag).where(dag.c.dag_id.in_(dag_ids))).rowcount


def _forget_files(database_: Connection, paths: Sequence[str]) -> None:
    """Without its row the DAG processor loads a file again, if it is there."""
    found = database_.execute(select(dag_file.c.path_hash).where(dag_file.c.path.in_(paths))).scalars().all()
    database_.execute(delete(dag_file).where(dag_file.c.path_hash.in_(found)))


def _tags(database_: Connection, keys: Keys) -> int:
    by_dag: dict[str, set[str]] = {}
    for dag_id, name in keys:
        by_dag.setdefault(str(dag_id), set()).add(str(name))
    for row in database_.execute(select(dag.c.dag_id, dag.c.tags).where(dag.c.dag_id.in_(by_dag))).all():
        left = [tag for tag in json.loads(row.tags) if tag not in by_dag[row.dag_id]]
        database_.execute(update(dag).where(dag.c.dag_id == row.dag_id).values(tags=json.dumps(left)))
    return len(keys)


def _pools(database_: Connection, keys: Keys) -> int:
    for (name,) in keys:
        pools.delete_pool(database_, str(name))
    database.changed(database_)
    return len(keys)


def _jobs(database_: Connection, keys: Keys) -> int:
    ids = [str(key[0]) for key in keys]
    alive = database_.execute(
        select(instance.c.kind, instance.c.hostname).where(
            instance.c.id.in_(ids),
            instance.c.ended_at.is_(None),
            instance.c.heartbeat_at > datetime.now(UTC) - _ALIVE,
        )
    ).first()
    if alive is not None:
        raise GuardRefused(f"a {alive.kind} on {alive.hostname} is at work: its row in job can't be deleted")
    return database_.execute(delete(instance).where(instance.c.id.in_(ids))).rowcount


def _import_errors(database_: Connection, keys: Keys) -> int:
    return database_.execute(delete(dag_file).where(dag_file.c.path_hash.in_([key[0] for key in keys]))).rowcount


def _serialized(database_: Connection, keys: Keys) -> int:
    """As in Airflow, the row is there again once the file has been loaded again. Runs keep the version they need."""
    rows = database_.execute(select(dag.c.fileloc).where(dag.c.dag_id.in_([str(key[0]) for key in keys])))
    _forget_files(database_, list(rows.scalars()))
    return len(keys)


def _code(database_: Connection, keys: Keys) -> int:
    folder = str(database.config().dags_folder).rstrip("/") + "/"
    _forget_files(database_, [str(key[0]).removeprefix(folder) for key in keys])
    return len(keys)


def _failed_tries(database_: Connection, keys: Keys) -> int:
    """Tries that others have followed; the newest one is the task instance itself, and stays."""
    removed = 0
    for run, task_id, map_index, try_number in keys:
        removed += database_.execute(
            delete(task_attempt).where(
                task_attempt.c.dag_run_id == run,
                task_attempt.c.task_id == task_id,
                task_attempt.c.map_index == map_index,
                task_attempt.c.try_number == try_number,
            )
        ).rowcount
    return removed


def _xcoms(database_: Connection, keys: Keys) -> int:
    by_run: dict[tuple[int, int], set[tuple[str, str]]] = {}
    for run, task_id, map_index, key in keys:
        by_run.setdefault((run, map_index), set()).add((task_id, key))
    removed = 0
    for (run, map_index), pairs in by_run.items():
        of_run = (xcom.c.dag_run_id == run, xcom.c.map_index == map_index)
        for name in sorted({key for _, key in pairs}):
            tasks = [task_id for task_id, key in pairs if key == name]
            removed += database_.execute(
                delete(xcom).where(*of_run, xcom.c.key == name, xcom.c.task_id.in_(tasks))
            ).rowcount
    return removed


def _asset_events(database_: Connection, keys: Keys) -> int:
    numbers = [int(key[0]) for key in keys]
    for table in (asset_queue, asset_event_run):
        database_.execute(delete(table).where(table.c.event_id.in_(numbers)))
    return database_.execute(delete(asset_event).where(asset_event.c.id.in_(numbers))).rowcount


def _by(table: Any, column: str) -> Callable[[Connection, Keys], int]:
    return lambda database_, keys: (
        database_.execute(delete(table).where(table.c[column].in_([key[0] for key in keys]))).rowcount
    )


def _touch(database_: Connection, dag_ids: Sequence[str]) -> None:
    touch(database_, set(dag_ids), datetime.now(UTC))
    database.changed(database_)


_DELETES: dict[str, Callable[[Connection, Keys], int]] = {
    "dag_run": _runs,
    "task_instance": _instances,
    "xcom": _xcoms,
    "log": _by(log, "id"),
    "dag": _dags,
    "dag_tag": _tags,
    "slot_pool": _pools,
    "variable": _by(variable, "key"),
    "connection": _by(connection, "conn_id"),
    "job": _jobs,
    "import_error": _import_errors,
    "serialized_dag": _serialized,
    "dag_code": _code,
    "task_fail": _failed_tries,
    "dataset_event": _asset_events,
    "asset_event": _asset_events,
}
