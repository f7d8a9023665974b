"""Everything that a DAG says of itself: documentation, settings, params, tasks, versions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from opskit.core.dag.serialized import SerializedDag
from opskit.core.metastore import dags
from opskit.core.metastore.browsing import versions
from opskit.core.metastore.dags import Dag
from opskit.errors import NotFound
from opskit.web import formats
from opskit.web.definitions import definition
from opskit.web.identity import READ, Who
from opskit.web.pages import of_dag
from opskit.web.pages.run import shown_json
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter()
_VERSIONS = 20
_TASKS = 300
Reader = Annotated[Who, Depends(of_dag.reader())]


@router.get("/dags/{dag_id}/details")
def show(request: Request, store: TheStore, who: Reader, dag_id: str, task: str = "", q: str = "") -> HTMLResponse:
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        version = definition(connection, dag_id, dag.version_hash)
        known = versions.list_versions(connection, dag_id, _VERSIONS)
    if task and task not in version.dag.by_id:
        raise NotFound(f"DAG {dag_id} has no task {task[:250]!r}", hint=dags.nearest(task, version.dag.by_id))
    tasks = [one for one in version.dag.tasks if q.lower() in one.task_id.lower()]
    return render(
        request,
        "dag/details.html",
        **of_dag.frame(who, dag, "details"),
        settings=_settings(dag, version.dag),
        params=shown_json(version.dag.params) if version.dag.params else "",
        doc=version.dag.ui.get("doc_md") or "",
        owner_links=_owner_links(version.dag),
        task=version.dag.by_id.get(task),
        tasks=tasks[:_TASKS],
        more_tasks=max(0, len(tasks) - _TASKS),
        q=q,
        versions=known,
        may_read_code=who.can(READ, "DAG Code", dag_id),
    )


def _settings(dag: Dag, definition: SerializedDag) -> list[tuple[str, str]]:
    """Each as it holds; what is not set says so."""
    found: dict[str, Any] = {
        "File": dag.fileloc,
        "Schedule": definition.ui.get("schedule_words") or dag.schedule or "none",
        "Time zone": definition.timezone,
        "Start date": formats.stamp(definition.start_date) if definition.start_date else "none",
        "End date": formats.stamp(definition.end_date) if definition.end_date else "none",
        "Catchup": _yes(definition.catchup, "as the configuration says"),
        "First run": definition.first_run or "as the configuration says",
        "Next run": formats.stamp(dag.next_run_after) if dag.next_run_after else "none planned",
        "Paused": _yes(dag.is_paused),
        "Paused upon creation": _yes(definition.is_paused_upon_creation, "as the configuration says"),
        "Runs at once": definition.max_active_runs or "as the configuration says",
        "Tasks at once": definition.max_active_tasks or "as the configuration says",
        "Run timeout": formats.duration(definition.dagrun_timeout) if definition.dagrun_timeout else "none",
        "Fail fast": _yes(definition.fail_fast),
        "Paused after failed runs in a row": _failed_runs(definition.max_consecutive_failed_dag_runs),
        "Success callback": _yes(definition.has_on_success_callback),
        "Failure callback": _yes(definition.has_on_failure_callback),
        "Tasks": len(definition.tasks),
        "Task groups": len(definition.groups),
        "Loaded": formats.stamp(dag.last_parsed_at),
        "Version": dag.version_hash[:12],
    }
    return [(name, str(value)) for name, value in found.items()]


def _failed_runs(many: int | None) -> str:
    return "as the configuration says" if many is None else str(many) if many else "never"


def _yes(value: bool | None, unset: str = "no") -> str:
    return unset if value is None else "yes" if value else "no"


def _owner_links(definition: SerializedDag) -> dict[str, str]:
    links = definition.ui.get("owner_links") or {}
    allowed = ("https://", "http://", "mailto:")
    return {str(owner): str(url) for owner, url in links.items() if str(url).startswith(allowed)}
