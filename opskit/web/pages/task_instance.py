"""One task instance: log, tries, rendered fields, XComs, why it does not run; and the instances of a mapped task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from opskit.core.dag import states
from opskit.core.dag.serialized import SerializedTask
from opskit.core.metastore import dags, task_instances
from opskit.core.metastore.browsing import task_page
from opskit.core.metastore.browsing.task_page import XComText
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.runs import Run
from opskit.core.metastore.task_instances import TaskInstance
from opskit.core.scheduler import explain
from opskit.errors import UsageError
from opskit.web.definitions import of_run as version_of
from opskit.web.identity import READ, Who
from opskit.web.links import task_url
from opskit.web.pages import of_dag, of_run, task_log
from opskit.web.pages.log_lines import plain
from opskit.web.render import render
from opskit.web.store import TheStore
from opskit.web.summaries import Summary, counted

router = APIRouter()
_INSTANCES = 100
_WAITING = (None, states.SCHEDULED, states.QUEUED)
Reader = Annotated[Who, Depends(of_dag.reader("DAG Runs", "Task Instances"))]
TABS = {
    "instances": "Instances",
    "log": "Log",
    "why": "Why",
    "attempts": "Attempts",
    "rendered": "Rendered",
    "xcom": "XCom",
    "history": "Other runs",
    "details": "Details",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a path means: a task instance, or (None) a mapped task as a whole."""

    run: Run
    task_id: str
    instance: TaskInstance | None
    mapped: Summary


@router.get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}")
def show(
    request: Request,
    store: TheStore,
    who: Reader,
    dag_id: str,
    run_id: str,
    task_id: str,
    state: Annotated[list[str], Query(default_factory=list)],
    map_index: Annotated[int, Query(ge=-1)] = -1,
    tab: str = "",
    try_number: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
    offset: Annotated[int | None, Query(ge=0)] = None,
    archived: bool = False,
    page: Annotated[int, Query(ge=1)] = 1,
) -> HTMLResponse:
    if tab and tab not in TABS:
        raise UsageError(f"tab: there is no {tab[:20]!r}", hint=f"choose {', '.join(TABS)}")
    now = datetime.now(UTC)
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        run = of_run.find(connection, dag_id, run_id)
        found = _find(connection, run, task_id, map_index)
        version = version_of(connection, dag_id, run.version_hash, dag.version_hash)
        task = version.dag.by_id.get(task_id)
        tabs = _tabs(who, dag_id, found)
        tab = tab if tab in tabs else _first_tab(found, tabs)
        shown = _content(connection, tab, found, task, state, page, now)
        if tab == "why" and found.instance is not None:
            whose = (dag_id, run.run_id, task_id, found.instance.map_index)
            seen = explain.observe(connection, store.config, *whose, now)
            shown["reasons"] = [one.reason for one in explain.unmet(seen)]
    instance = found.instance
    if tab == "log" and instance is not None:
        shown["log"] = task_log.view(store, instance, try_number, offset, archived)
        shown["has_archive"] = bool(store.config.get("logs", "archive_to"))
    return render(
        request,
        "task/page.html",
        **of_run.frame(who, dag, run, tab),
        task_id=task_id,
        task=task,
        map_index=map_index,
        instance=instance,
        mapped=found.mapped,
        is_mapped=bool(found.mapped.counts),
        seconds=_seconds(instance, now),
        task_tabs=[
            (name, TABS[name], task_url(dag_id, run.run_id, task_id, map_index, number=run.id, tab=name))
            for name in tabs
        ],
        link=lambda index=map_index, page="", **query: task_url(
            dag_id, run.run_id, task_id, index, page, number=run.id, **query
        ),
        took=None,
        **shown,
    )


def _find(connection: Connection, run: Run, task_id: str, map_index: int) -> Found:
    mapped = counted(task_page.count_mapped(connection, run.id, task_id))
    if map_index < 0 and mapped.counts:
        return Found(run, task_id, None, mapped)
    instance = task_instances.get_task_instance(connection, run.dag_id, run.run_id, task_id, map_index)
    return Found(run, task_id, instance, mapped)


def _tabs(who: Who, dag_id: str, found: Found) -> list[str]:
    if found.instance is None:
        return ["instances", "history", "details"]
    names = ["log", "why", "attempts", "rendered", "xcom", "history", "details"]
    if not who.can(READ, "Task Logs", dag_id):
        names.remove("log")
    if not who.can(READ, "XComs", dag_id):
        names.remove("xcom")
    if found.instance.state not in (*_WAITING, states.UP_FOR_RETRY, states.UP_FOR_RESCHEDULE, states.DEFERRED):
        names.remove("why")
    return names


def _first_tab(found: Found, tabs: Sequence[str]) -> str:
    """What one has come for: why it waits, or what it has written."""
    if found.instance is not None and found.instance.state in _WAITING and "why" in tabs:
        return "why"
    return tabs[0]


def _content(
    connection: Connection,
    tab: str,
    found: Found,
    task: SerializedTask | None,
    wanted: list[str],
    page: int,
    now: datetime,
) -> dict[str, Any]:
    run, instance = found.run, found.instance
    if tab == "instances":
        return _instances(connection, found, wanted, page)
    if tab == "history":
        return {"others": task_page.in_other_runs(connection, run.dag_id, found.task_id, run.logical_date)}
    if instance is None or tab in ("log", "details"):
        return {}
    key = (run.dag_id, run.run_id, found.task_id, instance.map_index)
    if tab == "attempts":
        return {"attempts": task_instances.attempts(connection, *key), "now_is": now}
    if tab == "xcom":
        xcoms = task_page.list_xcoms(connection, run.id, found.task_id, instance.map_index)
        return {"xcoms": [_shown_xcom(one) for one in xcoms]}
    if tab == "rendered":
        return {
            "fields": {name: plain(str(text)) for name, text in (task.ui.get("fields", {}) if task else {}).items()}
        }
    return {}


def _instances(connection: Connection, found: Found, wanted: list[str], page: int) -> dict[str, Any]:
    chosen = {None if one == "none" else one for one in wanted if one}
    total = sum(count for one, count in found.mapped.counts.items() if not chosen or one in chosen)
    pages = max(1, -(-total // _INSTANCES))
    page = min(page, pages)
    rows = task_page.list_mapped(
        connection,
        found.run.id,
        found.task_id,
        in_states=chosen or None,
        limit=_INSTANCES,
        offset=(page - 1) * _INSTANCES,
    )
    return {"rows": rows, "page": page, "pages": pages, "total": total, "chosen": sorted(wanted)}


@dataclass(frozen=True, slots=True)
class ShownXCom:
    """`link` is set where the value is the address of a page outside."""

    key: str
    text: str
    size: int
    is_cut: bool
    link: str
    created_at: datetime


def _shown_xcom(one: XComText) -> ShownXCom:
    is_cut = len(one.text) >= task_page.SHOWN_CHARACTERS and one.size > len(one.text)
    text, link = one.text, ""
    if not is_cut:
        try:
            value = json.loads(one.text)
        except ValueError:
            value = None
        else:
            text = json.dumps(value, indent=2, ensure_ascii=False)
        if isinstance(value, str) and value.startswith(("https://", "http://")) and len(value) < 2000:
            link = value
    return ShownXCom(one.key, plain(text), one.size, is_cut, link, one.created_at)


def _seconds(instance: TaskInstance | None, now: datetime) -> float | None:
    if instance is None or instance.start_date is None:
        return None
    end = now if instance.state in (states.RUNNING, states.DEFERRED) else instance.end_date
    return None if end is None else max(0.0, (end - instance.start_date).total_seconds())
