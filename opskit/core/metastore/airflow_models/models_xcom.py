"""XComs as models."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Integer
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import foreign, relationship, synonym

from opskit.core.dag.xcom import decode, encode
from opskit.core.metastore.airflow_models.columns import JsonText, Model, key, mapped, moment, name
from opskit.core.metastore.airflow_models.models_runs import DagRun, restrict
from opskit.core.metastore.airflow_models.sessions import NEW_SESSION, provide_session
from opskit.errors import NotFound


class Value(JsonText):
    """What a task pushed: dates and their kin are wrapped in the JSON."""

    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return super().process_bind_param(encode(value), dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return decode(super().process_result_value(value, dialect))


@mapped.mapped
class BaseXCom(Model):
    """What a task instance left for others."""

    __tablename__ = "xcom"
    dag_run_id: Any = Column(BigInteger, primary_key=True, autoincrement=False)
    task_id: Any = key()
    map_index: Any = Column(Integer, primary_key=True, default=-1)
    key: Any = key()
    dag_id: Any = name()
    run_id: Any = name()
    value: Any = Column(Value)
    timestamp: Any = moment()
    execution_date: Any = moment()
    logical_date: Any = synonym("execution_date")
    dag_run = relationship(
        lambda: DagRun, primaryjoin=lambda: foreign(BaseXCom.dag_run_id) == DagRun.id, viewonly=True, uselist=False
    )

    def __repr__(self) -> str:
        return f'<XCom "{self.key}" ({self.task_id}[{self.map_index}] @ {self.run_id})>'

    @classmethod
    @provide_session
    def get_many(
        cls,
        execution_date: datetime | None = None,
        key: str | None = None,
        task_ids: str | Iterable[str] | None = None,
        dag_ids: str | Iterable[str] | None = None,
        map_indexes: int | Iterable[int] | None = None,
        include_prior_dates: bool = False,
        limit: int | None = None,
        session: Any = NEW_SESSION,
        *,
        run_id: str | None = None,
    ) -> Any:
        """A query for XComs, the newest run first."""
        query = session.query(BaseXCom)
        if execution_date is None and run_id is None:
            raise ValueError("exactly one of execution_date and run_id is needed")
        if include_prior_dates:
            if execution_date is None:
                newest = session.query(DagRun.execution_date).filter(DagRun.run_id == run_id)
                newest = restrict(newest, DagRun.dag_id, dag_ids)
                execution_date = newest.scalar()
            query = query.filter(BaseXCom.execution_date <= execution_date)
        elif run_id is not None:
            query = query.filter(BaseXCom.run_id == run_id)
        else:
            query = query.filter(BaseXCom.execution_date == execution_date)
        if key:
            query = query.filter(BaseXCom.key == key)
        query = restrict(restrict(query, BaseXCom.task_id, task_ids), BaseXCom.dag_id, dag_ids)
        if map_indexes is not None:
            wanted = [map_indexes] if isinstance(map_indexes, int) else list(map_indexes)
            query = query.filter(BaseXCom.map_index.in_(wanted))
        query = query.order_by(BaseXCom.execution_date.desc(), BaseXCom.timestamp.desc())
        return query.limit(limit) if limit else query

    @classmethod
    @provide_session
    def get_one(
        cls,
        execution_date: datetime | None = None,
        key: str | None = None,
        task_id: str | None = None,
        dag_id: str | None = None,
        include_prior_dates: bool = False,
        session: Any = NEW_SESSION,
        *,
        run_id: str | None = None,
        map_index: int | None = None,
    ) -> Any:
        """The value of the newest XCom that fits; None when there is none."""
        found = BaseXCom.get_many(
            execution_date=execution_date,
            run_id=run_id,
            key=key,
            task_ids=task_id,
            dag_ids=dag_id,
            map_indexes=map_index,
            include_prior_dates=include_prior_dates,
            session=session,
        ).first()
        return None if found is None else found.value

    @classmethod
    @provide_session
    def get_value(cls, *, ti_key: Any, key: str | None = None, session: Any = NEW_SESSION) -> Any:
        """The value of a task instance; `ti_key` has dag_id, task_id, run_id, …, map_index."""
        dag_id, task_id, run_id, *_, map_index = tuple(ti_key)
        return BaseXCom.get_one(
            key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index, session=session
        )

    @classmethod
    @provide_session
    def set(
        cls,
        key: str,
        value: Any,
        task_id: str,
        dag_id: str,
        execution_date: datetime | None = None,
        session: Any = NEW_SESSION,
        *,
        run_id: str | None = None,
        map_index: int = -1,
    ) -> None:
        """Write one, in the place of an older one. NotFound for an unknown run."""
        same = DagRun.run_id == run_id if run_id is not None else DagRun.execution_date == execution_date
        number = session.query(DagRun.id).filter(DagRun.dag_id == dag_id, same).scalar()
        if number is None:
            raise NotFound(f"DAG {dag_id} has no run {run_id or execution_date}")
        found = session.get(BaseXCom, (number, task_id, map_index, key))
        if found is None:
            session.add(BaseXCom(dag_run_id=number, task_id=task_id, map_index=map_index, key=key, value=value))  # type: ignore[call-arg]
        else:
            found.value = value
        session.flush()

    @classmethod
    @provide_session
    def clear(
        cls,
        execution_date: datetime | None = None,
        dag_id: str | None = None,
        task_id: str | None = None,
        session: Any = NEW_SESSION,
        *,
        run_id: str | None = None,
        map_index: int | None = None,
    ) -> None:
        """Forget the XComs of one task instance."""
        if dag_id is None or task_id is None or (execution_date is None and run_id is None):
            raise TypeError("clear() needs dag_id, task_id, and run_id or execution_date")
        query = session.query(BaseXCom).filter(BaseXCom.dag_id == dag_id, BaseXCom.task_id == task_id)
        query = query.filter(
            BaseXCom.run_id == run_id if run_id is not None else BaseXCom.execution_date == execution_date
        )
        if map_index is not None:
            query = query.filter(BaseXCom.map_index == map_index)
        query.delete(synchronize_session=False)

    @classmethod
    @provide_session
    def delete(cls, xcoms: BaseXCom | Iterable[BaseXCom], session: Any = NEW_SESSION) -> None:
        for one in [xcoms] if isinstance(xcoms, BaseXCom) else xcoms:
            session.delete(one)
        session.flush()
