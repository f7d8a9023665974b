"""How DagRuns and task instances look in Airflow's API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import Field

from opskit.core.dag.secret_names import is_secret_name
from opskit.core.metastore.browsing.dags import Settings
from opskit.core.metastore.browsing.task_instances import DEFAULT_QUEUE
from opskit.core.metastore.runs import Run
from opskit.core.metastore.task_instances import Attempt
from opskit.core.metastore.task_instances import TaskInstance as Stored
from opskit.web.airflow_api.collections import Answer, Listing, Moment

RunState = Literal["queued", "running", "success", "failed"]
RunType = Literal["backfill", "manual", "scheduled", "dataset_triggered"]
TaskState = Literal[
    "success",
    "running",
    "failed",
    "upstream_failed",
    "skipped",
    "up_for_retry",
    "up_for_reschedule",
    "queued",
    "none",
    "scheduled",
    "deferred",
    "removed",
    "restarting",
]
"""`none` means: without a state."""


class DAGRun(Answer):
    """A run of a DAG."""

    dag_run_id: str | None = None
    dag_id: str = ""
    logical_date: Moment | None = None
    execution_date: Moment | None = Field(default=None, description="The same as logical_date.")
    start_date: Moment | None = None
    end_date: Moment | None = None
    data_interval_start: Moment | None = None
    data_interval_end: Moment | None = None
    last_scheduling_decision: Moment | None = Field(default=None, description="Always null: it is not kept.")
    run_type: RunType = "manual"
    state: RunState = "queued"
    external_trigger: bool = False
    conf: dict[str, Any] = Field(default={}, description="What lies under secret names comes as ***.")
    note: str | None = None

    @classmethod
    def of(cls, run: Run) -> DAGRun:
        return cls(
            dag_run_id=run.run_id,
            dag_id=run.dag_id,
            logical_date=run.logical_date,
            execution_date=run.logical_date,
            start_date=run.start_date,
            end_date=run.end_date,
            data_interval_start=run.data_interval_start,
            data_interval_end=run.data_interval_end,
            run_type=_run_type(run.run_type),
            state=run.state,  # type: ignore[arg-type]
            external_trigger=run.run_type == "manual",
            conf=hidden(run.conf),
            note=run.note,
        )


class DAGRunCollection(Listing):
    """Some runs."""

    dag_runs: list[DAGRun] = []
    total_entries: int = 0


class _Try(Answer):
    task_id: str
    task_display_name: str
    dag_id: str
    dag_run_id: str
    map_index: int
    start_date: Moment | None
    end_date: Moment | None
    duration: float | None = Field(description="Seconds; null until the try has ended.")
    state: TaskState | None
    try_number: int
    max_tries: int
    hostname: str
    unixname: str = Field(description="Always empty: it is not kept.")
    pool: str
    pool_slots: int
    queue: str | None
    priority_weight: int | None
    operator: str | None
    queued_when: Moment | None
    pid: int | None
    executor: str | None
    executor_config: str


class TaskInstanceHistory(_Try):
    """One try of a task instance. Of tries that another has followed, the time of queueing is not kept."""


class TaskInstanceHistoryCollection(Listing):
    """All tries of a task instance."""

    task_instances: list[TaskInstanceHistory]


class TaskInstance(_Try):
    """A task of a run: its newest try. SLA misses, triggers and jobs are not rows here: these fields are null."""

    execution_date: Moment
    sla_miss: None
    rendered_map_index: str | None
    rendered_fields: dict[str, Any] = Field(description="Of one task instance; empty in lists.")
    trigger: None
    triggerer_job: None
    note: str | None


class TaskInstanceCollection(Listing):
    """Some task instances."""

    task_instances: list[TaskInstance]


class TaskInstanceReference(Answer):
    """Which task instance it is."""

    task_id: str
    dag_id: str
    dag_run_id: str
    execution_date: Moment

    @classmethod
    def of(cls, instance: Stored) -> TaskInstanceReference:
        return cls(
            task_id=instance.task_id,
            dag_id=instance.dag_id,
            dag_run_id=instance.run_id,
            execution_date=instance.logical_date,
        )


class TaskInstanceReferenceCollection(Answer):
    """Which task instances they are."""

    task_instances: list[TaskInstanceReference]

    @classmethod
    def of(cls, instances: Collection[Stored]) -> TaskInstanceReferenceCollection:
        return cls(task_instances=[TaskInstanceReference.of(instance) for instance in instances])


def task_instance(
    instance: Stored,
    settings: Mapping[str, Settings],
    note: str | None,
    rendered: Mapping[str, Any] | None = None,
) -> TaskInstance:
    """`settings`: by dag_id."""
    return TaskInstance(
        **_basics(instance, settings),
        start_date=instance.start_date,
        end_date=instance.end_date,
        duration=instance.duration_seconds,
        state=instance.state,  # type: ignore[arg-type]
        try_number=instance.try_number,
        hostname=instance.hostname or "",
        queued_when=instance.queued_at,
        pid=instance.pid,
        execution_date=instance.logical_date,
        sla_miss=None,
        rendered_map_index=None,
        rendered_fields=dict(rendered or {}),
        trigger=None,
        triggerer_job=None,
        note=note,
    )


def history(instance: Stored, attempt: Attempt, settings: Mapping[str, Settings]) -> TaskInstanceHistory:
    """One try of this task instance."""
    lasted = None
    if attempt.start_date is not None and attempt.end_date is not None:
        lasted = (attempt.end_date - attempt.start_date).total_seconds()
    return TaskInstanceHistory(
        **_basics(instance, settings),
        start_date=attempt.start_date,
        end_date=attempt.end_date,
        duration=lasted,
        state=attempt.state,  # type: ignore[arg-type]
        try_number=attempt.try_number,
        hostname=attempt.hostname or "",
        queued_when=instance.queued_at if attempt.try_number == instance.try_number else None,
        pid=attempt.pid,
    )


def _basics(instance: Stored, settings: Mapping[str, Settings]) -> dict[str, Any]:
    known = settings.get(instance.dag_id)
    return {
        "task_id": instance.task_id,
        "task_display_name": known.display_names.get(instance.task_id, instance.task_id) if known else instance.task_id,
        "dag_id": instance.dag_id,
        "dag_run_id": instance.run_id,
        "map_index": instance.map_index,
        "max_tries": instance.max_tries,
        "unixname": "",
        "pool": instance.pool,
        "pool_slots": instance.pool_slots,
        "queue": known.queues.get(instance.task_id, DEFAULT_QUEUE) if known else DEFAULT_QUEUE,
        "priority_weight": instance.priority_weight,
        "operator": instance.operator or None,
        "executor": None,
        "executor_config": "{}",
    }


def hidden(value: Any) -> Any:
    """A copy in which what lies under secret names is masked, as on the pages."""
    if isinstance(value, dict):
        return {
            key: "***" if is_secret_name(str(key)) and item not in (None, "") else hidden(item)
            for key, item in value.items()
        }
    return [hidden(item) for item in value] if isinstance(value, list) else value


def _run_type(name: str) -> RunType:
    """Airflow 2 knows no assets: what their events start is dataset_triggered."""
    return "dataset_triggered" if name == "asset_triggered" else name  # type: ignore[return-value]
