"""Airflow's tables as queries over ours: a statement that names them gets them as common table expressions.

A table that opskit has nothing for is there, and empty. Times and texts are typed also where they are NULL, so that
comparisons work on every database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from opskit.core.metastore import tables
from opskit.core.metastore.airflow_models.place import Columns, Place
from opskit.core.metastore.airflow_models.virtual_assets import ASSETS
from opskit.core.metastore.scheduling import DEFER_KEY, MISSED_KEY

_TURN = "the-turn-to-restart"


def _dag_run(at: Place) -> Columns:
    own = (
        "id dag_id run_id run_type state data_interval_start data_interval_end conf queued_at start_date end_date note"
    )
    return Columns(
        {name: f"r.{at.quote(name)}" for name in own.split()}
        | {
            "execution_date": "r.logical_date",
            "logical_date": "r.logical_date",
            "run_after": "r.data_interval_end",
            "external_trigger": at.boolean("r.run_type = 'manual'"),
            "dag_hash": "r.version_hash",
            "creating_job_id": at.null("int"),
            "log_template_id": at.null("int"),
            "last_scheduling_decision": at.null("time"),
            "updated_at": "COALESCE(r.end_date, r.start_date, r.queued_at)",
            "clear_number": "0",
        },
        f"{at.table('dag_run')} r",
    )


def _task_instance(at: Place) -> Columns:
    own = "dag_run_id task_id map_index state try_number max_tries operator pool pool_slots priority_weight start_date"
    own += " end_date hostname pid"
    return Columns(
        {name: f"t.{at.quote(name)}" for name in own.split()}
        | {
            "dag_id": "r.dag_id",
            "run_id": "r.run_id",
            "execution_date": "r.logical_date",
            "logical_date": "r.logical_date",
            "duration": at.seconds("t.start_date", "t.end_date"),
            "queued_dttm": "t.queued_at",
            "scheduled_dttm": "t.queued_at",
            "updated_at": "COALESCE(t.end_date, t.start_date, t.queued_at)",
            "unixname": at.null("text"),
            "job_id": at.null("int"),
            "queued_by_job_id": at.null("int"),
            "queue": "'default'",
            "custom_operator_name": "t.operator",
            "task_display_name": "t.task_id",
            "executor": at.null("text"),
            "executor_config": at.null("text"),
            "external_executor_id": "t.worker_id",
            "rendered_map_index": at.null("text"),
            "trigger_id": at.null("int"),
            "trigger_timeout": at.null("time"),
            "next_method": at.null("text"),
            "next_kwargs": at.null("text"),
        },
        f"{at.table('task_instance')} t JOIN {at.table('dag_run')} r ON r.id = t.dag_run_id",
    )


def _xcom(at: Place) -> Columns:
    own = "dag_run_id task_id map_index key value"
    return Columns(
        {name: f"x.{at.quote(name)}" for name in own.split()}
        | {
            "dag_id": "r.dag_id",
            "run_id": "r.run_id",
            "execution_date": "r.logical_date",
            "logical_date": "r.logical_date",
            "timestamp": "x.created_at",
        },
        # What the scheduler keeps there for itself is no XCom of a task.
        f"{at.table('xcom')} x JOIN {at.table('dag_run')} r ON r.id = x.dag_run_id"
        f" AND x.{at.quote('key')} NOT IN ('{DEFER_KEY}', '{MISSED_KEY}')",
    )


def _log(at: Place) -> Columns:
    own = "id dag_id task_id run_id event owner extra"
    return Columns(
        {name: f"l.{at.quote(name)}" for name in own.split()}
        | {
            "dttm": "l.at",
            "execution_date": "r.logical_date",
            "logical_date": "r.logical_date",
            "map_index": at.null("int"),
            "try_number": at.null("int"),
            "owner_display_name": "l.owner",
        },
        f"{at.table('log')} l LEFT JOIN {at.table('dag_run')} r ON r.dag_id = l.dag_id AND r.run_id = l.run_id",
    )


def _dag(at: Place) -> Columns:
    own = "dag_id is_paused is_active owners description"
    broken = f"EXISTS (SELECT 1 FROM {at.table('dag_file')} f WHERE f.path = d.fileloc AND f.import_error IS NOT NULL)"
    return Columns(
        {name: f"d.{name}" for name in own.split()}
        | {
            "is_stale": at.boolean("NOT d.is_active" if at.kind == "postgresql" else "d.is_active = 0"),
            "is_subdag": at.constant(False),
            "root_dag_id": at.null("text"),
            "fileloc": at.below_dags("d.fileloc"),
            "relative_fileloc": "d.fileloc",
            "processor_subdir": at.text(at.dags_folder),
            "bundle_name": "'dags-folder'",
            "last_parsed_time": "d.last_parsed_at",
            "last_pickled": at.null("time"),
            "last_expired": at.null("time"),
            "scheduler_lock": at.null("bool"),
            "pickle_id": at.null("int"),
            "default_view": "'grid'",
            "dag_display_name": "d.dag_id",
            "schedule_interval": "d.schedule",
            "timetable_summary": "d.schedule",
            "timetable_description": "d.schedule",
            "has_import_errors": at.boolean(broken),
            "next_dagrun": "d.next_logical_date",
            "next_dagrun_data_interval_start": "d.next_interval_start",
            "next_dagrun_data_interval_end": "d.next_interval_end",
            "next_dagrun_create_after": "d.next_run_after",
        },
        f"{at.table('dag')} d",
    )


def _dag_tag(at: Place) -> Columns:
    if at.kind == "sqlite":
        name, each = "j.value", "json_each(d.tags) j"
    elif at.kind == "postgresql":
        name, each = "j.tag", "jsonb_array_elements_text(CAST(d.tags AS JSONB)) AS j(tag)"
    else:
        name, each = "j.tag", "JSON_TABLE(d.tags, '$[*]' COLUMNS (tag VARCHAR(250) PATH '$')) j"
    return Columns({"name": name, "dag_id": "d.dag_id"}, f"{at.table('dag')} d CROSS JOIN {each}")


def _slot_pool(at: Place) -> Columns:
    return Columns(
        {
            "pool": "p.pool",
            "slots": "p.slots",
            "description": "p.description",
            "include_deferred": at.constant(False),
        },
        f"{at.table('slot_pool')} p",
    )


def _variable(at: Place) -> Columns:
    own = "key val description is_encrypted"
    return Columns({name: f"v.{at.quote(name)}" for name in own.split()}, f"{at.table('variable')} v")


def _connection(at: Place) -> Columns:
    own = "conn_id conn_type description host schema login password port extra is_encrypted"
    return Columns(
        {name: f"c.{at.quote(name)}" for name in own.split()} | {"is_extra_encrypted": "c.is_encrypted"},
        f"{at.table('connection')} c",
    )


def _job(at: Place) -> Columns:
    return Columns(
        {
            "id": "i.id",
            "dag_id": at.null("text"),
            "state": "CASE WHEN i.ended_at IS NULL THEN 'running' ELSE 'success' END",
            "job_type": "CASE i.kind WHEN 'scheduler' THEN 'SchedulerJob' WHEN 'dag_processor' THEN 'DagProcessorJob' "
            "WHEN 'worker' THEN 'WorkerJob' WHEN 'gateway' THEN 'GatewayJob' ELSE i.kind END",
            "start_date": "i.started_at",
            "end_date": "i.ended_at",
            "latest_heartbeat": "i.heartbeat_at",
            "executor_class": "'LocalExecutor'",
            "hostname": "i.hostname",
            "unixname": at.null("text"),
        },
        f"{at.table('instance')} i WHERE i.id <> '{_TURN}'",
    )


def _import_error(at: Place) -> Columns:
    return Columns(
        {
            "id": "f.path_hash",
            "timestamp": "f.parsed_at",
            "filename": at.below_dags("f.path"),
            "bundle_name": "'dags-folder'",
            "stacktrace": "f.import_error",
        },
        f"{at.table('dag_file')} f WHERE f.import_error IS NOT NULL",
    )


def _serialized_dag(at: Place) -> Columns:
    return Columns(
        {
            "dag_id": "d.dag_id",
            "fileloc": at.below_dags("d.fileloc"),
            "fileloc_hash": "f.path_hash",
            "data": "v.data",
            "last_updated": "v.created_at",
            "created_at": "v.created_at",
            "dag_hash": "v.hash",
            "processor_subdir": at.text(at.dags_folder),
        },
        f"{at.table('dag')} d JOIN {at.table('dag_version')} v ON v.hash = d.version_hash "
        f"LEFT JOIN {at.table('dag_file')} f ON f.path = d.fileloc",
    )


def _dag_code(at: Place) -> Columns:
    first = f"(SELECT MIN(o.dag_id) FROM {at.table('dag')} o WHERE o.fileloc = d.fileloc)"
    return Columns(
        {
            "fileloc_hash": "f.path_hash",
            "fileloc": at.below_dags("d.fileloc"),
            "last_updated": "v.created_at",
            "source_code": "v.source",
        },
        f"{at.table('dag')} d JOIN {at.table('dag_version')} v ON v.hash = d.version_hash "
        f"LEFT JOIN {at.table('dag_file')} f ON f.path = d.fileloc WHERE d.dag_id = {first}",
    )


def _task_fail(at: Place) -> Columns:
    """Failed tries: those that others have followed, and newest ones."""
    columns = "dag_run_id task_id map_index try_number start_date end_date"
    listed = ", ".join(columns.split())
    tries = (
        f"SELECT {listed} FROM {at.table('task_attempt')} WHERE state = 'failed' UNION "
        f"SELECT {listed} FROM {at.table('task_instance')} WHERE state = 'failed'"
    )
    return Columns(
        {name: f"a.{name}" for name in columns.split()}
        | {
            "dag_id": "r.dag_id",
            "run_id": "r.run_id",
            "execution_date": "r.logical_date",
            "duration": at.seconds("a.start_date", "a.end_date"),
        },
        f"({tries}) a JOIN {at.table('dag_run')} r ON r.id = a.dag_run_id",
    )


_MAPPED: dict[str, Callable[[Place], Columns]] = {
    "dag_run": _dag_run,
    "task_instance": _task_instance,
    "xcom": _xcom,
    "log": _log,
    "dag": _dag,
    "dag_tag": _dag_tag,
    "slot_pool": _slot_pool,
    "variable": _variable,
    "connection": _connection,
    "job": _job,
    "import_error": _import_error,
    "serialized_dag": _serialized_dag,
    "dag_code": _dag_code,
    "task_fail": _task_fail,
    **ASSETS,
}

_OF_INSTANCE = "dag_id task_id run_id map_index:int execution_date:time"
_EMPTY = {
    "sla_miss": "task_id dag_id execution_date:time email_sent:bool timestamp:time description notification_sent:bool",
    "task_reschedule": f"id:int {_OF_INSTANCE} try_number:int start_date:time end_date:time duration:int "
    "reschedule_date:time",
    "rendered_task_instance_fields": f"{_OF_INSTANCE} rendered_fields k8s_pod_yaml",
    "task_map": f"{_OF_INSTANCE} length:int keys",
    "trigger": "id:int classpath kwargs created_date:time triggerer_id:int",
    "callback_request": "id:int created_at:time priority_weight:int callback_data callback_type processor_subdir",
    "dag_pickle": "id:int pickle created_dttm:time pickle_hash",
    "dag_warning": "dag_id warning_type message timestamp:time",
}

NAMES = frozenset(_MAPPED) | frozenset(_EMPTY)
"""Airflow's tables that can be asked for."""
EMPTY = frozenset(_EMPTY)
"""Those of them that opskit has no rows for."""
OWN = frozenset(tables.metadata.tables) | {"alembic_version"}
"""Our tables: nobody but opskit changes those of them that are no names of Airflow's."""


@cache
def _columns(place: Place) -> dict[str, Columns]:
    """Every table of Airflow's that is offered here, by name."""
    return {name: make(place) for name, make in _MAPPED.items()} | {
        name: _empty(place, columns) for name, columns in _EMPTY.items()
    }


def _empty(place: Place, columns: str) -> Columns:
    pairs = (item.partition(":") for item in columns.split())
    return Columns({name: place.null(kind or "text") for name, _, kind in pairs}, "")


def _expression(place: Place, name: str) -> str:
    """`name AS (SELECT …)`."""
    found = _columns(place)[name]
    listed = ", ".join(f"{sql} AS {place.quote(column)}" for column, sql in found.columns.items())
    tail = f"FROM {found.source}" if found.source else f"FROM {place.table('slot_pool')} WHERE 1 = 0"
    return f"{place.quote(name)} AS (SELECT {listed} {tail})"


def expressions(place: Place, names: Iterable[str]) -> str:
    """For behind WITH; in the order of names, so that a statement is the same text each time."""
    return ", ".join(_expression(place, name) for name in sorted(set(names)))
