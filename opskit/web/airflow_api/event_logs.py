"""/eventLogs: the audit log."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from opskit.core.metastore.audit import AuditLine
from opskit.core.metastore.browsing import event_logs
from opskit.core.metastore.browsing.event_logs import Filters
from opskit.core.metastore.browsing.window import Window
from opskit.web.airflow_api.collections import Answer, Id, Listing, Moment, paged, separated
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.store import TheStore

router = APIRouter(tags=["EventLog"])
_Reader = Annotated[Who, Depends(allow(READ, "Audit Logs"))]
_Events = Annotated[str | None, Query(description="Names of events, separated by commas.")]


class EventLog(Answer):
    """One line of the audit log. `extra` is the text of a JSON object."""

    event_log_id: int
    when: Moment
    dag_id: str | None
    task_id: str | None
    run_id: str | None
    map_index: int | None = None
    try_number: int | None = None
    event: str
    execution_date: Moment | None = None
    owner: str | None
    extra: str | None


class EventLogCollection(Listing):
    event_logs: list[EventLog]


@router.get("/eventLogs", operation_id="get_event_logs")
def get_event_logs(
    store: TheStore,
    _: _Reader,
    window: Annotated[Window, paged("event_log_id", "when", "dag_id", "task_id", "run_id", "event", "owner", "extra")],
    dag_id: str | None = None,
    task_id: str | None = None,
    run_id: str | None = None,
    map_index: Annotated[int | None, Query(description="No line holds one: given, the list is empty.")] = None,
    try_number: Annotated[int | None, Query(description="No line holds one: given, the list is empty.")] = None,
    owner: str | None = None,
    event: str | None = None,
    included_events: _Events = None,
    excluded_events: _Events = None,
    before: Moment | None = None,
    after: Moment | None = None,
) -> EventLogCollection:
    """List lines of the audit log."""
    filters = Filters(
        dag_id=dag_id,
        task_id=task_id,
        run_id=run_id,
        owner=owner,
        event=event,
        included_events=separated(included_events),
        excluded_events=separated(excluded_events),
        before=before,
        after=after,
    )
    if map_index is not None or try_number is not None:
        return EventLogCollection(event_logs=[], total_entries=0)
    with store.reading() as connection:
        found, total = event_logs.lines(connection, filters, window)
    return EventLogCollection(event_logs=[_answer(one) for one in found], total_entries=total)


@router.get("/eventLogs/{event_log_id}", operation_id="get_event_log")
def get_event_log(store: TheStore, _: _Reader, event_log_id: Id) -> EventLog:
    """Get a line of the audit log."""
    with store.reading() as connection:
        return _answer(event_logs.line(connection, event_log_id))


def _answer(line: AuditLine) -> EventLog:
    return EventLog(
        event_log_id=line.id,
        when=line.at,
        dag_id=line.dag_id,
        task_id=line.task_id,
        run_id=line.run_id,
        event=line.event,
        owner=line.owner,
        extra=json.dumps(line.extra, ensure_ascii=False),
    )
