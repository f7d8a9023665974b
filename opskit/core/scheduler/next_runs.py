"""Which scheduled runs of a DAG come next, from its definition and its newest automated run. Pure."""

from __future__ import annotations

from datetime import datetime

from opskit.core.dag import timetables
from opskit.core.dag.serialized import SerializedDag

Interval = tuple[datetime, datetime]


def next_runs(
    dag: SerializedDag, last: Interval | None, catchup_by_default: bool, now: datetime, count: int = 1
) -> list[timetables.DagRunInfo]:
    """At most `count` runs, in order. `last`: data interval of the newest scheduled or backfill run."""
    catchup = catchup_by_default if dag.catchup is None else dag.catchup
    timetable = timetables.deserialize(dag.timetable)
    interval = None if last is None else timetables.DataInterval(*last)
    found: list[timetables.DagRunInfo] = []
    while len(found) < count:
        # After the first one the present is when that one was due, else catchup=False would give it again.
        present = max(now, found[-1].run_after) if found else now
        restriction = timetables.TimeRestriction(dag.start_date, dag.end_date, catchup, present)
        info = timetables.next_run(timetable, interval, restriction)
        if info is None:
            break
        found.append(info)
        interval = info.data_interval
    return found
