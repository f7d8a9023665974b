"""What an INSERT into one of Airflow's tables does to ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore import connections, pools, runs, tables, variables
from opskit.core.metastore.airflow_models import database, updates
from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.dags import touch
from opskit.errors import UsageError

Row = dict[str, Any]
NUMBERED = frozenset({"dag_run", "log"})
"""Tables whose rows get a number that the caller wants to know."""


def insert_rows(database_: Connection, table: str, rows: Sequence[Row]) -> None:
    """UsageError, which names the table, for one that only opskit writes."""
    if table not in _INSERTS:
        raise UsageError(f"rows of {table} can't be added: opskit makes them itself, or has none", hint=_HINT)
    for row in rows:
        _INSERTS[table](database_, row)


def last_number(database_: Connection, table: str) -> int:
    """The number of the row that was added last in this transaction."""
    ours = tables.metadata.tables[table]
    return int(database_.execute(select(func.max(ours.c.id))).scalar_one())


_HINT = "DAG files can add to variable, connection, slot_pool, log, xcom, dag_tag and dag_run"


def _variable(database_: Connection, row: Row) -> None:
    variables.check_key(str(row.get("key") or ""))
    row.setdefault("val", "")
    row["val"] = "" if row["val"] is None else row["val"]
    updates.encrypt(row, ("val",))
    database_.execute(
        insert(tables.variable).values(
            key=row["key"], val=row["val"], is_encrypted=True, description=row.get("description")
        )
    )


def _connection(database_: Connection, row: Row) -> None:
    from opskit.core.dag.connection import Connection as Entry

    updates.encrypt(row, ("password", "extra"))
    secrets = {name: row.get(name) for name in ("password", "extra")}
    plain = {name: row.get(name) for name in ("conn_type", "description", "host", "login", "schema", "port")}
    # Its rules are checked without the secrets, which are encrypted already.
    values = connections.row_of(Entry(conn_id=row.get("conn_id"), **plain), database.cipher())
    database_.execute(insert(tables.connection).values(conn_id=row["conn_id"], **{**values, **secrets}))


def _pool(database_: Connection, row: Row) -> None:
    if row.get("include_deferred"):
        raise UsageError(
            f"pool {row.get('pool')}: deferred tasks occupy no slots here", hint="leave out include_deferred"
        )
    name, slots = str(row.get("pool") or ""), int(row.get("slots") or 0)
    pools.check_pool(name, slots)
    database_.execute(
        insert(tables.pool).values(pool=name, slots=slots, used_slots=0, description=row.get("description"))
    )
    database.changed(database_)


def _log(database_: Connection, row: Row) -> None:
    from opskit.core.metastore.airflow_models.changes import as_time

    extra = row.get("extra")
    database_.execute(
        insert(tables.log).values(
            at=as_time(row.get("dttm"), "log.dttm") or datetime.now(UTC),
            owner=str(row.get("owner") or "")[:500],
            event=str(row.get("event") or "")[:100],
            dag_id=row.get("dag_id"),
            run_id=row.get("run_id"),
            task_id=row.get("task_id"),
            extra=_json_object(extra),
        )
    )


def _json_object(extra: Any) -> str:
    """Our column holds JSON; Airflow's any text."""
    if not extra:
        return "{}"
    try:
        loaded = json.loads(extra) if isinstance(extra, str) else extra
    except ValueError:
        loaded = None
    return json.dumps(loaded if isinstance(loaded, Mapping) else {"text": str(extra)})


def _xcom(database_: Connection, row: Row) -> None:
    from opskit.core.metastore.airflow_models.changes import as_time

    number = row.get("dag_run_id")
    if number is None:
        number = runs.get_run(database_, str(row.get("dag_id")), str(row.get("run_id"))).id
    bulk_insert(
        database_,
        tables.xcom,
        ["dag_run_id", "task_id", "map_index", "key", "value", "created_at"],
        [
            (
                number,
                row["task_id"],
                -1 if row.get("map_index") is None else int(row["map_index"]),
                row["key"],
                row.get("value") or "null",
                as_time(row.get("timestamp"), "xcom.timestamp") or datetime.now(UTC),
            )
        ],
    )


def _tag(database_: Connection, row: Row) -> None:
    found = database_.execute(select(tables.dag.c.tags).where(tables.dag.c.dag_id == row["dag_id"])).scalar()
    if found is None:
        raise UsageError(f"there is no DAG {row['dag_id']!r} that could have a tag")
    tags = json.dumps([*json.loads(found), row["name"]])
    database_.execute(update(tables.dag).where(tables.dag.c.dag_id == row["dag_id"]).values(tags=tags))


def _dag_run(database_: Connection, row: Row) -> None:
    """A run that a DAG file makes is triggered; its task instances are the scheduler's to make."""
    from opskit.core.metastore.airflow_models.changes import as_time

    now = datetime.now(UTC)
    dag_id = str(row.get("dag_id"))
    moments = {name: as_time(row.get(name), f"dag_run.{name}") for name in _MOMENTS}
    interval = (moments["data_interval_start"], moments["data_interval_end"])
    conf = row.get("conf")
    run = runs.trigger(
        database_,
        dag_id,
        now,
        run_id=row.get("run_id"),
        logical_date=moments["execution_date"] or moments["logical_date"],
        conf=json.loads(conf) if isinstance(conf, str) else conf,
        run_type=str(row.get("run_type") or "manual"),
        data_interval=(interval[0], interval[1]) if interval[0] is not None and interval[1] is not None else None,
        note=row.get("note"),
    )
    database.changed(database_)
    state = row.get("state")
    if state not in (None, states.QUEUED):
        updates.update_rows(database_, "dag_run", [((run.id,), {"state": state})])
    touch(database_, [dag_id], now)


_MOMENTS = ("execution_date", "logical_date", "data_interval_start", "data_interval_end")
_INSERTS: dict[str, Callable[[Connection, Row], None]] = {
    "variable": _variable,
    "connection": _connection,
    "slot_pool": _pool,
    "log": _log,
    "xcom": _xcom,
    "dag_tag": _tag,
    "dag_run": _dag_run,
}
