"""What all pages of one DAG share: who may read them, the DAG itself, its tabs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, time
from typing import Any

from fastapi import Request

from opskit.core.metastore.dags import Dag
from opskit.errors import UsageError
from opskit.web.gate import SignedIn
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.links import dag_url
from opskit.web.pages.prose import prose

TABS = (
    ("grid", "Grid", ""),
    ("graph", "Graph", "graph"),
    ("runs", "Runs", "runs"),
    ("durations", "Durations", "durations"),
    ("calendar", "Calendar", "calendar"),
    ("code", "Code", "code"),
    ("details", "Details", "details"),
)
RUN_STATES = ("queued", "running", "success", "failed")
RUN_TYPES = ("scheduled", "manual", "backfill", "asset_triggered", "dataset_triggered")


def reader(*resources: str) -> Callable[..., Awaitable[Who]]:
    """A dependency: Forbidden unless the person may read all of these of the DAG in the path."""

    async def check(request: Request, who: SignedIn) -> Who:
        for resource in ("DAGs", *resources):
            who.require(READ, resource, request.path_params["dag_id"])
        return who

    return check


def frame(who: Who, dag: Dag, tab: str) -> dict[str, Any]:
    """What dag/frame.html needs."""
    shown = [entry for entry in TABS if entry[0] != "code" or who.can(READ, "DAG Code", dag.dag_id)]
    return {
        "dag": dag,
        "tab": tab,
        "dag_tabs": [(key, label, dag_url(dag.dag_id, page)) for key, label, page in shown],
        "may_trigger": who.can(CREATE, "DAG Runs", dag.dag_id) and dag.is_active,
        "may_pause": who.can(EDIT, "DAGs", dag.dag_id),
        "may_delete": who.can(DELETE, "DAGs", dag.dag_id),
        "may_edit_runs": who.can(EDIT, "DAG Runs", dag.dag_id),
        "may_edit_tasks": who.can(EDIT, "Task Instances", dag.dag_id),
        "may_read_logs": who.can(READ, "Task Logs", dag.dag_id),
        "dag_url": dag_url,
        "prose": prose,
    }


def moment(text: str | None, name: str, *, end_of_day: bool = False) -> datetime | None:
    """A time in a query: ISO 8601, a day alone too; without a zone UTC is meant. None for an empty one."""
    if not text:
        return None
    try:
        if len(text) == 10:
            day = datetime.fromisoformat(text).date()
            return datetime.combine(day, time.max if end_of_day else time.min, UTC)
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{name}: {text[:50]!r} is no time", hint="write it as 2026-11-21 or 2026-11-21T06:30"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def one_of(values: Iterable[str], allowed: tuple[str, ...], name: str) -> list[str]:
    """The values of a filter, without empty ones. UsageError for one that is not among `allowed`."""
    wanted = [value for value in values if value]
    for value in wanted:
        if value not in allowed:
            raise UsageError(f"{name}: there is no {value[:50]!r}", hint=f"choose {', '.join(allowed)}")
    return wanted
