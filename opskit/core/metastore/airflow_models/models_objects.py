"""DAGs, variables, connections, pools, the audit log and what opskit's processes leave, as models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Integer
from sqlalchemy.orm import foreign, relationship, synonym

from opskit.core.dag import states
from opskit.core.dag.connection import Connection
from opskit.core.dag.variable import Variable
from opskit.core.metastore.airflow_models import database
from opskit.core.metastore.airflow_models.columns import (
    OPTIONS,
    Name,
    flag,
    json_value,
    key,
    mapped,
    moment,
    name,
    number,
)
from opskit.core.metastore.airflow_models.models_runs import DagRun, TaskInstance
from opskit.core.metastore.airflow_models.sessions import NEW_SESSION, provide_session
from opskit.core.metastore.schema import DEFAULT_POOL
from opskit.errors import NotFound


@mapped.mapped
class DagTag:
    """A tag of a DAG."""

    __tablename__ = "dag_tag"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
    name: Any = Column(Name, primary_key=True)
    dag_id: Any = key()

    def __repr__(self) -> str:
        return str(self.name)


@mapped.mapped
class DagModel:
    """One DAG, as the DAG processor and people have left it."""

    __tablename__ = "dag"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
    dag_id: Any = key()
    root_dag_id: Any = name()
    is_paused: Any = flag()
    is_subdag: Any = flag()
    is_active: Any = flag()
    is_stale: Any = flag()
    last_parsed_time: Any = moment()
    last_pickled: Any = moment()
    last_expired: Any = moment()
    scheduler_lock: Any = flag()
    pickle_id: Any = number()
    fileloc: Any = name()
    relative_fileloc: Any = name()
    bundle_name: Any = name()
    processor_subdir: Any = name()
    owners: Any = name()
    description: Any = name()
    default_view: Any = name()
    dag_display_name: Any = name()
    schedule_interval: Any = name()
    timetable_summary: Any = name()
    timetable_description: Any = name()
    has_import_errors: Any = flag()
    next_dagrun: Any = moment()
    next_dagrun_data_interval_start: Any = moment()
    next_dagrun_data_interval_end: Any = moment()
    next_dagrun_create_after: Any = moment()
    tags = relationship(
        DagTag, primaryjoin=lambda: foreign(DagTag.dag_id) == DagModel.dag_id, viewonly=True, uselist=True
    )
    serialized_dag = relationship(
        lambda: SerializedDagModel,
        primaryjoin=lambda: foreign(SerializedDagModel.dag_id) == DagModel.dag_id,
        viewonly=True,
        uselist=False,
    )

    def __repr__(self) -> str:
        return f"<DAG: {self.dag_id}>"

    @property
    def safe_dag_id(self) -> str:
        return str(self.dag_id).replace(".", "__dot__")

    @staticmethod
    @provide_session
    def get_dagmodel(dag_id: str, session: Any = NEW_SESSION) -> DagModel | None:
        found: DagModel | None = session.get(DagModel, dag_id, populate_existing=True)
        return found

    @classmethod
    @provide_session
    def get_current(cls, dag_id: str, session: Any = NEW_SESSION) -> DagModel | None:
        return cls.get_dagmodel(dag_id, session=session)

    @staticmethod
    @provide_session
    def get_paused_dag_ids(dag_ids: Iterable[str], session: Any = NEW_SESSION) -> set[str]:
        rows = session.query(DagModel.dag_id).filter(DagModel.is_paused.is_(True), DagModel.dag_id.in_(list(dag_ids)))
        return {row[0] for row in rows}

    @provide_session
    def get_is_paused(self, session: Any = NEW_SESSION) -> bool:
        return bool(session.query(DagModel.is_paused).filter(DagModel.dag_id == self.dag_id).scalar())

    def get_is_active(self, session: Any = None) -> bool:
        return bool(self.is_active)

    @provide_session
    def set_is_paused(self, is_paused: bool, including_subdags: bool = True, session: Any = NEW_SESSION) -> None:
        query = session.query(DagModel).filter(DagModel.dag_id == self.dag_id)
        query.update({DagModel.is_paused: is_paused}, synchronize_session="fetch")

    @provide_session
    def get_last_dagrun(self, session: Any = NEW_SESSION, include_externally_triggered: bool = False) -> DagRun | None:
        query = session.query(DagRun).filter(DagRun.dag_id == self.dag_id)
        if not include_externally_triggered:
            query = query.filter(DagRun.external_trigger.is_(False))
        found: DagRun | None = query.order_by(DagRun.execution_date.desc()).first()
        return found


@mapped.mapped
class SerializedDagModel:
    """A DAG in the JSON form of opskit (not Airflow's): `data`."""

    __tablename__ = "serialized_dag"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
    dag_id: Any = key()
    fileloc: Any = name()
    fileloc_hash: Any = name()
    data: Any = json_value()
    _data: Any = synonym("data")
    last_updated: Any = moment()
    created_at: Any = moment()
    dag_hash: Any = name()
    processor_subdir: Any = name()

    @classmethod
    @provide_session
    def has_dag(cls, dag_id: str, session: Any = NEW_SESSION) -> bool:
        return session.get(SerializedDagModel, dag_id) is not None


@mapped.mapped
class DagCode:
    """The text of a DAG file."""

    __tablename__ = "dag_code"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
    fileloc: Any = key()
    fileloc_hash: Any = name()
    last_updated: Any = moment()
    source_code: Any = name()

    @classmethod
    @provide_session
    def code(cls, fileloc: str, session: Any = NEW_SESSION) -> str:
        found = session.get(DagCode, fileloc)
        if found is None:
            raise NotFound(f"no DAG of the file {fileloc} is known")
        return str(found.source_code)

    get_code_by_fileloc = code


@mapped.mapped
class VariableModel(Variable):
    """A variable as a row; encrypted there."""

    __tablename__ = "variable"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
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
class ConnectionModel(Connection):
    """A connection as a row; password and extra are encrypted there."""

    __tablename__ = "connection"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
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

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def get_password(self) -> str | None:
        return _decrypted(self._password, self.is_encrypted, f"connection {self.conn_id!r}, password")

    def set_password(self, value: str | None) -> None:
        self._password = database.cipher().encrypt(value) if value else value
        self.is_encrypted = True

    password = property(get_password, set_password)  # type: ignore[assignment]

    def get_extra(self) -> str | None:
        return _decrypted(self._extra, self.is_encrypted, f"connection {self.conn_id!r}, extra")

    def set_extra(self, value: str | None) -> None:
        self._extra = database.cipher().encrypt(value) if value else value
        self.is_encrypted = True

    extra = property(get_extra, set_extra)  # type: ignore[assignment]


def _decrypted(stored: str | None, is_encrypted: bool | None, what: str) -> str | None:
    return database.cipher().decrypt(stored, what) if stored and is_encrypted else stored


@mapped.mapped
class Pool:
    """Slots that task instances share."""

    __tablename__ = "slot_pool"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
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
        return Pool.get_pool(DEFAULT_POOL, session=session)  # type: ignore[no-any-return]

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
class Log:
    """A line of the audit log."""

    __tablename__ = "log"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
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
class Job:
    """A process of opskit: scheduler, DAG processor, worker, gateway. Its id is a text."""

    __tablename__ = "job"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
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
class ParseImportError:
    """A DAG file whose last load failed. Its id is a text."""

    __tablename__ = "import_error"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
    id: Any = key()
    timestamp: Any = moment()
    filename: Any = name()
    bundle_name: Any = name()
    stacktrace: Any = name()


@mapped.mapped
class Trigger:
    """Opskit keeps none."""

    __tablename__ = "trigger"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
    id: Any = key(Integer)
    classpath: Any = name()
    kwargs: Any = name()
    created_date: Any = moment()
    triggerer_id: Any = number()


@mapped.mapped
class DagPickle:
    """Opskit keeps none."""

    __tablename__ = "dag_pickle"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
    id: Any = key(Integer)
    pickle: Any = name()
    created_dttm: Any = moment()
    pickle_hash: Any = name()


@mapped.mapped
class DagWarning:
    """Opskit keeps none."""

    __tablename__ = "dag_warning"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
    dag_id: Any = key()
    warning_type: Any = key()
    message: Any = name()
    timestamp: Any = moment()


@mapped.mapped
class DatasetModel:
    """A dataset."""

    __tablename__ = "dataset"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
    id: Any = key(Integer)
    uri: Any = name()
    extra: Any = json_value()
    created_at: Any = moment()
    updated_at: Any = moment()
    is_orphaned: Any = flag()


@mapped.mapped
class DatasetEvent:
    """An update of a dataset."""

    __tablename__ = "dataset_event"
    __table_args__ = OPTIONS
    __allow_unmapped__ = True
    id: Any = key(Integer)
    dataset_id: Any = number()
    extra: Any = json_value()
    source_task_id: Any = name()
    source_dag_id: Any = name()
    source_run_id: Any = name()
    source_map_index: Any = number()
    timestamp: Any = moment()
