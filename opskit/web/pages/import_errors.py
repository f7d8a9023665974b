"""DAG files that can't be loaded."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from opskit.core.metastore.browsing.import_errors import import_errors
from opskit.core.metastore.browsing.window import Window
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.pages.paging import PageNumber
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter(include_in_schema=False)
PER_PAGE = 50
_SHOWN = 3000
"""Characters of one error: the end of a long traceback tells most."""


@router.get("/import-errors")
def list_import_errors(
    request: Request, store: TheStore, who: Annotated[Who, Depends(allow(READ, "ImportError"))], page: PageNumber = 1
) -> HTMLResponse:
    """By path, each with the traceback of its last load."""
    with store.reading() as connection:
        found, total = import_errors(
            connection, who.readable_dags(), Window(PER_PAGE, (page - 1) * PER_PAGE, order="filename")
        )
    return render(
        request,
        "import_errors.html",
        errors=[(one, one.error.strip().rpartition("\n")[2], _end(one.error)) for one in found],
        page=page,
        pages=max(1, -(-total // PER_PAGE)),
        total=total,
    )


def _end(text: str) -> str:
    return text if len(text) <= _SHOWN else "…" + text[-_SHOWN:]
