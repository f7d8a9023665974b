"""Pools: how many slots, who has them, who waits for them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from opskit.core.metastore import pools
from opskit.core.metastore.browsing import objects
from opskit.core.metastore.interchange import PoolFields
from opskit.core.metastore.schema import DEFAULT_POOL
from opskit.errors import OpskitError, UsageError
from opskit.web.changes import pools as changes
from opskit.web.faults import Forbidden, status_of
from opskit.web.flash import redirect
from opskit.web.gate import allow
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter(include_in_schema=False)
_RESOURCE = "Pools"
Text = Annotated[str, Form()]


@router.get("/pools")
def list_pools(request: Request, store: TheStore, _: Annotated[Who, Depends(allow(READ, _RESOURCE))]) -> HTMLResponse:
    """All, by name, with the slots that are used and wanted."""
    with store.reading() as connection:
        found = pools.list_pools(connection)
        slots = objects.slots(connection, [one.pool for one in found])
    return render(request, "pools.html", pools=found, slots=slots, default_pool=DEFAULT_POOL)


@router.get("/pools/new")
def new_pool(request: Request, _: Annotated[Who, Depends(allow(CREATE, _RESOURCE))]) -> HTMLResponse:
    """The empty form."""
    return _form(request, "", "1", "", is_new=True)


@router.post("/pools/new")
def create_pool(
    request: Request,
    store: TheStore,
    who: Annotated[Who, Depends(allow(CREATE, _RESOURCE))],
    pool: Text = "",
    slots: Text = "",
    description: Text = "",
) -> Response:
    """Add one."""
    try:
        changes.create(store, who, PoolFields(pool.strip(), _slots(slots), description.strip()))
    except OpskitError as error:
        return _refused(request, error, pool, slots, description, is_new=True)
    return redirect(request, "/pools", f"pool {pool.strip()} was added")


@router.get("/pools/edit")
def edit_pool(
    request: Request, store: TheStore, _: Annotated[Who, Depends(allow(EDIT, _RESOURCE))], pool: str
) -> HTMLResponse:
    """The form of one."""
    with store.reading() as connection:
        found = pools.get_pool(connection, pool)
    return _form(request, found.pool, str(found.slots), found.description or "", is_new=False)


@router.post("/pools/edit")
def update_pool(
    request: Request,
    store: TheStore,
    who: Annotated[Who, Depends(allow(EDIT, _RESOURCE))],
    pool: Text,
    slots: Text = "",
    description: Text = "",
) -> Response:
    """Change the slots and the description."""
    try:
        changes.update(store, who, pool, {"slots": _slots(slots), "description": description.strip()})
    except OpskitError as error:
        return _refused(request, error, pool, slots, description, is_new=False)
    return redirect(request, "/pools", f"pool {pool} was changed")


@router.post("/pools/delete")
def delete_pool(
    request: Request, store: TheStore, who: Annotated[Who, Depends(allow(DELETE, _RESOURCE))], pool: Text
) -> RedirectResponse:
    """Delete one that nobody uses just now."""
    changes.delete(store, who, pool)
    return redirect(request, "/pools", f"pool {pool} was deleted")


def _slots(text: str) -> int:
    if not (text.strip().isascii() and text.strip().isdecimal()) or int(text) > 2**31 - 1:
        raise UsageError("slots: a whole number from 0 on is needed")
    return int(text)


def _form(
    request: Request, pool: str, slots: str, description: str, *, is_new: bool, error: str = "", status: int = 200
) -> HTMLResponse:
    return render(
        request,
        "pool.html",
        status=status,
        pool=pool,
        slots=slots,
        description=description,
        is_new=is_new,
        error=error,
    )


def _refused(
    request: Request, error: OpskitError, pool: str, slots: str, description: str, *, is_new: bool
) -> HTMLResponse:
    if isinstance(error, Forbidden):
        raise error
    said = f"{error.message}. {error.hint}" if error.hint else error.message
    return _form(request, pool, slots, description, is_new=is_new, error=said, status=status_of(error))
