"""Variables: create, update, delete."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from opskit.core.metastore import crypto, variables
from opskit.core.metastore.variables import Variable
from opskit.web.changes import auditing
from opskit.web.faults import Conflict
from opskit.web.identity import CREATE, DELETE, EDIT, Who
from opskit.web.store import Store

_RESOURCE = "Variables"


def create(store: Store, who: Who, value: Variable, *, overwrite: bool = False) -> None:
    """Add a variable; with `overwrite`, one of that key gets the new value, and a new description if one is given.

    Forbidden; Conflict when the key is taken; UsageError for a text that can't be a key."""
    who.require(CREATE, _RESOURCE)
    cipher = crypto.open_cipher(store.config)
    with store.changing() as database:
        is_new = variables.set_variable(database, cipher, value.key, value.value, value.description)
        if not is_new and not overwrite:
            raise Conflict(f"there is a variable {value.key!r} already", hint="edit it, or choose another key")
        if not is_new:
            who.require(EDIT, _RESOURCE)
        auditing.write(database, who, "variables set", datetime.now(UTC), key=value.key, new=is_new)


def put_all(store: Store, who: Who, values: Collection[Variable], *, overwrite: bool = False) -> int:
    """Write these, all or none; how many are new.

    Forbidden; Conflict for a key that is taken, without `overwrite`; UsageError for a text that can't be a key."""
    who.require(CREATE, _RESOURCE)
    cipher = crypto.open_cipher(store.config)
    new = []
    with store.changing() as database:
        for value in values:
            if variables.set_variable(database, cipher, value.key, value.value, value.description):
                new.append(value.key)
            elif not overwrite:
                raise Conflict(f"there is a variable {value.key!r} already", hint="replace those that are there")
        if len(new) < len(values):
            who.require(EDIT, _RESOURCE)
        auditing.write(database, who, "variables import", datetime.now(UTC), count=len(values), new=len(new))
    return len(new)


def update(store: Store, who: Who, key: str, fields: Mapping[str, str | None]) -> None:
    """Change `value`, `description` or both; what is not among the fields is kept. Forbidden, NotFound, UsageError."""
    who.require(EDIT, _RESOURCE)
    cipher = crypto.open_cipher(store.config)
    with store.changing() as database:
        variables.update_variable(database, cipher, key, fields)
        auditing.write(database, who, "variables set", datetime.now(UTC), key=key, new=False, fields=sorted(fields))


def delete(store: Store, who: Who, key: str) -> None:
    """Forbidden, NotFound."""
    who.require(DELETE, _RESOURCE)
    with store.changing() as database:
        variables.require_deleted(database, key)
        auditing.write(database, who, "variables delete", datetime.now(UTC), key=key)
