"""The first page: is everything well, in one look."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from opskit.web import flash
from opskit.web.changes import maintenance
from opskit.web.formats import plural
from opskit.web.gate import SignedIn
from opskit.web.headline import backup_level, disk_level, headline, states_in_words
from opskit.web.identity import EDIT
from opskit.web.kept import is_refetch
from opskit.web.links import dag_url, run_url, task_url
from opskit.web.overview import look
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter(include_in_schema=False)


@router.get("/")
def home(request: Request, store: TheStore, who: SignedIn) -> HTMLResponse:
    """Cluster home."""
    now = datetime.now(UTC)
    key = "home", who.permissions
    seen = store.kept.get(key, lambda: look(store, who, now), fresh=is_refetch(request))
    return render(
        request,
        "home.html",
        seen=seen,
        headline=headline(seen),
        living=states_in_words(seen.components),
        may_pause=who.can(EDIT, "DAGs"),
        run_url=run_url,
        task_url=task_url,
        dag_url=dag_url,
        backup_level=backup_level,
        disk_level=disk_level,
    )


@router.post("/pause-all")
def pause_all(request: Request, store: TheStore, who: SignedIn) -> RedirectResponse:
    """Pause every DAG, and remember which ran."""
    changed = maintenance.pause_all(store, who)
    if not changed:
        return flash.redirect(request, "/", "Every DAG was paused already.", "info")
    count = plural(len(changed), "DAG")
    return flash.redirect(request, "/", f"{count} paused. What runs goes on to its end; nothing new starts.")


@router.post("/resume-all")
def resume_all(request: Request, store: TheStore, who: SignedIn) -> RedirectResponse:
    """Unpause what was paused all at once."""
    changed = maintenance.resume_all(store, who)
    return flash.redirect(request, "/", f"{plural(len(changed), 'DAG')} resumed: those that ran before, and no other.")
