"""Which database errors mean "not reachable now", "gave way to another" and "the schema is not ours"."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from opskit.errors import MetastoreUnavailable, SchemaNotCurrent

_SQLITE_UNAVAILABLE = (
    "database is locked",
    "database table is locked",
    "unable to open database file",
    "disk i/o error",
    "database or disk is full",
    "attempt to write a readonly database",
    "locking protocol",
    "file is not a database",
    "database disk image is malformed",
)
_SQLITE_SCHEMA = ("no such table", "no such column", "has no column named")
# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection, resources, operator intervention, lock.
_POSTGRESQL_UNAVAILABLE = ("08", "53", "57P", "58", "28", "3D000", "25006", "55P03")
_POSTGRESQL_CONFLICT = ("40001", "40P01")
_POSTGRESQL_SCHEMA = ("42P01", "42703")
_MYSQL_UNAVAILABLE = frozenset(
    {1021, 1040, 1042, 1044, 1045, 1049, 1053, 1077, 1079, 1080, 1129, 1130, 1152, 1158, 1159, 1160, 1161, 1184}
    | {1203, 1205, 1290, 1836, 1927, 2002, 2003, 2005, 2006, 2012, 2013, 2014, 2026, 2027, 2055, 4031}
)
_MYSQL_CONFLICT = frozenset({1213, 1020})
_MYSQL_SCHEMA = frozenset({1054, 1146})


class TransactionConflict(MetastoreUnavailable):
    """The transaction gave way to another one (deadlock): nothing was written, and it may be run again at once."""


def translate(error: SQLAlchemyError, where: str) -> Exception:
    """What to raise for an error of the database at `where` (without password): one of ours, or the error itself."""
    if not isinstance(error, DBAPIError):
        return MetastoreUnavailable(f"no connection to the metastore {where} became free in time: {error}")
    original: Any = error.orig
    kind = _kind(original, connection_lost=bool(error.connection_invalidated))
    said = " ".join(str(original.args[-1] if getattr(original, "args", None) else original).split())
    if kind == "schema":
        return SchemaNotCurrent(
            f"the schema of the metastore {where} is not the one this opskit needs: {said}",
            hint="run: opskit db migrate",
        )
    if kind == "conflict":
        return TransactionConflict(f"a transaction on the metastore {where} gave way to another one: {said}")
    if kind == "unavailable":
        return MetastoreUnavailable(f"the metastore {where} is not available: {said}", hint=_hint(said))
    return error


def _kind(original: Any, *, connection_lost: bool) -> str | None:
    module = type(original).__module__.partition(".")[0]
    if module == "sqlite3":
        said = str(original).lower()
        if any(text in said for text in _SQLITE_SCHEMA):
            return "schema"
        return "unavailable" if any(text in said for text in _SQLITE_UNAVAILABLE) else None
    if module == "psycopg":
        code = getattr(original, "sqlstate", None)
        if code is None:
            # No answer of the server at all: refused, timed out, closed.
            return (
                "unavailable"
                if connection_lost or type(original).__name__ == "OperationalError" or _is_timeout(original)
                else None
            )
        if code in _POSTGRESQL_CONFLICT:
            return "conflict"
        if code in _POSTGRESQL_SCHEMA:
            return "schema"
        return "unavailable" if code.startswith(_POSTGRESQL_UNAVAILABLE) else None
    code = original.args[0] if getattr(original, "args", None) else None
    if code in _MYSQL_CONFLICT:
        return "conflict"
    if code in _MYSQL_SCHEMA:
        return "schema"
    # PyMySQL raises InterfaceError(0, "") on a connection that it has closed itself.
    if connection_lost or code in _MYSQL_UNAVAILABLE or (code == 0 and type(original).__name__ == "InterfaceError"):
        return "unavailable"
    return None


def _is_timeout(original: Any) -> bool:
    return type(original).__name__ in ("ConnectionTimeout", "PoolTimeout")


def _hint(said: str) -> str | None:
    lowered = said.lower()
    if "unable to open database file" in lowered:
        return "create it with: opskit db migrate (or check OPSKIT_HOME and database.sql_alchemy_conn)"
    if "does not exist" in lowered or "unknown database" in lowered:
        return "create the database first, then run: opskit db migrate"
    if "password authentication" in lowered or "access denied" in lowered:
        return "check user and password in database.sql_alchemy_conn"
    if "locked" in lowered or "lock timeout" in lowered or "lock wait" in lowered:
        return "another transaction holds a lock for long; try again"
    return None
