"""Which scheduled runs of a DAG come next, from its definition and its newest automated run. Pure."""

from __future__ import annotations

import json
from datetime import datetime

from opskit.core.dag import schedules, timetables
from opskit.core.dag.asked_timetable import pending_run, planned_run
from opskit.core.dag.serialized import SerializedDag
from opskit.core.dag.timetables import DagRunInfo, DataInterval

Interval = tuple[datetime, datetime]


def next_runs(
    dag: SerializedDag,
    last: Interval | None,
    catchup_by_default: bool,
    now: datetime,
    count: int = 1,
    *,
    first_run: str = "latest",
    unpaused_at: datetime | None = None,
) -> list[DagRunInfo]:
    """At most `count` runs, in order. `last`: data interval of the newest scheduled or backfill run. What `run_if` will
    say is not considered. DagInvalid where only the DAG file can tell and this process does not ask it."""
    catchup = catchup_by_default if dag.catchup is None else dag.catchup
    timetable = timetables.deserialize(dag.timetable)
    interval = None if last is None else DataInterval(*last)
    since = (unpaused_at or now) if (dag.first_run or first_run) == "next" else None
    found: list[DagRunInfo] = []
    while len(found) < count:
        # After the first one the present is when that one was due, else catchup=False would give it again.
        present = max(now, found[-1].run_after) if found else now
        restriction = timetables.TimeRestriction(dag.start_date, dag.end_date, catchup, present)
        info = schedules.upcoming(timetable, interval, restriction, since)
        if info is None:
            break
        found.append(info)
        interval = info.data_interval
    return found


def planned(plan: str | None, version_hash: str, last: DataInterval | None) -> tuple[DagRunInfo | None, str | None]:
    """The next run and its run_id (None: as usual) of a DAG whose file alone can tell: from the plan that the DAG
    processor has stored. No run where that was made for another version, or before the newest run."""
    if plan is None:
        return None, None
    data = json.loads(plan)
    _, run = pending_run(data, interval_text(last))
    if data["version"] != version_hash or not data["approved"] or run is None:
        return None, None
    return planned_run(run), run["run_id"]


def interval_text(interval: Interval | None) -> list[str] | None:
    return None if interval is None else [edge.isoformat() for edge in interval]
