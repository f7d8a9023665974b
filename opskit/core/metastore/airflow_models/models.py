"""All models, under the names that Airflow gives them."""

from __future__ import annotations

from opskit.core.metastore.airflow_models.columns import mapped
from opskit.core.metastore.airflow_models.models_objects import (
    ConnectionModel,
    DagCode,
    DagModel,
    DagPickle,
    DagTag,
    DagWarning,
    DatasetEvent,
    DatasetModel,
    Job,
    Log,
    ParseImportError,
    Pool,
    SerializedDagModel,
    Trigger,
    VariableModel,
)
from opskit.core.metastore.airflow_models.models_runs import (
    BaseXCom,
    DagRun,
    RenderedTaskInstanceFields,
    SlaMiss,
    TaskFail,
    TaskInstance,
    TaskMap,
    TaskReschedule,
    clear_task_instances,
)

__all__ = [
    "BaseXCom",
    "ConnectionModel",
    "DagCode",
    "DagModel",
    "DagPickle",
    "DagRun",
    "DagTag",
    "DagWarning",
    "DatasetEvent",
    "DatasetModel",
    "Job",
    "Log",
    "ParseImportError",
    "Pool",
    "RenderedTaskInstanceFields",
    "SerializedDagModel",
    "SlaMiss",
    "TaskFail",
    "TaskInstance",
    "TaskMap",
    "TaskReschedule",
    "Trigger",
    "VariableModel",
    "clear_task_instances",
]

mapped.configure()
