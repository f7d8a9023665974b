"""`dag.test()`: one run in this process, in the order of the dependencies, without scheduler and metastore."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from opskit.core.dag import plugins, runtime
from opskit.core.dag.context import run_params
from opskit.core.dag.execution import Outcome, execute
from opskit.core.dag.params import ParamsDict
from opskit.core.dag.run_instance import TaskInstance
from opskit.core.dag.run_state import RunState
from opskit.core.dag.serialization import serialize
from opskit.core.dag.serialized import load
from opskit.core.dag.states import FINISHED, SKIPPED, SUCCESS, UP_FOR_RESCHEDULE
from opskit.core.dag.zones import utc

if TYPE_CHECKING:
    from opskit.core.dag.model import DAG


@dataclass(frozen=True, slots=True)
class TestRun:
    """How a run ended. States, reasons, tries and XComs are by task_id; of mapped tasks `task_id[map_index]`."""

    __test__ = False  # no test class, whatever pytest thinks of the name

    dag_id: str
    run_id: str
    state: str
    task_states: dict[str, str]
    reasons: dict[str, str]
    tries: dict[str, int]
    xcoms: dict[str, dict[str, Any]]
    """By task, then key; plain JSON values."""


def run_in_process(
    dag: DAG,
    *,
    conf: dict[str, Any] | None = None,
    logical_date: datetime | None = None,
    report: Callable[[str], None] | None = None,
    store: runtime.MemoryStore | None = None,
) -> TestRun:
    """Run all tasks. Retries follow at once, whatever their delay; a sensor in reschedule mode waits in here.

    Variables, connections and other DAGs come from the store of this process where there is one; what tasks write is
    forgotten at the end (`store`: where it goes instead). `report` gets a line per ended task. ParamValidationError
    when conf breaks a param's rules."""
    dag.validate()
    run_params(dag.params, ParamsDict(), conf)
    at = utc(logical_date) if logical_date is not None else datetime.now(UTC)
    interval = dag.infer_automated_data_interval(at)
    info = runtime.RunInfo(
        dag_id=dag.dag_id,
        run_id=f"manual__{at.isoformat()}",
        run_type="manual",
        state="running",
        logical_date=at,
        data_interval_start=interval.start,
        data_interval_end=interval.end,
        conf=dict(conf or {}),
        start_date=datetime.now(UTC),
    )
    before = runtime.current_store()
    store = store or runtime.MemoryStore(behind=before)
    store.add_run(info)
    runtime.set_store(store)
    try:
        return _Run(dag, info, store, report or (lambda _: None)).run()
    finally:
        runtime.set_store(before)


class _Run:
    def __init__(
        self, dag: DAG, info: runtime.RunInfo, store: runtime.MemoryStore, report: Callable[[str], None]
    ) -> None:
        self.dag = dag
        self.info = info
        self.store = store
        self.report = report
        self.reasons: dict[str, str] = {}
        self.xcoms: dict[str, dict[str, Any]] = {}
        self.run_state = RunState(
            id=0,
            dag=load(serialize(dag)),
            run_id=info.run_id,
            run_type=info.run_type,
            logical_date=info.logical_date,
            data_interval_start=info.data_interval_start,
            data_interval_end=info.data_interval_end,
            conf=info.conf,
            start_date=info.start_date,
        )

    def run(self) -> TestRun:
        run = self.run_state
        run.begin()
        run.wire()
        while not run.ended:
            self._tell()
            for at, key in sorted(run.due):
                # A retry follows at once, a sensor waits for its time.
                instance = run.instances[key]
                if instance.state == UP_FOR_RESCHEDULE:
                    time.sleep(max((at - datetime.now(UTC)).total_seconds(), 0.0))
                run.consider(key)
            run.due.clear()
            ready, run.newly_ready = run.newly_ready, []
            assert ready or run.ended, (
                f"{self.dag.dag_id} can't go on: {sorted(k for k, i in run.instances.items() if i.waits)}"
            )
            for instance in ready:
                if run.ready.get(instance.key) is instance:
                    self._attempt(instance)
                elif run.dag.fail_fast and instance.state == SKIPPED:
                    # A scheduler would have started it together with the one that has failed; so does Airflow's test.
                    self._run_along(instance)
        self._tell()
        self.store.add_run(replace(self.info, state=run.state, end_date=datetime.now(UTC)))
        succeeded = run.state == SUCCESS
        heard = plugins.listener_manager().hears("on_dag_run_success" if succeeded else "on_dag_run_failed")
        if heard or (self.dag.on_success_callback if succeeded else self.dag.on_failure_callback):
            kind = "dag_on_success_callback" if run.state == SUCCESS else "dag_on_failure_callback"
            reason = "success" if run.state == SUCCESS else "task_failure"
            execute(
                self.dag, {"kind": kind, "task_id": "", "run_id": self.info.run_id, "reason": reason}, self._frame()
            )
        instances = sorted(run.instances.values(), key=lambda one: one.key)
        return TestRun(
            self.dag.dag_id,
            self.info.run_id,
            run.state,
            {_label(one): str(one.state) for one in instances},
            self.reasons,
            {_label(one): one.try_number for one in instances if one.try_number},
            self.xcoms,
        )

    def _run_along(self, instance: TaskInstance) -> None:
        """Run what was skipped by the failure of another one. The run knows its state already, so its own end changes
        nothing for others."""
        began = datetime.now(UTC)
        outcome = self._execute(instance, began)
        instance.state, instance.start_date, instance.end_date = outcome.state, began, datetime.now(UTC)
        self._set(instance)
        self.report(f"{_label(instance)}: {instance.state}")

    def _attempt(self, instance: TaskInstance) -> None:
        run, task = self.run_state, instance.task
        began = datetime.now(UTC)
        again = instance.state == UP_FOR_RESCHEDULE
        run.claim(instance, "", began)
        if not again:
            self.store.clear_xcoms(self.dag.dag_id, self.info.run_id, task.task_id, instance.map_index)
            self.xcoms.pop(_label(instance), None)
        run.started(instance, 0, "", began)
        self._set(instance)
        outcome = self._execute(instance, began)
        now = datetime.now(UTC)
        fields = {**outcome.fields(), "reschedule_at": outcome.reschedule_at, "started_at": began, "ended_at": now}
        run.finished(instance, fields, now)

    def _execute(self, instance: TaskInstance, began: datetime) -> Outcome:
        """Run one attempt, and keep what it has pushed."""
        task = instance.task
        frame = {
            "kind": "task",
            "task_id": task.task_id,
            "run_id": self.info.run_id,
            "map_index": instance.map_index,
            "try_number": instance.try_number,
            "max_tries": instance.max_tries,
            "first_poke_at": instance.first_poke_at or began,
        }
        outcome = execute(self.dag, frame, self._frame(), test_mode=True, triggers_inline=True)
        if outcome.events:
            source = (self.dag.dag_id, task.task_id, self.info.run_id, instance.map_index)
            self.store.add_asset_events(outcome.events, source)
        for key, value in outcome.xcoms:
            self.store.set_xcom(self.dag.dag_id, self.info.run_id, task.task_id, instance.map_index, key, value)
            self.xcoms.setdefault(_label(instance), {})[key] = value
        if outcome.reason:
            self.reasons[_label(instance)] = outcome.reason
        return outcome

    def _tell(self) -> None:
        """Show what has changed to the tasks that follow, and report what has ended."""
        run = self.run_state
        for key in run.dropped:
            self.store.states.get((self.dag.dag_id, self.info.run_id), {}).pop(key, None)
        run.dropped.clear()
        for instance in run.changed.values():
            self._set(instance)
            if instance.state in FINISHED:
                self.report(f"{_label(instance)}: {instance.state}")
        run.changed.clear()
        run.added.clear()
        run.superseded.clear()

    def _set(self, instance: TaskInstance) -> None:
        states = self.store.states.setdefault((self.dag.dag_id, self.info.run_id), {})
        states[instance.key] = instance.state

    def _frame(self) -> dict[str, Any]:
        info = self.info
        return {
            "run_type": info.run_type,
            "logical_date": info.logical_date,
            "data_interval_start": info.data_interval_start,
            "data_interval_end": info.data_interval_end,
            "conf": info.conf,
            "start_date": info.start_date,
        }


def _label(instance: TaskInstance) -> str:
    """`task_id`, with `[map_index]` for an instance of a mapped task."""
    return instance.task.task_id if instance.map_index < 0 else f"{instance.task.task_id}[{instance.map_index}]"
