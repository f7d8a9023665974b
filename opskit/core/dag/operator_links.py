"""Links that operators show: an address that a task instance leaves as an XCom when it has ended, as Airflow 3 does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.task_instance import RuntimeTaskInstance


class BaseOperatorLink(ABC):
    """A link that an operator shows in the pages: `name`, and `get_link`."""

    operators: list[Any] = []

    @property
    @abstractmethod
    def name(self) -> str:
        """The text of the link."""

    @property
    def xcom_key(self) -> str:
        """The XCom that holds its address."""
        return f"_link_{type(self).__name__}"

    @abstractmethod
    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Its address."""


class XComOperatorLink(BaseOperatorLink):
    """A link whose address a task has pushed as XCom."""

    def __init__(self, name: str, xcom_key: str) -> None:
        self._name = name
        self._xcom_key = xcom_key

    @property
    def name(self) -> str:
        return self._name

    @property
    def xcom_key(self) -> str:
        return self._xcom_key

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        from opskit.core.dag import runtime
        from opskit.core.dag.xcom import decode

        found = runtime.store().get_xcoms(ti_key.dag_id, ti_key.run_id, [ti_key.task_id], self.xcom_key)
        return str(decode(found[0][2])) if found else ""


class TriggerDagRunLink(BaseOperatorLink):
    """To the run that a TriggerDagRunOperator has started."""

    @property
    def name(self) -> str:
        return "Triggered DAG"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        pushed = getattr(ti_key, "pushed", {})
        return run_address(operator.trigger_dag_id, str(pushed.get("trigger_run_id")))


class ExternalDagLink(BaseOperatorLink):
    """To the run that an ExternalTaskSensor waits for, or an ExternalTaskMarker names."""

    @property
    def name(self) -> str:
        return "External DAG"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return run_address(operator.external_dag_id, ti_key.run_id)


def run_address(dag_id: str, run_id: str) -> str:
    """Below the address where people reach the pages; "/" where that is not said."""
    return urljoin(_base_address().rstrip("/") + "/", f"dags/{dag_id}/runs/{run_id}")


def _base_address() -> str:
    conf = import_module("opskit.compat.configuration").conf
    return str(conf.get("webserver", "base_url", fallback=""))


def log_address(dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int) -> str:
    """Where the log of a task instance is shown; on this host, unless it is said where people reach the pages."""
    base = _base_address() or "http://localhost:8080"
    of_index = f"map_index={map_index}&" if map_index >= 0 else ""
    run = f"{base.rstrip('/')}/dags/{dag_id}/runs/{quote(run_id, safe='')}"
    return f"{run}/tasks/{task_id}?{of_index}try_number={try_number}"


def push(task: BaseOperator, ti: RuntimeTaskInstance) -> None:
    """The addresses of a task's links. One that can't be told is left out: the task has ended already."""
    for link in task.operator_extra_links:
        try:
            ti.xcom_push(link.xcom_key, link.get_link(task, ti_key=ti))
        except Exception:
            task.log.exception("the link %s of task %s can't be told", getattr(link, "name", link), task.task_id)
