"""The list of DAGs, and what may be done from it: pause, unpause, delete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup

from opskit.core.metastore.browsing import dag_list
from opskit.core.metastore.browsing.dag_list import ListedDag, RecentRun
from opskit.core.metastore.browsing.dag_removal import going
from opskit.core.metastore.dags import get_dag
from opskit.core.metastore.engine import Connection
from opskit.errors import NotFound
from opskit.web.changes import dags as changes
from opskit.web.flash import redirect
from opskit.web.gate import SignedIn, allow
from opskit.web.identity import DELETE, EDIT, READ, Who
from opskit.web.kept import is_refetch
from opskit.web.links import dag_url, run_url
from opskit.web.pages import of_dag
from opskit.web.render import render, render_part
from opskit.web.run_bars import run_bars
from opskit.web.schedule_words import schedule_words
from opskit.web.store import Store, TheStore

router = APIRouter(include_in_schema=False)

PER_PAGE = 40
RECENT = 14
STATUSES = ("all", "active", "paused", "running", "failed")
ORDERS = {"dag_id": "Name", "next_run": "Next run", "-dag_id": "Name, backwards"}
_MOST_TAGS = 60
_MOST_OWNERS = 100
_words: dict[str, tuple[str, str]] = {}
"""version_hash → schedule words and zone: a version never changes."""
_MOST_WORDS = 20_000


@dataclass(slots=True)
class Row:
    """One line of the list."""

    dag: ListedDag
    schedule: str
    runs: Sequence[RecentRun]
    bars: Markup
    last_url: str
    may_edit: bool
    may_trigger: bool
    may_delete: bool

    @property
    def last(self) -> RecentRun | None:
        return self.runs[-1] if self.runs else None


@dataclass(frozen=True, slots=True)
class Filters:
    """What the URL asks for."""

    search: str = ""
    tags: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    status: str = "all"

    def fits(self, dag: ListedDag) -> bool:
        """Whether a DAG is asked for, its status aside."""
        text = self.search.lower()
        return (
            (not text or text in dag.dag_id.lower() or text in dag.description.lower())
            and all(tag in dag.tags for tag in self.tags)
            and all(owner in dag.owners for owner in self.owners)
        )


AllDags = tuple[list[dag_list.ListedDag], set[str], set[str]]


@dataclass(slots=True)
class Listing:
    """The DAGs that are asked for, and how many others would be."""

    dags: list[ListedDag]
    counts: dict[str, int]
    tags: list[tuple[str, int]] = field(default_factory=list)
    owners: list[tuple[str, int]] = field(default_factory=list)


def read_all(connection: Connection) -> AllDags:
    """All active DAGs, which of them have runs under way, and of which the newest run has failed."""
    dags, running = dag_list.active_dags(connection), dag_list.running_dags(connection)
    failed = {dag_id for dag_id, state in dag_list.last_states(connection).items() if state == "failed"}
    return dags, set(running), failed


def chosen(all_dags: AllDags, filters: Filters, who: Who) -> Listing:
    """In the order of their ids."""
    dags, running, failed = all_dags
    within = who.readable_dags()
    fitting = [dag for dag in dags if (within is None or dag.dag_id in within) and filters.fits(dag)]
    having = {
        "all": fitting,
        "active": [dag for dag in fitting if not dag.is_paused],
        "paused": [dag for dag in fitting if dag.is_paused],
        "running": [dag for dag in fitting if dag.dag_id in running],
        "failed": [dag for dag in fitting if dag.dag_id in failed],
    }
    dags = having[filters.status]
    return Listing(
        dags,
        {name: len(found) for name, found in having.items()},
        Counter(tag for dag in dags for tag in dag.tags).most_common(_MOST_TAGS),
        sorted(Counter(owner for dag in dags for owner in dag.owners).most_common(_MOST_OWNERS)),
    )


@router.get("/dags")
def list_dags(
    request: Request,
    store: TheStore,
    who: SignedIn,
    search: Annotated[str, Query(max_length=250)] = "",
    tag: Annotated[tuple[str, ...], Query()] = (),
    owner: Annotated[tuple[str, ...], Query()] = (),
    status: str = "all",
    order: str = "dag_id",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> HTMLResponse:
    """`/dags?search=…&tag=…&owner=…&status=failed&order=next_run&page=2`."""
    if not who.readable_dags():
        who.require(READ, "DAGs")
    filters = Filters(
        search.strip(),
        tuple(one for one in tag if one),
        tuple(one for one in owner if one),
        status if status in STATUSES else "all",
    )
    url = str(request.url.path) + (f"?{request.url.query}" if request.url.query else "")
    fresh = is_refetch(request)

    def look() -> Markup:
        return _content(request, store, who, filters, order if order in ORDERS else "dag_id", page, url, fresh=fresh)

    content = store.kept.get(("page of DAGs", url, who.permissions), look, fresh=fresh, times=2)
    return render(request, "dags.html", content=content)


def _content(
    request: Request, store: Store, who: Who, filters: Filters, order: str, page: int, url: str, *, fresh: bool
) -> Markup:
    with store.reading() as connection:
        found = store.kept.get("dags", lambda: read_all(connection), fresh=fresh, times=2)
        listing = chosen(found, filters, who)
        dags = _ordered(listing.dags, order)
        pages = max(1, -(-len(dags) // PER_PAGE))
        page = min(page, pages)
        rows = _rows(connection, dags[(page - 1) * PER_PAGE : page * PER_PAGE], who)
    return render_part(
        request,
        "dags_content.html",
        rows=rows,
        listing=listing,
        filters=filters,
        order=order,
        orders=ORDERS,
        statuses=STATUSES,
        page=page,
        pages=pages,
        total=len(dags),
        url_of_list=url,
    )


def _rows(connection: Connection, shown: Sequence[ListedDag], who: Who) -> list[Row]:
    recent = dag_list.recent_runs(connection, [dag.dag_id for dag in shown], RECENT)
    words, now = _schedules(connection, shown), datetime.now(UTC)
    return [_row(dag, words, recent[dag.dag_id], who, now) for dag in shown]


def _ordered(dags: list[ListedDag], order: str) -> list[ListedDag]:
    if order == "next_run":
        planned = [(dag.next_run_after, dag) for dag in dags if dag.next_run_after and not dag.is_paused]
        first = [dag for _, dag in sorted(planned, key=lambda pair: (pair[0], pair[1].dag_id))]
        return first + [dag for dag in dags if dag.next_run_after is None or dag.is_paused]
    return dags[::-1] if order == "-dag_id" else dags


def _row(dag: ListedDag, words: dict[str, str], runs: list[RecentRun], who: Who, now: datetime) -> Row:
    return Row(
        dag,
        words[dag.version_hash],
        runs,
        run_bars(dag.dag_id, runs, RECENT, now),
        run_url(dag.dag_id, runs[-1].run_id, number=runs[-1].number) if runs else "",
        who.can(EDIT, "DAGs", dag.dag_id),
        who.can("can_create", "DAG Runs", dag.dag_id),
        who.can(DELETE, "DAGs", dag.dag_id),
    )


def _schedules(connection: Connection, dags: Sequence[ListedDag]) -> dict[str, str]:
    """version_hash → schedule in words."""
    missing = {dag.version_hash for dag in dags} - _words.keys()
    if missing:
        if len(_words) > _MOST_WORDS:
            _words.clear()
        _words.update(dag_list.schedule_words(connection, missing))
    none = ("", "UTC")
    return {
        dag.version_hash: schedule_words(
            dag.schedule, _words.get(dag.version_hash, none)[1], _words.get(dag.version_hash, none)[0]
        )
        for dag in dags
    }


@router.get("/runs/{number}")
def run_of_number(store: TheStore, who: SignedIn, number: Annotated[int, Path(ge=1, le=2**63 - 1)]) -> RedirectResponse:
    """To the page of the run with this `dag_run.id`. NotFound also for who may not see it."""
    with store.reading() as connection:
        found = dag_list.run_of_number(connection, number)
    if found is None or not who.can(READ, "DAG Runs", found[0]):
        raise NotFound(f"there is no run with the number {number}")
    return RedirectResponse(run_url(*found, number=number), 303)


@router.post("/dags/{dag_id}/pause")
def pause(
    request: Request,
    store: TheStore,
    dag_id: str,
    who: Annotated[Who, Depends(allow(EDIT, "DAGs"))],
    paused: Annotated[bool, Form()],
    next: Annotated[str, Form()] = "/dags",
) -> RedirectResponse:
    """Pause or unpause, and back to `next`."""
    changed = changes.set_paused(store, who, [dag_id], paused)
    said = f"{dag_id} is {'paused' if paused else 'no longer paused'}" if changed else None
    return redirect(request, _own_path(next), said)


@router.get("/dags/{dag_id}/delete")
def preview_delete(
    request: Request, store: TheStore, dag_id: str, who: Annotated[Who, Depends(allow(DELETE, "DAGs"))]
) -> HTMLResponse:
    """What would go, and the button."""
    with store.reading() as connection:
        dag = get_dag(connection, dag_id)
        found = going(connection, dag_id)
    back = dag_url(dag_id) if who.can(READ, "DAGs", dag_id) else "/dags"
    return render(request, "dag/delete.html", **of_dag.frame(who, dag, "details"), going=found, back=back)


@router.post("/dags/{dag_id}/delete")
def delete(
    request: Request, store: TheStore, dag_id: str, who: Annotated[Who, Depends(allow(DELETE, "DAGs"))]
) -> RedirectResponse:
    """Forget the DAG with its history."""
    removed = changes.delete(store, who, dag_id)
    return redirect(request, "/dags", f"{dag_id} and its {removed:,} runs were deleted")


def _own_path(url: str) -> str:
    """Only a path of this site is gone back to."""
    return url if url.startswith("/") and not url.startswith(("//", "/\\")) and url.isprintable() else "/dags"
