"""/health in detail, and /overview: what the home page is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from opskit.core.metastore import schema
from opskit.core.metastore.browsing.health import InstanceHealth
from opskit.errors import SchemaNotCurrent
from opskit.web import overview, wellbeing
from opskit.web.airflow_api.collections import Answer, Moment
from opskit.web.gate import SignedIn, allow
from opskit.web.headline import headline
from opskit.web.identity import READ, Who
from opskit.web.store import TheStore

router = APIRouter(tags=["Cluster"])
_Watcher = Annotated[Who, Depends(allow(READ, "Cluster Activity"))]
Level = Literal["good", "warn", "bad"]


class InstanceState(Answer):
    """One process of the cluster."""

    id: str
    kind: str
    hostname: str
    pid: int
    version: str
    state: Literal["running", "slow", "stuck", "silent", "ended"] = Field(
        description="stuck: it lives, and its loop has not turned for too long; silent: no heartbeat."
    )
    is_healthy: bool
    started_at: Moment
    heartbeat_at: Moment
    heartbeat_age_seconds: float
    progress: int = Field(description="Loops that ended well.")
    progress_at: Moment
    progress_age_seconds: float
    ended_at: Moment | None


class Health(Answer):
    """Every process with its progress, and what a probe would be told."""

    at: Moment
    live: bool = Field(description="This webserver answers: /livez.")
    ready: bool = Field(description="Its metastore has the schema that it needs: /readyz.")
    schema_revision: str = Field(description="The revision that this opskit needs.")
    problem: str = Field(description="Why it is not ready; empty: it is.")
    instances: list[InstanceState]


class Reason(Answer):
    """One thing that is not as it should be."""

    level: Literal["warn", "bad"]
    text: str
    url: str = Field(description="The page that shows more, below this server.")


class Run(Answer):
    number: int = Field(description="Its id in the metastore.")
    dag_id: str
    run_id: str
    run_type: str
    state: str
    queued_at: Moment
    start_date: Moment | None
    end_date: Moment | None


class FailedTask(Answer):
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    state: str
    end_date: Moment | None
    reason: str


class NextRun(Answer):
    dag_id: str
    schedule: str
    at: Moment


class BrokenFile(Answer):
    path: str
    at: Moment
    error: str = Field(description="The last line of it.")


class Counts(Answer):
    active: int
    paused: int


class Held(Answer):
    """DAGs that were paused all at once, and that a resume unpauses."""

    count: int
    owner: str
    at: Moment


class Work(Answer):
    """What failed since `since`, what runs, what comes; of the DAGs that may be seen."""

    since: Moment
    failed_runs_count: int
    failed_runs: list[Run]
    failed_tasks: list[FailedTask]
    active_runs_count: int
    active_runs: list[Run]
    upcoming: list[NextRun]
    dags: Counts
    held: Held | None
    waiting_runs: int = Field(description="Runs that should have begun long ago.")
    waiting_since: Moment | None
    broken_files: list[BrokenFile] | None
    broken_files_count: int


class ProvenBackup(Answer):
    """By the audit log and the receipts of this installation."""

    where: str
    proven_id: str
    proven_taken_at: Moment | None
    proven_at: Moment | None
    newest_taken_at: Moment | None
    newest_problem: str


class DiskRoom(Answer):
    path: str
    size_bytes: int
    free_bytes: int
    inodes: int = Field(description="0: this file system has no fixed number of them.")
    free_inodes: int


class Overview(Answer):
    """Is everything well, in one look. Parts that may not be seen are null."""

    at: Moment
    hostname: str
    level: Level
    sentence: str
    reasons: list[Reason]
    instances: list[InstanceState]
    work: Work | None
    backups: ProvenBackup | None
    disks: list[DiskRoom] | None = Field(description="Of this webserver's host.")


@router.get("/health", operation_id="get_detailed_health")
def get_health(store: TheStore, _: _Watcher) -> Health:
    """Every instance of the cluster with heartbeat, progress and verdict; liveness and readiness of this webserver."""
    now = datetime.now(UTC)
    found = wellbeing.instances(store)
    problem = ""
    try:
        schema.check(store.engine)
    except SchemaNotCurrent as error:
        problem = error.message
    return Health(
        at=now,
        live=True,
        ready=not problem,
        schema_revision=schema.HEAD,
        problem=problem,
        instances=[_instance(one, now) for one in found],
    )


@router.get("/overview", operation_id="get_overview")
def get_overview(store: TheStore, who: SignedIn) -> Overview:
    """What the home page shows: the headline with its reasons, components, work, backups, disks."""
    seen = overview.look(store, who, datetime.now(UTC))
    said = headline(seen)
    operations = seen.operations
    return Overview(
        at=seen.at,
        hostname=seen.hostname,
        level=_level(said.level),
        sentence=said.sentence,
        reasons=[Reason.model_validate(one) for one in said.reasons],
        instances=[_instance(one, seen.at) for one in seen.components],
        work=Work.model_validate(seen.work) if seen.work else None,
        backups=ProvenBackup.model_validate(operations.backups) if operations else None,
        disks=[
            DiskRoom(
                path=str(disk.path),
                size_bytes=disk.size_bytes,
                free_bytes=disk.free_bytes,
                inodes=disk.inodes,
                free_inodes=disk.free_inodes,
            )
            for disk in operations.disks
        ]
        if operations
        else None,
    )


def _level(text: str) -> Level:
    return "bad" if text == "bad" else "warn" if text == "warn" else "good"


def _instance(one: InstanceHealth, now: datetime) -> InstanceState:
    return InstanceState.model_validate(
        {
            **one.as_dict(),
            "is_healthy": one.is_healthy,
            "heartbeat_age_seconds": round((now - one.heartbeat_at).total_seconds(), 1),
            "progress_age_seconds": round((now - one.progress_at).total_seconds(), 1),
        }
    )
