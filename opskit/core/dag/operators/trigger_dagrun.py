"""TriggerDagRunOperator: start a run of a DAG, and wait for it when asked to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from opskit.core.dag import runtime
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.core.dag.zones import aware, utc
from opskit.errors import DagInvalid, NotFound, UsageError

XCOM_RUN_ID = "trigger_run_id"
XCOM_LOGICAL_DATE_ISO = "trigger_logical_date_iso"


class TriggerDagRunOperator(BaseOperator):
    """`logical_date` (or `execution_date`) is a datetime or an ISO text; without one it is the present. A run that
    exists already is an error, is reset with reset_dag_run, or skips the task with skip_when_already_exists."""

    template_fields: Sequence[str] = ("trigger_dag_id", "trigger_run_id", "execution_date", "logical_date", "conf")
    template_fields_renderers: ClassVar[dict[str, str]] = {"conf": "py"}
    ui_color = "#ffefeb"

    def __init__(
        self,
        *,
        trigger_dag_id: str,
        trigger_run_id: str | None = None,
        conf: dict[str, Any] | None = None,
        execution_date: str | datetime | None = None,
        logical_date: str | datetime | None = None,
        reset_dag_run: bool = False,
        wait_for_completion: bool = False,
        poke_interval: float = 60,
        allowed_states: Sequence[str] | None = None,
        failed_states: Sequence[str] | None = None,
        skip_when_already_exists: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.trigger_dag_id = trigger_dag_id
        self.trigger_run_id = trigger_run_id
        self.conf = conf
        given = logical_date if logical_date is not None else execution_date
        if given is not None and not isinstance(given, (str, datetime)):
            raise DagInvalid(f"task {self.task_id}: logical_date is {given!r}, a text or a datetime is needed")
        self.logical_date = aware(given).isoformat() if isinstance(given, datetime) else given
        self.execution_date = self.logical_date
        self.reset_dag_run = reset_dag_run
        self.wait_for_completion = wait_for_completion
        self.poke_interval = poke_interval
        self.allowed_states = list(allowed_states) if allowed_states else ["success"]
        self.failed_states = list(failed_states) if failed_states is not None else ["failed"]
        self.skip_when_already_exists = skip_when_already_exists

    def execute(self, context: Any) -> None:
        if self.conf is not None:
            import json

            try:
                json.dumps(self.conf)
            except (TypeError, ValueError) as error:
                raise AirflowException(f"conf can't be written as JSON: {error}") from error
        logical_date = utc(datetime.fromisoformat(str(self.logical_date))) if self.logical_date else datetime.now(UTC)
        try:
            run = runtime.store().trigger_dag_run(
                self.trigger_dag_id,
                run_id=self.trigger_run_id or None,
                logical_date=logical_date,
                conf=self.conf,
                reset_existing=self.reset_dag_run,
            )
        except NotFound:
            raise
        except UsageError as error:
            if self.skip_when_already_exists:
                raise AirflowSkipException(str(error)) from error
            raise
        self.log.info("Triggered run %s of DAG %s", run.run_id, self.trigger_dag_id)
        context["ti"].xcom_push(XCOM_RUN_ID, run.run_id)
        context["ti"].xcom_push(XCOM_LOGICAL_DATE_ISO, run.logical_date.isoformat())
        if self.wait_for_completion:
            self._wait(run.run_id)

    def _wait(self, run_id: str) -> None:
        while True:
            run = runtime.store().get_run(self.trigger_dag_id, run_id=run_id)
            if run is None:
                raise AirflowException(f"run {run_id} of DAG {self.trigger_dag_id} was deleted")
            if run.state in self.failed_states:
                raise AirflowException(f"{self.trigger_dag_id} failed with failed state {run.state}")
            if run.state in self.allowed_states:
                self.log.info("%s finished with allowed state %s", self.trigger_dag_id, run.state)
                return
            self.log.info("Run %s of DAG %s is %s", run_id, self.trigger_dag_id, run.state)
            time.sleep(self.poke_interval)
