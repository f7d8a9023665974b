"""/jobs: verbs that are safe to be started from here, their states and what they printed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from opskit.web.airflow_api.collections import Answer, Body, Moment
from opskit.web.changes import maintenance
from opskit.web.gate import SignedIn, allow
from opskit.web.identity import READ, Who
from opskit.web.store import TheStore
from opskit.web.verb_list import VERBS
from opskit.web.verbs import Job as Found
from opskit.web.verbs import TheVerbs

router = APIRouter(tags=["Job"])
_Reader = Annotated[Who, Depends(allow(READ, "Operations"))]
LONGEST_WAIT = 20
Wait = Annotated[int, Query(ge=0, le=LONGEST_WAIT, description="Wait so many seconds for its end.")]
_Verb = Literal[
    "backup",
    "drill",
    "dags-drift",
    "doctor",
    "logs-clean",
    "db-clean",
    "permissions-check",
    "watchdog",
    "restore-plan",
]


class Verb(Answer):
    """What can be started. Nothing of it removes or replaces anything of the cluster."""

    name: str
    does: str
    command: str = Field(description="What one types for the same.")
    takes_backup: bool = Field(description="Its parameter is the id of a backup, or latest.")
    limit_seconds: float


class VerbCollection(Answer):
    verbs: list[Verb]


class Job(Answer):
    """One run of a verb, as it is at this moment."""

    id: str
    verb: str
    parameter: str
    command: str
    by: str = Field(description="Who asked first; empty: a page that had to know.")
    state: Literal["queued", "running", "done", "failed"] = Field(
        description="done: it came to a report, whatever that says; failed: it came to none."
    )
    asked_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    exit_code: int | None = Field(description="As on the command line: 0 well, 4 unhealthy, 5 drift, 14 not proven …")
    report: Any = Field(description="What `--output json` printed; null while it runs.")
    message: str = Field(description="What it said beside that: progress, warnings, errors.")


class JobCollection(Answer):
    """The newest first; of those that have ended, the newest 50, and the newest that came to a report of each kind."""

    jobs: list[Job]
    total_entries: int


class NewJob(Body):
    """What to start."""

    verb: _Verb
    parameter: str = Field("", max_length=100, description="The id of a backup, or latest, where the verb takes one.")


def shown(job: Found) -> Job:
    """As it is sent."""
    return Job.model_validate(job)


@router.get("/verbs", operation_id="get_verbs")
def get_verbs(_: _Reader) -> VerbCollection:
    """What can be started, and the command for the same. Restores and clean-ups that remove are typed, not clicked."""
    return VerbCollection(
        verbs=[
            Verb(
                name=verb.name,
                does=verb.does,
                command=verb.command("latest" if verb.takes_backup else ""),
                takes_backup=verb.takes_backup,
                limit_seconds=verb.limit_seconds,
            )
            for verb in VERBS.values()
            if verb.may_be_started
        ]
    )


@router.get("/jobs", operation_id="get_jobs")
def get_jobs(verbs: TheVerbs, _: _Reader) -> JobCollection:
    """What was started from here, on this host."""
    found = verbs.jobs()
    return JobCollection(jobs=[shown(job) for job in found], total_entries=len(found))


@router.post("/jobs", operation_id="post_job", status_code=202)
def post_job(store: TheStore, verbs: TheVerbs, who: SignedIn, body: NewJob) -> Job:
    """Start a verb; when the same is under way already, that run is shared. Needs can_edit on Operations."""
    return shown(maintenance.start(store, who, verbs, body.verb, body.parameter))


@router.get("/jobs/{job_id}", operation_id="get_job")
def get_job(verbs: TheVerbs, _: _Reader, job_id: str, wait: Wait = 0) -> Job:
    """One job with its report."""
    return shown(verbs.wait(verbs.job(job_id).id, wait))


@router.delete("/jobs/{job_id}", operation_id="stop_job", status_code=202)
def stop_job(store: TheStore, verbs: TheVerbs, who: SignedIn, job_id: str) -> Job:
    """Tell a job to end, as Ctrl-C does: what it has begun is taken back. Needs can_edit on Operations."""
    return shown(maintenance.stop(store, who, verbs, job_id))
