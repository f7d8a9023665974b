"""What a DAG says of its schedule beside the timetable (`run_if`, `first_run`), and which run comes next."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import TYPE_CHECKING, Any

from opskit.core.dag import timetables
from opskit.core.dag.timetable_base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.model import DAG

FIRST_RUNS = ("latest", "next")


def checked_run_if(run_if: Any, timetable: Timetable, dag_id: str) -> Any:
    """DagInvalid for what can't be called with a data interval and a logical date."""
    if run_if is None:
        return None
    if not callable(run_if):
        raise DagInvalid(f"DAG {dag_id}: run_if is {run_if!r}, a function is needed")
    if not timetable.can_be_scheduled:
        raise DagInvalid(f"DAG {dag_id} has run_if, but no schedule", hint="give it a schedule, or leave run_if out")
    import inspect

    try:
        inspect.signature(run_if).bind(None, None)
    except TypeError:
        raise DagInvalid(
            f"DAG {dag_id}: run_if can't be called with two arguments",
            hint="def run_if(data_interval, logical_date): …",
        ) from None
    except ValueError:
        pass  # a builtin does not say
    return run_if


def checked_first_run(first_run: Any, catchup: bool | None, dag_id: str) -> str | None:
    if first_run is None:
        return None
    if first_run not in FIRST_RUNS:
        raise DagInvalid(f"DAG {dag_id}: first_run is {first_run!r}", hint='use "latest" or "next"')
    if catchup and first_run == "next":
        raise DagInvalid(
            f"DAG {dag_id} has catchup and first_run='next'",
            hint="with catchup the first run is the one of the start date",
        )
    return str(first_run)


def bounds(dag: DAG) -> tuple[datetime | None, datetime | None]:
    """From when and until when a DAG runs: its own dates, and where it has none, those of its tasks. As in Airflow,
    whose DAG ends with its last task that has an end_date; a DAG for opskit goes on with the others."""
    start, end = dag.start_date, dag.end_date
    if start is None:
        start = min((task.start_date for task in dag.tasks if task.start_date is not None), default=None)
    if end is None and dag.dialect is not None:
        end = max((task.end_date for task in dag.tasks if task.end_date is not None), default=None)
    return start, end


def upcoming(
    timetable: Timetable, last: DataInterval | None, restriction: TimeRestriction, since: datetime | None = None
) -> DagRunInfo | None:
    """The next scheduled run after the one with the interval `last`, in plain UTC datetimes.

    `since`: for a DAG without a run, the moment before which nothing counts (first_run="next")."""
    if last is None and since is not None and not restriction.catchup and timetable.periodic:
        return _first_after(since, timetable, restriction)
    info = timetables.next_run(timetable, last, restriction)
    if last is None or info is None or not _stands_still(info, last):
        return info
    # Airflow 2 gives the same interval for ever over some changes of the clock.
    other = copy.copy(timetable)
    other.dialect = None
    info = timetables.next_run(other, last, restriction)
    return None if info is None or _stands_still(info, last) else info


def _first_after(since: datetime, timetable: Timetable, restriction: TimeRestriction) -> DagRunInfo | None:
    present = restriction.present()
    then = restriction._replace(now=since)
    info = timetables.next_run(timetable, None, then)
    while info is not None and info.run_after <= since:
        before = info
        info = timetables.next_run(timetable, before.data_interval, then)
        if info is not None and info.run_after <= before.run_after:
            return None
    if info is None or info.run_after > present:
        return info
    return timetables.next_run(timetable, None, restriction)  # of several that are due by now, the newest


def _stands_still(info: DagRunInfo, last: DataInterval) -> bool:
    return info.data_interval.start <= last.start and info.data_interval.end <= last.end
