"""What task code sees of its task instance and its run: `ti` and `dag_run` of the context."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from opskit.core.dag import runtime
from opskit.core.dag.xcom import XCOM_RETURN_KEY, decode, pushed

if TYPE_CHECKING:
    import logging

    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.model import DAG

Push = Callable[[str, Any], None]
"""Called with key and plain JSON value at each XCom push."""


def moment(value: datetime | None) -> Any:
    """The same time as a pendulum DateTime in UTC, as Airflow's task code expects it. None stays None."""
    if value is None:
        return None
    import pendulum

    return pendulum.instance(value.astimezone(UTC) if value.tzinfo is not None else value, tz="UTC")


class TaskInstanceKey(NamedTuple):
    """Which task instance, and which try of it."""

    dag_id: str
    task_id: str
    run_id: str
    try_number: int = 1
    map_index: int = -1

    @property
    def primary(self) -> tuple[str, str, str, int]:
        return self.dag_id, self.task_id, self.run_id, self.map_index


class _Named(str):
    """A text that shows itself as Airflow 3 shows a member of its enumerations: `DagRunType.MANUAL`."""

    __slots__ = ("_shown",)
    _shown: str

    def __new__(cls, enumeration: str, value: str) -> Self:
        made = super().__new__(cls, value)
        made._shown = f"{enumeration}.{value.upper()}"
        return made

    @property
    def value(self) -> str:
        return str.__str__(self)

    @property
    def name(self) -> str:
        return self.value.upper()

    def __str__(self) -> str:
        return self._shown

    def __format__(self, spec: str) -> str:
        return format(self._shown, spec)

    def __reduce__(self) -> Any:
        return str, (self.value,)  # other processes need not know this class


class DagRun:
    """The run that a task belongs to, or another one that it looked up. Datetimes are pendulum DateTimes."""

    clear_number = 0
    triggering_user_name: str | None = None

    def __init__(
        self,
        info: runtime.RunInfo,
        dag: DAG | None = None,
        *,
        id: int | None = None,
        external_trigger: bool | None = None,
    ) -> None:
        self._info = info
        self.id = id
        self.dag = dag
        self.dag_id = info.dag_id
        self.run_id = info.run_id
        self.run_type = info.run_type
        self.state = info.state
        if dag is not None and dag.dialect == 3:
            self.run_type = _Named("DagRunType", info.run_type)
            self.state = _Named("DagRunState", info.state)
        self.partition_key = info.partition_key
        self.conf: dict[str, Any] = dict(info.conf or {})
        self.external_trigger = info.run_type == "manual" if external_trigger is None else external_trigger
        self.note: str | None = None

    @property
    def logical_date(self) -> Any:
        return moment(self._info.logical_date)

    execution_date = logical_date

    @property
    def data_interval_start(self) -> Any:
        return moment(self._info.data_interval_start)

    @property
    def data_interval_end(self) -> Any:
        return moment(self._info.data_interval_end)

    @property
    def partition_date(self) -> Any:
        return moment(self._info.partition_date)

    @property
    def start_date(self) -> Any:
        return moment(self._info.start_date)

    @property
    def end_date(self) -> Any:
        return moment(self._info.end_date)

    @property
    def queued_at(self) -> Any:
        return self.start_date

    @property
    def run_after(self) -> Any:
        """When it was to run: at the end of its data interval; a manual run at its logical date."""
        return self.data_interval_end if self.run_type == "scheduled" else self.logical_date

    @property
    def is_backfill(self) -> bool:
        return self.run_type == "backfill"

    def get_state(self) -> str:
        return self.state

    def get_dag(self) -> DAG | None:
        return self.dag

    def get_previous_dagrun(self, state: str | None = None) -> DagRun | None:
        found = runtime.store().previous_run(self.dag_id, self._info.logical_date, state)
        return None if found is None else DagRun(found, self.dag)

    def get_previous_scheduled_dagrun(self) -> DagRun | None:
        found = runtime.store().previous_run(self.dag_id, self._info.logical_date)
        while found is not None and found.run_type != "scheduled":
            found = runtime.store().previous_run(self.dag_id, found.logical_date)
        return None if found is None else DagRun(found, self.dag)

    def get_task_instances(self, state: str | Iterable[str | None] | None = None) -> list[TaskInstanceState]:
        """Task instances of the run with their states, sorted by id; only those in `state` when it is given."""
        wanted = None if state is None else {state} if isinstance(state, str) else set(state)
        states = runtime.store().task_states(self.dag_id, self.run_id)
        return [
            TaskInstanceState(self, task_id, map_index, current)
            for (task_id, map_index), current in sorted(states.items())
            if wanted is None or current in wanted
        ]

    def get_task_instance(self, task_id: str, map_index: int = -1) -> TaskInstanceState | None:
        states = runtime.store().task_states(self.dag_id, self.run_id)
        if (task_id, map_index) not in states:
            return None
        return TaskInstanceState(self, task_id, map_index, states[task_id, map_index])

    def __repr__(self) -> str:
        return (
            f"<DagRun {self.dag_id} @ {self._info.logical_date}: {self.run_id}, state:{self.state}, "
            f"queued_at: None. externally triggered: {self.external_trigger}>"
        )


class TaskInstanceState:
    """A task instance of a run, as far as its state goes."""

    def __init__(self, dag_run: DagRun, task_id: str, map_index: int, state: str | None) -> None:
        self.dag_run = dag_run
        self.dag_id = dag_run.dag_id
        self.run_id = dag_run.run_id
        self.task_id = task_id
        self.map_index = map_index
        self.state = state

    def current_state(self) -> str | None:
        return self.state

    def xcom_pull(self, task_ids: Any = None, key: str = XCOM_RETURN_KEY, **_: Any) -> Any:
        """One value; a list of those that were pushed, for several task_ids."""
        several = isinstance(task_ids, (list, tuple, set))
        wanted = list(task_ids) if several else [task_ids or self.task_id]
        found = runtime.store().get_xcoms(self.dag_id, self.run_id, wanted, key)
        if several:
            return [decode(value) for _, _, value in found]
        return decode(found[0][2]) if found else None

    def __repr__(self) -> str:
        return f"<TaskInstance: {self.dag_id}.{self.task_id} {self.run_id} [{self.state}]>"


class RuntimeTaskInstance:
    """The running task instance.

    XCom pushes are kept in `pushed` (key → plain JSON value) and handed to `push`; the runner stores them. Own pushes
    can be pulled at once."""

    def __init__(
        self,
        task: BaseOperator,
        dag_run: DagRun,
        *,
        try_number: int = 1,
        max_tries: int | None = None,
        map_index: int = -1,
        start_date: datetime | None = None,
        first_poke_at: datetime | None = None,
        log_path: str | None = None,
        log_url: str = "",
        push: Push | None = None,
        test_mode: bool = False,
    ) -> None:
        self.task = task
        self.dag_run = dag_run
        self.task_id = task.task_id
        self.dag_id = dag_run.dag_id
        self.run_id = dag_run.run_id
        self.map_index = map_index
        self.try_number = try_number
        self.max_tries = task.retries if max_tries is None else max_tries
        self.state: str | None = "running"
        self._start_date = start_date or datetime.now(UTC)
        self._end_date: datetime | None = None
        self.first_poke_at = first_poke_at or self._start_date
        """When the first poke of this try was: a sensor's timeout counts from there, across reschedules."""
        self.log_path = log_path
        self._log_url = log_url
        self.test_mode = test_mode
        self.pushed: dict[str, Any] = {}
        self.skip_downstream: set[str] = set()
        """task_ids to skip when this one has succeeded."""
        self.deferral: dict[str, Any] | None = None
        """What it has waited for, when it goes on after that."""
        self.triggers_inline = False
        self.keep_rendered: Callable[[dict[str, Any]], None] | None = None
        """Is given the template fields, where rendering has changed one."""
        self.template_context: Any = None
        self._push = push
        self.rendered_map_index: str | None = None

    @property
    def log(self) -> logging.Logger:
        import logging

        return logging.getLogger("airflow.task")

    @property
    def key(self) -> TaskInstanceKey:
        return TaskInstanceKey(self.dag_id, self.task_id, self.run_id, self.try_number, self.map_index)

    @property
    def logical_date(self) -> Any:
        return self.dag_run.logical_date

    @property
    def execution_date(self) -> Any:
        return self.dag_run.logical_date

    @property
    def start_date(self) -> Any:
        return moment(self._start_date)

    @property
    def end_date(self) -> Any:
        return moment(self._end_date)

    @property
    def duration(self) -> float:
        """Seconds since its start; of the whole attempt when that has ended."""
        return ((self._end_date or datetime.now(UTC)) - self._start_date).total_seconds()

    @property
    def hostname(self) -> str:
        import socket

        return socket.gethostname()

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def operator(self) -> str:
        return self.task.task_type

    @property
    def pool(self) -> str:
        return self.task.pool

    @property
    def queue(self) -> str:
        return self.task.queue

    @property
    def priority_weight(self) -> int:
        return self.task.priority_weight

    @property
    def unixname(self) -> str:
        import getpass

        return getpass.getuser()

    @property
    def job_id(self) -> None:
        return None

    @property
    def queued_dttm(self) -> Any:
        return self.start_date

    @property
    def pool_slots(self) -> int:
        return self.task.pool_slots

    @property
    def task_display_name(self) -> str:
        return self.task.task_display_name

    @property
    def executor_config(self) -> dict[str, Any]:
        return self.task.executor_config

    @property
    def is_premature(self) -> bool:
        return False

    @property
    def log_url(self) -> str:
        """Where its log is shown."""
        if not self._log_url:
            from opskit.core.dag import operator_links

            self._log_url = operator_links.log_address(
                self.dag_id, self.run_id, self.task_id, self.map_index, self.try_number
            )
        return self._log_url

    @property
    def run_as_user(self) -> str | None:
        return self.task.run_as_user

    @property
    def custom_operator_name(self) -> str:
        return self.task.operator_name

    operator_name = custom_operator_name

    @property
    def mark_success_url(self) -> str:
        return self.log_url

    @property
    def prev_attempted_tries(self) -> int:
        return self.try_number - 1

    @property
    def next_try_number(self) -> int:
        return self.try_number + 1

    @property
    def is_eligible_to_retry(self) -> bool:
        return self.try_number <= self.max_tries

    def current_state(self, session: Any = None) -> str | None:
        return self.state

    def refresh_from_db(self, session: Any = None) -> None:
        """Nothing: it knows its state."""

    def get_dagrun(self, session: Any = None) -> DagRun:
        return self.dag_run

    def get_template_context(self, session: Any = None, ignore_param_exceptions: bool = True) -> Any:
        return self.template_context

    def get_num_running_task_instances(self, session: Any = None, same_dagrun: bool = False) -> int:
        """How many instances of this task run in this run."""
        states = runtime.store().task_states(self.dag_id, self.run_id)
        return sum(1 for (task_id, _), state in states.items() if task_id == self.task_id and state == "running")

    def get_task_states(
        self,
        dag_id: str | None = None,
        map_index: int | None = None,
        task_ids: list[str] | None = None,
        task_group_id: str | None = None,
        logical_dates: list[datetime] | None = None,
        run_ids: list[str] | None = None,
    ) -> dict[str, dict[str, str | None]]:
        """By run_id, then task_id (`task_id_<map_index>` of a mapped one), the states of task instances."""
        dag_id = dag_id or self.dag_id
        found_ids = list(run_ids or ())
        for logical_date in logical_dates or ():
            run = runtime.store().get_run(dag_id, logical_date=logical_date)
            if run is not None:
                found_ids.append(run.run_id)
        if run_ids is None and logical_dates is None:
            found_ids = [self.run_id]
        return {
            run_id: {
                task_id if index < 0 else f"{task_id}_{index}": state
                for (task_id, index), state in runtime.store().task_states(dag_id, run_id).items()
                if (task_ids is None or task_id in task_ids)
                and (task_group_id is None or task_id.startswith(f"{task_group_id}."))
                and map_index in (None, index)
            }
            for run_id in dict.fromkeys(found_ids)
        }

    def get_ti_count(self, dag_id: str | None = None, states: list[str] | None = None, **which: Any) -> int:
        """How many task instances there are (in these states); arguments as of get_task_states."""
        found = self.get_task_states(dag_id, **which)
        return sum(1 for run in found.values() for state in run.values() if states is None or state in states)

    def get_dr_count(
        self,
        dag_id: str | None = None,
        logical_dates: list[datetime] | None = None,
        run_ids: list[str] | None = None,
        states: list[str] | None = None,
    ) -> int:
        """How many runs with these logical dates or ids there are (in these states)."""
        dag_id = dag_id or self.dag_id
        runs = [runtime.store().get_run(dag_id, run_id) for run_id in run_ids or ()]
        runs += [runtime.store().get_run(dag_id, logical_date=logical_date) for logical_date in logical_dates or ()]
        return sum(1 for run in runs if run is not None and (states is None or run.state in states))

    def get_dagrun_state(self, dag_id: str, run_id: str) -> str | None:
        run = runtime.store().get_run(dag_id, run_id)
        return None if run is None else run.state

    def are_dependents_done(self, session: Any = None) -> bool:
        """Whether the tasks downstream of it have ended."""
        from opskit.core.dag.states import FINISHED

        states = runtime.store().task_states(self.dag_id, self.run_id)
        return all(
            state in FINISHED for (task_id, _), state in states.items() if task_id in self.task.downstream_task_ids
        )

    def render_templates(self, context: Any = None) -> None:
        self.task.render_template_fields(context or self.template_context)

    def get_previous_dagrun(self, state: str | None = None) -> DagRun | None:
        return self.dag_run.get_previous_dagrun(state)

    def get_previous_ti(self, state: str | None = None) -> TaskInstanceState | None:
        """The same task in the newest earlier run (in this state)."""
        run = self.dag_run.get_previous_dagrun(state)
        return None if run is None else run.get_task_instance(self.task_id, self.map_index)

    previous_ti = property(get_previous_ti)

    @property
    def previous_ti_success(self) -> TaskInstanceState | None:
        return self.get_previous_ti("success")

    def get_previous_start_date(self, state: str | None = None) -> Any:
        run = self.dag_run.get_previous_dagrun(state)
        return None if run is None else run.start_date

    def get_previous_execution_date(self, state: str | None = None) -> Any:
        run = self.dag_run.get_previous_dagrun(state)
        return None if run is None else run.logical_date

    get_previous_logical_date = get_previous_execution_date

    def xcom_push(self, key: str, value: Any, execution_date: datetime | None = None, **_: Any) -> None:
        """Store a value for other tasks. TypeError when it is no plain value."""
        plain = pushed(value, key, self)
        self.pushed[key] = plain
        if self._push is not None:
            self._push(key, plain)

    def xcom_pull(
        self,
        task_ids: str | Iterable[str] | None = None,
        dag_id: str | None = None,
        key: str | None = XCOM_RETURN_KEY,
        include_prior_dates: bool = False,
        *,
        run_id: str | None = None,
        map_indexes: int | Iterable[int] | None = None,
        default: Any = None,
        **_: Any,
    ) -> Any:
        """One value for a single task_id (`default` when there is none); a list for several, for several map_indexes,
        and for a mapped task. `task_ids=None`: the newest value of any task. With include_prior_dates, earlier runs
        are searched when this one has none."""
        dag_id = dag_id or self.dag_id
        run_id = run_id or self.run_id
        key = XCOM_RETURN_KEY if key is None else key
        if task_ids is None and self.dialect == 3:
            task_ids = self.task_id
        single = task_ids is None or isinstance(task_ids, str)
        ids = None if task_ids is None else [task_ids] if isinstance(task_ids, str) else list(task_ids)
        indexes = None if map_indexes is None or isinstance(map_indexes, int) else list(map_indexes)
        index = map_indexes if isinstance(map_indexes, int) else None
        rows = self._rows(dag_id, run_id, ids, key, index)
        if include_prior_dates and not rows:
            rows = self._earlier_rows(dag_id, ids, key, index)
        if indexes is not None:
            by_index = {map_index: value for _, map_index, value in rows}
            return [decode(by_index[wanted]) for wanted in indexes if wanted in by_index]
        if not single:
            by_task: dict[str, list[Any]] = {}
            for task_id, _index, value in rows:
                by_task.setdefault(task_id, []).append(decode(value))
            values: list[Any] = []
            for task_id in ids or ():
                # A task that has pushed nothing: Airflow 2 leaves it out, Airflow 3 does not.
                values.extend(by_task.get(task_id, [] if self.dialect == 2 else [default]))
            return values
        if not rows:
            return default
        mapped = ids is not None and index is None and any(map_index >= 0 for _, map_index, _ in rows)
        if mapped and (len(rows) > 1 or self.dialect != 3):  # Airflow 3 gives the value of a single instance itself
            return [decode(value) for _, _, value in rows]
        return decode(rows[-1][2] if ids is None else rows[0][2])

    @property
    def dialect(self) -> int | None:
        dag = self.task.get_dag()
        return dag.dialect if dag is not None else None

    def xcoms_by_index(self, task_id: str, key: str) -> list[Any]:
        """What the instances of a mapped task of this run have pushed, in the order of their indexes."""
        rows = runtime.store().get_xcoms(self.dag_id, self.run_id, [task_id], key)
        return [decode(value) for _, map_index, value in rows if map_index >= 0]

    def _rows(
        self, dag_id: str, run_id: str, ids: list[str] | None, key: str, index: int | None
    ) -> list[tuple[str, int, Any]]:
        own = dag_id == self.dag_id and run_id == self.run_id
        if own and key in self.pushed and (ids is None or ids == [self.task_id]) and index in (None, self.map_index):
            return [(self.task_id, self.map_index, self.pushed[key])]
        return runtime.store().get_xcoms(dag_id, run_id, ids, key, index)

    def _earlier_rows(
        self, dag_id: str, ids: list[str] | None, key: str, index: int | None
    ) -> list[tuple[str, int, Any]]:
        before = self.dag_run._info.logical_date
        while (run := runtime.store().previous_run(dag_id, before)) is not None:
            rows = runtime.store().get_xcoms(dag_id, run.run_id, ids, key, index)
            if rows:
                return rows
            before = run.logical_date
        return []

    def environment(self) -> dict[str, str]:
        """The ids of the task instance as the environment variables that Airflow sets for what tasks start. The logical
        date is named as in the Airflow that the DAG was written for."""
        logical_date = self.dag_run._info.logical_date.isoformat()
        values = {
            "DAG_OWNER": str(self.task.owner),
            "DAG_ID": self.dag_id,
            "TASK_ID": self.task_id,
            "EXECUTION_DATE": logical_date,
            "LOGICAL_DATE": logical_date,
            "TRY_NUMBER": str(self.try_number),
            "DAG_RUN_ID": self.run_id,
        }
        email = self.task.email
        if email:
            several = isinstance(email, (list, tuple, set, frozenset))
            values["DAG_EMAIL"] = ",".join(map(str, email)) if several else str(email)
        named = {f"OPSKIT_CTX_{name}": text for name, text in values.items()}
        named.update({f"AIRFLOW_CTX_{name}": text for name, text in values.items()})
        gone = {2: "AIRFLOW_CTX_LOGICAL_DATE", 3: "AIRFLOW_CTX_EXECUTION_DATE"}.get(self.dialect or 0)
        if gone is not None:
            del named[gone]
        return named

    def __repr__(self) -> str:
        mapped = f" map_index={self.map_index}" if self.map_index >= 0 else ""
        return f"<TaskInstance: {self.dag_id}.{self.task_id} {self.run_id}{mapped} [{self.state}]>"
