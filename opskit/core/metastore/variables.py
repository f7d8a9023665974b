"""Variables: named texts, encrypted at rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from opskit.core.metastore.crypto import Cipher
from opskit.core.metastore.dags import nearest
from opskit.core.metastore.tables import variable
from opskit.errors import NotFound, OpskitError, UsageError

_LONGEST_KEY = 250


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable, decrypted."""

    key: str
    value: str
    description: str | None = None


def variable_keys(connection: Connection) -> list[tuple[str, str | None]]:
    """`(key, description)` of all, by key; nothing is decrypted."""
    rows = connection.execute(select(variable.c.key, variable.c.description).order_by(variable.c.key))
    return [(row.key, row.description) for row in rows]


def list_variables(
    connection: Connection,
    cipher: Cipher,
    keys: Collection[str] | None = None,
    unreadable: list[str] | None = None,
) -> list[Variable]:
    """Variables by key. What can't be decrypted goes to `unreadable`; without it, OpskitError naming it."""
    query = select(variable).order_by(variable.c.key)
    if keys is not None:
        query = query.where(variable.c.key.in_(list(keys)))
    found = []
    for row in connection.execute(query):
        try:
            value = cipher.decrypt(row.val, f"variable {row.key!r}") if row.is_encrypted and row.val else row.val
        except OpskitError:
            if unreadable is None:
                raise
            unreadable.append(row.key)
        else:
            found.append(Variable(row.key, value, row.description))
    return found


def find_variable(connection: Connection, cipher: Cipher, key: str) -> Variable | None:
    """The variable, or None."""
    found = list_variables(connection, cipher, [key])
    return found[0] if found else None


def get_variable(connection: Connection, cipher: Cipher, key: str) -> Variable:
    """The variable. NotFound, naming the nearest one, when there is none."""
    found = find_variable(connection, cipher, key)
    if found is None:
        raise _not_found(connection, key)
    return found


def set_variable(connection: Connection, cipher: Cipher, key: str, value: str, description: str | None = None) -> bool:
    """Write a variable; whether it is new. An existing one keeps its description when None is given."""
    check_key(key)
    values = {"val": cipher.encrypt(value), "is_encrypted": True}
    if description is not None:
        values["description"] = description
    there = connection.execute(select(variable.c.key).where(variable.c.key == key).with_for_update()).first()
    if there is None:
        try:
            with connection.begin_nested():
                connection.execute(insert(variable).values(key=key, **values))
            return True
        except IntegrityError:
            pass  # somebody else has made it at the same time
    connection.execute(update(variable).where(variable.c.key == key).values(**values))
    return False


def update_variable(connection: Connection, cipher: Cipher, key: str, fields: Mapping[str, str | None]) -> None:
    """Change `value`, `description` or both; what is not in `fields` stays. NotFound when there is no such variable."""
    if connection.execute(select(variable.c.key).where(variable.c.key == key).with_for_update()).first() is None:
        raise _not_found(connection, key)
    values: dict[str, object] = {}
    if "value" in fields:
        if fields["value"] is None:
            raise UsageError(f"variable {key}: a value is needed", hint="delete the variable instead")
        values |= {"val": cipher.encrypt(fields["value"]), "is_encrypted": True}
    if "description" in fields:
        values["description"] = fields["description"]
    unknown = sorted(fields.keys() - {"value", "description"})
    if unknown:
        raise UsageError(f"variable {key}: {', '.join(unknown)} can't be changed")
    if values:
        connection.execute(update(variable).where(variable.c.key == key).values(**values))


def check_key(key: str) -> None:
    """UsageError for a text that can't be a key."""
    if not key or len(key) > _LONGEST_KEY:
        raise UsageError(f"a variable's key has 1 to {_LONGEST_KEY} characters", hint="choose a shorter key")


def delete_variable(connection: Connection, key: str) -> bool:
    """Whether there was one."""
    return connection.execute(delete(variable).where(variable.c.key == key)).rowcount == 1


def require_deleted(connection: Connection, key: str) -> None:
    """Delete a variable; NotFound when there is none."""
    if not delete_variable(connection, key):
        raise _not_found(connection, key)


def _not_found(connection: Connection, key: str) -> NotFound:
    return NotFound(
        f"there is no variable {key!r}", hint=nearest(key, [known for known, _ in variable_keys(connection)])
    )
