"""The context of a running task: Airflow's names, each computed when it is first asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opskit.core.dag import runtime
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.params import ParamsDict
from opskit.core.dag.task_instance import moment

if TYPE_CHECKING:
    from opskit.core.dag.task_instance import RuntimeTaskInstance

_running: list[Context] = []


def get_current_context() -> Context:
    """The context of the task that is running in this process. AirflowException outside of one."""
    if not _running:
        raise AirflowException("there is no context: get_current_context() works only while a task is running")
    return _running[-1]


class Context(MutableMapping[str, Any]):
    """A mapping of Airflow's names: those of the Airflow that the DAG was written for. Datetimes are pendulum DateTimes
    in UTC."""

    def __init__(self, ti: RuntimeTaskInstance) -> None:
        self._values: dict[str, Any] = {"ti": ti, "task_instance": ti}
        dag = ti.task.get_dag()
        self._names = _shown_names(dag.dialect if dag is not None else None)
        if "asset_state_store" in self._names and not (ti.task.inlets or ti.task.outlets):
            self._names = self._names - {"asset_state_store"}
        if not ti.task.inlets and not ti.task.outlets:
            self._names = _without_assets(self._names)
        if "test_mode" in self._names:
            self._values["test_mode"] = ti.test_mode
        ti.template_context = self

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            make = _LAZY.get(name)
            if make is None or (name not in self._names and name != "_last_success"):
                raise KeyError(name) from None
        value = self._values[name] = make(self)
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values or name in self._names

    def __iter__(self) -> Iterator[str]:
        yield from sorted(self._names.union(name for name in self._values if not name.startswith("_")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __enter__(self) -> Context:
        """While the block runs, `get_current_context` gives this one."""
        _running.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _running.remove(self)

    def __repr__(self) -> str:
        return f"<Context of {self._values['ti']!r}>"

    def unpacked(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        """Everything, for a function that takes **kwargs. What needs the metastore stays lazy: a stand-in that asks
        when it is used."""
        values: dict[str, Any] = {}
        for name in self:
            if name not in exclude:
                values[name] = LazyValue(self, name) if name in _FROM_STORE and name not in self._values else self[name]
        return values


class LazyValue:
    """Stands for an entry of the context until it is used."""

    __slots__ = ("_context", "_name")

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self._name = name

    def _value(self) -> Any:
        return self._context[self._name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value(), name)

    def __bool__(self) -> bool:
        return bool(self._value())

    def __str__(self) -> str:
        return str(self._value())

    def __repr__(self) -> str:
        return repr(self._value())

    def __format__(self, spec: str) -> str:
        return format(self._value(), spec)

    def __eq__(self, other: object) -> bool:
        return bool(self._value() == other)

    def __hash__(self) -> int:
        return hash(self._value())

    def __lt__(self, other: Any) -> bool:
        return bool(self._value() < other)

    def __le__(self, other: Any) -> bool:
        return bool(self._value() <= other)

    def __gt__(self, other: Any) -> bool:
        return bool(self._value() > other)

    def __ge__(self, other: Any) -> bool:
        return bool(self._value() >= other)

    def __add__(self, other: Any) -> Any:
        return self._value() + other

    def __sub__(self, other: Any) -> Any:
        return self._value() - other

    def __rsub__(self, other: Any) -> Any:
        return other - self._value()


class VariableAccessor:
    """`var.value.name`, `var.value.get("name", default)`; the same with `json`."""

    def __init__(self, deserialize_json: bool) -> None:
        self._deserialize_json = deserialize_json

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        from opskit.core.dag.variable import Variable

        return Variable.get(name, deserialize_json=self._deserialize_json)

    __getitem__ = __getattr__

    def get(self, name: str, default_var: Any = None) -> Any:
        from opskit.core.dag.variable import Variable

        return Variable.get(name, default_var=default_var, deserialize_json=self._deserialize_json)

    def __repr__(self) -> str:
        return "<variables>"


class ConnectionAccessor:
    """`conn.my_db.host`, `conn.get("my_db", default)`."""

    def __getattr__(self, conn_id: str) -> Any:
        if conn_id.startswith("__"):
            raise AttributeError(conn_id)
        from opskit.core.dag.connection import Connection

        return Connection.get_connection_from_secrets(conn_id)

    __getitem__ = __getattr__

    def get(self, conn_id: str, default_conn: Any = None) -> Any:
        from opskit.core.dag.connection import Connection
        from opskit.core.dag.exceptions import AirflowNotFoundException

        try:
            return Connection.get_connection_from_secrets(conn_id)
        except AirflowNotFoundException:
            return default_conn

    def __repr__(self) -> str:
        return "<connections>"


def run_params(dag_params: ParamsDict, task_params: ParamsDict, conf: dict[str, Any] | None) -> dict[str, Any]:
    """The params of a task in a run: the DAG's, overridden by the task's, overridden by the run's conf.

    ParamValidationError when one has no value or a forbidden one."""
    return dag_params.merged(task_params).merged(conf).validate()


def _ti(context: Context) -> Any:
    return context._values["ti"]


def _run(context: Context) -> Any:
    return _ti(context).dag_run


def _ds(context: Context) -> str:
    return str(_run(context)._info.logical_date.strftime("%Y-%m-%d"))


def _ts(context: Context) -> str:
    return str(context["logical_date"].isoformat())


def _shifted_ds(days: int) -> Callable[[Context], str]:
    def make(context: Context) -> str:
        from datetime import timedelta

        return str((_run(context)._info.logical_date + timedelta(days=days)).strftime("%Y-%m-%d"))

    return make


def _var(_: Context) -> dict[str, VariableAccessor]:
    return {"value": VariableAccessor(False), "json": VariableAccessor(True)}


def _macros(_: Context) -> Any:
    from opskit.core.dag import macros

    return macros


def _conf(_: Context) -> Any:
    # The object that `from airflow.configuration import conf` gives: it knows Airflow's names and defaults.
    return import_module("opskit.compat.configuration").conf


def _params(context: Context) -> dict[str, Any]:
    ti = _ti(context)
    dag = ti.task.get_dag()
    return run_params(dag.params if dag is not None else ParamsDict(), ti.task.params, ti.dag_run.conf)


def _next_date(context: Context) -> Any:
    """The logical date of the next scheduled run; of a manual run its own, as in Airflow."""
    from opskit.core.dag.timetables import DataInterval

    run = _run(context)
    if run.external_trigger:
        return run.logical_date
    # What follows the data interval, not the logical date: that of a run by hand lies at the end of its interval.
    following = context["dag"].next_dagrun_info(
        DataInterval(run._info.data_interval_start, run._info.data_interval_end), restricted=False
    )
    return None if following is None else moment(following.logical_date)


def _previous_date(context: Context) -> Any:
    run = _run(context)
    if run.external_trigger:
        return run.logical_date
    return moment(context["dag"].previous_schedule(run._info.logical_date))


def _day(name: str, sign: str = "-") -> Callable[[Context], str | None]:
    def make(context: Context) -> str | None:
        value = context[name]
        return None if value is None else str(value.strftime(f"%Y{sign}%m{sign}%d"))

    return make


def _of_last_success(attribute: str) -> Callable[[Context], Any]:
    def make(context: Context) -> Any:
        run = context["_last_success"]
        return None if run is None else getattr(run, attribute)

    return make


def _none(_: Context) -> None:
    return None


def _outlet_events(context: Context) -> Any:
    from opskit.core.dag.asset_outlets import OutletEvents

    return OutletEvents(_ti(context).task)


def _inlet_events(context: Context) -> Any:
    from opskit.core.dag.asset_context import InletEvents

    return InletEvents(_ti(context).task)


def _expanded_ti_count(context: Context) -> int | None:
    """How many instances the task is mapped to; None for one that is not."""
    ti = _ti(context)
    if ti.map_index < 0:
        return None
    states = runtime.store().task_states(ti.dag_id, ti.run_id)
    return sum(1 for task_id, map_index in states if task_id == ti.task_id and map_index >= 0)


def _task_state_store(context: Context) -> Any:
    from opskit.core.dag.state_store import TaskStateStoreAccessor

    return TaskStateStoreAccessor(_ti(context))


def _asset_state_store(context: Context) -> Any:
    from opskit.core.dag.asset_context import inlets_of
    from opskit.core.dag.state_store import AssetStateStoreAccessors

    task = _ti(context).task
    return AssetStateStoreAccessors(inlets_of(task), task.outlets)


def _triggering_events(*, by_uri: bool) -> Callable[[Context], Any]:
    def make(context: Context) -> Any:
        from opskit.core.dag.asset_context import TriggeringEvents

        return TriggeringEvents(_run(context), by_uri=by_uri)

    return make


_FROM_STORE = frozenset(
    {
        "prev_data_interval_end_success",
        "prev_data_interval_start_success",
        "prev_end_date_success",
        "prev_execution_date_success",
        "prev_start_date_success",
        "_last_success",
    }
)
_LAZY: dict[str, Callable[[Context], Any]] = {
    "_last_success": lambda context: _run(context).get_previous_dagrun("success"),
    "asset_state_store": _asset_state_store,
    "conf": _conf,
    "conn": lambda _: ConnectionAccessor(),
    "dag": lambda context: _ti(context).task.dag,
    "dag_run": _run,
    "data_interval_end": lambda context: _run(context).data_interval_end,
    "data_interval_start": lambda context: _run(context).data_interval_start,
    "ds": _ds,
    "ds_nodash": lambda context: _ds(context).replace("-", ""),
    "exception": _none,
    "execution_date": lambda context: context["logical_date"],
    "expanded_ti_count": _expanded_ti_count,
    "inlet_events": _inlet_events,
    "inlets": lambda context: _ti(context).task.inlets,
    "logical_date": lambda context: _run(context).logical_date,
    "macros": _macros,
    "map_index_template": lambda context: _ti(context).task.map_index_template,
    "next_ds": _day("next_execution_date"),
    "next_ds_nodash": _day("next_execution_date", ""),
    "next_execution_date": _next_date,
    "outlet_events": _outlet_events,
    "outlets": lambda context: _ti(context).task.outlets,
    "params": _params,
    "partition_date": lambda context: _run(context).partition_date,
    "partition_key": lambda context: _run(context).partition_key,
    "prev_data_interval_end_success": _of_last_success("data_interval_end"),
    "prev_data_interval_start_success": _of_last_success("data_interval_start"),
    "prev_ds": _day("prev_execution_date"),
    "prev_ds_nodash": _day("prev_execution_date", ""),
    "prev_end_date_success": _of_last_success("end_date"),
    "prev_execution_date": _previous_date,
    "prev_execution_date_success": _of_last_success("logical_date"),
    "prev_start_date_success": _of_last_success("start_date"),
    "reason": _none,
    "run_id": lambda context: _ti(context).run_id,
    "task": lambda context: _ti(context).task,
    "task_state_store": _task_state_store,
    "task_instance_key_str": lambda context: (
        f"{_ti(context).dag_id}__{_ti(context).task_id}__{_ds(context).replace('-', '')}"
    ),
    "task_reschedule_count": lambda context: 0 if _ti(context).first_poke_at == _ti(context)._start_date else 1,
    "templates_dict": _none,
    "tomorrow_ds": _shifted_ds(1),
    "tomorrow_ds_nodash": lambda context: context["tomorrow_ds"].replace("-", ""),
    "triggering_asset_events": _triggering_events(by_uri=False),
    "triggering_dataset_events": _triggering_events(by_uri=True),
    "try_number": lambda context: _ti(context).try_number,
    "ts": _ts,
    "ts_nodash": lambda context: str(context["logical_date"].strftime("%Y%m%dT%H%M%S")),
    "ts_nodash_with_tz": lambda context: _ts(context).replace("-", "").replace(":", ""),
    "var": _var,
    "yesterday_ds": _shifted_ds(-1),
    "yesterday_ds_nodash": lambda context: context["yesterday_ds"].replace("-", ""),
}

CONTEXT_NAMES = frozenset({"ti", "task_instance", "test_mode", *_LAZY} - {"_last_success"})
"""All there are."""
_GONE_IN_3 = frozenset(
    {
        "conf",
        "execution_date",
        "next_ds",
        "next_ds_nodash",
        "next_execution_date",
        "prev_ds",
        "prev_ds_nodash",
        "prev_execution_date",
        "prev_execution_date_success",
        "test_mode",
        "tomorrow_ds",
        "tomorrow_ds_nodash",
        "triggering_dataset_events",
        "yesterday_ds",
        "yesterday_ds_nodash",
    }
)
_NEW_IN_3 = frozenset(
    {
        "asset_state_store",
        "partition_date",
        "partition_key",
        "task_reschedule_count",
        "task_state_store",
        "triggering_asset_events",
    }
)


@functools.cache
def _without_assets(names: frozenset[str]) -> frozenset[str]:
    return names - {"asset_state_store"}


@functools.cache
def context_names(dialect: int | None) -> frozenset[str]:
    """What a function may ask for by naming an argument so, and a template may use, in a DAG of this dialect."""
    if dialect is None:
        return CONTEXT_NAMES
    return CONTEXT_NAMES - (_NEW_IN_3 if dialect == 2 else _GONE_IN_3)


_NOT_ALWAYS = frozenset({"exception", "reason", "templates_dict", "try_number"})
"""A function may ask for them by name; in Airflow a context has them only once somebody has put them there."""


@functools.cache
def _shown_names(dialect: int | None) -> frozenset[str]:
    """What a context of this dialect has from the start."""
    if dialect is None:
        return CONTEXT_NAMES
    return context_names(dialect) - (_NOT_ALWAYS if dialect == 2 else _NOT_ALWAYS | {"expanded_ti_count"})
