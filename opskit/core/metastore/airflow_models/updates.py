"""What an UPDATE on one of Airflow's tables does to ours: columns are carried over, states are changed as a mark or a
clear changes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore import pools, tables, task_instances
from opskit.core.metastore.airflow_models import database
from opskit.core.metastore.bulk import bulk_update
from opskit.core.metastore.dags import touch
from opskit.errors import UsageError

Values = dict[str, Any]
Changes = Sequence[tuple[tuple[Any, ...], Values]]

_TIMES = {"start_date", "end_date", "execution_date", "logical_date", "data_interval_start", "data_interval_end"}
_TIMES |= {"queued_at", "queued_dttm", "dttm", "timestamp", "next_dagrun", "next_dagrun_create_after"}
_TIMES |= {"next_dagrun_data_interval_start", "next_dagrun_data_interval_end", "last_parsed_time"}
_WAITING = (None, states.UP_FOR_RETRY, states.UP_FOR_RESCHEDULE)
_MADE_BY_SCHEDULER = frozenset({states.SCHEDULED, states.QUEUED, states.RUNNING, states.RESTARTING, states.DEFERRED})
_DERIVED = {
    "dag_run": {"updated_at", "last_scheduling_decision", "clear_number"},
    "task_instance": {"updated_at", "duration", "unixname", "job_id"},
    "dag": {"last_pickled", "last_expired", "scheduler_lock"},
    "slot_pool": set(),
}
"""Columns of Airflow's own book-keeping, that opskit works out itself: what is assigned to them changes nothing."""


def _same(*names: str, **others: str) -> dict[str, str]:
    return {name: name for name in names} | others


_COLUMNS: dict[str, dict[str, str]] = {
    "dag_run": _same("run_id", "run_type", "conf", "note", "start_date", "end_date", "queued_at")
    | _same("data_interval_start", "data_interval_end", "logical_date", execution_date="logical_date"),
    "task_instance": _same("start_date", "end_date", "max_tries", "try_number", "hostname", "pid", "pool", "pool_slots")
    | _same("priority_weight", "operator", queued_dttm="queued_at"),
    "dag": _same("is_paused", "is_active", "owners", "description", last_parsed_time="last_parsed_at")
    | _same(next_dagrun="next_logical_date", next_dagrun_create_after="next_run_after")
    | _same(next_dagrun_data_interval_start="next_interval_start", next_dagrun_data_interval_end="next_interval_end"),
    "slot_pool": _same("slots", "description"),
    "xcom": _same("value", timestamp="created_at"),
    "log": _same("event", "owner", "extra", "dag_id", "run_id", "task_id", dttm="at"),
    "variable": _same("val", "description", "is_encrypted"),
    "connection": _same("conn_type", "description", "host", "schema", "login", "password", "port", "extra")
    | _same("is_encrypted"),
}
"""Airflow's column → ours, of those that can be changed."""


def update_rows(database_: Connection, table: str, changes: Changes) -> int:
    """Change rows by their keys (see changes.KEYS); how many. UsageError naming a column that can't be changed."""
    if table not in _COLUMNS:
        raise UsageError(f"rows of {table} can't be changed: opskit works them out", hint="see docs/airflow.md")
    return _UPDATES.get(table, _plainly(table))(database_, changes)


def _own(table: str, values: Values) -> Values:
    """The values under our names, as our columns take them."""
    from opskit.core.metastore.airflow_models.changes import as_time

    own: Values = {}
    for name, value in values.items():
        if name in _DERIVED.get(table, ()):
            continue
        if name == "state":
            continue
        if name not in _COLUMNS[table]:
            raise UsageError(f"opskit has nothing that the column {table}.{name} could be kept in")
        if name in _TIMES:
            value = as_time(value, f"{table}.{name}")
        elif name.startswith("is_"):
            value = bool(value)
        own[_COLUMNS[table][name]] = value
    return own


def _write(
    database_: Connection, table: Table, keys: Sequence[str], rows: Sequence[tuple[tuple[Any, ...], Values]]
) -> None:
    """Rows that assign the same columns together."""
    by_columns: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for key, values in rows:
        if values:
            by_columns.setdefault(tuple(values), []).append((*key, *values.values()))
    for columns, some in by_columns.items():
        bulk_update(database_, table, list(keys), list(columns), some)


def _plainly(table: str) -> Callable[[Connection, Changes], int]:
    ours = {"slot_pool": tables.pool}.get(table) if table == "slot_pool" else tables.metadata.tables[table]
    assert ours is not None
    keys = [column.name for column in ours.primary_key.columns]

    def write(database_: Connection, changes: Changes) -> int:
        _write(database_, ours, keys, [(key, _own(table, values)) for key, values in changes])
        return len(changes)

    return write


def _runs(database_: Connection, changes: Changes) -> int:
    numbers = [int(key[0]) for key, _ in changes]
    run = tables.dag_run
    before = {row.id: row for row in database_.execute(select(run).where(run.c.id.in_(numbers)))}
    now = _touch(database_, [row.dag_id for row in before.values()])
    rows = []
    for key, values in changes:
        own = _own("dag_run", values)
        if "conf" in own:
            own["conf"] = _json(own["conf"], "dag_run.conf")
        if "state" in values:
            own = _run_state(database_, before[int(key[0])], values["state"], now) | own
        rows.append((key, own))
    _write(database_, run, ["id"], rows)
    return len(rows)


def _run_state(database_: Connection, before: Any, state: Any, now: datetime) -> Values:
    """The columns of a run that is given a state. One that ends takes its attempts in flight with it."""
    if state not in states.DAG_RUN_STATES:
        raise UsageError(f"{state!r} is no state of a DagRun", hint=f"choose one of {', '.join(states.DAG_RUN_STATES)}")
    if state in (states.SUCCESS, states.FAILED):
        busy = task_instances.of_runs(database_, [before.id], in_flight=True)
        _mark(database_, [(one, states.FAILED) for one in busy], now)
        return {"state": state, "start_date": before.start_date or now, "end_date": before.end_date or now}
    if state == before.state:
        return {}
    return {
        "state": state,
        "start_date": None if state == states.QUEUED else before.start_date or now,
        "end_date": None,
    }


def _instances(database_: Connection, changes: Changes) -> int:
    by_key = {(int(key[0]), str(key[1]), int(key[2])): values for key, values in changes}
    found = task_instances.of_runs(database_, sorted({key[0] for key in by_key}))
    chosen = [one for one in found if one.key in by_key]
    now = _touch(database_, [one.dag_id for one in chosen])
    marked: list[tuple[Any, Any]] = []
    cleared: list[tuple[Any, Any]] = []
    for one in chosen:
        if "state" not in by_key[one.key] or by_key[one.key]["state"] == one.state:
            continue
        state = by_key[one.key]["state"] or None
        if state in _MADE_BY_SCHEDULER or state not in states.TASK_STATES:
            raise UsageError(
                f"a DAG file can't put task {one.task_id} of DAG {one.dag_id} into the state {state!r}",
                hint="set the state to None: then the scheduler runs it again",
            )
        (cleared if state is None else marked).append((one, state))
    for dag_id in sorted({one.dag_id for one, _ in cleared}):
        task_instances.clear(database_, dag_id, [one for one, _ in cleared if one.dag_id == dag_id], now)
    _mark(database_, marked, now)
    rows = [(one.key, _own("task_instance", by_key[one.key])) for one in chosen]
    _write(database_, tables.task_instance, ["dag_run_id", "task_id", "map_index"], rows)
    return len(chosen)


def _mark(database_: Connection, changes: Sequence[tuple[Any, Any]], now: datetime) -> None:
    bulk_update(
        database_,
        tables.task_instance,
        ["dag_run_id", "task_id", "map_index"],
        ["state", "start_date", "end_date", "next_at", "reason"],
        [
            (
                *one.key,
                state,
                one.start_date or now,
                (one.end_date or now),
                now if state in _WAITING else None,
                "set by a DAG file",
            )
            for one, state in changes
        ],
    )
    task_instances.free_slots(database_, [one for one, _ in changes])


def _dags(database_: Connection, changes: Changes) -> int:
    _touch(database_, [str(key[0]) for key, _ in changes])
    return _plainly("dag")(database_, changes)


def _pools(database_: Connection, changes: Changes) -> int:
    for (name,), values in changes:
        if values.pop("include_deferred", False):
            raise UsageError(f"pool {name}: deferred tasks occupy no slots here", hint="leave out include_deferred")
        if "slots" in values:
            pools.check_pool(str(name), int(values["slots"]))
    database.changed(database_)
    return _plainly("slot_pool")(database_, changes)


def _variables(database_: Connection, changes: Changes) -> int:
    for _, values in changes:
        encrypt(values, ("val",))
    return _plainly("variable")(database_, changes)


def _connections(database_: Connection, changes: Changes) -> int:
    for _, values in changes:
        values.pop("is_extra_encrypted", None)
        encrypt(values, ("password", "extra"))
    return _plainly("connection")(database_, changes)


def encrypt(values: Values, secrets: Sequence[str]) -> None:
    """Encrypt what is not; a model has done it, SQL has not. A row is either encrypted as a whole or not."""
    named = [name for name in secrets if values.get(name) is not None]
    if not named:
        values.pop("is_encrypted", None)
        return
    for name in named:
        text = str(values[name])
        if text and not text.startswith(_ENCRYPTED):
            text = database.cipher().encrypt(text)
        values[name] = text
    values["is_encrypted"] = True


_ENCRYPTED = "gAAAAA"
"""What an encrypted text begins with: Fernet's version byte, and the zeros of its time."""


def _json(value: Any, what: str) -> str:
    if value is None:
        return "{}"
    if isinstance(value, (bytes, memoryview)):
        raise UsageError(f"{what} is JSON here, no pickle")
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        loaded = json.loads(text)
    except ValueError:
        raise UsageError(f"{what} is no JSON") from None
    if not isinstance(loaded, dict):
        raise UsageError(f"{what} is no JSON object")
    return text


def _touch(database_: Connection, dag_ids: Sequence[str]) -> datetime:
    now = datetime.now(UTC)
    touch(database_, set(dag_ids), now)
    database.changed(database_)
    return now


_UPDATES: dict[str, Callable[[Connection, Changes], int]] = {
    "dag_run": _runs,
    "task_instance": _instances,
    "dag": _dags,
    "slot_pool": _pools,
    "variable": _variables,
    "connection": _connections,
}
