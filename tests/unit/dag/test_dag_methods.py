"""What authors do with a DAG object: its arguments of three generations, its methods, its command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG, Connection, TaskGroup, Variable, task
from opskit.core.dag import dag_cli, dialect
from opskit.core.dag.serialization import serialize
from opskit.errors import DagInvalid, UsageError
from opskit.operators import BashOperator, EmptyOperator, PythonOperator

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule="@daily", start_date=START) as opened:
        yield opened


@pytest.mark.parametrize(("spoken", "catchup"), [(None, None), (2, True), (3, False)])
def test_catchup_that_is_not_given_is_what_the_dialect_says(spoken: dialect.Dialect | None, catchup: Any) -> None:
    with dialect.speaking(spoken):
        assert (DAG("d").catchup, DAG("e", catchup=True).catchup, DAG("f").dialect) == (catchup, True, spoken)


def test_arguments_of_three_generations_are_taken() -> None:
    old = DAG("d", "about it", schedule_interval="@daily", concurrency=3, default_view="tree", orientation="TB")
    assert (old.description, old.max_active_tasks, old.normalized_schedule_interval) == ("about it", 3, "0 0 * * *")
    new = DAG(
        "e",
        fail_fast=True,
        allowed_run_types="manual",
        disable_bundle_versioning=True,
        max_consecutive_failed_dag_runs=2,
        access_control={"Op": {"can_read"}},
        dag_display_name="E",
    )
    assert (new.fail_stop, new.display_name) == (True, "E")
    data = serialize(new)
    assert (data["fail_fast"], data["max_consecutive_failed_dag_runs"], data["allowed_run_types"]) == (
        True,
        2,
        ["manual"],
    )
    with pytest.raises(DagInvalid, match="allowed_run_types has 'some'"):
        DAG("f", allowed_run_types=["some"])


def test_dates_in_default_args_may_be_texts() -> None:
    dag = DAG("d", default_args={"start_date": "2024-02-03"})
    assert dag.start_date == datetime(2024, 2, 3, tzinfo=UTC)
    with pytest.raises(DagInvalid, match="start_date is 'soon'"):
        DAG("d", default_args={"start_date": "soon"})


def test_a_fail_fast_dag_has_no_other_trigger_rules() -> None:
    with DAG("d", fail_stop=True) as dag:
        EmptyOperator(task_id="a", trigger_rule="all_done")
    with pytest.raises(DagInvalid, match="fail-fast"):
        dag.validate()


def test_a_weight_may_be_computed_by_an_object(dag: DAG) -> None:
    class Weight:
        def get_weight(self, ti: Any) -> int:
            return int(10 * ti.priority_weight + len(ti.task_id))

    BashOperator(task_id="abc", bash_command="true", weight_rule=Weight, priority_weight=2) >> EmptyOperator(
        task_id="b"
    )
    assert serialize(dag)["tasks"][0]["priority_weight"] == 23


def test_old_and_new_arguments_of_operators(dag: DAG, attempt: Callable[..., Any]) -> None:
    BashOperator(task_id="quiet", bash_command="echo a", xcom_push=False)
    PythonOperator(
        task_id="native",
        python_callable=lambda x: x,
        op_args=["{{ [1, 2] }}"],
        render_template_as_native_obj=True,
        provide_context=True,
        retry_exponential_backoff=2.0,
    )
    assert attempt(dag, "quiet").xcoms == []
    assert attempt(dag, "native").xcoms == [("return_value", [1, 2])]
    assert dag.get_task("native").retry_exponential_backoff is True
    with pytest.raises(DagInvalid, match="only doubling"):
        EmptyOperator(task_id="e", retry_exponential_backoff=3.5)


def test_default_args_reach_arguments_of_taskflow_functions(attempt: Callable[..., Any]) -> None:
    @task
    def give(size: int = 1, other: int = 2) -> list[int]:
        return [size, other]

    with DAG("d", default_args={"size": 5, "other": 6}) as dag:
        give(other=7)
    assert attempt(dag, "give").xcoms == [("return_value", [5, 7])]


def test_a_subset_holds_the_chosen_tasks_and_what_is_before_them(dag: DAG) -> None:
    a = EmptyOperator(task_id="a")
    with TaskGroup("g"):
        b, c = EmptyOperator(task_id="b"), EmptyOperator(task_id="c")
    a >> b >> c >> EmptyOperator(task_id="z")
    part = dag.partial_subset("g.b")
    assert (sorted(part.task_ids), part.partial, sorted(dag.task_ids)) == (["a", "g.b"], True, ["a", "g.b", "g.c", "z"])
    assert (part.get_task("g.b").downstream_task_ids, dag.get_task("g.b").downstream_task_ids) == (set(), {"g.c"})
    assert [task.task_id for task in part.task_group_dict["g"]] == ["g.b"]
    below = dag.sub_dag(["g.c"], include_downstream=True, include_upstream=False, include_direct_upstream=True)
    assert sorted(below.task_ids) == ["g.b", "g.c", "z"]
    assert [task.task_id for task in part.topological_sort()] == ["a", "g.b"]


def test_a_dag_tells_the_dates_of_its_runs(dag: DAG) -> None:
    days = [datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 5)]
    assert dag.get_run_dates(days[0], days[2]) == days[:3]
    assert (dag.following_schedule(days[0]), dag.previous_schedule(days[2])) == (days[1], days[1])


def test_dag_test_takes_connections_and_variables_from_files(dag: DAG, tmp_path: Path) -> None:
    @task
    def look() -> list[Any]:
        return [Connection.get_connection_from_secrets(name).host for name in ("one", "two")] + [Variable.get("v")]

    look()
    connections, variables = tmp_path / "c.json", tmp_path / "v.env"
    connections.write_text(json.dumps({"one": "http://first", "two": {"conn_type": "http", "host": "second"}}))
    variables.write_text("# a comment\nv=5\n")
    result = dag.test(conn_file_path=str(connections), variable_file_path=str(variables))
    assert result.xcoms["look"]["return_value"] == ["first", "second", "5"]
    with pytest.raises(UsageError, match="can't be read"):
        dag.test(conn_file_path=str(tmp_path / "none.json"))


def test_dag_test_can_let_tasks_succeed_without_running(dag: DAG) -> None:
    BashOperator(task_id="wait_long", bash_command="exit 1") >> BashOperator(task_id="other", bash_command="true")
    assert dag.test(mark_success_pattern="wait_.*").state == "success"
    assert dag.test().state == "failed"


def test_a_dag_file_has_a_command_line(dag: DAG, capsys: pytest.CaptureFixture[str]) -> None:
    PythonOperator(task_id="b", python_callable=lambda ds, params: print(ds, params), params={"x": 1}) << EmptyOperator(
        task_id="a"
    )
    dag_cli.run(dag, ["list"])
    dag_cli.run(dag, ["test", "2024-05-06", "--conf", '{"x": 2}'])
    assert capsys.readouterr().out.split("\n")[:2] == ["a", "b"]
    BashOperator(task_id="bad", bash_command="exit 1")
    with pytest.raises(SystemExit) as error:
        dag_cli.run(dag, ["test"])
    assert error.value.code == 1
