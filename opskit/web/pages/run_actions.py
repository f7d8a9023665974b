"""What one may do to a run and its task instances: clear, mark, delete, note. Each has a page that tells what will
happen, and only then a button: so all of it works without JavaScript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from opskit.core.dag import states
from opskit.core.metastore import dags
from opskit.core.metastore.browsing import grid
from opskit.core.metastore.dags import Dag
from opskit.core.metastore.runs import Run
from opskit.core.metastore.task_instances import TaskInstance
from opskit.errors import UsageError
from opskit.web import flash, formats
from opskit.web.changes import runs as run_changes
from opskit.web.changes import task_instances as task_changes
from opskit.web.changes.task_instances import Selection
from opskit.web.gate import allow
from opskit.web.identity import DELETE, EDIT, Who
from opskit.web.links import dag_url, task_url
from opskit.web.pages import of_run
from opskit.web.pages.grid_rows import cells
from opskit.web.render import render
from opskit.web.store import Store, TheStore
from opskit.web.summaries import Summary, counted, merged

router = APIRouter()
_LISTED = 200
"""Task instances that a preview names; all of them are counted."""
_MARKS = (states.SUCCESS, states.FAILED, states.SKIPPED)
EditTasks = Annotated[Who, Depends(allow(EDIT, "Task Instances"))]
EditRuns = Annotated[Who, Depends(allow(EDIT, "DAG Runs"))]
DeleteRuns = Annotated[Who, Depends(allow(DELETE, "DAG Runs"))]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which task instances are meant, as the forms say it."""

    task_id: tuple[str, ...] = ()
    map_index: tuple[int, ...] = ()
    upstream: bool = False
    downstream: bool = False
    past: bool = False
    future: bool = False
    recursive: bool = False
    only_failed: bool = False
    only_running: bool = False

    def selection(self, run: Run) -> Selection:
        return Selection(
            run.dag_id,
            run.run_id,
            task_ids=list(self.task_id) or None,
            map_indexes=list(self.map_index) or None,
            upstream=self.upstream,
            downstream=self.downstream,
            past=self.past,
            future=self.future,
            recursive=self.recursive,
            only_failed=self.only_failed,
            only_running=self.only_running,
        )

    def fields(self) -> list[tuple[str, str]]:
        """As the hidden fields of a form."""
        found = [("task_id", one) for one in self.task_id] + [("map_index", str(one)) for one in self.map_index]
        return found + [(name, "1") for name in OPTIONS if getattr(self, name)]


OPTIONS = {
    "only_failed": "only failed ones",
    "only_running": "only running ones",
    "upstream": "all that they depend on",
    "downstream": "all that depends on them",
    "past": "in earlier runs, too",
    "future": "in later runs, too",
    "recursive": "in other DAGs that depend on them",
}


async def _by_query(
    task_id: Annotated[list[str], Query(default_factory=list)],
    map_index: Annotated[list[int], Query(default_factory=list)],
    upstream: bool = False,
    downstream: bool = False,
    past: bool = False,
    future: bool = False,
    recursive: bool = False,
    only_failed: bool = False,
    only_running: bool = False,
) -> Choice:
    named = tuple(task_id), tuple(map_index)
    return Choice(*named, upstream, downstream, past, future, recursive, only_failed, only_running)


async def _by_form(
    task_id: Annotated[list[str], Form(default_factory=list)],
    map_index: Annotated[list[int], Form(default_factory=list)],
    upstream: Annotated[bool, Form()] = False,
    downstream: Annotated[bool, Form()] = False,
    past: Annotated[bool, Form()] = False,
    future: Annotated[bool, Form()] = False,
    recursive: Annotated[bool, Form()] = False,
    only_failed: Annotated[bool, Form()] = False,
    only_running: Annotated[bool, Form()] = False,
) -> Choice:
    named = tuple(task_id), tuple(map_index)
    return Choice(*named, upstream, downstream, past, future, recursive, only_failed, only_running)


Asked = Annotated[Choice, Depends(_by_query)]
Posted = Annotated[Choice, Depends(_by_form)]


@router.get("/dags/{dag_id}/runs/{run_id}/clear")
def preview_clear(
    request: Request, store: TheStore, who: EditTasks, dag_id: str, run_id: str, choice: Asked
) -> HTMLResponse:
    dag, run = _open(store, dag_id, run_id)
    chosen = task_changes.preview_clear(store, who, choice.selection(run))
    return render(
        request,
        "run/clear.html",
        **of_run.frame(who, dag, run, "clear"),
        **_previewed(chosen),
        took=None,
        choice=choice,
        options=OPTIONS,
        back=_back(run, choice),
    )


@router.post("/dags/{dag_id}/runs/{run_id}/clear")
def clear(
    request: Request, store: TheStore, who: EditTasks, dag_id: str, run_id: str, choice: Posted
) -> RedirectResponse:
    _, run = _open(store, dag_id, run_id)
    cleared = task_changes.clear(store, who, choice.selection(run))
    if not cleared:
        return flash.redirect(request, _back(run, choice), "There was nothing to clear", "warn")
    return flash.redirect(request, _back(run, choice), f"{formats.plural(len(cleared), 'task instance')} cleared")


@router.get("/dags/{dag_id}/runs/{run_id}/mark")
def preview_mark(
    request: Request, store: TheStore, who: EditTasks, dag_id: str, run_id: str, choice: Asked, state: str
) -> HTMLResponse:
    dag, run = _open(store, dag_id, run_id)
    if choice.task_id:
        _check_mark(state)
        shown = _previewed(task_changes.preview_mark(store, who, choice.selection(run), state))
    else:
        who.require(EDIT, "DAG Runs", dag_id)
        shown = _previewed_run(store, run, state)
    return render(
        request,
        "run/mark.html",
        **of_run.frame(who, dag, run, "mark"),
        **shown,
        took=None,
        choice=choice,
        state=state,
        options={name: OPTIONS[name] for name in ("upstream", "downstream", "past", "future")},
        back=_back(run, choice),
    )


@router.post("/dags/{dag_id}/runs/{run_id}/mark")
def mark(
    request: Request,
    store: TheStore,
    who: EditTasks,
    dag_id: str,
    run_id: str,
    choice: Posted,
    state: Annotated[str, Form()],
) -> RedirectResponse:
    _, run = _open(store, dag_id, run_id)
    if not choice.task_id:
        _check_run_mark(state)
        run_changes.mark(store, who, dag_id, run.run_id, state)
        return flash.redirect(request, of_run.url(run), f"The run is marked {state}")
    _check_mark(state)
    changed = task_changes.mark(store, who, choice.selection(run), state)
    said = f"{formats.plural(len(changed), 'task instance')} marked {state}"
    return flash.redirect(request, _back(run, choice), said, "good" if changed else "warn")


@router.get("/dags/{dag_id}/runs/{run_id}/delete")
def preview_delete(request: Request, store: TheStore, who: DeleteRuns, dag_id: str, run_id: str) -> HTMLResponse:
    dag, run = _open(store, dag_id, run_id)
    counts = _of_run(store, run)
    in_flight = sum(count for state, count in counts.counts.items() if state in states.IN_FLIGHT)
    shown = of_run.frame(who, dag, run, "delete")
    return render(request, "run/delete.html", **shown, counts=counts, in_flight=in_flight, took=None)


@router.post("/dags/{dag_id}/runs/{run_id}/delete")
def delete(request: Request, store: TheStore, who: DeleteRuns, dag_id: str, run_id: str) -> RedirectResponse:
    _, run = _open(store, dag_id, run_id)
    run_changes.delete(store, who, dag_id, run.run_id)
    return flash.redirect(request, dag_url(dag_id), f"Run {run.run_id} is deleted, with its history")


@router.post("/dags/{dag_id}/runs/{run_id}/note")
def note(
    request: Request, store: TheStore, who: EditRuns, dag_id: str, run_id: str, note: Annotated[str, Form()] = ""
) -> RedirectResponse:
    _, run = _open(store, dag_id, run_id)
    kept = run_changes.set_note(store, who, dag_id, run.run_id, note)
    said = "The note is kept" if kept.note else "The note is gone"
    return flash.redirect(request, of_run.url(run, "details"), said)


@router.post("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/note")
def task_note(
    request: Request,
    store: TheStore,
    who: EditTasks,
    dag_id: str,
    run_id: str,
    task_id: str,
    note: Annotated[str, Form()] = "",
    map_index: Annotated[int, Form(ge=-1)] = -1,
) -> RedirectResponse:
    _, run = _open(store, dag_id, run_id)
    task_changes.set_note(store, who, dag_id, run.run_id, task_id, map_index, note)
    url = task_url(dag_id, run.run_id, task_id, map_index, number=run.id, tab="details")
    return flash.redirect(request, url, "The note is kept" if note.strip() else "The note is gone")


def _open(store: Store, dag_id: str, run_id: str) -> tuple[Dag, Run]:
    with store.reading() as connection:
        return dags.get_dag(connection, dag_id), of_run.find(connection, dag_id, run_id)


def _back(run: Run, choice: Choice) -> str:
    """To the task instance where one is meant, else to the run."""
    if len(choice.task_id) != 1:
        return of_run.url(run)
    map_index = choice.map_index[0] if len(choice.map_index) == 1 else -1
    return task_url(run.dag_id, run.run_id, choice.task_id[0], map_index, number=run.id)


def _previewed(chosen: Sequence[TaskInstance]) -> dict[str, Any]:
    by_run = Counter((one.dag_id, one.run_id) for one in chosen)
    return {
        "counts": counted(Counter(one.state for one in chosen)),
        "total": len(chosen),
        "listed": chosen[:_LISTED],
        "runs": by_run.most_common(20),
        "more_runs": max(0, len(by_run) - 20),
        "tasks": len({(one.dag_id, one.task_id) for one in chosen}),
    }


def _of_run(store: Store, run: Run) -> Summary:
    with store.reading() as connection:
        found = cells(grid.count_states(connection, [run.id]))
    return merged(found.get(run.id, {}).values())


def _previewed_run(store: Store, run: Run, state: str) -> dict[str, Any]:
    """What marking a whole run changes, by the rules of `task_instances.mark_run`."""
    _check_run_mark(state)
    stay = {states.SUCCESS} if state == states.SUCCESS else states.FINISHED
    changing = {one: count for one, count in _of_run(store, run).counts.items() if one not in stay}
    total = sum(changing.values())
    return {"counts": counted(changing), "total": total, "listed": [], "runs": [], "more_runs": 0, "tasks": 0}


def _check_mark(state: str) -> None:
    if state not in _MARKS:
        raise UsageError(f"a task can't be marked {state[:50]!r}", hint=f"choose {', '.join(_MARKS)}")


def _check_run_mark(state: str) -> None:
    if state not in (states.SUCCESS, states.FAILED):
        raise UsageError(f"a run can't be marked {state[:50]!r}", hint="choose success or failed, or clear its tasks")
