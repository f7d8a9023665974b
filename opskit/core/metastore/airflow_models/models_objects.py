"""Variables, connections, pools, the audit log and what opskit's processes leave, as models."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column
from sqlalchemy.orm import synonym

from opskit.core.dag import states
from opskit.core.dag.connection import Connection
from opskit.core.dag.variable import Variable
from opskit.core.metastore.airflow_models import database
from opskit.core.metastore.airflow_models.columns import (
    Model,
    Name,
    flag,
    key,
    mapped,
    moment,
    name,
    number,
)
from opskit.core.metastore.airflow_models.models_runs import TaskInstance
from opskit.core.metastore.airflow_models.sessions import NEW_SESSION, provide_session
from opskit.core.metastore.schema import DEFAULT_POOL
from opskit.errors import NotFound


@mapped.mapped
class VariableModel(Variable, Model):
    """A variable as a row; encrypted there."""

    __tablename__ = "variable"
    key: Any = key()
    _val: Any = Column("val", Name)
    description: Any = name()
    is_encrypted: Any = flag()

    def __init__(self, key: str | None = None, val: Any = None, description: str | None = None) -> None:
        self.key = key
        self.description = description
        self.val = val

    def __repr__(self) -> str:
        return str(self.key)

    def get_val(self) -> str | None:
        return _decrypted(self._val, self.is_encrypted, f"variable {self.key!r}")

    def set_val(self, value: Any) -> None:
        self._val = None if value is None else database.cipher().encrypt(str(value))
        self.is_encrypted = True

    val = property(get_val, set_val)


@mapped.mapped
class ConnectionModel(Connection, Model):
    """A connection as a row; password and extra are encrypted there."""

    __tablename__ = "connection"
    conn_id: Any = key()
    conn_type: Any = name()
    description: Any = name()
    host: Any = name()
    login: Any = name()
    _password: Any = Column("password", Name)
    schema: Any = name()
    port: Any = number()
    _extra: Any = Column("extra", Name)
    is_encrypted: Any = flag()
    is_extra_encrypted: Any = flag()

    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__

    def get_password(self) -> str | None:
        return _decrypted(self._password, self.is_encrypted, f"connection {self.conn_id!r}, password")

    def set_password(self, value: str | None) -> None:
        self._password = database.cipher().encrypt(value) if value else value
        self.is_encrypted = True

    password = property(get_password, set_password)

    def get_extra(self) -> str | None:
        return _decrypted(self._extra, self.is_encrypted, f"connection {self.conn_id!r}, extra")

    def set_extra(self, value: str | None) -> None:
        self._extra = database.cipher().encrypt(value) if value else value
        self.is_encrypted = True

    extra = property(get_extra, set_extra)


def _decrypted(stored: str | None, is_encrypted: bool | None, what: str) -> str | None:
    return database.cipher().decrypt(stored, what) if stored and is_encrypted else stored


@mapped.mapped
class Pool(Model):
    """Slots that task instances share."""

    __tablename__ = "slot_pool"
    pool: Any = key()
    slots: Any = number()
    description: Any = name()
    include_deferred: Any = flag()
    DEFAULT_POOL_NAME = DEFAULT_POOL

    def __repr__(self) -> str:
        return str(self.pool)

    @staticmethod
    @provide_session
    def get_pools(session: Any = NEW_SESSION) -> list[Pool]:
        found: list[Pool] = session.query(Pool).order_by(Pool.pool).all()
        return found

    @staticmethod
    @provide_session
    def get_pool(pool_name: str, session: Any = NEW_SESSION) -> Pool | None:
        found: Pool | None = session.get(Pool, pool_name)
        return found

    @staticmethod
    @provide_session
    def get_default_pool(session: Any = NEW_SESSION) -> Pool | None:
        return Pool.get_pool(DEFAULT_POOL, session=session)

    @staticmethod
    @provide_session
    def create_or_update_pool(
        name: str,
        slots: int,
        description: str | None = None,
        include_deferred: bool = False,
        session: Any = NEW_SESSION,
    ) -> Pool:
        pool = session.get(Pool, name)
        if pool is None:
            pool = Pool(pool=name)  # type: ignore[call-arg]
            session.add(pool)
        pool.slots, pool.description = slots, description
        if include_deferred:
            pool.include_deferred = True
        session.commit()
        return pool  # type: ignore[no-any-return]

    @staticmethod
    @provide_session
    def delete_pool(name: str, session: Any = NEW_SESSION) -> Pool:
        pool = session.get(Pool, name)
        if pool is None:
            raise NotFound(f"there is no pool {name!r}")
        session.delete(pool)
        session.commit()
        return pool  # type: ignore[no-any-return]

    @provide_session
    def occupied_slots(self, session: Any = NEW_SESSION) -> int:
        return _slots(session, self.pool, sorted(states.IN_FLIGHT))

    @provide_session
    def running_slots(self, session: Any = NEW_SESSION) -> int:
        return _slots(session, self.pool, [states.RUNNING])

    @provide_session
    def queued_slots(self, session: Any = NEW_SESSION) -> int:
        return _slots(session, self.pool, [states.QUEUED])

    @provide_session
    def open_slots(self, session: Any = NEW_SESSION) -> float:
        return float("inf") if self.slots == -1 else self.slots - self.occupied_slots(session=session)


def _slots(session: Any, pool: str, wanted: list[str]) -> int:
    from sqlalchemy import func

    query = session.query(func.sum(TaskInstance.pool_slots))
    return int(query.filter(TaskInstance.pool == pool, TaskInstance.state.in_(wanted)).scalar() or 0)


@mapped.mapped
class Log(Model):
    """A line of the audit log."""

    __tablename__ = "log"
    id: Any = Column(BigInteger, primary_key=True)
    dttm: Any = moment()
    dag_id: Any = name()
    task_id: Any = name()
    run_id: Any = name()
    map_index: Any = number()
    try_number: Any = number()
    event: Any = name()
    execution_date: Any = moment()
    logical_date: Any = synonym("execution_date")
    owner: Any = name()
    owner_display_name: Any = name()
    extra: Any = name()

    def __init__(
        self,
        event: str | None = None,
        task_instance: Any = None,
        owner: str | None = None,
        owner_display_name: str | None = None,
        extra: Any = None,
        **columns: Any,
    ) -> None:
        self.dttm = columns.pop("dttm", None) or datetime.now(UTC)
        self.event, self.owner = event, owner or owner_display_name
        self.extra = json.dumps(extra) if isinstance(extra, dict) else extra
        if task_instance is not None:
            self.dag_id, self.task_id = task_instance.dag_id, task_instance.task_id
            self.run_id = getattr(task_instance, "run_id", None)
        for column, value in columns.items():
            setattr(self, column, value)

    def __str__(self) -> str:
        return f"Log({self.event}, {self.task_id}, {self.owner}, {self.extra})"


@mapped.mapped
class Job(Model):
    """A process of opskit: scheduler, DAG processor, worker, gateway. Its id is a text."""

    __tablename__ = "job"
    id: Any = key()
    dag_id: Any = name()
    state: Any = name()
    job_type: Any = name()
    start_date: Any = moment()
    end_date: Any = moment()
    latest_heartbeat: Any = moment()
    executor_class: Any = name()
    hostname: Any = name()
    unixname: Any = name()


@mapped.mapped
class ParseImportError(Model):
    """A DAG file whose last load failed. Its id is a text."""

    __tablename__ = "import_error"
    id: Any = key()
    timestamp: Any = moment()
    filename: Any = name()
    bundle_name: Any = name()
    stacktrace: Any = name()
