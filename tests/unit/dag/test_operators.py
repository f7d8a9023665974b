"""The operators of the core: bash, Python, branches by time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.execution import Outcome
from opskit.core.dag.operators import bash
from opskit.core.dag.operators.branch import SkipMixin
from opskit.core.dag.operators.branch_time import target_times_as_dates
from opskit.core.dag.weekday import WeekDay
from opskit.operators import (
    BashOperator,
    BranchDateTimeOperator,
    BranchDayOfWeekOperator,
    EmptyOperator,
    PythonOperator,
    ShortCircuitOperator,
    SmoothOperator,
)

Attempt = Callable[..., Outcome]
NOW = datetime.now(UTC)


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule="@daily", start_date=datetime(2024, 1, 1, tzinfo=UTC)) as opened:
        yield opened


@pytest.mark.parametrize("codes", [7, [3, 7], (7,), {7}])
def test_exit_codes_that_mean_skipped_are_one_or_several(dag: DAG, attempt: Attempt, codes: Any) -> None:
    BashOperator(task_id="t", bash_command="exit 7", skip_on_exit_code=codes)
    assert attempt(dag, "t").state == "skipped"


def test_without_exit_codes_that_mean_skipped_99_fails(dag: DAG, attempt: Attempt) -> None:
    BashOperator(task_id="t", bash_command="exit 99", skip_on_exit_code=None)
    outcome = attempt(dag, "t")
    assert (outcome.state, outcome.reason) == (
        "failed",
        "AirflowException: Bash command failed. The command returned a non-zero exit code 99.",
    )


def test_the_last_line_goes_through_the_output_processor(dag: DAG, attempt: Attempt) -> None:
    BashOperator(task_id="t", bash_command="echo one; echo '{\"n\": 2}'", output_processor=__import__("json").loads)
    assert attempt(dag, "t").xcoms == [("return_value", {"n": 2})]


def test_a_value_in_env_that_is_no_text_is_named(dag: DAG, attempt: Attempt) -> None:
    BashOperator(task_id="t", bash_command="true", env={"N": 3})  # type: ignore[dict-item]
    assert "env['N'] is int, a text is needed: write '3'" in (attempt(dag, "t").reason or "")


def test_a_script_runs_from_a_file_in_its_working_folder(tmp_path: Path, dag: DAG, attempt: Attempt) -> None:
    (tmp_path / "job.sh").write_text('echo "{{ ds }} in $(cd "$(dirname "$0")" && pwd)"\n')
    dag.template_searchpath = [str(tmp_path)]
    folder = tmp_path / "work"
    folder.mkdir()
    BashOperator(task_id="t", bash_command="job.sh", cwd=str(folder))
    assert attempt(dag, "t").xcoms == [("return_value", f"2024-03-01 in {folder}")]
    assert list(folder.iterdir()) == []


def test_a_command_longer_than_an_argument_may_be_runs_from_a_file(dag: DAG, attempt: Attempt) -> None:
    comment = "#" * (bash.LONGEST_ARGUMENT + 20_000)
    BashOperator(task_id="t", bash_command=f"{comment}\necho $((40 + 2))")
    assert attempt(dag, "t").xcoms == [("return_value", "42")]


def test_a_coroutine_function_is_awaited(dag: DAG, attempt: Attempt) -> None:
    async def answer(ds: str, n: int) -> str:
        return f"{ds} {n}"

    PythonOperator(task_id="t", python_callable=answer, op_kwargs={"n": 1})
    assert attempt(dag, "t").xcoms == [("return_value", "2024-03-01 1")]


def test_a_positional_argument_with_the_name_of_a_context_entry_is_refused(dag: DAG, attempt: Attempt) -> None:
    def function(ds: str) -> str:
        return ds

    PythonOperator(task_id="t", python_callable=function, op_args=["mine"])
    assert "the name belongs to the context" in (attempt(dag, "t").reason or "")


def test_what_a_generator_yields_beside_metadata_is_ignored_with_a_warning(
    dag: DAG, attempt: Attempt, caplog: pytest.LogCaptureFixture
) -> None:
    def numbers() -> Generator[int, None, str]:
        yield 1
        return "the end"

    PythonOperator(task_id="t", python_callable=numbers)
    assert attempt(dag, "t").xcoms == [("return_value", "the end")]
    assert "Ignoring unknown data of <class 'int'>" in caplog.text


def test_subclasses_reach_arguments_and_call_as_in_airflow(dag: DAG, attempt: Attempt) -> None:
    class Twice(PythonOperator):
        def execute_callable(self) -> Any:
            return [super().execute_callable(), self.op_kwargs["ds"]]

    Twice(task_id="t", python_callable=lambda ds, n: n, op_kwargs={"n": 5})
    assert attempt(dag, "t").xcoms == [("return_value", [5, "2024-03-01"])]


def test_a_short_circuit_leaves_teardowns_alone(dag: DAG, attempt: Attempt) -> None:
    gate = ShortCircuitOperator(task_id="gate", python_callable=lambda: False)
    teardown = EmptyOperator(task_id="teardown")
    teardown.is_teardown = True  # type: ignore[attr-defined, unused-ignore]
    gate >> EmptyOperator(task_id="work") >> teardown
    assert attempt(dag, "gate").skip == ["work"]


@pytest.mark.parametrize(
    ("lower", "upper", "chosen"),
    [
        (NOW - timedelta(hours=1), NOW + timedelta(hours=1), "yes"),
        (NOW + timedelta(hours=1), None, "no"),
        (None, NOW - timedelta(hours=1), "no"),
        (time(0, 0), time(23, 59, 59, 999999), "yes"),
    ],
)
def test_a_branch_by_the_present_compares_with_both_bounds(
    dag: DAG, attempt: Attempt, lower: Any, upper: Any, chosen: str
) -> None:
    branch = BranchDateTimeOperator(
        task_id="t",
        target_lower=lower,
        target_upper=upper,
        follow_task_ids_if_true="yes",
        follow_task_ids_if_false="no",
    )
    branch >> [EmptyOperator(task_id="yes"), EmptyOperator(task_id="no")]
    assert attempt(dag, "t").skip == [{"yes": "no", "no": "yes"}[chosen]]


def test_a_branch_without_any_bound_is_refused(dag: DAG) -> None:
    with pytest.raises(AirflowException, match="one of them is needed"):
        BranchDateTimeOperator(
            task_id="t",
            target_lower=None,
            target_upper=None,
            follow_task_ids_if_true="yes",
            follow_task_ids_if_false="no",
        )


def test_an_upper_time_before_the_lower_one_is_of_the_next_day() -> None:
    base = datetime(2024, 3, 1, 12, tzinfo=UTC)
    assert target_times_as_dates(base, time(22), time(4)) == (datetime(2024, 3, 1, 22), datetime(2024, 3, 2, 4))


@pytest.mark.parametrize(
    ("days", "chosen"),
    [("friday", "yes"), ({WeekDay.FRIDAY, "Sunday"}, "yes"), (WeekDay.MONDAY, "no"), (["MONDAY", "tuesday"], "no")],
)
@pytest.mark.parametrize("argument", ["use_task_logical_date", "use_task_execution_day"])
def test_a_branch_by_the_weekday_of_the_logical_date(
    dag: DAG, attempt: Attempt, days: Any, chosen: str, argument: str
) -> None:
    branch = BranchDayOfWeekOperator(
        task_id="t",
        week_day=days,
        follow_task_ids_if_true="yes",
        follow_task_ids_if_false="no",
        **{argument: True},
    )
    branch >> [EmptyOperator(task_id="yes"), EmptyOperator(task_id="no")]
    # The logical date, 1 March 2024, was a Friday.
    assert attempt(dag, "t").skip == [{"yes": "no", "no": "yes"}[chosen]]


def test_an_unknown_weekday_is_refused(dag: DAG) -> None:
    with pytest.raises(AttributeError, match="caturday"):
        BranchDayOfWeekOperator(
            task_id="t", week_day="caturday", follow_task_ids_if_true="a", follow_task_ids_if_false="b"
        )


def test_the_smooth_operator_succeeds(dag: DAG, attempt: Attempt) -> None:
    SmoothOperator(task_id="t")
    assert attempt(dag, "t").state == "success"


def test_a_choice_is_found_under_airflows_key(dag: DAG, attempt: Attempt) -> None:
    branch = BranchDateTimeOperator(
        task_id="branch",
        target_lower=NOW - timedelta(hours=1),
        target_upper=None,
        follow_task_ids_if_true="yes",
        follow_task_ids_if_false="no",
    )
    branch >> [EmptyOperator(task_id="yes"), EmptyOperator(task_id="no")]
    gate = ShortCircuitOperator(task_id="gate", python_callable=lambda: 0)
    gate >> EmptyOperator(task_id="after") >> EmptyOperator(task_id="last")
    assert dict(attempt(dag, "branch").xcoms)["skipmixin_key"] == {"followed": ["yes"]}
    assert dict(attempt(dag, "gate").xcoms)["skipmixin_key"] == {"skipped": ["after", "last"]}


@pytest.mark.parametrize("dialect", [2, 3])
def test_an_operator_may_skip_tasks_as_in_either_airflow(dag: DAG, attempt: Attempt, dialect: int) -> None:
    class Picky(BaseOperator, SkipMixin):
        def execute(self, context: Any) -> None:
            tasks = [self.dag.get_task("left")]
            if dialect == 2:
                self.skip(context["dag_run"], context["logical_date"], tasks)
            else:
                self.skip(ti=context["ti"], tasks=tasks)

    class Choosy(BaseOperator, SkipMixin):
        def execute(self, context: Any) -> None:
            self.skip_all_except(context["ti"], "right")

    ends = [EmptyOperator(task_id="left"), EmptyOperator(task_id="right")]
    for cls in (Picky, Choosy):
        cls(task_id=cls.__name__) >> ends
        assert attempt(dag, cls.__name__).skip == ["left"]


def test_arguments_may_have_names_that_airflows_context_does_not_always_have(dag: DAG, attempt: Attempt) -> None:
    def function(reason: str, exception: str = "none", try_number: int = 5, templates_dict: Any = "empty") -> Any:
        return [reason, exception, try_number, templates_dict]

    PythonOperator(task_id="given", python_callable=function, op_args=["mine"])
    PythonOperator(task_id="told", python_callable=function, op_args=["mine"], templates_dict={"a": "{{ ds }}"})
    assert attempt(dag, "given").xcoms == [("return_value", ["mine", "none", 5, "empty"])]
    assert attempt(dag, "told").xcoms == [("return_value", ["mine", "none", 5, {"a": "2024-03-01"}])]
