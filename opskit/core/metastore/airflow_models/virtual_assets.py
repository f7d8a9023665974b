"""Airflow's tables of assets (datasets, in 2.x) as queries over ours."""

from __future__ import annotations

from collections.abc import Callable

from opskit.core.metastore.airflow_models.place import Columns, Place


def _asset(at: Place) -> Columns:
    return Columns(
        {
            "id": "a.id",
            "name": "a.name",
            "uri": "a.uri",
            "extra": "a.extra",
            "created_at": "a.created_at",
            "updated_at": "a.created_at",
            "is_orphaned": at.constant(False),
        },
        f"{at.table('asset')} a",
    )


def _asset_event(at: Place) -> Columns:
    own = "id extra source_task_id source_dag_id source_run_id source_map_index"
    return Columns(
        {name: f"e.{name}" for name in own.split()}
        | {"dataset_id": "e.asset_id", "asset_id": "e.asset_id", "timestamp": "e.at"},
        f"{at.table('asset_event')} e",
    )


def _asset_queue(at: Place) -> Columns:
    return Columns(
        {
            "dataset_id": "q.asset_id",
            "asset_id": "q.asset_id",
            "target_dag_id": "q.dag_id",
            "created_at": "MIN(e.at)",
        },
        f"{at.table('asset_queue')} q JOIN {at.table('asset_event')} e ON e.id = q.event_id "
        "GROUP BY q.asset_id, q.dag_id",
    )


def _asset_event_run(at: Place) -> Columns:
    return Columns({"dag_run_id": "r.dag_run_id", "event_id": "r.event_id"}, f"{at.table('asset_event_run')} r")


def _asset_reference(role: str) -> Callable[[Place], Columns]:
    def make(at: Place) -> Columns:
        columns = {"dataset_id": "a.id", "asset_id": "a.id", "dag_id": "r.dag_id"}
        if role != "schedule":
            columns["task_id"] = "r.task_id"
        return Columns(
            columns | {"created_at": "a.created_at", "updated_at": "a.created_at"},
            f"{at.table('asset_reference')} r JOIN {at.table('asset')} a ON a.name = r.name AND a.uri = r.uri "
            f"WHERE r.role = '{role}' AND r.kind = 'asset'",
        )

    return make


ASSETS: dict[str, Callable[[Place], Columns]] = {
    "dataset": _asset,
    "asset": _asset,
    "dataset_event": _asset_event,
    "asset_event": _asset_event,
    "dataset_dag_run_queue": _asset_queue,
    "asset_dag_run_queue": _asset_queue,
    "dagrun_dataset_event": _asset_event_run,
    "dagrun_asset_event": _asset_event_run,
    "dag_schedule_dataset_reference": _asset_reference("schedule"),
    "dag_schedule_asset_reference": _asset_reference("schedule"),
    "task_outlet_dataset_reference": _asset_reference("outlet"),
    "task_outlet_asset_reference": _asset_reference("outlet"),
}
"""Under the names of 2.x and 3.x."""
