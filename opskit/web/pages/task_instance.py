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
from opskit.core.metastore import dags, questions, task_instances, task_notes
from opskit.core.metastore.browsing import task_page
from opskit.core.metastore.browsing.task_page import XComText
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.questions import Question
from opskit.core.metastore.runs import Run
from opskit.core.metastore.task_instances import TaskInstance
from opskit.core.scheduler import explain
from opskit.errors import UsageError
from opskit.telemetry import rendered_fields
from opskit.web.definitions import of_run as version_of
from opskit.web.identity import READ, Who
from opskit.web.links import task_url
from opskit.web.pages import answers, of_dag, of_run, task_log
from opskit.web.pages.log_lines import plain
from opskit.web.pages.run import hidden
from opskit.web.render import render
from opskit.web.store import Store, TheStore
from opskit.web.summaries import Summary, counted

router = APIRouter()
_INSTANCES = 100
_WAITING = (None, states.SCHEDULED, states.QUEUED)
Reader = Annotated[Who, Depends(of_dag.reader("DAG Runs", "Task Instances"))]
TABS = {
    "instances": "Instances",
    "answer": "Answer",
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
    state: Annotated[tuple[str, ...], Query()] = (),
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
        asked = _question(connection, found, task, wanted=tab == "answer")
        tabs = _tabs(who, dag_id, found, asked)
        tab = tab if tab in tabs else _first_tab(found, tabs)
        shown = _content(connection, tab, found, state, page, now)
        shown["note"], shown["links"] = _aside(connection, found, task)
        if tab == "answer" and asked is not None:
            query = {name: request.query_params.getlist(name) for name in request.query_params}
            shown["form"] = answers.form_of(who, asked, query)
        if tab == "why" and found.instance is not None:
            whose = (dag_id, run.run_id, task_id, found.instance.map_index)
            seen = explain.observe(connection, store.config, *whose, now)
            shown["reasons"] = [one.reason for one in explain.unmet(seen)]
    instance = found.instance
    if tab == "log" and instance is not None:
        shown["log"] = task_log.view(store, instance, try_number, offset, archived)
        shown["has_archive"] = bool(store.config.get("logs", "archive_to"))
    if tab == "rendered" and instance is not None:
        shown |= _rendered(store, instance, task, try_number)
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
        other=lambda one: task_url(dag_id, one.run_id, task_id, number=one.dag_run_id),
        took=None,
        **shown,
    )


def _find(connection: Connection, run: Run, task_id: str, map_index: int) -> Found:
    mapped = counted(task_page.count_mapped(connection, run.id, task_id))
    if map_index < 0 and mapped.counts:
        return Found(run, task_id, None, mapped)
    instance = task_instances.get_task_instance(connection, run.dag_id, run.run_id, task_id, map_index)
    return Found(run, task_id, instance, mapped)


def _question(connection: Connection, found: Found, task: SerializedTask | None, *, wanted: bool) -> Question | None:
    """What the task instance has asked of people, if it is one that asks."""
    one = found.instance
    may_ask = wanted or (task is not None and task.ui.get("asks"))
    if one is None or not (may_ask or one.state == states.DEFERRED):
        return None
    return questions.find(connection, one.dag_run_id, one.task_id, one.map_index)


def _tabs(who: Who, dag_id: str, found: Found, asked: Question | None) -> list[str]:
    if found.instance is None:
        return ["instances", "history", "details"]
    names = ["log", "why", "attempts", "rendered", "xcom", "history", "details"]
    if asked is not None:
        names.insert(0 if asked.waits else 1, "answer")
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
    wanted: Sequence[str],
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
    return {}


def _aside(connection: Connection, found: Found, task: SerializedTask | None) -> tuple[str, list[tuple[str, str]]]:
    """The note of a task instance, and the addresses that its operator has left: (text, address)."""
    if found.instance is None:
        return "", []
    key = found.instance.key
    note = task_notes.notes_of(connection, [key]).get(key, "")
    names: dict[str, str] = task.ui.get("links", {}) if task is not None else {}
    if not names:
        return note, []
    values = task_page.short_values(connection, *key, list(names.values()))
    links = [(name, _address(values[key])) for name, key in names.items() if key in values]
    return note, [(name, address) for name, address in links if address]


def _address(text: str) -> str:
    """Of a page outside, where the XCom holds one; else empty."""
    try:
        value = json.loads(text)
    except ValueError:
        return ""
    return value if isinstance(value, str) and value.startswith(("https://", "http://")) else ""


def _rendered(
    store: Store, instance: TaskInstance, task: SerializedTask | None, try_number: int | None
) -> dict[str, Any]:
    """The fields as this try had them; where it has left none, as the DAG file has them."""
    attempt = try_number or max(1, instance.try_number)
    whose = (instance.dag_id, instance.run_id, instance.task_id, instance.map_index)
    fields = rendered_fields.read(store.config.logs_folder, *whose, attempt)
    written = {} if fields or task is None else task.ui.get("fields", {})
    shown = {
        name: plain(value if isinstance(value, str) else json.dumps(hidden(value), indent=2, ensure_ascii=False))
        for name, value in (fields or written).items()
    }
    known = range(1, instance.try_number + 1)[-20:]
    return {"fields": shown, "are_rendered": bool(fields), "attempt": attempt, "tries": list(known)}


def _instances(connection: Connection, found: Found, wanted: Sequence[str], page: int) -> dict[str, Any]:
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
            text = json.dumps(json.loads(one.text), indent=2, ensure_ascii=False)
        except ValueError:
            pass  # it is shown as it is
        link = _address(one.text)
    return ShownXCom(one.key, plain(text), one.size, is_cut, link, one.created_at)


def _seconds(instance: TaskInstance | None, now: datetime) -> float | None:
    if instance is None or instance.start_date is None:
        return None
    end = now if instance.state in (states.RUNNING, states.DEFERRED) else instance.end_date
    return None if end is None else max(0.0, (end - instance.start_date).total_seconds())
