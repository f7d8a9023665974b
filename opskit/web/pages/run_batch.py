"""Several runs of a DAG at once: mark, clear, delete. First a page that tells what will happen to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from opskit.core.dag import states
from opskit.core.metastore import dags
from opskit.core.metastore.browsing import grid
from opskit.core.metastore.browsing.grid import RunRow
from opskit.errors import GuardRefused, NotFound, UsageError
from opskit.web import flash, formats
from opskit.web.changes import runs as changes
from opskit.web.gate import SignedIn
from opskit.web.identity import DELETE, EDIT, READ, Who
from opskit.web.links import dag_url, run_url
from opskit.web.pages import of_dag
from opskit.web.pages.grid_rows import cells
from opskit.web.render import render
from opskit.web.store import Store, TheStore
from opskit.web.summaries import Summary, counted, merged

router = APIRouter(include_in_schema=False)
MOST = grid.MOST_RUNS


@dataclass(frozen=True, slots=True)
class Action:
    """What can be done: its button, what it says afterwards, and the permission that it needs."""

    button: str
    done: str
    permission: str = EDIT
    danger: bool = False

    def is_allowed(self, who: Who, dag_id: str) -> bool:
        if not who.can(self.permission, "DAG Runs", dag_id):
            return False
        return self.permission == DELETE or who.can(EDIT, "Task Instances", dag_id)


ACTIONS = {
    "success": Action("Mark success", "marked success"),
    "failed": Action("Mark failed", "marked failed", danger=True),
    "clear": Action("Clear", "cleared"),
    "clear_failed": Action("Clear what failed", "cleared where it had failed"),
    "delete": Action("Delete", "deleted", DELETE, danger=True),
}
_FAILED = (states.FAILED, states.UPSTREAM_FAILED)


@dataclass(frozen=True, slots=True)
class Concerned:
    """One run of a preview: the task instances that would change, and why it can't be done to it (else empty)."""

    run: RunRow
    url: str
    changing: Summary
    obstacle: str


def allowed(who: Who, dag_id: str) -> list[tuple[str, str]]:
    """(action, button) that this person may use."""
    return [(name, one.button) for name, one in ACTIONS.items() if one.is_allowed(who, dag_id)]


def _permitted(who: Who, dag_id: str, name: str) -> Action:
    who.require(READ, "DAG Runs", dag_id)
    if not allowed(who, dag_id):
        who.require(EDIT, "DAG Runs", dag_id)
    if name not in ACTIONS:
        raise UsageError(f"action: there is no {name[:20]!r}", hint=f"choose {', '.join(ACTIONS)}")
    action = ACTIONS[name]
    who.require(action.permission, "DAG Runs", dag_id)
    if action.permission == EDIT:
        who.require(EDIT, "Task Instances", dag_id)
    return action


@router.get("/dags/{dag_id}/change-runs")
def preview(
    request: Request,
    store: TheStore,
    who: SignedIn,
    dag_id: str,
    run: Annotated[list[int], Query(default_factory=list, max_length=MOST)],
    action: str = "",
) -> Response:
    chosen = _permitted(who, dag_id, action)
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        runs = grid.runs_of_numbers(connection, dag_id, run)
        found = cells(grid.count_states(connection, [one.id for one in runs]))
    if not runs:
        return flash.redirect(request, dag_url(dag_id, "runs"), "Choose runs first", "warn")
    concerned = [_concerned(action, one, merged(found.get(one.id, {}).values())) for one in runs]
    return render(
        request,
        "dag/change_runs.html",
        **of_dag.frame(who, dag, "runs"),
        action=action,
        chosen=chosen,
        concerned=concerned,
        doable=[one for one in concerned if not one.obstacle],
        counts=merged([one.changing for one in concerned if not one.obstacle]),
        back=dag_url(dag_id, "runs"),
    )


def _concerned(action: str, run: RunRow, summary: Summary) -> Concerned:
    url = run_url(run.dag_id, run.run_id, number=run.id)
    counts = summary.counts
    obstacle = ""
    if action == "success":
        changing = {state: count for state, count in counts.items() if state != states.SUCCESS}
    elif action == "failed":
        changing = {state: count for state, count in counts.items() if state not in states.FINISHED}
    elif action == "clear":
        changing = {state: count for state, count in counts.items() if state is not None}
    elif action == "clear_failed":
        changing = {state: count for state, count in counts.items() if state in _FAILED}
    else:
        changing = dict(counts)
        in_flight = sum(count for state, count in counts.items() if state in states.IN_FLIGHT)
        if in_flight:
            obstacle = f"{formats.plural(in_flight, 'task instance is', 'task instances are')} in flight"
    if not changing and (action.startswith("clear") or run.state == action):
        obstacle = "nothing would change"
    return Concerned(run, url, counted(changing), obstacle)


@router.post("/dags/{dag_id}/change-runs")
def change(
    request: Request,
    store: TheStore,
    who: SignedIn,
    dag_id: str,
    run: Annotated[list[int], Form(default_factory=list, max_length=MOST)],
    action: Annotated[str, Form()] = "",
) -> RedirectResponse:
    """One transaction and one audit line for each run: what can't be done to one does not hold the others back."""
    chosen = _permitted(who, dag_id, action)
    with store.reading() as connection:
        runs = grid.runs_of_numbers(connection, dag_id, run)
    problems: list[str] = []
    done = 0
    for one in runs:
        try:
            done += _change(store, who, action, one)
        except (GuardRefused, NotFound, UsageError) as error:
            problems.append(f"{one.run_id}: {error.message}")
    said = f"{formats.plural(done, 'run')} {chosen.done}"
    gone = len(set(run)) - len(runs)
    if gone:
        problems.append(f"{formats.plural(gone, 'run is', 'runs are')} not there any more")
    if problems:
        return flash.redirect(request, dag_url(dag_id, "runs"), f"{said}; not so: {_short(problems)}", "warn")
    return flash.redirect(request, dag_url(dag_id, "runs"), said, "good" if done else "warn")


def _change(store: Store, who: Who, action: str, run: RunRow) -> bool:
    if action == "delete":
        changes.delete(store, who, run.dag_id, run.run_id)
    elif action in ("clear", "clear_failed"):
        return bool(changes.clear(store, who, run.dag_id, run.run_id, only_failed=action == "clear_failed"))
    else:
        changes.mark(store, who, run.dag_id, run.run_id, action)
    return True


def _short(problems: Sequence[str]) -> str:
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
    return "; ".join(problems[:5]) + more
