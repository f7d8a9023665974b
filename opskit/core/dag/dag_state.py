"""What DAG files ask a DAG about its state in the metastore: Airflow's methods of DAG, each a query at the time."""

from __future__ import annotations

from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging


class DagState:
    """Mixed into DAG. For code that runs in tasks and callbacks; a DAG file that asks while it is loaded pays for it
    each time."""

    dag_id: str
    fileloc: str
    task_dict: dict[str, Any]
    on_success_callback: Any
    on_failure_callback: Any

    @property
    def log(self) -> logging.Logger:
        import logging

        return logging.getLogger("airflow.models.dag.DAG")

    @property
    def full_filepath(self) -> str:
        return self.fileloc

    @property
    def task_count(self) -> int:
        return len(self.task_dict)

    @property
    def has_on_success_callback(self) -> bool:
        return self.on_success_callback is not None

    @property
    def has_on_failure_callback(self) -> bool:
        return self.on_failure_callback is not None

    def get_is_paused(self, session: Any = None) -> bool:
        from opskit.core.dag import runtime

        found = runtime.store().find_dag(self.dag_id)
        return bool(found and found["is_paused"])

    @property
    def is_paused(self) -> bool:
        return self.get_is_paused()

    def get_dagrun(self, execution_date: datetime | None = None, run_id: str | None = None, session: Any = None) -> Any:
        """The run of this date or id, as `airflow.models.DagRun`; None when there is none."""
        found = _models().DagRun.find(dag_id=self.dag_id, run_id=run_id, execution_date=execution_date)
        return found[0] if found else None

    def get_last_dagrun(self, session: Any = None, include_externally_triggered: bool = False) -> Any:
        """The newest run; only scheduled ones, unless those that were triggered count, too."""
        found = _models().DagRun.find(
            dag_id=self.dag_id, external_trigger=None if include_externally_triggered else False
        )
        return found[-1] if found else None

    def has_dag_runs(self, session: Any = None, include_externally_triggered: bool = True) -> bool:
        return self.get_last_dagrun(include_externally_triggered=include_externally_triggered) is not None

    def get_latest_execution_date(self, session: Any = None) -> Any:
        newest = self.get_last_dagrun(include_externally_triggered=True)
        return None if newest is None else newest.execution_date

    @property
    def latest_execution_date(self) -> Any:
        return self.get_latest_execution_date()

    def get_active_runs(self) -> list[Any]:
        """The logical dates of the runs that are running."""
        return [run.execution_date for run in _models().DagRun.find(dag_id=self.dag_id, state="running")]

    def get_num_active_runs(
        self, external_trigger: bool | None = None, only_running: bool = True, session: Any = None
    ) -> int:
        """How many runs have not ended; only_running: without those that wait for their turn."""
        find = _models().DagRun.find
        states = ("running",) if only_running else ("running", "queued")
        return sum(len(find(dag_id=self.dag_id, state=state, external_trigger=external_trigger)) for state in states)

    def get_dagruns_between(self, start_date: datetime, end_date: datetime, session: Any = None) -> list[Any]:
        found: list[Any] = _models().DagRun.find(
            dag_id=self.dag_id, execution_start_date=start_date, execution_end_date=end_date
        )
        return found

    def get_task_instances(
        self,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        state: Any = None,
        session: Any = None,
    ) -> list[Any]:
        """Of all its runs, or of those with a logical date from start_date to end_date."""
        runs = _models().DagRun.find(dag_id=self.dag_id, execution_start_date=start_date, execution_end_date=end_date)
        return [instance for run in runs for instance in run.get_task_instances(state=state)]


def _models() -> Any:
    # By name: the models lie above this room, and only tasks that ask need them.
    return import_module("opskit.core.metastore.airflow_models.models_runs")
