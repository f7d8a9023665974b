"""DAGs, as the DAG processor and people have left them, as models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import foreign, relationship, synonym

from opskit.core.metastore.airflow_models.columns import (
    JsonText,
    Model,
    Name,
    flag,
    key,
    mapped,
    moment,
    name,
    number,
)
from opskit.core.metastore.airflow_models.models_runs import DagRun
from opskit.core.metastore.airflow_models.sessions import NEW_SESSION, provide_session
from opskit.errors import NotFound


class SerializedData(JsonText):
    """Our form of a DAG, with what Airflow's has around it."""

    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        stored = super().process_result_value(value, dialect)
        return None if stored is None else {"__version": 1, "dag": {"_dag_id": stored["dag_id"], **stored}}


@mapped.mapped
class DagTag(Model):
    """A tag of a DAG."""

    __tablename__ = "dag_tag"
    __mapper_args__ = {"confirm_deleted_rows": False}
    name: Any = Column(Name, primary_key=True)
    dag_id: Any = key()

    def __repr__(self) -> str:
        return str(self.name)


@mapped.mapped
class DagModel(Model):
    """One DAG, as the DAG processor and people have left it."""

    __tablename__ = "dag"
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
class SerializedDagModel(Model):
    """A DAG: `data` has Airflow's frame (`data["dag"]["tasks"]`), and in it the fields that opskit has."""

    __tablename__ = "serialized_dag"
    __mapper_args__ = {"confirm_deleted_rows": False}
    dag_id: Any = key()
    fileloc: Any = name()
    fileloc_hash: Any = name()
    data: Any = Column(SerializedData)
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
class DagCode(Model):
    """The text of a DAG file."""

    __tablename__ = "dag_code"
    __mapper_args__ = {"confirm_deleted_rows": False}
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
