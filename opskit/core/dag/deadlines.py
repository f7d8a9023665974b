"""When something must have happened: `deadline=` of a DAG (Airflow 3) and `sla=` of a task (Airflow 2).

The file says what is to be done, the scheduler sees when it is time, and a process of the file does it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.zones import utc
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.model import DAG
    from opskit.core.dag.task_instance import DagRun

SLA_CALLBACK, DEADLINE_CALLBACK = "dag_sla_miss_callback", "dag_deadline_callback"
"""Kinds of attempts."""


class BaseDeadlineReference:
    """The moment that a deadline counts from."""

    @property
    def reference_name(self) -> str:
        return type(self).__name__

    def serialize_reference(self) -> dict[str, Any]:
        return {"reference_type": self.reference_name}

    @classmethod
    def deserialize_reference(cls, reference_data: dict[str, Any]) -> BaseDeadlineReference:  # noqa: ARG003
        return cls()

    def form(self) -> dict[str, Any] | None:
        """For the scheduler, which runs no code of a DAG file; None: it can't tell."""
        return None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BaseDeadlineReference):
            return NotImplemented
        return self.serialize_reference() == other.serialize_reference()

    def __hash__(self) -> int:
        return hash(repr(sorted(self.serialize_reference().items())))

    def __repr__(self) -> str:
        return f"{self.reference_name}()"


class DagRunLogicalDateDeadline(BaseDeadlineReference):
    """The logical date of the run."""

    def form(self) -> dict[str, Any]:
        return {"from": "logical_date"}


class DagRunQueuedAtDeadline(BaseDeadlineReference):
    """When the run was queued."""

    def form(self) -> dict[str, Any]:
        return {"from": "queued_at"}


class FixedDatetimeDeadline(BaseDeadlineReference):
    """Always the same moment."""

    def __init__(self, _datetime: datetime) -> None:
        self._datetime = _datetime

    def serialize_reference(self) -> dict[str, Any]:
        return {"reference_type": self.reference_name, "datetime": utc(self._datetime).timestamp()}

    @classmethod
    def deserialize_reference(cls, reference_data: dict[str, Any]) -> BaseDeadlineReference:
        return cls(datetime.fromtimestamp(reference_data["datetime"], UTC))

    def form(self) -> dict[str, Any]:
        return {"from": "fixed", "at": utc(self._datetime).isoformat()}


class AverageRuntimeDeadline(BaseDeadlineReference):
    """As long after the start as the last `max_runs` successful runs took on average; never while there are fewer than
    `min_runs`."""

    DEFAULT_LIMIT: ClassVar[int] = 10

    def __init__(self, max_runs: int, min_runs: int | None = None) -> None:
        self.max_runs = max_runs
        self.min_runs = max_runs if min_runs is None else min_runs
        if self.min_runs < 1:
            raise ValueError("min_runs must be at least 1")

    def serialize_reference(self) -> dict[str, Any]:
        return {"reference_type": self.reference_name, "max_runs": self.max_runs, "min_runs": self.min_runs}

    @classmethod
    def deserialize_reference(cls, reference_data: dict[str, Any]) -> BaseDeadlineReference:
        return cls(reference_data.get("max_runs", cls.DEFAULT_LIMIT), reference_data.get("min_runs"))

    def form(self) -> dict[str, Any]:
        return {"from": "average", "max_runs": self.max_runs, "min_runs": self.min_runs}


class DeadlineReference:
    """What a deadline can count from."""

    class TYPES:
        """Classes of references, by the time at which they are known."""

        DAGRUN_CREATED: tuple[type[BaseDeadlineReference], ...] = (
            DagRunLogicalDateDeadline,
            FixedDatetimeDeadline,
            AverageRuntimeDeadline,
        )
        DAGRUN_QUEUED: tuple[type[BaseDeadlineReference], ...] = (DagRunQueuedAtDeadline,)
        DAGRUN = DAGRUN_CREATED + DAGRUN_QUEUED

    DAGRUN_LOGICAL_DATE = DagRunLogicalDateDeadline()
    DAGRUN_QUEUED_AT = DagRunQueuedAtDeadline()

    @classmethod
    def AVERAGE_RUNTIME(cls, max_runs: int = 0, min_runs: int | None = None) -> BaseDeadlineReference:  # noqa: N802
        return AverageRuntimeDeadline(max_runs or AverageRuntimeDeadline.DEFAULT_LIMIT, min_runs)

    @classmethod
    def FIXED_DATETIME(cls, dt: datetime) -> BaseDeadlineReference:  # noqa: N802 - Airflow's name
        return FixedDatetimeDeadline(dt)

    @classmethod
    def register_custom_reference(
        cls, reference_class: type[BaseDeadlineReference], deadline_reference_type: Any = None
    ) -> type[BaseDeadlineReference]:
        """Make a class known as `DeadlineReference.<its name>`. ValueError for another kind of class."""
        if not issubclass(reference_class, BaseDeadlineReference):
            raise ValueError(f"{reference_class.__name__} must inherit from BaseDeadlineReference")
        setattr(cls, reference_class.__name__, reference_class())
        name = "DAGRUN_QUEUED" if deadline_reference_type is cls.TYPES.DAGRUN_QUEUED else "DAGRUN_CREATED"
        setattr(cls.TYPES, name, (*getattr(cls.TYPES, name), reference_class))
        cls.TYPES.DAGRUN = cls.TYPES.DAGRUN_CREATED + cls.TYPES.DAGRUN_QUEUED
        return reference_class


def deadline_reference(deadline_reference_type: Any = None) -> Any:
    """Decorates a class of references: `register_custom_reference`."""
    if isinstance(deadline_reference_type, type):
        return DeadlineReference.register_custom_reference(deadline_reference_type)
    return lambda cls: DeadlineReference.register_custom_reference(cls, deadline_reference_type)


class Callback:
    """A function to call, or the dotted path of one, with arguments. `context` is one that it gets anyway."""

    def __init__(self, callback_callable: Callable[..., Any] | str, kwargs: dict[str, Any] | None = None) -> None:
        if kwargs and "context" in kwargs:
            raise ValueError("context is an argument that every callback gets: give it another name")
        self.kwargs = dict(kwargs or {})
        self._function: Callable[..., Any] | None = None
        if isinstance(callback_callable, str):
            self.path = callback_callable.strip()
            if not all(part.isidentifier() for part in self.path.split(".")) or "." not in self.path:
                raise ImportError(f"`{callback_callable}` doesn't look like a valid dot path.")
        elif callable(callback_callable):
            self._check(callback_callable)
            self._function = callback_callable
            names = (
                getattr(callback_callable, name, getattr(type(callback_callable), name))
                for name in ("__module__", "__qualname__")
            )
            self.path = ".".join(names)
        else:
            raise ImportError(f"`{callback_callable}` doesn't look like a valid dot path.")

    @classmethod
    def _check(cls, function: Callable[..., Any]) -> None:
        """AttributeError for a function that this kind of callback can't call."""

    @property
    def function(self) -> Callable[..., Any]:
        """What is called. ImportError when the path leads nowhere."""
        if self._function is None:
            self._function = _at_path(self.path)
        return self._function

    def serialize(self) -> dict[str, Any]:
        return {"path": self.path, "kwargs": self.kwargs}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.serialize())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path})"


class AsyncCallback(Callback):
    """The function is a coroutine function, or a notifier."""

    @classmethod
    def _check(cls, function: Callable[..., Any]) -> None:
        if not (inspect.iscoroutinefunction(function) or hasattr(function, "__await__") or hasattr(function, "notify")):
            raise AttributeError(f"Provided callback {function} is not awaitable.")


class SyncCallback(Callback):
    """A plain function. `executor` is kept, and of no effect."""

    def __init__(
        self,
        callback_callable: Callable[..., Any] | str,
        kwargs: dict[str, Any] | None = None,
        executor: str | None = None,
    ) -> None:
        super().__init__(callback_callable, kwargs)
        self.executor = executor

    def serialize(self) -> dict[str, Any]:
        return {**super().serialize(), "executor": self.executor}


class VariableInterval(NamedTuple):
    """As many seconds as a variable says. It is read when the DAG file is loaded: again, too, when it changes."""

    key: str

    def resolve(self) -> timedelta:
        """ValueError when there is no such variable, or it is no number."""
        from opskit.core.dag.variable import Variable

        text = Variable.get(self.key, default_var=None)
        try:
            return timedelta(seconds=int(text))
        except (TypeError, ValueError):
            raise ValueError(f"the variable {self.key!r} must be a number of seconds, it is {text!r}") from None


class DeadlineAlert:
    """A run must have ended so long after the reference; else the callback is called."""

    def __init__(
        self,
        reference: BaseDeadlineReference,
        interval: timedelta | VariableInterval,
        callback: Callback,
        name: str | None = None,
    ) -> None:
        if not isinstance(callback, (AsyncCallback, SyncCallback)):
            raise ValueError(f"Callbacks of type {type(callback).__name__} are not currently supported")
        self.reference = reference
        self.interval = interval
        self.callback = callback
        self.name = name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeadlineAlert):
            return NotImplemented
        mine, theirs = ((type(one.reference), one.interval, one.callback) for one in (self, other))
        return mine == theirs

    def __hash__(self) -> int:
        return hash((type(self.reference).__name__, self.interval, self.callback))


def alerts_of(dag: DAG) -> list[DeadlineAlert]:
    """The deadlines of a DAG, in their order. DagInvalid for something else."""
    given = dag.deadline
    found = list(given) if isinstance(given, (list, tuple)) else [] if given is None else [given]
    for one in found:
        if not isinstance(one, DeadlineAlert):
            raise DagInvalid(f"DAG {dag.dag_id}: deadline is {one!r}, a DeadlineAlert or a list of them is needed")
    return found


def forms(dag: DAG) -> list[dict[str, Any]]:
    """The deadlines of a DAG for the scheduler; the place of each is that in `alerts_of`. A reference of the DAG file's
    own can't be followed: that is told, and such a deadline is never missed."""
    made = []
    for place, alert in enumerate(alerts_of(dag)):
        form = alert.reference.form()
        if form is None:
            import warnings

            text = f"DAG {dag.dag_id}: the scheduler can't tell when the deadline from {alert.reference!r} has passed"
            warnings.warn(text, UserWarning, stacklevel=2)
            continue
        interval = alert.interval.resolve() if isinstance(alert.interval, VariableInterval) else alert.interval
        made.append({**form, "place": place, "seconds": interval.total_seconds()})
        if alert.name:
            made[-1]["name"] = alert.name
    return made


def sla_of(task: BaseOperator) -> float | None:
    """Seconds after the end of the data interval within which a task is to succeed. DagInvalid for what is none."""
    sla = task.sla
    dag = task.get_dag()
    if sla is None or (dag is not None and dag.dialect == 3):
        return None  # Airflow 3 has none: it takes the argument, and says so
    if not isinstance(sla, timedelta):
        raise DagInvalid(f"task {task.task_id}: sla is {sla!r}, a timedelta is needed")
    return sla.total_seconds()


class SlaMiss(NamedTuple):
    """What an sla_miss_callback is told of one task."""

    task_id: str
    dag_id: str
    execution_date: Any
    timestamp: Any
    email_sent: bool = False
    description: str | None = None
    notification_sent: bool = False

    @property
    def logical_date(self) -> Any:
        return self.execution_date


def call(dag: DAG, dag_run: DagRun, kind: str, attempt: Mapping[str, Any]) -> str | None:
    """Do what the file says for a deadline or an SLA that is `attempt["missed"]`. What went wrong, as text."""
    try:
        if kind == SLA_CALLBACK:
            _call_sla_miss(dag, dag_run, attempt["missed"])
        else:
            _call_deadline(dag, dag_run, attempt["missed"])
    except BaseException as error:
        import logging

        logging.getLogger("airflow.task").exception("Error when executing %s", kind)
        return f"{kind}: {type(error).__name__}: {error}"
    return None


def _call_sla_miss(dag: DAG, dag_run: DagRun, missed: Mapping[str, Any]) -> None:
    """`task_ids` of `missed` have missed their SLA; `states` are those of the run's task instances."""
    from opskit.core.dag.task_instance import RuntimeTaskInstance, moment

    now = moment(datetime.now(UTC))
    slas = [SlaMiss(task_id, dag.dag_id, dag_run.logical_date, now) for task_id in missed["task_ids"]]
    blocking = []
    for task_id, map_index, state in missed["states"]:
        if state not in ("success", "skipped") and task_id in dag.task_dict:
            ti = RuntimeTaskInstance(dag.task_dict[task_id], dag_run, map_index=map_index)
            ti.state = state
            blocking.append(ti)
    date = dag_run.logical_date.isoformat()
    task_list = "\n".join(f"{one.task_id} on {date}" for one in slas)
    blocking_list = "\n".join(f"{ti.task_id} on {date}" for ti in blocking)
    given = dag.sla_miss_callback
    callbacks: Sequence[Any] = given if isinstance(given, (list, tuple)) else [given]
    for callback in callbacks:
        callback(dag, task_list, blocking_list, slas, blocking)


def _call_deadline(dag: DAG, dag_run: DagRun, missed: Mapping[str, Any]) -> None:
    """`place` of `missed`: which of the DAG's deadlines; `at`: when it was."""
    alerts = alerts_of(dag)
    if missed["place"] >= len(alerts):
        raise AirflowException(f"DAG {dag.dag_id} has no deadline {missed['place']} any more")
    callback = alerts[missed["place"]].callback
    names = (
        *("dag_id", "run_id", "run_type", "state", "logical_date", "data_interval_start", "data_interval_end"),
        *("run_after", "start_date", "end_date", "queued_at", "conf", "note"),
    )
    values = {name: getattr(dag_run, name) for name in names}
    shown = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
    context = {
        "dag_run": {**shown, "dag_run_id": dag_run.run_id},
        "deadline": {"id": missed["id"], "deadline_time": datetime.fromisoformat(missed["at"])},
    }
    function = callback.function
    if hasattr(function, "notify") and isinstance(function, type):
        function = function(**callback.kwargs)
        function({**context, "dag": dag})
        return
    takes = inspect.signature(function).parameters.values()
    wants = any(one.name == "context" or one.kind is one.VAR_KEYWORD for one in takes)
    result = function(**callback.kwargs, **({"context": context} if wants else {}))
    if inspect.isawaitable(result):
        import asyncio

        asyncio.run(_await(result))


def _at_path(path: str) -> Any:
    from importlib import import_module

    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except AttributeError:
        raise ImportError(f"{path}: the module {module} has no {name}") from None


async def _await(result: Any) -> Any:
    return await result
