"""`airflow.utils.db_cleanup`, over opskit's metastore: maintenance DAGs call it from their tasks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any

from opskit.core.dag.exceptions import AirflowException
from opskit.errors import OpskitError

__all__ = ["ARCHIVE_TABLE_PREFIX", "config_dict", "drop_archived_tables", "export_archived_records", "run_cleanup"]
logger = logging.getLogger("airflow.utils.db_cleanup")
ARCHIVE_TABLE_PREFIX = "_airflow_deleted__"


@dataclass(frozen=True)
class _TableConfig:
    table_name: str
    recency_column_name: str
    extra_columns: tuple[str, ...] = ()
    keep_last: bool = False
    keep_last_filters: Any = None
    keep_last_group_by: Any = None

    @property
    def readable_config(self) -> dict[str, Any]:
        return {"table": self.table_name, "recency_column": self.recency_column_name, "keep_last": self.keep_last}


config_dict: dict[str, _TableConfig] = {
    one.table_name: one
    for one in (
        _TableConfig("dag", "last_parsed_time"),
        _TableConfig("dag_run", "start_date", ("dag_id", "external_trigger"), keep_last=True),
        _TableConfig("dataset_event", "timestamp"),
        _TableConfig("import_error", "timestamp"),
        _TableConfig("job", "latest_heartbeat"),
        _TableConfig("log", "dttm"),
        _TableConfig("task_fail", "start_date"),
        _TableConfig("task_instance", "start_date"),
        _TableConfig("xcom", "timestamp"),
    )
}
"""What can be cleaned, by the name of Airflow's table. What opskit keeps for these goes with them (tries with task
instances, those with runs)."""
_ELSEWHERE = frozenset(
    {
        *("callback_request", "celery_taskmeta", "celery_tasksetmeta", "session", "sla_miss", "task_instance_history"),
        *("task_reschedule", "trigger", "_xcom_archive", "dag_version", "deadline", "backfill", "asset_event"),
    }
)
"""Tables of Airflow without rows of their own here: nothing is to be cleaned."""


def run_cleanup(
    *,
    clean_before_timestamp: datetime,
    table_names: Sequence[str] | None = None,
    dag_ids: Sequence[str] | None = None,
    exclude_dag_ids: Sequence[str] | None = None,
    dry_run: bool = False,
    confirm: bool = True,
    skip_archive: bool = False,
    **_: Any,
) -> None:
    """Delete rows that are older; of a table where that can't be, a line in the log says why. The last scheduled run of
    each DAG stays. There are no archive tables here: what goes is gone (`opskit backup` keeps it). AirflowException for
    an unknown table, and when it should ask a person first."""
    if confirm and not dry_run:
        raise AirflowException("run_cleanup() can't ask anybody here: call it with confirm=False")
    wanted = list(table_names or config_dict)
    unknown = sorted(set(wanted) - config_dict.keys() - _ELSEWHERE)
    if unknown:
        raise AirflowException(f"run_cleanup() does not know {', '.join(unknown)}: it knows {', '.join(config_dict)}")
    if not skip_archive and not dry_run:
        logger.info("there are no archive tables here: what is deleted is not kept")
    models = import_module("opskit.core.metastore.airflow_models")
    for name, config in config_dict.items():
        if name not in wanted:
            continue
        try:
            with models.create_session() as current:
                number = _clean(current, config, clean_before_timestamp, dag_ids, exclude_dag_ids, dry_run)
        except OpskitError as error:
            logger.warning("%s: nothing is deleted: %s", name, error)
        else:
            logger.info("%s: %d rows %s", name, number, "would be deleted" if dry_run else "deleted")


def _clean(
    session: Any,
    config: _TableConfig,
    before: datetime,
    dag_ids: Sequence[str] | None,
    exclude_dag_ids: Sequence[str] | None,
    dry_run: bool,
) -> int:
    condition = f"{config.recency_column_name} < :before"
    values: dict[str, Any] = {"before": before}
    has_dag = config.table_name in ("dag", "dag_run", "task_instance", "xcom", "task_fail", "log")
    for ids, word in ((dag_ids, "IN"), (exclude_dag_ids, "NOT IN")):
        if ids and has_dag:
            names = [f"{word[0].lower()}{number}" for number in range(len(ids))]
            condition += f" AND dag_id {word} ({', '.join(f':{name}' for name in names)})"
            values.update(zip(names, ids, strict=True))
    if config.keep_last:
        last = "SELECT dag_id, max(execution_date) FROM dag_run WHERE run_type = 'scheduled' GROUP BY dag_id"
        kept = [tuple(row) for row in session.execute(last)]
        found = session.execute(
            f"SELECT id, dag_id, execution_date FROM {config.table_name} WHERE {condition}", values
        ).all()
        numbers = [row[0] for row in found if (row[1], row[2]) not in kept]
        for start in range(0, 0 if dry_run else len(numbers), 500):
            some = {f"n{place}": number for place, number in enumerate(numbers[start : start + 500])}
            which = ", ".join(f":{name}" for name in some)
            session.execute(f"DELETE FROM {config.table_name} WHERE id IN ({which})", some)
        return len(numbers)
    if dry_run:
        query = f"SELECT count(*) FROM {config.table_name} WHERE {condition}"
        return int(session.execute(query, values).scalar())
    done = session.execute(f"DELETE FROM {config.table_name} WHERE {condition}", values)
    return max(int(done.rowcount), 0)


def export_archived_records(*_: Any, **__: Any) -> None:
    """Nothing: there are no archive tables here."""
    logger.info("there are no archive tables here: nothing is exported")


def drop_archived_tables(*_: Any, **__: Any) -> None:
    """Nothing: there are no archive tables here."""
    logger.info("there are no archive tables here: nothing is dropped")
