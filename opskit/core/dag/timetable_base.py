"""The protocol of timetables, with Airflow's names: what a class for `schedule` answers, and with what.

Built-in timetables give plain aware datetimes in UTC for plain ones, and pendulum's for pendulum's: a class of a DAG
file that builds on them may call pendulum's methods on what it gets.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from opskit.core.dag import dialect
from opskit.core.dag.zones import utc
from opskit.errors import DagInvalid


class DataInterval(NamedTuple):
    """The period that a run works on: `start` included, `end` not."""

    start: datetime
    end: datetime

    @classmethod
    def exact(cls, at: datetime) -> DataInterval:
        """An interval without length."""
        return cls(at, at)


class TimeRestriction(NamedTuple):
    """What a DAG asks of its timetable. `now` is the present; None (as code for Airflow has it): the clock's."""

    earliest: datetime | None
    latest: datetime | None
    catchup: bool
    now: datetime | None = None

    def present(self) -> datetime:
        if self.now is not None:
            return self.now if type(self.now) is not datetime else utc(self.now)
        now = datetime.now(UTC)
        return like(now, self.earliest or self.latest or now)


class DagRunInfo(NamedTuple):
    """One run: not before `run_after`, for `data_interval`; of a partition, where the timetable names one."""

    run_after: datetime
    data_interval: DataInterval
    partition_date: datetime | None = None
    partition_key: str | None = None

    @classmethod
    def exact(cls, at: datetime) -> DagRunInfo:
        return cls(at, DataInterval.exact(at))

    @classmethod
    def interval(cls, start: datetime, end: datetime) -> DagRunInfo:
        return cls(end, DataInterval(start, end))

    @property
    def logical_date(self) -> datetime:
        return self.data_interval.start


class RunType(str):
    """The type of a run, `scheduled`, as an author's `generate_run_id` is given it."""

    __slots__ = ()

    @property
    def value(self) -> str:
        return str(self)

    def generate_run_id(self, logical_date: datetime | None = None, *, suffix: str | None = None) -> str:
        """The type, and the logical date (Airflow 2) or a text (Airflow 3)."""
        if suffix is None and logical_date is None:
            raise TypeError("a run_id is made of a logical_date or a suffix")
        return f"{self.value}__{suffix if logical_date is None else logical_date.isoformat()}"


class Timetable:
    """What a schedule is. A subclass, of a DAG file or a plugin, answers the two questions below, which are asked by
    keyword, and keeps what it knows in `serialize`, so that a change makes a new version of the DAG."""

    description: str = ""
    periodic: bool = True
    can_be_scheduled: bool = True
    run_ordering: tuple[str, ...] | list[str] = ("data_interval_end", "logical_date")
    """Accepted for Airflow's sake: runs are shown newest first."""
    active_runs_limit: int | None = None
    dialect: dialect.Dialect | None = None
    """Where Airflow 2 and 3 differ in what a class does: which of them the DAG file was written for."""

    def __new__(cls, *_: Any, **__: Any) -> Timetable:
        timetable = super().__new__(cls)
        spoken = dialect.current()
        if spoken is not None:
            timetable.dialect = spoken
        return timetable

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for former in ("can_run", "_can_be_scheduled"):  # the names that Airflow had before
            if former in cls.__dict__:
                cls.can_be_scheduled = bool(cls.__dict__[former])

    @property
    def summary(self) -> str:
        """A short text for lists: the cron expression, the preset …"""
        return type(self).__name__

    def validate(self) -> None:
        """Raise something when it can't be used: an import error of the DAG file."""

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        """The interval of a run that somebody triggers at `run_after`."""
        raise NotImplementedError

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The run after the one with `last_automated_data_interval` (None: the first run). None: there is none."""
        raise NotImplementedError

    def generate_run_id(
        self,
        *,
        run_type: str,
        logical_date: datetime | None = None,
        run_after: datetime | None = None,
        data_interval: DataInterval | None = None,
        **_: Any,
    ) -> str:
        """`scheduled__2024-01-01T00:00:00+00:00`: the type, and the logical date (Airflow 3: when it is due)."""
        at = run_after if self.dialect == 3 or logical_date is None else logical_date
        if at is None:
            raise TypeError("a run_id is made of a logical_date or a run_after")
        return f"{getattr(run_type, 'value', run_type)}__{at.isoformat()}"

    def serialize(self) -> dict[str, Any]:
        """Plain JSON that `deserialize` reads."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:  # noqa: ARG003 - a subclass reads it
        """A timetable of this class from what its `serialize` gave."""
        return cls()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Timetable) or type(self) is not type(other):
            return NotImplemented
        return self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash(repr(sorted(self.serialize().items())))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.summary}>"


def like(moment: datetime, sample: datetime) -> datetime:
    """A moment as pendulum's datetime where `sample` is one."""
    if type(sample) is datetime or type(moment) is not datetime:
        return moment
    import pendulum

    return pendulum.instance(moment)


def no_later(at: datetime, latest: datetime | None) -> bool:
    return latest is None or at <= latest


def refuse(timetable: Timetable, problem: str, hint: str | None = None) -> DagInvalid:
    return DagInvalid(f"{type(timetable).__name__}: {problem}", hint=hint)
