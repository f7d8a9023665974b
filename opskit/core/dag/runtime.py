"""What a running task may ask of the cluster, as a contract, and where it finds the answerer.

Task code never opens the metastore. `Variable.get`, `ti.xcom_pull`, `TriggerDagRunOperator` and their kin
call `store()`. Three implementations pass the same suite (`tests/contracts/test_runtime_store.py`):

* `opskit.core.runner.gateway.GatewayStore` in an attempt: asks the worker's gateway process over a socket;
* `opskit.core.metastore.direct_store.DirectStore` in `opskit tasks test` and in the gateway itself;
* `MemoryStore` below, for `dag.test()` without a metastore and for unit tests.

Values are plain JSON values; times are aware UTC datetimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from opskit.core.dag.connection import Connection


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One DagRun, as a task sees it."""

    dag_id: str
    run_id: str
    run_type: str
    state: str
    logical_date: datetime
    data_interval_start: datetime
    data_interval_end: datetime
    conf: dict[str, Any]
    start_date: datetime | None = None
    end_date: datetime | None = None


class RuntimeStore(Protocol):
    """Every method may block while the metastore is down: it waits and retries, it does not fail."""

    def get_xcoms(
        self, dag_id: str, run_id: str, task_ids: list[str] | None, key: str, map_index: int | None = None
    ) -> list[tuple[str, int, Any]]:
        """`(task_id, map_index, value)` of the XComs with this key. `task_ids=None`: of all tasks; `map_index=None`: of all
        indexes. Tasks without one are left out. In the order of task_ids, then map_index."""
        ...

    def set_xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str, value: Any) -> None: ...

    def get_variable(self, key: str) -> str | None:
        """The stored text; None when there is no such variable."""
        ...

    def set_variable(self, key: str, value: str, description: str | None = None) -> None: ...

    def delete_variable(self, key: str) -> bool:
        """Whether there was one."""
        ...

    def get_connection(self, conn_id: str) -> Connection | None: ...

    def get_run(self, dag_id: str, run_id: str | None = None, logical_date: datetime | None = None) -> RunInfo | None:
        """The run with this run_id or this logical date."""
        ...

    def previous_run(self, dag_id: str, before: datetime, state: str | None = None) -> RunInfo | None:
        """The newest run with a logical date before `before` (in this state)."""
        ...

    def count_runs(self, dag_id: str, states: list[str], logical_dates: list[datetime]) -> int: ...

    def task_states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str | None]:
        """State of every task instance of a run, by `(task_id, map_index)`."""
        ...

    def trigger_dag_run(
        self,
        dag_id: str,
        *,
        run_id: str | None = None,
        logical_date: datetime | None = None,
        conf: dict[str, Any] | None = None,
        reset_existing: bool = False,
    ) -> RunInfo:
        """Create a manual run. NotFound for an unknown DAG; UsageError when the run exists and is not to be reset."""
        ...


_store: RuntimeStore | None = None


def set_store(new: RuntimeStore | None) -> None:
    """Install the answerer of this process."""
    global _store
    _store = new


def store() -> RuntimeStore:
    """The answerer of this process. RuntimeError outside of a task, a test or a command."""
    if _store is None:
        raise RuntimeError("there is no metastore here: this code runs outside of a task")
    return _store
