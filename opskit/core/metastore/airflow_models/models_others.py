"""Assets, and tables of Airflow's that opskit has no rows for, as models."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Integer

from opskit.core.metastore.airflow_models.columns import (
    Model,
    Moment,
    flag,
    json_value,
    key,
    mapped,
    moment,
    name,
    number,
)


@mapped.mapped
class TaskReschedule(Model):
    """Opskit keeps none."""

    __tablename__ = "task_reschedule"
    id: Any = key(Integer)
    dag_id: Any = name()
    task_id: Any = name()
    run_id: Any = name()
    map_index: Any = number()
    execution_date: Any = moment()
    try_number: Any = number()
    start_date: Any = moment()
    end_date: Any = moment()
    duration: Any = number()
    reschedule_date: Any = moment()


@mapped.mapped
class RenderedTaskInstanceFields(Model):
    """Opskit keeps none."""

    __tablename__ = "rendered_task_instance_fields"
    dag_id: Any = key()
    task_id: Any = key()
    run_id: Any = key()
    map_index: Any = key(Integer)
    execution_date: Any = moment()
    rendered_fields: Any = json_value()
    k8s_pod_yaml: Any = json_value()


@mapped.mapped
class SlaMiss(Model):
    """Opskit keeps none."""

    __tablename__ = "sla_miss"
    task_id: Any = key()
    dag_id: Any = key()
    execution_date: Any = key(Moment)
    email_sent: Any = flag()
    timestamp: Any = moment()
    description: Any = name()
    notification_sent: Any = flag()


@mapped.mapped
class TaskMap(Model):
    """Opskit keeps none."""

    __tablename__ = "task_map"
    dag_id: Any = key()
    task_id: Any = key()
    run_id: Any = key()
    map_index: Any = key(Integer)
    length: Any = number()
    keys: Any = json_value()


@mapped.mapped
class Trigger(Model):
    """Opskit keeps none."""

    __tablename__ = "trigger"
    id: Any = key(Integer)
    classpath: Any = name()
    kwargs: Any = name()
    created_date: Any = moment()
    triggerer_id: Any = number()


@mapped.mapped
class DagPickle(Model):
    """Opskit keeps none."""

    __tablename__ = "dag_pickle"
    id: Any = key(Integer)
    pickle: Any = name()
    created_dttm: Any = moment()
    pickle_hash: Any = name()


@mapped.mapped
class DagWarning(Model):
    """Opskit keeps none."""

    __tablename__ = "dag_warning"
    dag_id: Any = key()
    warning_type: Any = key()
    message: Any = name()
    timestamp: Any = moment()


@mapped.mapped
class DatasetModel(Model):
    """A dataset."""

    __tablename__ = "dataset"
    id: Any = key(Integer)
    uri: Any = name()
    extra: Any = json_value()
    created_at: Any = moment()
    updated_at: Any = moment()
    is_orphaned: Any = flag()


@mapped.mapped
class DatasetEvent(Model):
    """An update of a dataset."""

    __tablename__ = "dataset_event"
    id: Any = key(Integer)
    dataset_id: Any = number()
    extra: Any = json_value()
    source_task_id: Any = name()
    source_dag_id: Any = name()
    source_run_id: Any = name()
    source_map_index: Any = number()
    timestamp: Any = moment()
