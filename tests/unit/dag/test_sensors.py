"""Sensors: waiting in place, waiting with the slot given back, and what ends the wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag.execution import Outcome
from opskit.core.dag.runtime import MemoryStore, RunInfo
from opskit.errors import DagInvalid
from opskit.sensors import (
    BaseSensorOperator,
    BashSensor,
    DateTimeSensor,
    DateTimeSensorAsync,
    DayOfWeekSensor,
    ExternalTaskMarker,
    ExternalTaskSensor,
    FileSensor,
    PokeReturnValue,
    PythonSensor,
    TimeDeltaSensor,
    TimeDeltaSensorAsync,
    TimeSensorAsync,
    WaitSensor,
    poke_mode_only,
)

Attempt = Callable[..., Outcome]
DAY = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule="@daily", start_date=datetime(2024, 1, 1, tzinfo=UTC)) as opened:
        yield opened


def sensor(function: Callable[..., Any], **arguments: Any) -> PythonSensor:
    return PythonSensor(task_id="s", python_callable=function, **{"poke_interval": 0, **arguments})


def test_poke_mode_waits_in_place(dag: DAG, attempt: Attempt) -> None:
    answers = iter([False, False, True])
    sensor(lambda: next(answers))
    assert attempt(dag, "s").state == "success"
    assert next(answers, "all asked") == "all asked"


def test_reschedule_mode_gives_the_slot_back(dag: DAG, attempt: Attempt) -> None:
    sensor(lambda: False, mode="reschedule", poke_interval=90)
    before = datetime.now(UTC)
    outcome = attempt(dag, "s")
    assert outcome.state == "up_for_reschedule"
    assert outcome.reschedule_at is not None
    assert before + timedelta(seconds=90) <= outcome.reschedule_at <= datetime.now(UTC) + timedelta(seconds=90)


def test_the_timeout_counts_across_reschedules(dag: DAG, attempt: Attempt) -> None:
    sensor(lambda: False, mode="reschedule", timeout=3600)
    two_hours_ago = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    outcome = attempt(dag, "s", first_poke_at=two_hours_ago, max_tries=3)
    assert (outcome.state, outcome.retry) == ("failed", False)
    assert "timed out" in str(outcome.reason)


def test_success_after_the_timeout_still_counts(dag: DAG, attempt: Attempt) -> None:
    sensor(lambda: True, mode="reschedule", timeout=3600)
    assert attempt(dag, "s", first_poke_at="2020-01-01T00:00:00+00:00").state == "success"


@pytest.mark.parametrize(
    ("arguments", "error", "state"),
    [
        ({"timeout": 0}, None, "failed"),
        ({"timeout": 0, "soft_fail": True}, None, "skipped"),
        ({"timeout": 0, "never_fail": True}, None, "failed"),
        ({}, ValueError("x"), "failed"),
        ({"soft_fail": True}, ValueError("x"), "failed"),
        ({"never_fail": True}, ValueError("x"), "skipped"),
        ({"silent_fail": True, "timeout": 0}, ValueError("x"), "failed"),
    ],
    ids=str,
)
def test_what_ends_a_wait_that_fails(
    dag: DAG, attempt: Attempt, arguments: dict[str, Any], error: Exception | None, state: str
) -> None:
    def poke() -> bool:
        if error is not None:
            raise error
        return False

    sensor(poke, **arguments)
    assert attempt(dag, "s").state == state


def test_a_poke_return_value_is_pushed(dag: DAG, attempt: Attempt) -> None:
    sensor(lambda: PokeReturnValue(True, {"n": 1}))
    assert attempt(dag, "s").xcoms == [("return_value", {"n": 1})]


def test_exponential_backoff_grows_and_is_bounded(dag: DAG) -> None:
    task = sensor(lambda: False, poke_interval=10, exponential_backoff=True, timeout=10_000, max_wait=300)
    pauses = [task._next_pause(DAY, lambda: 0.0, pokes) for pokes in (1, 2, 3, 4, 5, 12)]
    for number, pause in enumerate(pauses[:5], start=1):
        least = max(int(10 * 2 ** (number - 2)), 1)
        assert least <= pause < 2 * least
    assert pauses[-1] == 300


def test_exponential_backoff_never_sleeps_past_the_timeout(dag: DAG) -> None:
    task = sensor(lambda: False, poke_interval=1000, exponential_backoff=True, timeout=100)
    assert task._next_pause(DAY, lambda: 60.0, 5) == 40


@pytest.mark.parametrize(
    "arguments",
    [{"mode": "nap"}, {"poke_interval": -1}, {"timeout": "long"}, {"soft_fail": True, "never_fail": True}],
    ids=str,
)
def test_wrong_arguments_are_refused(dag: DAG, arguments: dict[str, Any]) -> None:
    with pytest.raises(DagInvalid, match="task s"):
        sensor(lambda: True, **arguments)


def test_a_file_is_waited_for(dag: DAG, attempt: Attempt, tmp_path: Path) -> None:
    wanted = tmp_path / "in" / "2024-03-01.csv"
    FileSensor(task_id="f", filepath=str(tmp_path / "in" / "{{ ds }}.*"), poke_interval=0.01)
    (tmp_path / "in").mkdir()
    timer = threading.Timer(0.05, wanted.touch)
    timer.start()
    assert attempt(dag, "f").state == "success"
    timer.join()


def test_an_empty_folder_is_no_file(dag: DAG, attempt: Attempt, tmp_path: Path) -> None:
    FileSensor(task_id="f", filepath=str(tmp_path), poke_interval=0, timeout=0)
    assert attempt(dag, "f").state == "failed"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").touch()
    assert attempt(dag, "f").state == "success"


def test_a_bash_command_is_waited_for(dag: DAG, attempt: Attempt, tmp_path: Path) -> None:
    counter = tmp_path / "n"
    BashSensor(task_id="b", bash_command=f"echo x >> {counter}; test $(wc -l < {counter}) -ge 3", poke_interval=0)
    BashSensor(task_id="strict", bash_command="exit 5", retry_exit_code=1, poke_interval=0)
    assert attempt(dag, "b").state == "success"
    assert attempt(dag, "strict").state == "failed"


def test_points_in_time_are_waited_for(dag: DAG, attempt: Attempt) -> None:
    DateTimeSensor(task_id="past", target_time="{{ data_interval_end }}")
    DateTimeSensor(task_id="future", target_time=datetime(2999, 1, 1), mode="reschedule")
    TimeDeltaSensor(task_id="delta", delta=timedelta(hours=1))
    TimeDeltaSensor(task_id="long", delta=timedelta(days=300_000), mode="reschedule")
    states = [attempt(dag, task_id).state for task_id in dag.task_ids]
    assert states == ["success", "up_for_reschedule", "success", "up_for_reschedule"]


def other_run(store: MemoryStore, state: str, at: datetime = DAY, **states: str) -> None:
    store.add_run(RunInfo("other", f"r{at}", "scheduled", state, at, at, at, {}))
    store.states["other", f"r{at}"] = {(task_id.replace("__", "."), -1): value for task_id, value in states.items()}


def external(**arguments: Any) -> ExternalTaskSensor:
    return ExternalTaskSensor(task_id="e", external_dag_id="other", mode="reschedule", **arguments)


@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        ({}, "success"),
        ({"external_task_id": "good"}, "success"),
        ({"external_task_id": "bad"}, "up_for_reschedule"),
        ({"external_task_id": "bad", "failed_states": ["failed"]}, "failed"),
        ({"external_task_id": "bad", "failed_states": ["failed"], "soft_fail": True}, "skipped"),
        ({"external_task_id": "bad", "skipped_states": ["failed"]}, "skipped"),
        ({"external_task_id": "bad", "allowed_states": ["failed"]}, "success"),
        ({"external_task_ids": ["good", "bad"]}, "up_for_reschedule"),
        ({"external_task_id": "nothere"}, "up_for_reschedule"),
        ({"external_task_id": "nothere", "check_existence": True}, "failed"),
        ({"external_task_group_id": "g"}, "success"),
        ({"execution_delta": timedelta(days=1)}, "up_for_reschedule"),
        ({"execution_date_fn": lambda date: [date, date]}, "success"),
        ({"execution_date_fn": lambda date, ds: date - timedelta(days=len(ds))}, "up_for_reschedule"),
        ({"execution_date_fn": lambda logical_date, **context: context["context"]["logical_date"]}, "success"),
        ({"deferrable": True}, "success"),
        ({"deferrable": True, "external_task_id": "bad", "failed_states": ["failed"]}, "failed"),
        ({"deferrable": True, "external_task_id": "bad", "failed_states": ["failed"], "soft_fail": True}, "skipped"),
        ({"deferrable": True, "external_task_id": "bad", "skipped_states": ["failed"]}, "skipped"),
        ({"deferrable": True, "external_task_id": "bad", "timeout": 0.01, "poke_interval": 0}, "failed"),
        ({"deferrable": True, "external_task_id": "bad", "timeout": 0.01, "soft_fail": True}, "skipped"),
    ],
    ids=lambda value: str(value).split(" at 0x")[0],
)
def test_another_dag_is_waited_for(
    dag: DAG, attempt: Attempt, store: MemoryStore, arguments: dict[str, Any], state: str
) -> None:
    other_run(store, "success", good="success", bad="failed", g__a="success", g__b="success")
    external(**arguments)
    assert attempt(dag, "e").state == state


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"allowed_states": ["done"]}, "'done'"),
        ({"external_task_id": "t", "allowed_states": ["done"]}, "'done'"),
        ({"allowed_states": ["success"], "failed_states": ["success"]}, "two of"),
        ({"external_task_id": "t", "external_task_ids": ["t"]}, "external_task_ids"),
        ({"external_task_id": "t", "external_task_group_id": "g"}, "task group"),
        ({"execution_delta": timedelta(1), "execution_date_fn": print}, "execution_date_fn"),
    ],
    ids=lambda value: str(value).split(" at 0x")[0],
)
def test_arguments_that_contradict_each_other_are_refused(dag: DAG, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DagInvalid, match=message):
        external(**arguments)


def test_what_another_dag_does_not_have_is_named(dag: DAG, attempt: Attempt, store: MemoryStore) -> None:
    store.dags["other"] = {"dag_id": "other", "is_paused": False, "task_ids": ["a", "g.b"]}
    for number, (arguments, message) in enumerate(
        [
            ({"external_task_ids": ["a", "x"]}, "The external task x in DAG other does not exist."),
            ({"external_task_group_id": "h"}, "The external task group 'h' in DAG 'other' does not exist."),
            ({"external_dag_id": "third"}, "The external DAG third does not exist."),
        ]
    ):
        given = {"external_dag_id": "other", "check_existence": True, **arguments}
        ExternalTaskSensor(task_id=f"e{number}", **given)
        outcome = attempt(dag, f"e{number}")
        assert (outcome.state, message in str(outcome.reason)) == ("failed", True)
    other_run(store, "success", a="success", g__b="success")
    external(check_existence=True, external_task_group_id="g")
    assert attempt(dag, "e").state == "success"


@pytest.mark.parametrize(
    "arguments", [{"logical_date": DAY}, {"execution_date": DAY}, {"logical_date": DAY.isoformat()}]
)
def test_a_marker_keeps_the_date_under_both_names(dag: DAG, arguments: dict[str, Any]) -> None:
    marker = ExternalTaskMarker(task_id="m", external_dag_id="other", external_task_id="t", **arguments)
    assert marker.logical_date == marker.execution_date == DAY.isoformat()


def test_points_in_time_are_waited_for_as_deferred_tasks(dag: DAG, attempt: Attempt) -> None:
    soon = datetime.now(UTC) + timedelta(milliseconds=30)
    DateTimeSensorAsync(task_id="past", target_time="{{ data_interval_end }}")
    DateTimeSensorAsync(task_id="soon", target_time=soon.isoformat())
    DateTimeSensor(task_id="never", target_time=datetime(2999, 1, 1), deferrable=True, timeout=0.01)
    TimeDeltaSensorAsync(task_id="delta", delta=timedelta(hours=1))
    WaitSensor(task_id="wait", time_to_wait=timedelta(milliseconds=30), deferrable=True)
    WaitSensor(task_id="minutes", time_to_wait=5, mode="reschedule")
    TimeSensorAsync(task_id="today", target_time=datetime.min.time())
    outcomes = {task_id: attempt(dag, task_id) for task_id in dag.task_ids}
    assert {task_id: outcome.state for task_id, outcome in outcomes.items()} == {
        "past": "success",
        "soon": "success",
        "never": "failed",
        "delta": "success",
        "wait": "success",
        "minutes": "up_for_reschedule",
        "today": "success",
    }
    assert outcomes["delta"].xcoms == [("return_value", True)]  # as in Airflow, and only there
    assert outcomes["past"].xcoms == []
    assert (outcomes["never"].retry, outcomes["never"].reason) == (False, "AirflowSensorTimeout: Trigger timeout")
    assert datetime.now(UTC) > soon


def test_a_file_is_waited_for_by_a_deferred_task(dag: DAG, attempt: Attempt, tmp_path: Path) -> None:
    FileSensor(task_id="f", filepath=str(tmp_path / "*.csv"), poke_interval=0.01, deferrable=True)
    timer = threading.Timer(0.05, (tmp_path / "x.csv").touch)
    timer.start()
    assert attempt(dag, "f").state == "success"
    timer.join()


def test_a_file_lies_below_the_folder_of_its_connection(
    dag: DAG, attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FILES", f'{{"conn_type": "fs", "extra": {{"path": "{tmp_path}"}}}}')
    (tmp_path / "x").touch()
    FileSensor(task_id="f", filepath="x", fs_conn_id="files", timeout=0)
    assert attempt(dag, "f").state == "success"


@pytest.mark.parametrize(("days", "state"), [("FRIDAY", "success"), (["Monday", "sunday"], "up_for_reschedule")])
def test_days_of_the_week_are_waited_for(dag: DAG, attempt: Attempt, days: Any, state: str) -> None:
    # The logical date, 1 March 2024, was a Friday.
    DayOfWeekSensor(task_id="s", week_day=days, use_task_logical_date=True, mode="reschedule")
    assert attempt(dag, "s").state == state


def test_a_sensor_that_can_only_poke_refuses_other_modes(dag: DAG) -> None:
    @poke_mode_only
    class Stays(BaseSensorOperator):
        def poke(self, context: Any) -> bool:
            return True

    assert Stays(task_id="a").mode == "poke"
    with pytest.raises(ValueError, match="Only 'poke' is acceptable"):
        Stays(task_id="b", mode="reschedule")
