"""What verbs have left: watchdog, deployments, drift, clean-ups, owners and modes, doctor."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field

from opskit.errors import NotFound
from opskit.telemetry import reports
from opskit.web import traces
from opskit.web.airflow_api.collections import Answer, Moment
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.store import Store, TheStore

router = APIRouter(tags=["Operations"])
_Reader = Annotated[Who, Depends(allow(READ, "Operations"))]
_SHOWN = 20


class VerbRun(Answer):
    """One run of a verb on this host."""

    verb: str
    at: Moment
    seconds: float
    exit_code: int
    error: str = Field(description="What it said when it ended with an error.")
    hostname: str
    by: str
    report: Any = Field(description="As `--output json` prints it; null: it came to none.")


class VerbRuns(Answer):
    """The newest first. A run that was started as a dry run is none."""

    runs: list[VerbRun]


class CleanUps(Answer):
    """The last clean-ups of this host; what one would remove now: start logs-clean or db-clean as a job."""

    logs: list[VerbRun]
    metastore: list[VerbRun]


class LastLook(Answer):
    at: Moment
    verdict: str


class Pause(Answer):
    by: str
    since: str
    until: str | None
    reason: str


class VerdictChange(Answer):
    """The watchdog of this host came to another verdict than before, or did something."""

    at: Moment
    hostname: str
    verdict: str
    repaired: bool
    evidence: list[str]
    deeds: list[str]


class Deed(Answer):
    """A line of the audit log: what a watchdog of any host did."""

    at: Moment
    owner: str
    verdict: str
    repaired: bool
    evidence: list[str]
    deeds: list[str]


class WatchdogState(Answer):
    last_look: LastLook | None = Field(description="Of this host; null: it never looked.")
    pause: Pause | None
    history: list[VerdictChange]
    deeds: list[Deed]


class HostRelease(Answer):
    """What one host should have, and what the last comparison found."""

    host: str
    release: str
    source: str
    deployed_at: Moment | None
    state: str = Field(
        description="in sync, drifted, other release, unreachable, no DAG folder, repaired; empty: not compared."
    )
    differences: dict[str, list[str]]
    error: str


class Deployment(Answer):
    at: Moment
    by: str
    action: str = Field(description="deploy, rollback or repair.")
    source: str
    hosts: dict[str, str] = Field(description="Host to state and release.")
    failed: str


class Deployments(Answer):
    hosts: list[HostRelease]
    compared_at: Moment | None
    history: list[Deployment]
    problem: str


@router.get("/watchdog", operation_id="get_watchdog")
def get_watchdog(store: TheStore, _: _Reader) -> WatchdogState:
    """The last look, the changes of the verdict, and what was done."""
    found = traces.watching(store)
    here = found.here
    return WatchdogState(
        last_look=LastLook.model_validate(here.last) if here.last else None,
        pause=Pause.model_validate(here.pause) if here.pause else None,
        history=[VerdictChange(**_fields(one)) for one in here.changes],
        deeds=[
            Deed(
                at=line.at,
                owner=line.owner,
                verdict=str(line.extra.get("verdict", "")),
                repaired=bool(line.extra.get("repaired")),
                evidence=_texts(line.extra.get("evidence")),
                deeds=_texts(line.extra.get("deeds")),
            )
            for line in found.deeds
        ],
    )


@router.get("/deployments", operation_id="get_deployments")
def get_deployments(store: TheStore, _: _Reader) -> Deployments:
    """Which host has which release, and what was deployed when."""
    found = traces.deployments(store)
    return Deployments(
        hosts=[
            HostRelease(
                host=one.host,
                release=one.release,
                source=one.source,
                deployed_at=one.deployed_at,
                state=one.state,
                differences={kind: list(paths) for kind, paths in one.differences.items()},
                error=one.error,
            )
            for one in found.hosts
        ],
        compared_at=found.compared_at,
        history=[Deployment.model_validate(one) for one in found.history],
        problem=found.problem,
    )


@router.get("/drift", operation_id="get_drift")
def get_drift(store: TheStore, _: _Reader) -> VerbRuns:
    """The last comparisons of DAG folders with their releases. A new one: start dags-drift as a job."""
    return VerbRuns(runs=_runs(store, "dags_drift"))


@router.get("/clean-up", operation_id="get_clean_up")
def get_clean_up(store: TheStore, _: _Reader) -> CleanUps:
    """What the last clean-ups removed."""
    return CleanUps(logs=_runs(store, "logs_clean"), metastore=_runs(store, "db_clean"))


@router.get("/permissions", operation_id="get_permissions_report")
def get_permissions(store: TheStore, _: _Reader) -> VerbRun:
    """The last comparison of owners and modes with the policy."""
    return _newest(store, "permissions_check", "permissions-check")


@router.get("/doctor", operation_id="get_doctor")
def get_doctor(store: TheStore, _: _Reader) -> VerbRun:
    """The doctor's last report. A new one: start doctor as a job."""
    return _newest(store, "doctor", "doctor")


def _newest(store: Store, verb: str, job: str) -> VerbRun:
    found = traces.newest_report(store, verb)
    if found is None:
        hint = f'POST /opskit/v1/jobs {{"verb": "{job}"}}'
        raise NotFound(f"{verb.replace('_', ' ')} has left no report on this host", hint=hint)
    return VerbRun.model_validate(found)


def _runs(store: Store, verb: str) -> list[VerbRun]:
    return [VerbRun.model_validate(run) for run in reports.kept(store.config.home, verb, _SHOWN)]


def _fields(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in VerdictChange.model_fields}


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []
