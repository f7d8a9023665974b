"""/variables: values of secret names are masked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from opskit.core.dag.secret_names import is_secret_name
from opskit.core.metastore import crypto, variables
from opskit.core.metastore.browsing import objects
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.connections import MASK
from opskit.core.metastore.variables import Variable as Stored
from opskit.errors import UsageError
from opskit.web.airflow_api.collections import Answer, Body, Listing, UpdateMask, changed, paged, readable
from opskit.web.changes import variables as changes
from opskit.web.gate import allow
from opskit.web.identity import CREATE, DELETE, EDIT, READ, Who
from opskit.web.store import Store, TheStore

router = APIRouter(tags=["Variable"])
_Reader = Annotated[Who, Depends(allow(READ, "Variables"))]
_Creator = Annotated[Who, Depends(allow(CREATE, "Variables"))]
_Editor = Annotated[Who, Depends(allow(EDIT, "Variables"))]
_Deleter = Annotated[Who, Depends(allow(DELETE, "Variables"))]


class Variable(Answer):
    """A variable. The value of one with a secret name is `***`."""

    key: str
    value: str
    description: str | None


class VariableCollectionItem(Answer):
    """A variable in a list. A value of null can't be decrypted with the keys that there are."""

    key: str
    value: str | None
    description: str | None


class VariableCollection(Listing):
    variables: list[VariableCollectionItem]


class NewVariable(Body):
    """A variable with its value."""

    key: str = Field(min_length=1, max_length=250)
    value: str
    description: str | None = None


class VariableFields(Body):
    """What can be changed of a variable."""

    key: str | None = Field(None, description="As in the path, if it is sent.")
    value: str | None = Field(None, description="Where it was masked, `***` keeps it.")
    description: str | None = None


@router.get("/variables", operation_id="get_variables")
def get_variables(
    store: TheStore, _: _Reader, window: Annotated[Window, paged("key", "id", "value")]
) -> VariableCollection:
    """List variables."""
    cipher = crypto.open_cipher(store.config)
    with store.reading() as database:
        found, total = objects.variables(database, window, cipher)
    items = [
        VariableCollectionItem(key=one.key, value=_masked(one.key, one.value), description=one.description)
        for one in found
    ]
    return VariableCollection(variables=items, total_entries=total)


@router.post("/variables", operation_id="post_variables")
def post_variables(store: TheStore, who: _Creator, body: NewVariable) -> Variable:
    """Set a variable; one that is there gets the new value, as in Airflow."""
    changes.create(store, who, Stored(body.key, body.value, body.description), overwrite=True)
    return _answer(store, body.key)


@router.get("/variables/{variable_key:path}", operation_id="get_variable")
def get_variable(store: TheStore, _: _Reader, variable_key: str) -> Variable:
    """Get a variable."""
    return _answer(store, variable_key)


@router.patch("/variables/{variable_key:path}", operation_id="patch_variable")
def patch_variable(
    store: TheStore, who: _Editor, variable_key: str, body: VariableFields, mask: UpdateMask
) -> Variable:
    """Change value or description."""
    if body.key not in (None, variable_key):
        raise UsageError("key: it is another one than that of the path", hint="a variable keeps its key")
    fields = changed(body, mask, ("key",))
    if fields.get("value") == MASK and is_secret_name(variable_key):
        del fields["value"]
    changes.update(store, who, variable_key, fields)
    return _answer(store, variable_key)


@router.delete("/variables/{variable_key:path}", operation_id="delete_variable", status_code=204)
def delete_variable(store: TheStore, who: _Deleter, variable_key: str) -> None:
    """Delete a variable."""
    changes.delete(store, who, variable_key)


def _masked(key: str, value: str | None) -> str | None:
    return MASK if value is not None and is_secret_name(key) else value


def _answer(store: Store, key: str) -> Variable:
    cipher = crypto.open_cipher(store.config)
    with store.reading() as database, readable():
        one = variables.get_variable(database, cipher, key)
    return Variable(key=key, value=_masked(key, one.value) or "", description=one.description)
