"""All models, under the names that Airflow gives them."""

from __future__ import annotations

from opskit.core.metastore.airflow_models.columns import mapped
from opskit.core.metastore.airflow_models.models_dags import DagCode, DagModel, DagTag, SerializedDagModel
from opskit.core.metastore.airflow_models.models_objects import (
    ConnectionModel,
    Job,
    Log,
    ParseImportError,
    Pool,
    VariableModel,
)
from opskit.core.metastore.airflow_models.models_others import (
    DagPickle,
    DagWarning,
    DatasetEvent,
    DatasetModel,
    RenderedTaskInstanceFields,
    SlaMiss,
    TaskMap,
    TaskReschedule,
    Trigger,
)
from opskit.core.metastore.airflow_models.models_runs import (
    DagRun,
    TaskFail,
    TaskInstance,
    clear_task_instances,
)
from opskit.core.metastore.airflow_models.models_xcom import BaseXCom

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
