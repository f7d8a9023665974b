"""`dag.test()`: one run in this process, in the order of the dependencies, without scheduler and metastore."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from opskit.core.dag import runtime
from opskit.core.dag.context import run_params
from opskit.core.dag.execution import Outcome, execute
from opskit.core.dag.params import ParamsDict
from opskit.core.dag.states import FAILED, FINISHED, REMOVED, SKIPPED, SUCCESS, UP_FOR_RESCHEDULE, UPSTREAM_FAILED
from opskit.core.dag.trigger_rules import decide
from opskit.core.dag.zones import utc

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.model import DAG


@dataclass(frozen=True, slots=True)
class TestRun:
    """How a run ended. States and reasons are by task_id."""

    __test__ = False  # no test class, whatever pytest thinks of the name

    dag_id: str
    run_id: str
    state: str
    task_states: dict[str, str]
    reasons: dict[str, str]
    tries: dict[str, int]
    xcoms: dict[str, dict[str, Any]]
    """By task_id, then key; plain JSON values."""


def run_in_process(
    dag: DAG,
    *,
    conf: dict[str, Any] | None = None,
    logical_date: datetime | None = None,
    report: Callable[[str], None] | None = None,
) -> TestRun:
    """Run all tasks. Retries follow at once, whatever their delay; a sensor in reschedule mode waits in here.

    Variables, connections and other DAGs come from the store of this process where there is one; what tasks write is
    forgotten at the end. `report` gets a line per ended task. ParamValidationError when conf breaks a param's rules."""
    dag.validate()
    run_params(dag.params, ParamsDict(), conf)
    at = utc(logical_date) if logical_date is not None else datetime.now(UTC)
    interval = dag.timetable.infer_manual_data_interval(at)
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
    store = runtime.MemoryStore(behind=before)
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
        self.states: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        self.tries: dict[str, int] = {}
        self.xcoms: dict[str, dict[str, Any]] = {}

    def run(self) -> TestRun:
        # In a topological order every upstream task has ended before, so each decision is final.
        for task in self.dag.topological_sort():
            if task.task_id not in self.states:
                self._run_task(task)
            self.report(f"{task.task_id}: {self.states[task.task_id]}")
        leaves = [self.states[task.task_id] for task in self.dag.leaves]
        state = FAILED if any(leaf in (FAILED, UPSTREAM_FAILED) for leaf in leaves) else SUCCESS
        self.store.add_run(replace(self.info, state=state, end_date=datetime.now(UTC)))
        if self.dag.on_success_callback if state == SUCCESS else self.dag.on_failure_callback:
            kind = "dag_on_success_callback" if state == SUCCESS else "dag_on_failure_callback"
            reason = "success" if state == SUCCESS else "task_failure"
            execute(
                self.dag, {"kind": kind, "task_id": "", "run_id": self.info.run_id, "reason": reason}, self._frame()
            )
        return TestRun(self.dag.dag_id, self.info.run_id, state, self.states, self.reasons, self.tries, self.xcoms)

    def _run_task(self, task: BaseOperator) -> None:
        count = Counter(self.states[task_id] for task_id in task.upstream_task_ids)
        decision = decide(
            task.trigger_rule.value,
            len(task.upstream_task_ids),
            count[SUCCESS],
            count[FAILED],
            count[SKIPPED],
            count[UPSTREAM_FAILED],
            count[REMOVED],
            sum(count[state] for state in FINISHED),
        )
        assert decision != "wait", f"{task.task_id} can't be decided"
        if decision != "run":
            self._set(task.task_id, decision)
            return
        for try_number in range(1, task.retries + 2):
            self.tries[task.task_id] = try_number
            outcome = self._attempt(task, try_number)
            if outcome.state != FAILED or not outcome.retry:
                break
        if outcome.reason:
            self.reasons[task.task_id] = outcome.reason
        self._set(task.task_id, outcome.state)
        if outcome.state == SUCCESS:
            for task_id in outcome.skip:
                if task_id not in self.states:
                    self._set(task_id, SKIPPED)

    def _attempt(self, task: BaseOperator, try_number: int) -> Outcome:
        first_poke_at = datetime.now(UTC)
        self.store.clear_xcoms(self.dag.dag_id, self.info.run_id, task.task_id)
        while True:
            frame = {
                "kind": "task",
                "task_id": task.task_id,
                "run_id": self.info.run_id,
                "try_number": try_number,
                "max_tries": task.retries,
                "first_poke_at": first_poke_at,
            }
            outcome = execute(self.dag, frame, self._frame(), test_mode=True)
            for key, value in outcome.xcoms:
                self.store.set_xcom(self.dag.dag_id, self.info.run_id, task.task_id, -1, key, value)
                self.xcoms.setdefault(task.task_id, {})[key] = value
            if outcome.state != UP_FOR_RESCHEDULE or outcome.reschedule_at is None:
                return outcome
            time.sleep(max((outcome.reschedule_at - datetime.now(UTC)).total_seconds(), 0.0))

    def _set(self, task_id: str, state: str) -> None:
        self.states[task_id] = state
        self.store.states.setdefault((self.dag.dag_id, self.info.run_id), {})[task_id, -1] = state

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
