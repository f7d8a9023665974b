"""`dag.test()`: a whole run in one process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opskit import DAG, Variable
from opskit.core.dag import runtime
from opskit.core.dag.exceptions import AirflowSkipException
from opskit.errors import DagInvalid
from opskit.operators import BashOperator, EmptyOperator, PythonOperator
from opskit.sensors import PythonSensor


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule="@daily", start_date=datetime(2024, 1, 1, tzinfo=UTC)) as opened:
        yield opened


def fail() -> None:
    raise ValueError("no")


def skip() -> None:
    raise AirflowSkipException


def test_states_spread_by_the_trigger_rules(dag: DAG) -> None:
    good = PythonOperator(task_id="good", python_callable=lambda: 1)
    bad = PythonOperator(task_id="bad", python_callable=fail)
    gone = PythonOperator(task_id="gone", python_callable=skip)
    [good, bad] >> EmptyOperator(task_id="broken")
    [good, gone] >> EmptyOperator(task_id="left_out")
    [bad, gone] >> EmptyOperator(task_id="cleanup", trigger_rule="all_done")
    result = dag.test()
    assert result.task_states == {
        "good": "success", "bad": "failed", "gone": "skipped", "broken": "upstream_failed", "left_out": "skipped",
        "cleanup": "success",
    }  # fmt: skip
    assert result.state == "failed"
    assert result.reasons["bad"] == "ValueError: no"


def test_a_failure_that_was_cleaned_up_after_is_no_failed_run(dag: DAG) -> None:
    PythonOperator(task_id="bad", python_callable=fail) >> EmptyOperator(task_id="end", trigger_rule="all_done")
    assert dag.test().state == "success"


def test_retries_follow_at_once(dag: DAG) -> None:
    tries: list[int] = []

    def second_time(ti: Any) -> str:
        tries.append(ti.try_number)
        if ti.try_number < 2:
            raise ValueError
        return "done"

    PythonOperator(task_id="t", python_callable=second_time, retries=3, retry_delay=timedelta(days=1))
    result = dag.test()
    assert tries == [1, 2]
    assert result.tries["t"] == 2
    assert result.xcoms["t"]["return_value"] == "done"


def test_a_rescheduled_sensor_comes_back(dag: DAG) -> None:
    answers = iter([False, False, True])
    PythonSensor(task_id="s", python_callable=lambda: next(answers), mode="reschedule", poke_interval=0.01)
    result = dag.test()
    assert (result.state, result.tries["s"]) == ("success", 1)


def test_the_run_has_the_date_and_conf_that_it_is_given(dag: DAG) -> None:
    BashOperator(task_id="t", bash_command="echo {{ ds }} {{ dag_run.conf.a }} {{ data_interval_start | ds }}")
    result = dag.test(logical_date=datetime(2024, 5, 6, 12, tzinfo=UTC), conf={"a": "b"})
    assert result.xcoms["t"]["return_value"] == "2024-05-06 b 2024-05-05"


def test_what_tasks_write_does_not_reach_the_store_behind(dag: DAG) -> None:
    behind = runtime.MemoryStore()
    behind.variables["from_behind"] = "seen"
    runtime.set_store(behind)

    def write() -> str:
        Variable.set("new", "value")
        return str(Variable.get("from_behind") + Variable.get("new"))

    PythonOperator(task_id="t", python_callable=write)
    assert dag.test().xcoms["t"]["return_value"] == "seenvalue"
    assert behind.variables == {"from_behind": "seen"}
    assert runtime.store() is behind


def test_dag_callbacks_are_called_at_the_end() -> None:
    called: list[str] = []
    with DAG("d", on_failure_callback=lambda context: called.append(context["reason"])) as dag:
        PythonOperator(task_id="bad", python_callable=fail)
    dag.test()
    assert called == ["task_failure"]


def test_a_cycle_is_refused_before_anything_runs(dag: DAG) -> None:
    ran: list[int] = []
    a = PythonOperator(task_id="a", python_callable=lambda: ran.append(1))
    b = EmptyOperator(task_id="b")
    PythonOperator(task_id="free", python_callable=lambda: ran.append(1))
    a >> b >> a
    with pytest.raises(DagInvalid, match="cycle"):
        dag.test()
    assert ran == []


def test_progress_is_reported_line_by_line(dag: DAG) -> None:
    EmptyOperator(task_id="a") >> EmptyOperator(task_id="b")
    lines: list[str] = []
    dag.test(report=lines.append)
    assert lines == ["a: success", "b: success"]
