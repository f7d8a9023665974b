"""Single classes of Airflow's models that stand alone there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from opskit.core.dag.xcom_arg import ResolveMixin


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

    @property
    def key(self) -> TaskInstanceKey:
        return self

    def with_try_number(self, try_number: int) -> TaskInstanceKey:
        return self._replace(try_number=try_number)


class SkipMixin:
    """For operators that skip others."""

    def skip(self, dag_run: Any, execution_date: Any = None, tasks: Iterable[Any] = (), *args: Any, **_: Any) -> None:
        """Skip these tasks of the running DagRun (Airflow 2: after the date; Airflow 3: right after the run)."""
        from opskit.core.dag.context import get_current_context
        from opskit.core.dag.operators.branch import request_skip

        chosen = tasks or (execution_date if isinstance(execution_date, (list, tuple, set)) else ())
        request_skip(get_current_context(), [task.task_id for task in chosen])

    def skip_all_except(self, ti: Any, branch_task_ids: Any) -> None:
        """Skip what lies directly behind the task, but these and what leads to them."""
        from opskit.core.dag.context import get_current_context
        from opskit.core.dag.operators.branch import request_skip, tasks_to_skip

        request_skip(get_current_context(), tasks_to_skip(ti.task, branch_task_ids))


@dataclass(frozen=True)
class LiteralValue(ResolveMixin):
    """A value that is handed on as it is, without templates in it being rendered."""

    value: Any

    def resolve(self, context: Any) -> Any:
        return self.value


def literal(value: Any) -> LiteralValue:
    """`bash_command=literal("echo {{ not rendered }}")`."""
    return LiteralValue(value)


class PriorityWeightStrategy(ABC):
    """A rule for the priority of task instances: `get_weight(ti)`. For `weight_rule=`."""

    @abstractmethod
    def get_weight(self, ti: Any) -> int:
        """The priority of this task instance."""

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PriorityWeightStrategy:
        return cls(**data)

    def serialize(self) -> dict[str, Any]:
        return {}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash(type(self))


def initdb(*_: Any, **__: Any) -> None:
    """Nothing to do: a task that runs has a metastore."""


def resetdb(*_: Any, **__: Any) -> None:
    """AirflowException: a DAG file does not empty the metastore."""
    from opskit.core.dag.exceptions import AirflowException

    raise AirflowException("the metastore can't be emptied from a DAG file: use `opskit db`")
