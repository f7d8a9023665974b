"""Ask real Airflow's timetables about all cases of its dialect, and write what they say into answers.jsonl.xz.

    VENV-WITH-AIRFLOW/bin/python tests/compat/timetables/record.py

Once with Airflow 2, once with Airflow 3; each takes a minute or two."""

from __future__ import annotations

import json
import lzma
import os
import sys
import tempfile
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp())
warnings.simplefilter("ignore")

import cases  # noqa: E402
from airflow import __version__ as version  # noqa: E402

ANSWERS = Path(__file__).with_name("answers.jsonl.xz")
DIALECT = int(version.split(".")[0])


def main() -> None:
    answers: dict[int, list[Any]] = {}
    if ANSWERS.exists():
        with lzma.open(ANSWERS, "rt") as file:
            answers = dict(json.loads(line) for line in file)
    for case in cases.all_cases():
        if case.dialect == DIALECT:
            answers[case.number] = answer(case)
    text = "".join(json.dumps(item, separators=(",", ":")) + "\n" for item in sorted(answers.items()))
    ANSWERS.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def answer(case: cases.Case) -> list[Any]:
    """`cases.compact` of what Airflow says; the name of an exception where it fails."""
    import pendulum
    from airflow.timetables.base import DataInterval, TimeRestriction

    def moment(seconds: float | None) -> Any:
        return None if seconds is None else pendulum.instance(datetime.fromtimestamp(seconds, UTC))

    timetable = make(case)
    last = None if case.last is None else DataInterval(*(moment(at) for at in case.last))
    restriction = TimeRestriction(moment(case.start), moment(case.end), case.catchup)
    now = case.now
    runs: list[Any] = []
    manual: list[Any] = []
    for _ in range(cases.STEPS):
        set_clock(now)
        try:
            info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            runs.append(type(error).__name__)
            break
        if info is None:
            runs.append(None)
            break
        last = info.data_interval
        runs.append(tuple(at.timestamp() for at in (info.run_after, *last)))
        now = max(now, info.run_after.timestamp())
    for at in case.manual:
        try:
            interval = timetable.infer_manual_data_interval(run_after=moment(at))
            manual.append(tuple(edge.timestamp() for edge in interval))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            manual.append(type(error).__name__)
    return cases.compact(case, runs, manual)


def make(case: cases.Case) -> Any:
    import pendulum

    zone: Any = case.zone
    if zone[0] in "+-":
        hours, minutes = zone[1:].split(":")
        seconds = int(hours) * 3600 + int(minutes) * 60
        zone = pendulum.timezone(-seconds if zone[0] == "-" else seconds)
    args = dict(case.args)
    if case.kind == "schedule":
        schedule = delta(args["delta"]) if "delta" in args else args["schedule"]
        tz = pendulum.timezone(zone) if isinstance(zone, str) else zone
        if DIALECT == 2:
            from airflow.models.dag import create_timetable

            return create_timetable(schedule, tz)
        from airflow.sdk.definitions.dag import _create_timetable
        from airflow.serialization.encoders import coerce_to_core_timetable

        return coerce_to_core_timetable(_create_timetable(schedule, tz))
    from airflow.timetables import events, interval, trigger

    keywords: dict[str, Any] = {}
    if "interval" in args:
        keywords["interval"] = delta(args["interval"])
    if "run_immediately" in args:
        value = args["run_immediately"]
        keywords["run_immediately"] = value if isinstance(value, bool) else timedelta(seconds=value)
    if case.kind == "CronDataIntervalTimetable":
        return interval.CronDataIntervalTimetable(args["cron"], zone)
    if case.kind == "DeltaDataIntervalTimetable":
        return interval.DeltaDataIntervalTimetable(delta(args["delta"]))
    if case.kind == "CronTriggerTimetable":
        return trigger.CronTriggerTimetable(args["cron"], timezone=zone, **keywords)
    if case.kind == "DeltaTriggerTimetable":
        return trigger.DeltaTriggerTimetable(delta(args["delta"]), **keywords)
    if case.kind == "MultipleCronTriggerTimetable":
        return trigger.MultipleCronTriggerTimetable(*args["crons"], timezone=zone, **keywords)
    assert case.kind == "EventsTimetable"
    dates = [pendulum.instance(datetime.fromtimestamp(at, UTC)) for at in args["events"]]
    return events.EventsTimetable(dates, restrict_to_events=args["restrict_to_events"])


def delta(args: dict[str, Any]) -> Any:
    if not args.get("relative"):
        return timedelta(**args)
    from dateutil.relativedelta import relativedelta

    return relativedelta(**{name: value for name, value in args.items() if name != "relative"})


def set_clock(now: float) -> None:
    """Airflow's timetables see this moment as the present."""
    from airflow.timetables import events, interval, simple, trigger

    present = datetime.fromtimestamp(now, UTC)

    def utcnow() -> datetime:
        return present

    interval.utcnow = utcnow
    trigger.utcnow = utcnow
    simple.timezone.utcnow = utcnow
    events.timezone.utcnow = utcnow
    if hasattr(trigger, "time"):
        trigger.time = type("time", (), {"time": staticmethod(lambda: now)})


if __name__ == "__main__":
    main()
