"""What a DAG file answers about its schedule, and what a plan says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opskit.core.dag import asked_timetable, file_asker, serialization, timetables
from opskit.core.dag.model import DAG
from opskit.core.dag.timetables import DagRunInfo, DataInterval, TimeRestriction, Timetable
from opskit.errors import DagInvalid

NOW = "2024-01-05T12:00:00+00:00"


def day(number: int) -> str:
    return f"2024-01-{number:02d}T00:00:00+00:00"


class Backwards(Timetable):
    """Asks what it is given: pendulum's datetimes, by keyword."""

    def __init__(self, days: int = 1) -> None:
        self.days = days

    def serialize(self) -> dict[str, Any]:
        return {"days": self.days}

    def infer_manual_data_interval(self, *, run_after: Any) -> DataInterval:  # type: ignore[override]
        return DataInterval(run_after.subtract(days=self.days), run_after)

    def next_dagrun_info(  # type: ignore[override]
        self, *, last_automated_data_interval: Any, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        last = last_automated_data_interval
        start: Any = restriction.earliest if last is None else last.end
        return DagRunInfo.interval(start, start.add(days=self.days))


def dag(**values: Any) -> DAG:
    return DAG("d", **{"schedule": "@daily", "start_date": datetime(2024, 1, 1, tzinfo=UTC), "catchup": True, **values})


def ask(made: DAG, **question: Any) -> dict[str, Any]:
    values = {"dag_id": "d", "after": None, "catchup": made.catchup, "now": NOW, **question}
    return asked_timetable.answer(made, values)


def starts(answer: dict[str, Any]) -> list[str]:
    return [run["start"] for run in (answer["run"], *answer["more"])]


def test_a_predicate_passes_dates_over_and_nothing_else() -> None:
    answer = ask(dag(run_if=lambda data_interval, logical_date: logical_date.day != 2))
    assert (starts(answer), answer["approved"], answer["passed"]) == ([day(1), day(3), day(4)], True, [day(2), day(3)])


def test_a_predicate_is_not_asked_before_the_time_has_come() -> None:
    def never_asked(data_interval: Any, logical_date: Any) -> bool:
        raise AssertionError

    answer = ask(dag(run_if=never_asked), after=[day(4), day(5)])
    assert answer["run"]["start"] == day(5)
    assert not answer["approved"]
    assert answer["warning"] is None


def test_a_predicate_that_raises_is_a_warning_and_its_date_waits() -> None:
    def broken(data_interval: Any, logical_date: Any) -> bool:
        raise ValueError("no calendar")

    answer = ask(dag(run_if=broken))
    assert answer["run"]["start"] == day(1)
    assert not answer["approved"]
    assert "no calendar (test_asked_timetable.py, line" in answer["warning"]
    assert datetime.fromisoformat(answer["again_at"]) > datetime.fromisoformat(NOW)
    assert answer["passed"] is None


def test_without_catchup_one_run_is_told_at_a_time() -> None:
    answer = ask(dag(catchup=False, run_if=lambda data_interval, logical_date: True))
    assert starts(answer) == [day(4)]


def test_an_authors_timetable_is_given_pendulums_datetimes_by_keyword() -> None:
    answer = ask(dag(schedule=Backwards(2)))
    assert starts(answer) == [day(1), "2024-01-03T00:00:00+00:00"]
    assert ask(dag(schedule=Backwards(2)), manual=day(9)) == {"interval": [day(7), day(9)]}


def test_a_timetable_that_raises_is_a_warning() -> None:
    class Broken(Backwards):
        def next_dagrun_info(self, **_: Any) -> DagRunInfo | None:  # type: ignore[override]
            raise LookupError("which day")

    answer = ask(dag(schedule=Broken()))
    assert answer["run"] is None
    assert "LookupError: which day" in answer["warning"]


def test_the_first_run_is_the_next_one_when_the_dag_says_so() -> None:
    made = dag(catchup=False, first_run="next", schedule=Backwards())
    answer = ask(made, since="2024-01-03T10:00:00+00:00", now="2024-01-03T10:00:01+00:00")
    assert answer["run"]["run_after"] == day(4)


def test_a_plan_leads_from_run_to_run() -> None:
    answer = ask(dag(run_if=lambda data_interval, logical_date: True))
    plan = {**answer, "after": None}
    assert asked_timetable.pending_run(plan, None) == (True, answer["run"])
    known, run = asked_timetable.pending_run(plan, [day(2), day(3)])
    assert known
    assert run is not None and run["start"] == day(3)
    assert asked_timetable.pending_run(plan, [day(4), day(5)]) == (False, None)
    assert asked_timetable.pending_run(plan, [day(8), day(9)]) == (False, None)


def test_the_json_form_of_an_authors_timetable_changes_with_its_numbers() -> None:
    one, other = (serialization.serialize(dag(schedule=Backwards(days)))["timetable"] for days in (1, 2))
    assert one != other
    assert one["class"].endswith("test_asked_timetable.Backwards")
    assert timetables.is_asked(one)
    assert not timetables.is_asked(serialization.serialize(dag())["timetable"])
    assert timetables.is_asked(serialization.serialize(dag(run_if=lambda interval, date: True))["timetable"])


def test_who_does_not_load_dag_files_says_so_instead_of_guessing() -> None:
    asked = timetables.deserialize(serialization.serialize(dag(schedule=Backwards()))["timetable"])
    with pytest.raises(DagInvalid, match="only the DAG file can say"):
        timetables.manual_interval(asked, datetime(2024, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"run_if": 3}, "a function is needed"),
        ({"run_if": lambda: True}, "two arguments"),
        ({"run_if": lambda interval, date: True, "schedule": None}, "no schedule"),
        ({"first_run": "soon"}, "first_run"),
        ({"first_run": "next", "catchup": True}, "catchup"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DagInvalid, match=message):
        dag(**values)


def test_a_pause_of_a_delta_is_as_long_as_it_says() -> None:
    answer = ask(dag(schedule=timedelta(hours=36), run_if=lambda data_interval, logical_date: True))
    assert starts(answer) == [day(1), "2024-01-02T12:00:00+00:00", day(4)][: len(starts(answer))]
    assert len(starts(answer)) >= 2


def test_an_author_may_name_runs() -> None:
    class Named(Backwards):
        def generate_run_id(self, *, run_type: Any, data_interval: Any, **extra: Any) -> str:  # type: ignore[override]
            return str(run_type.generate_run_id(suffix=f"until-{data_interval.end.format('D')}"))

    assert ask(dag(schedule=Named()))["run"]["run_id"] == "scheduled__until-2"


def test_a_process_without_the_file_asks_for_dates_and_leaves_the_predicate_alone() -> None:
    def never(data_interval: Any, logical_date: Any) -> bool:
        raise AssertionError

    made = dag(schedule=Backwards(), run_if=never)
    form = serialization.serialize(made, "d.py")["timetable"]
    file_asker.set_asker(lambda form, question: asked_timetable.answer(made, question))
    try:
        restriction = TimeRestriction(datetime(2024, 2, 1, tzinfo=UTC), None, True, datetime(2024, 3, 1, tzinfo=UTC))
        info = timetables.next_run(timetables.deserialize(form), None, restriction)
    finally:
        file_asker.set_asker(None)
    assert info is not None
    assert info.logical_date == datetime(2024, 2, 1, tzinfo=UTC)
