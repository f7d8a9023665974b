"""Timetables: from an author's `schedule` to a timetable, from there to JSON and back.

The classes are in modules of their own, and all their names are here (`timetables.CronTriggerTimetable`). Those that
few DAGs use are loaded when they are asked for.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, tzinfo
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opskit.core.dag import dialect, spans
from opskit.core.dag.cron import NeverMatches
from opskit.core.dag.interval_timetables import CronDataIntervalTimetable, DeltaDataIntervalTimetable
from opskit.core.dag.simple_timetables import ContinuousTimetable, NullTimetable, OnceTimetable
from opskit.core.dag.timetable_base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from opskit.core.dag.zones import utc
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.asset_timetables import AssetOrTimeSchedule, DatasetOrTimeSchedule
    from opskit.core.dag.events_timetable import EventsTimetable
    from opskit.core.dag.trigger_timetables import (
        CronTriggerTimetable,
        DeltaTriggerTimetable,
        MultipleCronTriggerTimetable,
    )

__all__ = [
    "AssetOrTimeSchedule",
    "ContinuousTimetable",
    "CronDataIntervalTimetable",
    "CronTriggerTimetable",
    "DagRunInfo",
    "DataInterval",
    "DatasetOrTimeSchedule",
    "DeltaDataIntervalTimetable",
    "DeltaTriggerTimetable",
    "EventsTimetable",
    "MultipleCronTriggerTimetable",
    "NullTimetable",
    "OnceTimetable",
    "TimeRestriction",
    "Timetable",
]

_CLASSES = {
    "none": "simple_timetables:NullTimetable",
    "once": "simple_timetables:OnceTimetable",
    "continuous": "simple_timetables:ContinuousTimetable",
    "cron": "interval_timetables:CronDataIntervalTimetable",
    "delta": "interval_timetables:DeltaDataIntervalTimetable",
    "cron_trigger": "trigger_timetables:CronTriggerTimetable",
    "delta_trigger": "trigger_timetables:DeltaTriggerTimetable",
    "multiple_cron_trigger": "trigger_timetables:MultipleCronTriggerTimetable",
    "events": "events_timetable:EventsTimetable",
    "custom": "asked_timetable:AskedTimetable",
    "assets": "asset_timetables:AssetTriggeredTimetable",
    "datasets": "asset_timetables:DatasetTriggeredTimetable",
    "assets_or_time": "asset_timetables:AssetOrTimeSchedule",
    "datasets_or_time": "asset_timetables:DatasetOrTimeSchedule",
    "partitioned_assets": "partition_timetables:PartitionedAssetTimetable",
    "partitioned_at_runtime": "partition_timetables:PartitionedAtRuntime",
    "cron_partition": "partition_timetables:CronPartitionTimetable",
}
"""Type in the JSON form → module of this package and class."""
_MODULES = {target.partition(":")[2]: target.partition(":")[0] for target in _CLASSES.values()}
DEFAULT_SCHEDULE = timedelta(days=1)
"""What Airflow 2 runs a DAG by that gives no schedule."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"opskit.core.dag.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def make_timetable(schedule: Any, zone: tzinfo) -> Timetable:
    """The timetable of an author's `schedule`: a cron expression, a preset, a timedelta, a relativedelta, None, a
    timetable. What a cron expression and a timedelta mean depends on the dialect of the DAG file: data intervals, and
    in Airflow 3 moments.

    The expression is not checked here (that would load the cron library in every process); `check` does it.
    DagInvalid for anything else."""
    if schedule is None:
        return NullTimetable()
    if isinstance(schedule, Timetable):
        return schedule
    if spans.is_span(schedule):
        if dialect.current() == 3:
            from opskit.core.dag.trigger_timetables import DeltaTriggerTimetable

            return DeltaTriggerTimetable(schedule)
        return DeltaDataIntervalTimetable(schedule)
    if isinstance(schedule, str):
        text = schedule.strip()
        if text == "@once":
            return OnceTimetable()
        if text == "@continuous":
            return ContinuousTimetable()
        if text in ("None", ""):
            raise DagInvalid(f"the schedule {schedule!r} is no cron expression", hint="write None without quotes")
        if dialect.current() == 3:
            from opskit.core.dag.trigger_timetables import CronTriggerTimetable

            return CronTriggerTimetable(text, timezone=zone)
        return CronDataIntervalTimetable(text, zone)
    from opskit.core.dag import asset_timetables

    waiting = asset_timetables.timetable_of(schedule)
    if waiting is not None:
        return waiting
    raise DagInvalid(
        f"the schedule {schedule!r} can't be used",
        hint="use a cron expression, a preset, a timedelta, assets or None",
    )


def check(timetable: Timetable) -> None:
    """DagInvalid when it can't be used: a cron expression that is none, or what the author's `validate` raises."""
    try:
        timetable.validate()
    except DagInvalid:
        raise
    except Exception as error:
        raise DagInvalid(f"the timetable {type(timetable).__name__} refuses: {error}") from error


def next_run(timetable: Timetable, last: DataInterval | None, restriction: TimeRestriction) -> DagRunInfo | None:
    """The run after the one with this interval, in plain UTC datetimes. An author's class is given pendulum's, as
    Airflow does it."""
    if not is_custom(timetable):
        timed = getattr(timetable, "timetable", None)  # of AssetOrTimeSchedule
        if isinstance(timed, Timetable):
            return next_run(timed, last, restriction)
        try:
            return timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        except NeverMatches:
            return None
    info = timetable.next_dagrun_info(
        last_automated_data_interval=None if last is None else DataInterval(_pendulum(last[0]), _pendulum(last[1])),
        restriction=TimeRestriction(
            None if restriction.earliest is None else _pendulum(restriction.earliest),
            None if restriction.latest is None else _pendulum(restriction.latest),
            restriction.catchup,
            _pendulum(restriction.present()),
        ),
    )
    if info is None:
        return None
    return DagRunInfo(utc(info.run_after), _plain_interval(info.data_interval))


def manual_interval(timetable: Timetable, run_after: datetime) -> DataInterval:
    """The interval of a run that somebody triggers, in plain UTC datetimes."""
    if not is_custom(timetable):
        timed = getattr(timetable, "timetable", None)
        if isinstance(timed, Timetable):
            return manual_interval(timed, run_after)
        try:
            return timetable.infer_manual_data_interval(run_after=run_after)
        except NeverMatches:
            return DataInterval.exact(utc(run_after))
    return _plain_interval(timetable.infer_manual_data_interval(run_after=_pendulum(run_after)))


def _pendulum(moment: datetime) -> datetime:
    import pendulum

    return pendulum.instance(utc(moment))


def _plain_interval(interval: DataInterval) -> DataInterval:
    return DataInterval(utc(interval[0]), utc(interval[1]))


def is_custom(timetable: Timetable) -> bool:
    """Whether its class is the author's: only a process that has loaded the DAG file can ask it."""
    cls = type(timetable)
    return _MODULES.get(cls.__name__) != cls.__module__.rpartition(".")[2] or not cls.__module__.startswith(
        "opskit.core.dag."
    )


def serialize(timetable: Timetable) -> dict[str, Any]:
    """Plain JSON; `deserialize` reads it back. Of an author's class it says what it is, not how it decides."""
    if is_custom(timetable):
        return _custom_form(timetable)
    data = timetable.serialize()
    if timetable.dialect is not None:
        data["dialect"] = timetable.dialect
    return data


def schedule_form(timetable: Timetable, dag_id: str, fileloc: str, run_if: Any = None) -> dict[str, Any]:
    """`serialize`'s form of a DAG's schedule, with what is needed to ask its file (a path below the DAG folder)."""
    data = serialize(timetable)
    if run_if is not None:
        data["run_if"] = getattr(run_if, "__qualname__", type(run_if).__qualname__)
    for part in (data, data.get("timetable") or {}):
        if part.get("type") == "custom":
            part.update(dag_id=dag_id, fileloc=fileloc)
    return data


def is_asked(data: dict[str, Any] | None) -> bool:
    """Whether only the DAG file can say, by the JSON form, when the next run is."""
    return data is not None and (data["type"] == "custom" or "run_if" in data or is_asked(data.get("timetable")))


def deserialize(data: dict[str, Any]) -> Timetable:
    """The timetable of `serialize`'s form. ValueError for an unknown type."""
    target = _CLASSES.get(str(data.get("type")))
    if target is None:
        raise ValueError(f"timetable of unknown type {data.get('type')!r}")
    module, _, name = target.partition(":")
    cls: type[Timetable] = getattr(import_module(f"opskit.core.dag.{module}"), name)
    timetable = cls.deserialize(data)
    timetable.dialect = data.get("dialect")
    return timetable


def describe(timetable: Timetable) -> str:
    """Words for people: `every day at 06:30 Europe/Berlin`."""
    return timetable.description or timetable.summary


def _custom_form(timetable: Timetable) -> dict[str, Any]:
    try:
        # Other numbers are another schedule, and so a new version of the DAG.
        state = json.loads(json.dumps(timetable.serialize(), sort_keys=True))
    except Exception:  # noqa: BLE001 - the author's code may raise anything, and may give what is no JSON
        state = None
    cls = type(timetable)
    return {
        "type": "custom",
        "class": f"{cls.__module__.rpartition('.')[2]}.{cls.__qualname__}",
        "summary": str(timetable.summary),
        "description": str(timetable.description or ""),
        "periodic": bool(timetable.periodic),
        "can_be_scheduled": bool(timetable.can_be_scheduled),
        "active_runs_limit": timetable.active_runs_limit,
        "state": state,
    }
