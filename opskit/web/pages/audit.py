"""The audit log: who changed what, and when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from opskit.core.metastore.browsing import latest
from opskit.errors import UsageError
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter(include_in_schema=False)
PER_PAGE = 100
Text = Annotated[str, Query(max_length=250)]


@router.get("/audit")
def audit_log(
    request: Request,
    store: TheStore,
    _: Annotated[Who, Depends(allow(READ, "Audit Logs"))],
    owner: Text = "",
    event: Text = "",
    dag_id: Text = "",
    run_id: Text = "",
    task_id: Text = "",
    since: Text = "",
    until: Text = "",
    below: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> HTMLResponse:
    """Lines, the newest first; the next page is what is below the last id of this one."""
    filters = {"owner": owner, "event": event, "dag_id": dag_id, "run_id": run_id, "task_id": task_id}
    filters = {name: value.strip() for name, value in filters.items()}
    with store.reading() as connection:
        found = latest.audit_lines(
            connection, below=below, since=_day(since), until=_day(until, 1), limit=PER_PAGE + 1, **filters
        )
    return render(
        request,
        "audit.html",
        lines=[(line, _said(line.extra)) for line in found[:PER_PAGE]],
        more=found[PER_PAGE - 1].id if len(found) > PER_PAGE else None,
        below=below,
        filters={**filters, "since": since, "until": until},
    )


def _said(extra: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value as text)"""
    return [(name, value if isinstance(value, str) else _text(value)) for name, value in extra.items()]


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _day(text: str, later: int = 0) -> datetime | None:
    if not text.strip():
        return None
    try:
        day = date.fromisoformat(text.strip()) + timedelta(days=later)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is no day", hint="write it like 2026-03-29") from None
    return datetime.combine(day, time(), UTC)
