"""/health and /version, which need no sign-in, as in Airflow."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from opskit import __version__
from opskit.web import wellbeing
from opskit.web.airflow_api.collections import Answer
from opskit.web.store import TheStore

router = APIRouter(tags=["Monitoring"])
Status = Literal["healthy", "unhealthy"]


class MetadatabaseStatus(Answer):
    status: Status


class SchedulerStatus(Answer):
    status: Status
    latest_scheduler_heartbeat: str | None


class TriggererStatus(Answer):
    """Of the workers: triggers run in them."""

    status: Status | None
    latest_triggerer_heartbeat: str | None


class DagProcessorStatus(Answer):
    status: Status | None
    latest_dag_processor_heartbeat: str | None


class HealthInfo(Answer):
    """How the cluster is; a status of null: there has been none of this kind."""

    metadatabase: MetadatabaseStatus
    scheduler: SchedulerStatus
    triggerer: TriggererStatus
    dag_processor: DagProcessorStatus


class VersionInfo(Answer):
    version: str
    git_version: str | None


@router.get("/health", operation_id="get_health")
def get_health(store: TheStore) -> HealthInfo:
    """Metastore, schedulers, DAG processors and workers. 200 also when something is unhealthy, as in Airflow."""
    return HealthInfo.model_validate(wellbeing.airflow_health(store))


@router.get("/version", operation_id="get_version")
def get_version() -> VersionInfo:
    """The version of opskit."""
    return VersionInfo(version=__version__, git_version=None)
