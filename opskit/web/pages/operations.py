"""The pages of operations: backups, deployments, drift, clean-up, watchdog, doctor, and the jobs that they start."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from opskit.errors import OpskitError
from opskit.telemetry import reports
from opskit.web import flash, traces
from opskit.web.changes import maintenance
from opskit.web.gate import allow
from opskit.web.headline import backup_level
from opskit.web.identity import EDIT, READ, Who
from opskit.web.overview import backups_of
from opskit.web.render import render
from opskit.web.store import Store, TheStore
from opskit.web.verb_list import VERBS
from opskit.web.verbs import Job, TheVerbs, Verbs
from opskit.web.wellbeing import instances

router = APIRouter(prefix="/operations", include_in_schema=False)
Reader = Annotated[Who, Depends(allow(READ, "Operations"))]
Editor = Annotated[Who, Depends(allow(EDIT, "Operations"))]
_BASE = "/operations"
_SHOWN = 10


def _show(request: Request, template: str, who: Who, verbs: Verbs, *of: str, **values: Any) -> HTMLResponse:
    """A page with the jobs of these verbs that are under way or ended last."""
    jobs = [job for job in verbs.jobs() if job.verb in of]
    return render(
        request,
        f"operations/{template}",
        may_start=who.can(EDIT, "Operations"),
        under_way=[job for job in jobs if not job.has_ended],
        last_failed=_failed(jobs),
        verbs=VERBS,
        moment_of=traces.moment,
        **values,
    )


def _failed(jobs: list[Job]) -> Job | None:
    """The newest job, when it came to no report."""
    return jobs[0] if jobs and jobs[0].state == "failed" else None


@router.get("/backups")
def backups(request: Request, store: TheStore, verbs: TheVerbs, who: Reader) -> HTMLResponse:
    """The list of backups with their proofs."""
    return _show(
        request,
        "backups.html",
        who,
        verbs,
        *("backup", "drill"),
        catalog=traces.backups(verbs),
        where=str(store.config.get("backup", "to")),
        policy=_policy(store),
        proven=backups_of(store.config, ()),
        level=backup_level,
    )


def _policy(store: Store) -> list[tuple[str, int]]:
    """How many periods of each length are kept."""
    periods = ("hourly", "daily", "weekly", "monthly", "yearly")
    return [(name, int(store.config.get("backup", f"keep_{name}"))) for name in periods]


@router.get("/backups/{backup_id}")
def backup(request: Request, verbs: TheVerbs, who: Reader, backup_id: str) -> HTMLResponse:
    """One backup: its proof, and what a restore of it would do."""
    found, catalog = traces.backup(verbs, backup_id)
    plan = verbs.newest("restore-plan", backup_id)
    return _show(
        request,
        "backup.html",
        who,
        verbs,
        *("drill", "restore-plan"),
        backup_id=backup_id,
        backup=found,
        catalog=catalog,
        proof=traces.proofs(verbs).get(backup_id),
        plan=plan.report if plan else None,
        planned_at=plan.ended_at if plan else None,
    )


@router.get("/deployments")
def deployments(request: Request, store: TheStore, verbs: TheVerbs, who: Reader) -> HTMLResponse:
    """Which host has which release, and what was deployed when."""
    return _show(request, "deployments.html", who, verbs, "dags-drift", found=traces.deployments(store))


@router.get("/drift")
def drift(request: Request, store: TheStore, verbs: TheVerbs, who: Reader) -> HTMLResponse:
    """What the last comparisons of DAG folders with their releases found."""
    kept = reports.kept(store.config.home, "dags_drift", _SHOWN)
    found = traces.deployments(store)
    return _show(request, "drift.html", who, verbs, "dags-drift", kept=kept, found=found)


@router.get("/clean-up")
def clean_up(request: Request, store: TheStore, verbs: TheVerbs, who: Reader) -> HTMLResponse:
    """What clean-ups have removed, and what they would remove now."""
    home = store.config.home
    return _show(
        request,
        "clean_up.html",
        who,
        verbs,
        *("logs-clean", "db-clean"),
        logs=reports.kept(home, "logs_clean", _SHOWN),
        metastore=reports.kept(home, "db_clean", _SHOWN),
        logs_plan=verbs.newest("logs-clean"),
        metastore_plan=verbs.newest("db-clean"),
    )


@router.get("/watchdog")
def watchdog(request: Request, store: TheStore, verbs: TheVerbs, who: Reader) -> HTMLResponse:
    """Verdicts with their evidence, and what was done."""
    return _show(
        request,
        "watchdog.html",
        who,
        verbs,
        "watchdog",
        components=instances(store),
        found=traces.watching(store),
        look=verbs.newest("watchdog"),
    )


@router.get("/doctor")
def doctor(request: Request, store: TheStore, verbs: TheVerbs, who: Reader) -> HTMLResponse:
    """The doctor's last report, and the one on owners and modes."""
    home = store.config.home
    return _show(
        request,
        "doctor.html",
        who,
        verbs,
        *("doctor", "permissions-check"),
        report=traces.newest_report(store, "doctor"),
        kept=reports.kept(home, "doctor", _SHOWN),
        permissions=reports.kept(home, "permissions_check", 1),
    )


@router.get("/jobs")
def jobs(request: Request, verbs: TheVerbs, who: Reader) -> HTMLResponse:
    """What was started from here."""
    return _show(request, "jobs.html", who, verbs, *VERBS, jobs=[job for job in verbs.jobs() if job.by])


@router.get("/jobs/{job_id}")
def job(request: Request, verbs: TheVerbs, who: Reader, job_id: str) -> HTMLResponse:
    """One of them, with all that it printed."""
    found = verbs.job(job_id)
    text = json.dumps(found.report, indent=2, ensure_ascii=False) if found.report is not None else ""
    return _show(request, "job.html", who, verbs, job=found, text=text)


@router.post("/start")
def start(
    request: Request,
    store: TheStore,
    verbs: TheVerbs,
    who: Editor,
    verb: Annotated[str, Form()],
    parameter: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "",
) -> RedirectResponse:
    """Start a verb, and go back to the page that asked for it."""
    url = back if back.startswith(_BASE + "/") else f"{_BASE}/jobs"
    try:
        begun = maintenance.start(store, who, verbs, verb, parameter)
    except OpskitError as error:
        return flash.redirect(request, url, f"{error.message}. {error.hint or ''}".strip(), "bad")
    return flash.redirect(request, url, f"{begun.command} was started.", "info")


@router.post("/jobs/{job_id}/stop")
def stop(request: Request, store: TheStore, verbs: TheVerbs, who: Editor, job_id: str) -> RedirectResponse:
    """End a job, as Ctrl-C does."""
    maintenance.stop(store, who, verbs, job_id)
    return flash.redirect(request, f"{_BASE}/jobs/{job_id}", "It was told to end; what it began is taken back.", "info")
