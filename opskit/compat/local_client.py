"""`airflow.api.client.local_client` and `airflow.api.common…`: what DAG files do to other DAGs, runs and pools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from typing import Any

from opskit.compat.exceptions import DagNotFound, DagRunNotFound, PoolNotFound, TaskNotFound
from opskit.compat.other_interfaces import trigger_dag
from opskit.core.dag.exceptions import AirflowException

__all__ = [
    "Client",
    "create_pool",
    "delete_dag",
    "delete_pool",
    "get_current_api_client",
    "get_dag_run_state",
    "get_dag_runs",
    "get_pool",
    "get_pools",
    "get_task_instance",
    "set_dag_run_state_to_failed",
    "set_dag_run_state_to_success",
]


@contextmanager
def _session() -> Iterator[Any]:
    with import_module("opskit.core.metastore.airflow_models").create_session() as session:
        yield session


def _model(name: str) -> Any:
    return getattr(import_module("opskit.core.metastore.airflow_models"), name)


class Client:
    """Does at once what is asked of it, without a server. The arguments are for the sake of Airflow's."""

    def __init__(self, api_base_url: Any = None, auth: Any = None, session: Any = None) -> None:
        self._api_base_url = api_base_url

    def trigger_dag(
        self,
        dag_id: str,
        run_id: str | None = None,
        conf: Any = None,
        execution_date: datetime | None = None,
        replace_microseconds: bool = True,
        logical_date: datetime | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Create a run; what it is. NotFound for an unknown DAG, UsageError when there is such a run."""
        run = trigger_dag(
            dag_id,
            run_id=run_id,
            conf=conf,
            logical_date=logical_date or execution_date,
            replace_microseconds=replace_microseconds,
        )
        names = (
            *("conf", "dag_id", "data_interval_start", "data_interval_end", "end_date", "external_trigger"),
            *("logical_date", "run_type", "start_date", "state"),
        )
        return {
            "dag_run_id": run.run_id,
            "last_scheduling_decision": None,
            **{name: getattr(run, name) for name in names},
        }

    def delete_dag(self, dag_id: str) -> str:
        """Delete a DAG's rows; it comes back when its file is still there. DagNotFound."""
        return f"Removed {delete_dag(dag_id)} record(s)"

    def get_pool(self, name: str) -> tuple[str, int, str, bool]:
        pool = get_pool(name)
        return pool.pool, pool.slots, pool.description, bool(pool.include_deferred)

    def get_pools(self) -> list[tuple[str, int, str, bool]]:
        return [(one.pool, one.slots, one.description, bool(one.include_deferred)) for one in get_pools()]

    def create_pool(
        self, name: str, slots: Any, description: str = "", include_deferred: bool = False
    ) -> tuple[str, int, str]:
        pool = create_pool(name, slots, description, include_deferred)
        return pool.pool, pool.slots, pool.description

    def delete_pool(self, name: str) -> tuple[str, int, str]:
        pool = delete_pool(name)
        return pool.pool, pool.slots, pool.description


def get_current_api_client() -> Client:
    return Client()


def get_pool(name: str, **_: Any) -> Any:
    """PoolNotFound when there is none."""
    found = _model("Pool").get_pool(pool_name=name)
    if found is None:
        raise PoolNotFound(f"Pool {name} not found")
    return found


def get_pools(**_: Any) -> list[Any]:
    return list(_model("Pool").get_pools())


def create_pool(name: str, slots: Any, description: str = "", include_deferred: bool = False, **_: Any) -> Any:
    """Create a pool, or give it these slots. AirflowException for an empty name, and for slots that are no number."""
    if not (name and name.strip()):
        raise AirflowException("a pool needs a name")
    try:
        number = int(slots)
    except (TypeError, ValueError):
        raise AirflowException(f"the slots of pool {name} are {slots!r}, a number is needed") from None
    return _model("Pool").create_or_update_pool(
        name=name, slots=number, description=description, include_deferred=include_deferred
    )


def delete_pool(name: str, **_: Any) -> Any:
    return _model("Pool").delete_pool(name=name)


def delete_dag(dag_id: str, **_: Any) -> int:
    """Delete a DAG's rows, and how many they were (its own counts). DagNotFound."""
    dag = _model("DagModel")
    with _session() as current:
        gone = current.query(dag).filter(dag.dag_id == dag_id).delete(synchronize_session=False)
    if not gone:
        raise DagNotFound(f"Dag id {dag_id} not found")
    return int(gone)


def get_dag_runs(dag_id: str, state: str | None = None, **_: Any) -> list[dict[str, Any]]:
    """The runs of a DAG (in this state): `id, run_id, state, dag_id, execution_date, start_date` as texts."""
    runs = _model("DagRun").find(dag_id=dag_id, state=state.lower() if state else None)
    return [
        {
            "id": run.id,
            "run_id": run.run_id,
            "state": run.state,
            "dag_id": run.dag_id,
            "execution_date": run.execution_date.isoformat(),
            "start_date": "" if run.start_date is None else run.start_date.isoformat(),
        }
        for run in runs
    ]


def get_dag_run_state(dag_id: str, execution_date: datetime) -> dict[str, str]:
    """`{"state": …}` of the run of this date. DagRunNotFound."""
    return {"state": _run(dag_id, execution_date).state}


def get_task_instance(dag_id: str, task_id: str, execution_date: datetime) -> Any:
    """DagRunNotFound for an unknown run, TaskNotFound for a task that is not in it."""
    found = _run(dag_id, execution_date).get_task_instance(task_id)
    if found is None:
        raise TaskNotFound(f"Task {task_id} is not in the run of {execution_date} of DAG {dag_id}")
    return found


def _run(dag_id: str, execution_date: datetime) -> Any:
    found = _model("DagRun").find(dag_id=dag_id, execution_date=execution_date)
    if not found:
        raise DagRunNotFound(f"Dag Run for date {execution_date} not found in dag {dag_id}")
    return found[0]


def set_dag_run_state_to_success(*, dag: Any, run_id: str | None = None, commit: bool = False, **_: Any) -> list[Any]:
    """Mark a run and its task instances; those that change. Without `commit` nothing is changed."""
    return _mark(dag, run_id, "success", commit)


def set_dag_run_state_to_failed(*, dag: Any, run_id: str | None = None, commit: bool = False, **_: Any) -> list[Any]:
    """The same. What has ended already stays as it is."""
    return _mark(dag, run_id, "failed", commit)


def _mark(dag: Any, run_id: str | None, state: str, commit: bool) -> list[Any]:
    if run_id is None:
        raise ValueError("the run_id of the run to mark is needed")
    found = _model("DagRun").find(dag_id=dag.dag_id, run_id=run_id)
    if not found:
        raise DagRunNotFound(f"DAG {dag.dag_id} has no run {run_id!r}")
    over = ("success", "skipped") if state == "success" else ("success", "skipped", "failed", "upstream_failed")
    changing = [one for one in found[0].get_task_instances() if one.state not in over]
    if commit:
        with _session() as session:
            for one in changing:
                one.set_state(state, session=session)
            run = session.merge(found[0])
            run.set_state(state)
    return changing
