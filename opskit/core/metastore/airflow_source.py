"""Reads the metastore of an Airflow 2 or 3: configuration and history as plain values. Nothing is written to it.

Its tables are looked at as they are there, so that one reader fits all releases: a column that a release does not have
is simply not among the values.
"""

from __future__ import annotations

import io
import json
import pickle
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import MetaData, Table, create_engine, inspect, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, NoSuchTableError
from sqlalchemy.pool import StaticPool

from opskit.core.metastore import airflow_people
from opskit.core.metastore.crypto import Cipher
from opskit.core.metastore.engine import normalised, open_engine, reading, redacted, sqlite_path
from opskit.core.metastore.objects import Fields, Objects, extra_of
from opskit.errors import MetastoreUnavailable, OpskitError, UsageError

_PEOPLE = (
    *("ab_user", "ab_role", "ab_user_role"),
    *("ab_permission", "ab_view_menu", "ab_permission_view", "ab_permission_view_role"),
)
_TABLES = ("connection", "variable", "slot_pool", "dag", "dag_run", "task_instance", "xcom", *_PEOPLE)
_CHUNK = 500
Problems = list[tuple[str, str]]
"""(what, why it can't be taken)."""


@dataclass(frozen=True, slots=True)
class SourceRun:
    """An ended DagRun with what belongs to it; times are aware UTC."""

    values: Mapping[str, Any]
    instances: Sequence[Mapping[str, Any]]
    xcoms: Sequence[Mapping[str, Any]]


@dataclass
class AirflowSource:
    """One Airflow metastore, opened for reading."""

    connection: Connection
    where: str
    cipher: Cipher | None
    tables: Mapping[str, Table]
    problems: Problems = field(default_factory=list)

    @property
    def generation(self) -> int:
        """2 or 3."""
        return 3 if "logical_date" in self.tables["dag_run"].c else 2

    def connections(self) -> dict[str, Fields]:
        """As `objects` has them. One whose secrets can't be decrypted is a problem, and left out."""
        found = {}
        for row in self._rows("connection"):
            name = f"connections/{row['conn_id']}"
            fields = {key: row.get(key) for key in ("description", "host", "login", "schema", "port")}
            password = self._plain(row, "password", "is_encrypted", name)
            extra = self._plain(row, "extra", "is_extra_encrypted", name)
            if password is _LOCKED or extra is _LOCKED:
                continue
            loaded = extra_of(extra)
            if not isinstance(loaded, dict):
                self.problems.append((name, "its extra is no JSON object"))
                continue
            found[row["conn_id"]] = {
                **fields,
                "conn_type": row.get("conn_type") or "",
                "description": fields["description"] or None,
                "password": password,
                "extra": loaded,
            }
        return found

    def variables(self) -> dict[str, Fields]:
        found = {}
        for row in self._rows("variable"):
            value = self._plain(row, "val", "is_encrypted", f"variables/{row['key']}")
            if value is not _LOCKED and row["key"] is not None:
                found[row["key"]] = {"value": value or "", "description": row.get("description") or None}
        return found

    def pools(self) -> dict[str, Fields]:
        found = {}
        for row in self._rows("slot_pool"):
            if row["slots"] is None or row["slots"] < 0:
                self.problems.append((f"pools/{row['pool']}", "it has no limit of slots, and here each pool has one"))
                continue
            if row.get("include_deferred"):
                self.problems.append((f"pools/{row['pool']}.include_deferred", "deferred tasks occupy no slots here"))
            found[row["pool"]] = {"slots": row["slots"], "description": row.get("description") or None}
        return found

    def pauses(self) -> dict[str, bool]:
        """dag_id → whether it is paused, of DAGs that a file defines."""
        return {
            row["dag_id"]: bool(row["is_paused"])
            for row in self._rows("dag")
            if not row.get("is_subdag") and row.get("is_active", True) and not row.get("is_stale", False)
        }

    def people(self) -> Objects:
        """Users and roles, as `airflow_people` has them. None, where that Airflow keeps its users elsewhere."""
        rows = {name: self._rows(name) for name in _PEOPLE}
        return {
            "roles": airflow_people.read_roles(rows, self.problems),
            "users": airflow_people.read_users(rows, self.problems),
        }

    def run_keys(self) -> list[tuple[int, str, str, str]]:
        """(id, dag_id, run_id, state) of all DagRuns, the oldest first."""
        run = self.tables["dag_run"]
        return [
            (row.id, row.dag_id, row.run_id, str(row.state))
            for row in self.connection.execute(
                select(run.c.id, run.c.dag_id, run.c.run_id, run.c.state).order_by(run.c.id)
            )
        ]

    def runs(self, numbers: Sequence[int]) -> Iterator[SourceRun]:
        """These runs, in the order of their ids."""
        for start in range(0, len(numbers), _CHUNK):
            yield from self._some_runs(numbers[start : start + _CHUNK])

    def _some_runs(self, numbers: Sequence[int]) -> Iterator[SourceRun]:
        run, instance, xcom = (self.tables[name] for name in ("dag_run", "task_instance", "xcom"))
        wanted = {row["id"]: row for row in self._select(run, run.c.id.in_(numbers))}
        by_run: dict[tuple[str, str], tuple[list[Any], list[Any]]] = {
            (row["dag_id"], row["run_id"]): ([], []) for row in wanted.values()
        }
        of_instance = select(instance).join(
            run, (run.c.dag_id == instance.c.dag_id) & (run.c.run_id == instance.c.run_id)
        )
        # What a task was given as executor_config is a pickle, and of no use here.
        columns = [column for column in instance.c if column.name != "executor_config"]
        of_instance = of_instance.with_only_columns(*columns)
        for row in self.connection.execute(of_instance.where(run.c.id.in_(numbers))):
            values = _aware(dict(row._mapping))
            by_run[values["dag_id"], values["run_id"]][0].append(values)
        for values in self._select(xcom, xcom.c.dag_run_id.in_(numbers)):
            key = (values["dag_id"], values["run_id"])
            if key in by_run:
                by_run[key][1].append(values)
        for number in sorted(wanted):
            found = wanted[number]
            yield SourceRun(found, *by_run[found["dag_id"], found["run_id"]])

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return list(self._select(self.tables[name])) if name in self.tables else []

    def _select(self, table: Table, *conditions: Any) -> Iterator[dict[str, Any]]:
        query = select(table).where(*conditions).order_by(*table.primary_key.columns)
        for row in self.connection.execute(query):
            yield _aware(dict(row._mapping))

    def _plain(self, row: Mapping[str, Any], column: str, flag: str, what: str) -> Any:
        """The value in the clear; _LOCKED, and a problem, when no key reads it."""
        stored = row.get(column)
        if not stored or not row.get(flag):
            return stored
        if self.cipher is None:
            self.problems.append((what, "it is encrypted, and no Fernet key of that Airflow was given"))
            return _LOCKED
        try:
            return self.cipher.decrypt(stored, what)
        except OpskitError:
            self.problems.append((what, "it is encrypted with another Fernet key"))
            return _LOCKED


_LOCKED: Any = object()


def _aware(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
        for name, value in row.items()
    }


@contextmanager
def open_source(url: str, keys: Sequence[str]) -> Iterator[AirflowSource]:
    """Open an Airflow metastore. MetastoreUnavailable when it can't be reached; UsageError when it is none."""
    cipher = Cipher(list(keys), "the Fernet key of that Airflow") if keys else None
    engine = _engine(url)
    where = redacted(url)
    try:
        with reading(engine) as connection:
            there = set(inspect(connection).get_table_names())
            missing = {"connection", "variable", "dag_run", "task_instance"} - there
            if missing or "slot_pool" not in there:
                raise UsageError(
                    f"{where} is no metastore of Airflow: it has no table {sorted(missing | {'slot_pool'})[0]}",
                    hint="give its database.sql_alchemy_conn with --from-db",
                )
            metadata = MetaData()
            tables = {
                name: Table(name, metadata, autoload_with=connection, resolve_fks=False)
                for name in _TABLES
                if name in there
            }
            if "execution_date" in tables["task_instance"].c:
                raise UsageError(
                    f"{where} is older than Airflow 2.2",
                    hint="migrate it to a newer Airflow 2 first, or use export files",
                )
            yield AirflowSource(connection, where, cipher, tables)
    except (DBAPIError, NoSuchTableError) as error:
        raise MetastoreUnavailable(f"the Airflow metastore {where} can't be read: {type(error).__name__}") from error
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    path = sqlite_path(url)
    if path is None:
        return open_engine(normalised(url).render_as_string(hide_password=False), pool_size=1)
    if not Path(path).exists():
        raise MetastoreUnavailable(f"there is no file {path}")
    # open_engine would switch the file to another journal; it is not ours.
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    return create_engine(
        "sqlite://",
        poolclass=StaticPool,
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=30, check_same_thread=False),
    )


class _PlainUnpickler(pickle.Unpickler):
    """Numbers, texts, lists, dicts …: a pickle that wants to call something is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def conf_of(stored: Any) -> dict[str, Any]:
    """The conf of a run: JSON in Airflow 3, a pickle before. ValueError for what is no plain JSON object."""
    if stored is None:
        return {}
    if isinstance(stored, (bytes, memoryview)):
        try:
            stored = _PlainUnpickler(io.BytesIO(bytes(stored))).load()
        except Exception as error:
            raise ValueError(f"its conf can't be read: {error}") from error
    if isinstance(stored, str):
        stored = json.loads(stored)
    if stored is None:
        return {}
    if not isinstance(stored, dict):
        raise ValueError("its conf is no JSON object")
    json.dumps(stored)
    return stored


def xcom_value(stored: Any) -> Any:
    """The value of an XCom as our own JSON. ValueError for a pickle, and for values of classes that we don't have."""
    if isinstance(stored, (bytes, memoryview)):
        text = bytes(stored)
        if text[:1] == b"\x80":
            raise ValueError("it is a pickle")
        stored = json.loads(text)
    return _translated(stored)


def _translated(value: Any) -> Any:
    if isinstance(value, list):
        return [_translated(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "__classname__" not in value:
        return {key: _translated(item) for key, item in value.items()}
    name, data = value["__classname__"], value.get("__data__")
    if name in ("datetime.datetime", "pendulum.datetime.DateTime") and isinstance(data, dict):
        at = datetime.fromtimestamp(float(data["timestamp"]), UTC)
        data = (at if data.get("tz") is not None else at.replace(tzinfo=None)).isoformat()
        name = "datetime.datetime"
    elif name in _SAME:
        data = _translated(data)
    else:
        raise ValueError(f"it holds a {name}")
    return {"__classname__": name, "__version__": 1, "__data__": data}


_SAME = {
    "datetime.datetime",
    "datetime.date",
    "datetime.timedelta",
    "builtins.tuple",
    "builtins.set",
    "builtins.frozenset",
    "decimal.Decimal",
}
