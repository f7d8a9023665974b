"""Schedules give the intervals of real Airflow 2.11 and 3.3: recorded answers to random cases, asked of ours.

`record.py` makes the recording anew."""

from __future__ import annotations

import json
import lzma
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit.core.dag import dialect, timetables
from opskit.core.dag.timetables import DataInterval, TimeRestriction, Timetable
from opskit.core.dag.zones import load_zone
from tests.compat.timetables import cases

ANSWERS = Path(__file__).with_name("answers.jsonl.xz")
MOST_FAILURES = 40
"""Cases in which Airflow itself fails; there is nothing to compare in them."""


def read_answers() -> dict[int, list[Any]]:
    with lzma.open(ANSWERS, "rt") as file:
        return dict(json.loads(line) for line in file)


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def ours(case: cases.Case) -> list[Any]:
    timetable = make(case)
    last = None if case.last is None else DataInterval(*(datetime.fromtimestamp(at, UTC) for at in case.last))
    now = case.now
    runs: list[Any] = []
    for _ in range(cases.STEPS):
        restriction = TimeRestriction(moment(case.start), moment(case.end), case.catchup, moment(now))
        try:
            info = timetables.next_run(timetable, last, restriction)
        except ValueError as error:
            runs.append(type(error).__name__)
            break
        if info is None:
            runs.append(None)
            break
        last = info.data_interval
        runs.append(tuple(at.timestamp() for at in (info.run_after, *last)))
        now = max(now, info.run_after.timestamp())
    manual = [
        tuple(edge.timestamp() for edge in timetables.manual_interval(timetable, datetime.fromtimestamp(at, UTC)))
        for at in case.manual
    ]
    return cases.compact(case, runs, manual)


def make(case: cases.Case) -> Timetable:
    with dialect.speaking(case.dialect):
        made = _make(case)
    # As the scheduler knows it: from JSON.
    return timetables.deserialize(json.loads(json.dumps(timetables.serialize(made))))


def _make(case: cases.Case) -> Timetable:
    args = dict(case.args)
    if case.kind == "schedule":
        schedule = delta(args["delta"]) if "delta" in args else args["schedule"]
        return timetables.make_timetable(schedule, load_zone(case.zone))
    if case.kind == "EventsTimetable":
        dates = [datetime.fromtimestamp(at, UTC) for at in args["events"]]
        return timetables.EventsTimetable(dates, restrict_to_events=args["restrict_to_events"])
    positional = list(args.pop("crons", ()))
    if "delta" in args:
        positional.append(delta(args.pop("delta")))
    if "cron" in args:
        positional.append(args.pop("cron"))
    if "interval" in args:
        args["interval"] = delta(args["interval"])
    if "run_immediately" in args and not isinstance(args["run_immediately"], bool):
        args["run_immediately"] = timedelta(seconds=args["run_immediately"])
    if "Cron" in case.kind:
        args["timezone"] = case.zone
    made: Timetable = getattr(timetables, case.kind)(*positional, **args)
    return made


def delta(args: dict[str, Any]) -> Any:
    if not args.get("relative"):
        return timedelta(**args)
    from dateutil.relativedelta import relativedelta

    return relativedelta(**{name: value for name, value in args.items() if name != "relative"})


def comparable(answer: list[Any]) -> bool:
    return not any(isinstance(each, str) for each in answer)


@pytest.mark.parametrize("version", [2, 3])
def test_ten_thousand_random_schedules_have_the_intervals_of_real_airflow(version: int) -> None:
    answers = read_answers()
    assert len(answers) == cases.COUNT
    failed, different, equal = 0, [], 0
    for case in cases.all_cases():
        if case.dialect != version:
            continue
        theirs = answers[case.number]
        if not comparable(theirs):
            failed += 1
        elif (mine := ours(case)) == theirs:
            equal += 1
        else:
            different.append((case, theirs, mine))
    told = "\n".join(
        f"{case}\n  Airflow:\n    {cases.full(case, theirs)}\n  opskit:\n    {cases.full(case, mine)}"
        for case, theirs, mine in different[:5]
    )
    assert not different, f"{equal} are equal, {len(different)} are not:\n{told}"
    assert failed <= MOST_FAILURES
    assert equal + failed > cases.COUNT * 0.45
