"""Schedules that only the DAG file can answer for: a timetable of the author's own class, and `run_if`.

Scheduler, command line and web UI have no user code. They know of such a schedule what it is (`AskedTimetable`, from
the JSON form); what it says comes from a process that has loaded the DAG file (`answer`, there), and is kept in the
metastore as a plan.

Question: {"dag_id", "after": [start, end] | null, "catchup": bool, "now", "since": time | absent}
          or {"dag_id", "manual"}
          times are ISO 8601 with offset; `after` is the interval to go on from, `since` that of first_run="next",
          `manual` the time of a run that somebody triggers; with `paused` nothing is approved, with `timetable_only`
          run_if is not asked, and `start` and `end` take the place of the DAG's dates
Answer:   {"run": {"start", "end", "run_after", "run_id"} | null, "approved": bool, "more": [run, …],
           "passed": [start, end] | null, "again_at": time | null, "warning": text | null},
          or {"interval": [start, end]} to `manual`
          approved: the run may be made when it is due; more: with catchup, runs after it that are approved and due;
          passed: the newest date for which run_if said no
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from opskit.core.dag import file_asker, schedules
from opskit.core.dag.timetable_base import DagRunInfo, DataInterval, RunType, TimeRestriction, Timetable
from opskit.core.dag.zones import utc
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.model import DAG

AGAIN_SECONDS = 60.0
"""After this time a schedule that has raised something is asked again; one that had no run, too."""
_LONGEST_SECONDS = 5.0
"""So long dates are gone through for one answer; the next one goes on."""
_MOST_RUNS = 25
"""So many due runs are in one answer."""


class AskedTimetable(Timetable):
    """A timetable of an author's class, without its code."""

    def __init__(self, form: Mapping[str, Any]) -> None:
        self._form = dict(form)
        self.description = str(form.get("description", ""))
        self.periodic = bool(form.get("periodic", True))
        self.can_be_scheduled = bool(form.get("can_be_scheduled", True))
        self.active_runs_limit = form.get("active_runs_limit")

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        return cls(data)

    @property
    def summary(self) -> str:
        return str(self._form["summary"])

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        found = self._answer({"manual": _text(run_after)})
        return _interval(found["interval"])

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        last = last_automated_data_interval
        found = self._answer(
            {
                "after": None if last is None else [_text(last.start), _text(last.end)],
                "catchup": restriction.catchup,
                "now": _text(restriction.present()),
                "start": None if restriction.earliest is None else _text(restriction.earliest),
                "end": None if restriction.latest is None else _text(restriction.latest),
                "timetable_only": True,
            }
        )
        if found.get("warning"):
            raise DagInvalid(str(found["warning"]))
        return planned_run(found["run"])

    def serialize(self) -> dict[str, Any]:
        return self._form

    def _answer(self, question: dict[str, Any]) -> Mapping[str, Any]:
        ask = file_asker.asker()
        if ask is None:
            raise DagInvalid(
                f"only the DAG file can say what {self.summary} says, and this process does not load DAG files"
            )
        return ask(self._form, {"dag_id": self._form["dag_id"], **question})


def planned_run(run: Mapping[str, Any] | None) -> DagRunInfo | None:
    """A run of an answer."""
    if run is None:
        return None
    return DagRunInfo(datetime.fromisoformat(run["run_after"]), _interval([run["start"], run["end"]]))


def pending_run(plan: Mapping[str, Any], last: list[str] | None) -> tuple[bool, dict[str, Any] | None]:
    """Whether a plan (an answer, and `after`: the interval of the newest run at the time) says what comes after the run
    with the interval `last`; and that run, None when it says that there is none."""
    before = plan["after"]
    for run in (plan["run"], *plan["more"]):
        if before == last:
            return True, run
        if run is None:
            break
        before = [run["start"], run["end"]]
    return False, None


def answer(dag: DAG, question: Mapping[str, Any]) -> dict[str, Any]:
    """What the schedule of a loaded DAG says. Whatever the author's code raises becomes a warning."""
    from opskit.core.dag import timetables

    if "manual" in question:
        moment = datetime.fromisoformat(question["manual"])
        try:
            interval = timetables.manual_interval(dag.timetable, moment)
        except Exception as error:  # noqa: BLE001 - the author's code may raise anything
            return {"warning": _explain(f"{dag.timetable.summary}.infer_manual_data_interval", error)}
        return {"interval": [_text(interval.start), _text(interval.end)]}
    return _Plan(dag, question).make()


class _Plan:
    def __init__(self, dag: DAG, question: Mapping[str, Any]) -> None:
        self.dag = dag
        self.now = datetime.fromisoformat(question["now"])
        start, end = schedules.bounds(dag)
        if "start" in question:
            start, end = _moment(question["start"]), _moment(question["end"])
        self.restriction = TimeRestriction(start, end, bool(question["catchup"]), self.now)
        self.last = None if question.get("after") is None else _interval(question["after"])
        self.since = _moment(question.get("since"))
        self.paused = bool(question.get("paused"))
        self.run_if = None if question.get("timetable_only") else dag.run_if

    def make(self) -> dict[str, Any]:
        run_if = self.run_if
        passed: DataInterval | None = None
        runs: list[dict[str, Any]] = []
        until = time.monotonic() + _LONGEST_SECONDS
        while True:
            try:
                info = schedules.upcoming(self.dag.timetable, self.last, self.restriction, self.since)
                run = None if info is None else self._run(info)
            except Exception as error:  # noqa: BLE001 - the author's code may raise anything
                return self._later(runs, None, passed, _explain(f"the timetable {self.dag.timetable.summary}", error))
            if info is None or run is None:
                return self._later(runs, None, passed, None)
            if self.paused:
                return _told(runs, run, False, passed)
            if info.run_after > self.now:
                return _told(runs, run, run_if is None, passed)
            try:
                wanted = run_if is None or run_if(*(_pendulums(info)))
            except Exception as error:  # noqa: BLE001 - likewise
                return self._later(runs, run, passed, _explain(f"run_if for {run['start']}", error))
            self.last = info.data_interval
            if wanted:
                runs.append(run)
            else:
                passed = info.data_interval
            if (runs and not self.restriction.catchup) or len(runs) == _MOST_RUNS or time.monotonic() > until:
                return {**_told(runs, None, False, passed), "again_at": None if runs else _text(self.now)}

    def _run(self, info: DagRunInfo) -> dict[str, Any]:
        timetable = self.dag.timetable
        run_id = None
        if type(timetable).generate_run_id is not Timetable.generate_run_id:
            interval, logical_date = _pendulums(info)
            run_id = timetable.generate_run_id(
                run_type=RunType("scheduled"),
                logical_date=logical_date,
                run_after=_pendulum(info.run_after),
                data_interval=interval,
            )
        return {
            "start": _text(info.data_interval.start),
            "end": _text(info.data_interval.end),
            "run_after": _text(info.run_after),
            "run_id": run_id,
        }

    def _later(
        self, runs: list[dict[str, Any]], run: dict[str, Any] | None, passed: DataInterval | None, warning: str | None
    ) -> dict[str, Any]:
        again_at = None if runs else _text(self.now + timedelta(seconds=AGAIN_SECONDS))
        return {**_told(runs, run, False, passed), "again_at": again_at, "warning": warning}


def _told(
    runs: list[dict[str, Any]], run: dict[str, Any] | None, approved: bool, passed: DataInterval | None
) -> dict[str, Any]:
    """`runs` are approved and due; `run` comes after them, and is told when there are none."""
    over = None if passed is None else [_text(passed.start), _text(passed.end)]
    if runs:
        return {"run": runs[0], "approved": True, "more": runs[1:], "passed": over, "again_at": None, "warning": None}
    return {"run": run, "approved": approved, "more": [], "passed": over, "again_at": None, "warning": None}


def _pendulums(info: DagRunInfo) -> tuple[DataInterval, datetime]:
    interval = DataInterval(_pendulum(info.data_interval.start), _pendulum(info.data_interval.end))
    return interval, interval.start


def _pendulum(moment: datetime) -> datetime:
    import pendulum

    return pendulum.instance(moment)


def _explain(what: str, error: BaseException) -> str:
    import traceback

    told = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    at = f" ({frames[-1].filename.rpartition('/')[2]}, line {frames[-1].lineno})" if frames else ""
    return f"{what}: {told}{at}"


def _interval(texts: Any) -> DataInterval:
    return DataInterval(datetime.fromisoformat(texts[0]), datetime.fromisoformat(texts[1]))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _text(moment: datetime) -> str:
    return utc(moment).isoformat()
