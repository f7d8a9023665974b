"""Variables: listed, written, imported, deleted. A value under a secret name goes in and never comes out."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from opskit.core.dag.secret_names import is_secret_name
from opskit.core.metastore import crypto, interchange, variables
from opskit.core.metastore.variables import Variable
from opskit.errors import OpskitError, UsageError
from opskit.web.changes import variables as changes
from opskit.web.faults import Forbidden, status_of
from opskit.web.flash import redirect
from opskit.web.formats import plural
from opskit.web.gate import allow
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.pages.paging import PageNumber, Search, part_of
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter(include_in_schema=False)
PER_PAGE = 100
_RESOURCE = "Variables"
_SHOWN = 400
_MOST_BYTES = 2 << 20
MASK = "***"
Text = Annotated[str, Form()]


@router.get("/variables")
def list_variables(
    request: Request,
    store: TheStore,
    _: Annotated[Who, Depends(allow(READ, _RESOURCE))],
    search: Search = "",
    page: PageNumber = 1,
) -> HTMLResponse:
    """All, by key; only the values of this page are decrypted."""
    unreadable: list[str] = []
    with store.reading() as connection:
        known = variables.variable_keys(connection)
        wanted = search.strip().lower()
        keys = [key for key, text in known if not wanted or wanted in f"{key} {text or ''}".lower()]
        part = part_of(keys, page, PER_PAGE)
        found = variables.list_variables(connection, crypto.open_cipher(store.config), part.items, unreadable)
    values = {one.key: one for one in found}
    descriptions = dict(known)
    return render(
        request,
        "variables.html",
        part=part,
        rows=[
            {
                "key": key,
                "description": descriptions[key],
                "value": shown(key, values[key].value) if key in values else None,
                "is_secret": is_secret_name(key),
            }
            for key in part.items
        ],
        search=search,
    )


def shown(key: str, value: str) -> str:
    """The value, cut off; `***` under a secret name, and for what lies under secret names in JSON."""
    text = _masked_text(key, value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _masked_text(key: str, value: str) -> str:
    if is_secret_name(key):
        return MASK
    if value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    hidden = _masked(parsed)
    return value if hidden == parsed else json.dumps(hidden, ensure_ascii=False)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: MASK if is_secret_name(name) else _masked(item) for name, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value


@router.get("/variables/new")
def new_variable(request: Request, _: Annotated[Who, Depends(allow(CREATE, _RESOURCE))]) -> HTMLResponse:
    """The empty form."""
    return _form(request, "", "", "", is_new=True)


@router.post("/variables/new")
def create_variable(
    request: Request,
    store: TheStore,
    who: Annotated[Who, Depends(allow(CREATE, _RESOURCE))],
    key: Text = "",
    value: Text = "",
    description: Text = "",
) -> Response:
    """Add one."""
    try:
        changes.create(store, who, Variable(key.strip(), _lines(value), description.strip() or None))
    except OpskitError as error:
        return _refused(request, error, key, "" if is_secret_name(key) else value, description, is_new=True)
    return redirect(request, "/variables", f"variable {key.strip()} was added")


@router.get("/variables/edit")
def edit_variable(
    request: Request, store: TheStore, _: Annotated[Who, Depends(allow(EDIT, _RESOURCE))], key: str
) -> HTMLResponse:
    """The form of one. What is masked is not in it: such a value can only be written anew."""
    with store.reading() as connection:
        try:
            stored = variables.get_variable(connection, crypto.open_cipher(store.config), key)
        except OpskitError:
            description = dict(variables.variable_keys(connection)).get(key)
            if description is None and key not in dict(variables.variable_keys(connection)):
                raise
            return _form(request, key, None, description or "", is_new=False)
    hidden = _masked_text(key, stored.value) != stored.value
    return _form(request, key, None if hidden else stored.value, stored.description or "", is_new=False)


@router.post("/variables/edit")
def update_variable(
    request: Request,
    store: TheStore,
    who: Annotated[Who, Depends(allow(EDIT, _RESOURCE))],
    key: Text,
    value: Text = "",
    description: Text = "",
    hidden: Annotated[bool, Form()] = False,
) -> Response:
    """Change one. Where the value was not shown, an empty one keeps it."""
    fields: dict[str, str | None] = {"description": description.strip() or None}
    if value or not hidden:
        fields["value"] = _lines(value)
    try:
        changes.update(store, who, key, fields)
    except OpskitError as error:
        return _refused(request, error, key, None if hidden else value, description, is_new=False)
    return redirect(request, "/variables", f"variable {key} was changed")


@router.post("/variables/delete")
def delete_variable(
    request: Request, store: TheStore, who: Annotated[Who, Depends(allow(DELETE, _RESOURCE))], key: Text
) -> RedirectResponse:
    """Delete one."""
    changes.delete(store, who, key)
    return redirect(request, "/variables", f"variable {key} was deleted")


@router.post("/variables/import")
def import_variables(
    request: Request,
    store: TheStore,
    who: Annotated[Who, Depends(allow(CREATE, _RESOURCE))],
    file: UploadFile,
    overwrite: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """A JSON file as `opskit variables export` and Airflow write it. All of it is written, or nothing."""
    raw = file.file.read(_MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES:
        raise UsageError("the file is larger than 2 MB", hint="opskit variables import takes larger ones")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise UsageError("the file is no text in UTF-8") from None
    found = interchange.load_variables(text, "json", "the file")
    new = changes.put_all(store, who, found, overwrite=overwrite)
    return redirect(request, "/variables", f"{plural(len(found), 'variable')} imported, {new:,} of them new")


def _lines(text: str) -> str:
    """Browsers send \\r\\n where the field has a line break."""
    return text.replace("\r\n", "\n")


def _form(
    request: Request,
    key: str,
    value: str | None,
    description: str,
    *,
    is_new: bool,
    error: str = "",
    status: int = 200,
) -> HTMLResponse:
    return render(
        request,
        "variable.html",
        status=status,
        key=key,
        value=value,
        description=description,
        is_new=is_new,
        error=error,
    )


def _refused(
    request: Request, error: OpskitError, key: str, value: str | None, description: str, *, is_new: bool
) -> HTMLResponse:
    if isinstance(error, Forbidden):
        raise error
    said = f"{error.message}. {error.hint}" if error.hint else error.message
    return _form(request, key, value, description, is_new=is_new, error=said, status=status_of(error))
