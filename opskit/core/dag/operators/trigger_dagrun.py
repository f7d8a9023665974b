"""TriggerDagRunOperator: start a run of a DAG, and wait for it when asked to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from opskit.core.dag import dialect, runtime
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.core.dag.operator_links import TriggerDagRunLink
from opskit.core.dag.params import NOTSET
from opskit.core.dag.states import DAG_RUN_STATES
from opskit.core.dag.zones import aware, utc
from opskit.errors import DagInvalid, NotFound, UsageError

XCOM_RUN_ID = "trigger_run_id"
XCOM_LOGICAL_DATE_ISO = "trigger_logical_date_iso"
_NOT_GIVEN: Any = object()


class DagRunOrder:
    """What `python_callable` of an old DAG file is given, and returns to have the run made: `payload` is its conf."""

    def __init__(self, run_id: str | None = None, payload: Any = None) -> None:
        self.run_id = run_id
        self.payload = payload


class TriggerDagRunOperator(BaseOperator):
    """`logical_date` (or `execution_date`) is a datetime or an ISO text; without one it is the present. `conf` is a
    dict or the JSON text of one. A run that exists already is an error, is reset with reset_dag_run, or skips the task
    with skip_when_already_exists.

    With wait_for_completion the task ends as the run does: a state in allowed_states is a success, one in failed_states
    a failure; with `deferrable` it waits as a deferred task. `python_callable` is Airflow 1's: told the context and a
    DagRunOrder, it returns that order, or None for no run."""

    template_fields: Sequence[str] = (
        "trigger_dag_id",
        "trigger_run_id",
        "logical_date",
        "conf",
        "wait_for_completion",
        "skip_when_already_exists",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"conf": "py"}
    operator_extra_links = (TriggerDagRunLink(),)
    ui_color = "#ffefeb"

    def __init__(
        self,
        *,
        trigger_dag_id: str,
        trigger_run_id: str | None = None,
        conf: dict[str, Any] | str | None = None,
        execution_date: str | datetime | None = None,
        logical_date: str | datetime | None = _NOT_GIVEN,
        run_after: str | datetime | None = _NOT_GIVEN,
        reset_dag_run: bool = False,
        wait_for_completion: bool = False,
        poke_interval: float = 60,
        allowed_states: Sequence[str] | None = None,
        failed_states: Sequence[str] | None = None,
        skip_when_already_exists: bool = False,
        fail_when_dag_is_paused: bool = False,
        note: str | None = None,
        deferrable: bool = False,
        openlineage_inject_parent_info: bool = True,
        python_callable: Callable[[Any, DagRunOrder], DagRunOrder | None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.trigger_dag_id = trigger_dag_id
        self.trigger_run_id = trigger_run_id
        self.conf = conf
        given: Any = execution_date if logical_date is _NOT_GIVEN or logical_date is None else logical_date
        if given is not None and not isinstance(given, (str, datetime)) and not hasattr(given, "resolve"):
            raise DagInvalid(f"task {self.task_id}: logical_date is {given!r}, a text or a datetime is needed")
        if logical_date is _NOT_GIVEN and execution_date is None and dialect.current() == 3:
            given = NOTSET
        self.logical_date: Any = aware(given).isoformat() if isinstance(given, datetime) else given
        self.reset_dag_run = reset_dag_run
        self.wait_for_completion = wait_for_completion
        self.poke_interval = poke_interval
        self.allowed_states = self._states("allowed_states", allowed_states or ["success"])
        self.failed_states = self._states("failed_states", ["failed"] if failed_states is None else failed_states)
        self.skip_when_already_exists = skip_when_already_exists
        self.fail_when_dag_is_paused = fail_when_dag_is_paused
        self.deferrable = deferrable
        self.run_after = None if run_after is _NOT_GIVEN else run_after
        self.note = note
        self.python_callable = python_callable

    @property
    def execution_date(self) -> Any:
        """The older name of `logical_date`."""
        return self.logical_date

    def _states(self, argument: str, states: Sequence[str]) -> list[str]:
        texts = [str(getattr(state, "value", state)) for state in states]
        wrong = [state for state in texts if state not in DAG_RUN_STATES]
        if wrong:
            raise DagInvalid(f"task {self.task_id}: {argument} has {wrong[0]!r}, which is no state of a run")
        return texts

    def execute(self, context: Any) -> None:
        run_id, conf = self.trigger_run_id or None, self._conf()
        if self.python_callable is not None:
            order = self.python_callable(context, DagRunOrder(run_id))
            if order is None:
                self.log.info("Criteria not met, moving on")
                return
            run_id, conf = order.run_id or run_id, order.payload if order.payload is not None else conf
        if self.run_after is not None and self._moment(self.run_after) > datetime.now(UTC):
            raise AirflowException(f"run_after is {self.run_after}, but a triggered run starts at once here")
        if self.fail_when_dag_is_paused:
            found = runtime.store().find_dag(self.trigger_dag_id)
            if found is not None and found["is_paused"]:
                raise AirflowException(f"Dag {self.trigger_dag_id} is paused")
        given = self.logical_date
        try:
            run = runtime.store().trigger_dag_run(
                self.trigger_dag_id,
                run_id=run_id,
                logical_date=datetime.now(UTC) if given in (None, "", NOTSET) else self._moment(given),
                conf=conf,
                reset_existing=self.reset_dag_run,
            )
        except NotFound:
            raise
        except UsageError as error:
            if self.skip_when_already_exists:
                raise AirflowSkipException(str(error)) from error
            raise
        self.log.info(
            "Triggered run %s of DAG %s%s", run.run_id, self.trigger_dag_id, f": {self.note}" if self.note else ""
        )
        context["ti"].xcom_push(XCOM_RUN_ID, run.run_id)
        if getattr(self._dag, "dialect", None) != 3:
            context["ti"].xcom_push(XCOM_LOGICAL_DATE_ISO, run.logical_date.isoformat())
        if self.wait_for_completion:
            self._wait(run.run_id, context["ti"].test_mode)

    def _conf(self) -> Any:
        import json

        try:
            conf = json.loads(self.conf) if isinstance(self.conf, str) and self.conf else self.conf
            json.dumps(conf)
        except (TypeError, ValueError) as error:
            raise AirflowException(f"conf can't be written as JSON: {error}") from error
        return conf or None

    def _moment(self, given: Any) -> datetime:
        return utc(given if isinstance(given, datetime) else datetime.fromisoformat(str(given)))

    def _wait(self, run_id: str, is_test: bool) -> None:
        store = runtime.store()
        if is_test and isinstance(store, runtime.MemoryStore) and (self.trigger_dag_id, run_id) in store.runs:
            raise AirflowException(
                f"run {run_id} of DAG {self.trigger_dag_id} exists in this test only: nobody runs it, so there is "
                "nothing to wait for"
            )
        if self.deferrable:
            from opskit.core.dag.triggers.external_task import DagStateTrigger

            states = [*self.allowed_states, *self.failed_states]
            trigger = DagStateTrigger(self.trigger_dag_id, states, run_ids=[run_id], poll_interval=self.poke_interval)
            self.defer(trigger=trigger, method_name="execute_complete")
        while True:
            run = store.get_run(self.trigger_dag_id, run_id=run_id)
            if run is None:
                raise AirflowException(f"run {run_id} of DAG {self.trigger_dag_id} was deleted")
            if self._judge(run.state):
                return
            self.log.info("Run %s of DAG %s is %s", run_id, self.trigger_dag_id, run.state)
            time.sleep(self.poke_interval)

    def execute_complete(self, context: Any, event: tuple[str, dict[str, Any]]) -> None:
        """Go on after the trigger."""
        _, payload = event
        for run_id in payload["run_ids"]:
            if not self._judge(payload[run_id]):
                raise AirflowException(f"{self.trigger_dag_id} returned the state {payload[run_id]}")

    def _judge(self, state: str) -> bool:
        """Whether the wait is over. AirflowException when the run has failed."""
        if state in self.failed_states:
            raise AirflowException(f"{self.trigger_dag_id} failed with failed state {state}")
        if state in self.allowed_states:
            self.log.info("%s finished with allowed state %s", self.trigger_dag_id, state)
            return True
        return False
