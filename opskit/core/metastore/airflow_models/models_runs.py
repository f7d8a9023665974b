"""DagRuns, task instances, and what is kept for each of them, as models."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, and_
from sqlalchemy.orm import foreign, relationship, synonym

from opskit.core.dag import states
from opskit.core.metastore.airflow_models.columns import (
    Model,
    flag,
    json_value,
    key,
    mapped,
    moment,
    name,
    number,
    real,
)
from opskit.core.metastore.airflow_models.sessions import NEW_SESSION, provide_session
from opskit.errors import NotFound, UsageError


@mapped.mapped
class DagRun(Model):
    """One DagRun."""

    __tablename__ = "dag_run"
    id: Any = Column(BigInteger, primary_key=True)
    dag_id: Any = name()
    run_id: Any = name()
    run_type: Any = name()
    state: Any = name()
    execution_date: Any = moment()
    logical_date: Any = synonym("execution_date")
    queued_at: Any = moment()
    start_date: Any = moment()
    end_date: Any = moment()
    data_interval_start: Any = moment()
    data_interval_end: Any = moment()
    run_after: Any = moment()
    external_trigger: Any = flag()
    conf: Any = json_value()
    note: Any = name()
    dag_hash: Any = name()
    creating_job_id: Any = number()
    log_template_id: Any = number()
    last_scheduling_decision: Any = moment()
    updated_at: Any = moment()
    clear_number: Any = number()
    _state: Any = synonym("state")
    task_instances = relationship(
        lambda: TaskInstance,
        primaryjoin=lambda: and_(foreign(TaskInstance.dag_id) == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id),
        viewonly=True,
        uselist=True,
    )

    def __repr__(self) -> str:
        return f"<DagRun {self.dag_id} @ {self.execution_date}: {self.run_id}, state:{self.state}>"

    @property
    def is_backfill(self) -> bool:
        return bool(self.run_type == "backfill")

    def get_state(self) -> str | None:
        return self.state  # type: ignore[no-any-return]

    def set_state(self, state: Any) -> None:
        self.state = getattr(state, "value", state)

    @staticmethod
    @provide_session
    def find(
        dag_id: str | Collection[str] | None = None,
        run_id: str | Collection[str] | None = None,
        execution_date: datetime | Collection[datetime] | None = None,
        state: Any = None,
        external_trigger: bool | None = None,
        no_backfills: bool = False,
        run_type: Any = None,
        session: Any = NEW_SESSION,
        execution_start_date: datetime | None = None,
        execution_end_date: datetime | None = None,
        logical_date: datetime | Collection[datetime] | None = None,
    ) -> list[DagRun]:
        """The runs that fit, the oldest first."""
        query = session.query(DagRun)
        for column, wanted in (
            (DagRun.dag_id, dag_id),
            (DagRun.run_id, run_id),
            (DagRun.execution_date, execution_date),
        ):
            query = restrict(query, column, wanted)
        query = restrict(query, DagRun.execution_date, logical_date)
        if execution_start_date is not None:
            query = query.filter(DagRun.execution_date >= execution_start_date)
        if execution_end_date is not None:
            query = query.filter(DagRun.execution_date <= execution_end_date)
        if state is not None:
            query = query.filter(DagRun.state == state)
        if external_trigger is not None:
            query = query.filter(DagRun.external_trigger.is_(external_trigger))
        if run_type is not None:
            query = query.filter(DagRun.run_type == run_type)
        if no_backfills:
            query = query.filter(DagRun.run_type != "backfill")
        found: list[DagRun] = query.order_by(DagRun.execution_date).all()
        return found

    @classmethod
    @provide_session
    def find_duplicate(
        cls, dag_id: str, run_id: str, execution_date: datetime | None = None, session: Any = NEW_SESSION
    ) -> DagRun | None:
        same = (DagRun.run_id == run_id) | (DagRun.execution_date == execution_date)
        found: DagRun | None = session.query(DagRun).filter(DagRun.dag_id == dag_id, same).first()
        return found

    @classmethod
    @provide_session
    def get_latest_runs(cls, session: Any = NEW_SESSION) -> list[DagRun]:
        """The newest run of each DAG."""
        from sqlalchemy import func

        newest = (
            session.query(DagRun.dag_id, func.max(DagRun.execution_date).label("at")).group_by(DagRun.dag_id).subquery()
        )
        same = and_(DagRun.dag_id == newest.c.dag_id, DagRun.execution_date == newest.c.at)
        found: list[DagRun] = session.query(DagRun).join(newest, same).all()
        return found

    @provide_session
    def get_task_instances(self, state: Any = None, session: Any = NEW_SESSION) -> list[TaskInstance]:
        query = session.query(TaskInstance).filter(
            TaskInstance.dag_id == self.dag_id, TaskInstance.run_id == self.run_id
        )
        if state is not None:
            wanted = [state] if isinstance(state, str) else list(state)
            named = TaskInstance.state.in_([one for one in wanted if one is not None])
            query = query.filter(named | TaskInstance.state.is_(None) if None in wanted else named)
        found: list[TaskInstance] = query.order_by(TaskInstance.task_id, TaskInstance.map_index).all()
        return found

    @provide_session
    def get_task_instance(
        self, task_id: str, session: Any = NEW_SESSION, *, map_index: int = -1
    ) -> TaskInstance | None:
        found: TaskInstance | None = session.get(TaskInstance, (self.dag_id, task_id, self.run_id, map_index))
        return found

    @provide_session
    def get_previous_dagrun(self, state: Any = None, session: Any = NEW_SESSION) -> DagRun | None:
        query = session.query(DagRun).filter(DagRun.dag_id == self.dag_id, DagRun.execution_date < self.execution_date)
        if state is not None:
            query = query.filter(DagRun.state == state)
        found: DagRun | None = query.order_by(DagRun.execution_date.desc()).first()
        return found

    @provide_session
    def refresh_from_db(self, session: Any = NEW_SESSION) -> None:
        found = session.query(DagRun).filter(DagRun.dag_id == self.dag_id, DagRun.run_id == self.run_id).one()
        if found is not self:
            for column in DagRun.__table__.columns:  # type: ignore[attr-defined]
                setattr(self, column.name, getattr(found, column.name))


def restrict(query: Any, column: Any, wanted: Any) -> Any:
    if wanted is None:
        return query
    if isinstance(wanted, (str, datetime)):
        return query.filter(column == wanted)
    return query.filter(column.in_(list(wanted)))


@mapped.mapped
class TaskInstance(Model):
    """One task of one run."""

    __tablename__ = "task_instance"
    dag_id: Any = key()
    task_id: Any = key()
    run_id: Any = key()
    map_index: Any = Column(Integer, primary_key=True, default=-1)
    execution_date: Any = moment()
    logical_date: Any = synonym("execution_date")
    start_date: Any = moment()
    end_date: Any = moment()
    duration: Any = real()
    state: Any = name()
    try_number: Any = number()
    _try_number: Any = synonym("try_number")
    max_tries: Any = number()
    hostname: Any = name()
    unixname: Any = name()
    job_id: Any = number()
    pool: Any = name()
    pool_slots: Any = number()
    queue: Any = name()
    priority_weight: Any = number()
    operator: Any = name()
    custom_operator_name: Any = name()
    queued_dttm: Any = moment()
    queued_by_job_id: Any = number()
    pid: Any = number()
    executor: Any = name()
    executor_config: Any = name()
    external_executor_id: Any = name()
    updated_at: Any = moment()
    rendered_map_index: Any = name()
    task_display_name: Any = name()
    trigger_id: Any = number()
    trigger_timeout: Any = moment()
    next_method: Any = name()
    next_kwargs: Any = name()
    dag_run = relationship(
        lambda: DagRun,
        primaryjoin=lambda: and_(TaskInstance.dag_id == foreign(DagRun.dag_id), TaskInstance.run_id == DagRun.run_id),
        viewonly=True,
        uselist=False,
    )
    test_mode = False
    task: Any = None

    def __init__(
        self,
        task: Any = None,
        execution_date: datetime | None = None,
        run_id: str | None = None,
        state: str | None = None,
        map_index: int = -1,
        **columns: Any,
    ) -> None:
        """As `TaskInstance(task, execution_date)` or `(task, run_id=…)`: names one that the scheduler has made."""
        if task is not None:
            columns |= {"dag_id": task.dag_id, "task_id": task.task_id}
            self.task = task
        columns |= {"execution_date": execution_date, "run_id": run_id, "state": state, "map_index": map_index}
        for column, value in columns.items():
            setattr(self, column, value)

    def __repr__(self) -> str:
        index = f" map_index={self.map_index}" if self.map_index is not None and self.map_index >= 0 else ""
        return f"<TaskInstance: {self.dag_id}.{self.task_id} {self.run_id}{index} [{self.state}]>"

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        return self.dag_id, self.task_id, self.run_id, self.try_number, self.map_index

    def _stored(self, session: Any) -> TaskInstance | None:
        query = session.query(TaskInstance).filter(
            TaskInstance.dag_id == self.dag_id,
            TaskInstance.task_id == self.task_id,
            TaskInstance.map_index == (-1 if self.map_index is None else self.map_index),
        )
        if self.run_id is not None:
            query = query.filter(TaskInstance.run_id == self.run_id)
        else:
            query = query.filter(TaskInstance.execution_date == self.execution_date)
        found: TaskInstance | None = query.populate_existing().first()
        return found

    @provide_session
    def current_state(self, session: Any = NEW_SESSION) -> str | None:
        """The state in the metastore, whatever this object holds."""
        found = self._stored(session)
        return None if found is None else found.state

    @provide_session
    def refresh_from_db(self, session: Any = NEW_SESSION, lock_for_update: bool = False) -> None:
        found = self._stored(session)
        if found is None:
            self.state = None
        elif found is not self:
            for column in TaskInstance.__table__.columns:  # type: ignore[attr-defined]
                setattr(self, column.name, getattr(found, column.name))

    @provide_session
    def set_state(self, state: Any, session: Any = NEW_SESSION) -> bool:
        """Mark it, or (None) let it run again; whether that changed anything."""
        found = self._stored(session)
        if found is None:
            raise NotFound(f"there is no task instance {self.dag_id}.{self.task_id} of the run {self.run_id}")
        state = getattr(state, "value", state)
        if found.state == state:
            return False
        found.state = self.state = state
        session.flush()
        return True

    @provide_session
    def get_dagrun(self, session: Any = NEW_SESSION) -> DagRun | None:
        query = session.query(DagRun).filter(DagRun.dag_id == self.dag_id)
        same = DagRun.run_id == self.run_id if self.run_id else DagRun.execution_date == self.execution_date
        found: DagRun | None = query.filter(same).first()
        return found

    @provide_session
    def xcom_pull(
        self,
        task_ids: str | Iterable[str] | None = None,
        dag_id: str | None = None,
        key: str = "return_value",
        session: Any = NEW_SESSION,
    ) -> Any:
        """The value of one task, or the values of several."""
        from opskit.core.metastore.airflow_models.models_xcom import BaseXCom

        wanted = [task_ids or self.task_id] if isinstance(task_ids, str) or task_ids is None else list(task_ids)
        values = [
            BaseXCom.get_one(dag_id=dag_id or self.dag_id, run_id=self.run_id, task_id=one, key=key, session=session)
            for one in wanted
        ]
        return values[0] if isinstance(task_ids, str) or task_ids is None else values

    @classmethod
    @provide_session
    def get_task_instance(
        cls, dag_id: str, run_id: str, task_id: str, map_index: int = -1, session: Any = NEW_SESSION
    ) -> TaskInstance | None:
        found: TaskInstance | None = session.get(TaskInstance, (dag_id, task_id, run_id, map_index))
        return found


def clear_task_instances(
    tis: Sequence[Any],
    session: Any,
    activate_dag_runs: Any = None,
    dag: Any = None,  # noqa: ARG001 -- Airflow's signature
    dag_run_state: Any = states.QUEUED,
) -> None:
    """Let task instances run again; runs that had ended go on. `dag_run_state` False leaves ended runs as they are:
    that is not offered."""
    if dag_run_state is False or activate_dag_runs is False:
        raise UsageError("cleared task instances run again, so their runs go on", hint="leave out dag_run_state")
    for one in tis:
        stored = session.get(TaskInstance, (one.dag_id, one.task_id, one.run_id, one.map_index))
        if stored is not None:
            stored.state = None
    session.flush()


@mapped.mapped
class TaskFail(Model):
    """A try that failed."""

    __tablename__ = "task_fail"
    __mapper_args__ = {"confirm_deleted_rows": False}
    dag_id: Any = key()
    task_id: Any = key()
    run_id: Any = key()
    map_index: Any = key(Integer)
    try_number: Any = key(Integer)
    execution_date: Any = moment()
    start_date: Any = moment()
    end_date: Any = moment()
    duration: Any = real()
