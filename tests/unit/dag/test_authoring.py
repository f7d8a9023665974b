"""What DAG authors write: operators, default_args, dependencies, groups."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from opskit import DAG, Label, TaskGroup, chain, cross_downstream
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.dependencies import chain_linear
from opskit.core.dag.exceptions import ParamValidationError
from opskit.core.dag.params import Param, ParamsDict
from opskit.core.dag.serialization import serialize
from opskit.errors import DagInvalid
from opskit.operators import BashOperator, EmptyOperator, PythonOperator

START = datetime(2024, 1, 1, tzinfo=UTC)


def make_dag(**arguments: Any) -> DAG:
    return DAG("d", **{"start_date": START, **arguments})


def empties(count: int) -> list[EmptyOperator]:
    return [EmptyOperator(task_id=f"t{number}") for number in range(count)]


def edges(dag: DAG) -> set[tuple[str, str]]:
    return {(task.task_id, down) for task in dag.tasks for down in task.downstream_task_ids}


def test_a_task_joins_the_dag_of_the_with_block() -> None:
    with make_dag() as dag:
        task = EmptyOperator(task_id="a")
    assert dag.task_dict == {"a": task}
    assert task.dag is dag


def test_a_task_joins_the_dag_that_it_is_given() -> None:
    dag = make_dag()
    assert EmptyOperator(task_id="a", dag=dag).dag is dag


def test_a_task_without_a_dag_joins_its_neighbours() -> None:
    first, second = EmptyOperator(task_id="a", dag=make_dag()), EmptyOperator(task_id="b")
    first >> second
    assert second.dag is first.dag
    assert "b" in first.dag.task_dict


def test_an_unknown_argument_names_itself_and_the_task() -> None:
    with make_dag(), pytest.raises(TypeError, match=r"load.*'retrys' \(did you mean 'retries'\?\)"):
        BashOperator(task_id="load", bash_command="true", retrys=3)


def test_a_missing_argument_names_itself_and_the_task() -> None:
    with make_dag(), pytest.raises(TypeError, match=r"load.*'bash_command'"):
        BashOperator(task_id="load")  # type: ignore[call-arg]


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(DagInvalid, match="positional"):
        EmptyOperator("a")  # type: ignore[misc]


def test_two_tasks_with_one_id_are_refused() -> None:
    with make_dag() as dag:
        EmptyOperator(task_id="a")
        with pytest.raises(DagInvalid, match="two tasks with the id 'a'"):
            EmptyOperator(task_id="a")
    assert len(dag.tasks) == 1


def test_ids_may_have_letters_of_any_language() -> None:
    with DAG("보고서") as dag:
        EmptyOperator(task_id="übertragen.1")
    assert serialize(dag)["tasks"][0]["task_id"] == "übertragen.1"


@pytest.mark.parametrize("task_id", ["with space", "a/b", "", "x" * 251, 7, None, "a:b"])
def test_an_id_that_can_not_be_one_is_refused(task_id: Any) -> None:
    with pytest.raises(DagInvalid):
        EmptyOperator(task_id=task_id)


@pytest.mark.parametrize(
    "argument",
    [
        {"trigger_rule": "sometimes"},
        {"weight_rule": "sideways"},
        {"retries": "many"},
        {"retries": -1},
        {"retry_delay": "soon"},
        {"pool_slots": 0},
        {"priority_weight": "high"},
        {"execution_timeout": 30},
        {"isolation": "thread"},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_with_task_and_argument(argument: dict[str, Any]) -> None:
    with make_dag(), pytest.raises(DagInvalid, match="task a"):
        EmptyOperator(task_id="a", **argument)


def test_default_args_fill_what_is_not_given() -> None:
    with make_dag(default_args={"retries": 3, "owner": "ops", "bash_command": "true", "unknown": 1}) as dag:
        task = BashOperator(task_id="a", owner="me")  # type: ignore[call-arg]
    assert (task.retries, task.owner, task.bash_command) == (3, "me", "true")
    assert dag.owner == "me"


def test_default_args_of_groups_and_operators_come_after_the_dags() -> None:
    with (
        make_dag(default_args={"retries": 1, "queue": "dag", "pool": "dag"}),
        TaskGroup("outer", default_args={"queue": "outer", "pool": "outer"}),
        TaskGroup("inner", default_args={"pool": "inner"}),
    ):
        task = EmptyOperator(task_id="a", default_args={"owner": "own"})
    assert (task.retries, task.queue, task.pool, task.owner) == (1, "outer", "inner", "own")


def test_default_args_reach_every_class_of_a_derived_operator() -> None:
    class Loader(BashOperator):
        def __init__(self, table: str, schema: str = "public", **kwargs: Any) -> None:
            super().__init__(bash_command=f"load {schema}.{table}", **kwargs)
            self.table = table

    with make_dag(default_args={"schema": "staging", "retries": 2, "cwd": "/srv"}):
        task = Loader(task_id="a", table="t")
    assert task.bash_command == "load staging.t"
    assert (task.retries, task.cwd) == (2, "/srv")


def test_a_derived_operator_that_passes_no_kwargs_on_still_gets_default_args() -> None:
    class Fixed(BaseOperator):
        def __init__(self, name: str) -> None:
            super().__init__(task_id=name)

    with make_dag(default_args={"retries": 2}):
        assert Fixed(name="a").retries == 2


def test_params_of_default_args_add_to_the_tasks() -> None:
    with make_dag(default_args={"params": {"a": 1}}):
        task = EmptyOperator(task_id="a", params={"b": 2})
    assert task.dag.params["a"] == 1
    assert task.params["b"] == 2


def test_shift_operators_connect_tasks_and_lists() -> None:
    with make_dag() as dag:
        a, b, c, d, e = empties(5)
        a >> [b, c] >> d
        e << d
    assert edges(dag) == {("t0", "t1"), ("t0", "t2"), ("t1", "t3"), ("t2", "t3"), ("t3", "t4")}
    assert [task.task_id for task in d.upstream_list] == ["t1", "t2"]
    assert a.get_flat_relative_ids() == {"t1", "t2", "t3", "t4"}
    assert e.get_flat_relative_ids(upstream=True) == {"t0", "t1", "t2", "t3"}
    assert dag.roots == [a]
    assert dag.leaves == [e]


def test_chain_connects_lists_pairwise() -> None:
    with make_dag() as dag:
        a, b, c, d, e, f = empties(6)
        chain(a, [b, c], [d, e], f)
    assert edges(dag) == {("t0", "t1"), ("t0", "t2"), ("t1", "t3"), ("t2", "t4"), ("t3", "t5"), ("t4", "t5")}
    with pytest.raises(DagInvalid, match="chain"):
        chain([a, b], [c, d, e])


def test_chain_linear_and_cross_downstream_connect_all_with_all() -> None:
    with make_dag() as dag:
        a, b, c, d = empties(4)
        cross_downstream([a, b], [c, d])
    everything = {("t0", "t2"), ("t0", "t3"), ("t1", "t2"), ("t1", "t3")}
    assert edges(dag) == everything
    with make_dag() as dag:
        a, b, c, d = empties(4)
        chain_linear([a, b], [c, d])
    assert edges(dag) == everything


def test_a_label_stands_on_its_edge() -> None:
    with make_dag() as dag:
        a, b, c = empties(3)
        a >> Label("yes") >> b
        c << Label("no") << a
    assert edges(dag) == {("t0", "t1"), ("t0", "t2")}
    assert dag.get_edge_info("t0", "t1") == {"label": "yes"}
    assert dag.get_edge_info("t0", "t2") == {"label": "no"}


def test_tasks_of_two_dags_can_not_be_connected() -> None:
    one = EmptyOperator(task_id="a", dag=make_dag())
    other = EmptyOperator(task_id="b", dag=DAG("other"))
    with pytest.raises(DagInvalid, match=r"DAG d.*DAG other"):
        one >> other


def test_a_dependency_on_something_else_is_refused() -> None:
    with make_dag(), pytest.raises(DagInvalid, match="str"):
        empties(1)[0] >> "t1"


def test_a_cycle_is_named() -> None:
    with make_dag() as dag:
        a, b, c, d = empties(4)
        a >> b >> c >> b
        c >> d
    with pytest.raises(DagInvalid, match=r"t1 >> t2 >> t1|t2 >> t1 >> t2"):
        dag.validate()


def test_a_task_before_itself_is_a_cycle() -> None:
    with make_dag() as dag:
        (a,) = empties(1)
        a >> a
    with pytest.raises(DagInvalid, match="t0 >> t0"):
        dag.validate()


def test_a_group_prefixes_and_connects_its_tasks() -> None:
    with make_dag() as dag:
        (before,) = empties(1)
        with TaskGroup("g", tooltip="all of it") as group:
            a = EmptyOperator(task_id="a")
            with TaskGroup("h"):
                b = EmptyOperator(task_id="b")
            a >> b
        after = EmptyOperator(task_id="after")
        before >> group >> after
    assert set(dag.task_dict) == {"t0", "g.a", "g.h.b", "after"}
    assert edges(dag) == {("t0", "g.a"), ("g.a", "g.h.b"), ("g.h.b", "after")}
    assert list(dag.task_group_dict) == ["g", "g.h"]
    assert group.get_child_by_label("a") is a
    assert a.label == "a"


def test_a_group_without_prefix_keeps_the_ids() -> None:
    with make_dag() as dag, TaskGroup("g", prefix_group_id=False):
        EmptyOperator(task_id="a")
    assert set(dag.task_dict) == {"a"}


def test_groups_connect_with_groups() -> None:
    with make_dag() as dag:
        with TaskGroup("g") as g:
            EmptyOperator(task_id="a"), EmptyOperator(task_id="b")
        with TaskGroup("h") as h:
            EmptyOperator(task_id="c"), EmptyOperator(task_id="d")
        g >> h
    assert edges(dag) == {("g.a", "h.c"), ("g.a", "h.d"), ("g.b", "h.c"), ("g.b", "h.d")}


def test_ids_of_groups_and_tasks_must_differ() -> None:
    with make_dag():
        with TaskGroup("g"):
            pass
        with pytest.raises(DagInvalid, match="'g'"):
            TaskGroup("g")
        with pytest.raises(DagInvalid, match="'g'"):
            EmptyOperator(task_id="g")
        assert TaskGroup("g", add_suffix_on_collision=True).group_id == "g__1"


def test_a_group_needs_a_dag() -> None:
    with pytest.raises(DagInvalid, match="no DAG"):
        TaskGroup("g")


def test_the_output_of_a_task_makes_the_dependency() -> None:
    with make_dag() as dag:
        first = BashOperator(task_id="a", bash_command="echo")
        PythonOperator(task_id="b", python_callable=print, op_args=[{"deep": (first.output,)}])
        BashOperator(task_id="c", bash_command="echo", env={"X": first.output["key"]})  # type: ignore[dict-item]
    assert edges(dag) == {("a", "b"), ("a", "c")}


def test_the_topological_order_is_that_of_the_file_where_it_is_free() -> None:
    with make_dag() as dag:
        tasks = empties(6)
        tasks[4] >> tasks[0]
    assert [task.task_id for task in dag.topological_sort()] == ["t1", "t2", "t3", "t4", "t5", "t0"]


def test_a_naive_start_date_is_wall_time_of_the_dags_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    dag = DAG("d", start_date=datetime(2024, 7, 1), timezone="Europe/Berlin")
    assert dag.start_date == datetime(2024, 7, 1, tzinfo=berlin)
    with DAG("e", start_date=datetime(2024, 7, 1, tzinfo=berlin)):
        task = EmptyOperator(task_id="a", start_date=datetime(2024, 8, 1))
    assert task.start_date == datetime(2024, 8, 1, tzinfo=berlin)
    assert DAG("f", start_date=datetime(2024, 7, 1)).start_date == datetime(2024, 7, 1, tzinfo=UTC)


def test_the_start_date_may_stand_in_default_args() -> None:
    dag = DAG("d", schedule="@daily", default_args={"start_date": datetime(2024, 1, 1)})
    assert dag.start_date == START


def test_what_is_not_given_is_left_to_the_configuration() -> None:
    dag = DAG("d")
    assert (dag.catchup, dag.max_active_runs, dag.max_active_tasks, dag.is_paused_upon_creation) == (None,) * 4
    assert dag.timetable.can_be_scheduled is False


def test_old_names_of_arguments_still_work() -> None:
    dag = DAG("d", schedule_interval="@hourly", concurrency=3)
    assert (dag.schedule, dag.max_active_tasks, dag.concurrency) == ("@hourly", 3, 3)
    with dag:
        assert EmptyOperator(task_id="a", task_concurrency=2).max_active_tis_per_dag == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"schedule": "@daily", "schedule_interval": None},
        {"schedule": "@continuous", "max_active_runs": 2},
        {"max_active_runs": "many"},
        {"dagrun_timeout": 60},
        {"start_date": "2024-01-01"},
        {"timezone": "Mars/Olympus"},
        {"schedule": "None"},
    ],
    ids=str,
)
def test_dag_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(DagInvalid):
        DAG("d", **arguments)


def test_continuous_allows_one_run_at_a_time() -> None:
    assert DAG("d", schedule="@continuous").max_active_runs == 1


def test_a_scheduled_dag_needs_valid_params() -> None:
    make_dag(schedule="@daily", params={"x": Param(1, type="integer")}).validate()
    with pytest.raises(DagInvalid, match="param x"):
        make_dag(schedule="@daily", params={"x": Param(None, type="string")}).validate()
    with pytest.raises(DagInvalid, match="param x"):
        make_dag(schedule="@daily", params={"x": Param(type="string")}).validate()
    make_dag(schedule=None, params={"x": Param(type="string")}).validate()


@pytest.mark.parametrize(
    ("param", "good", "bad"),
    [
        (Param(type="integer"), [1, 2.0, -3], ["1", 1.5, True, None]),
        (Param(type=["null", "string"]), [None, "x"], [1]),
        (Param(enum=["a", "b"]), ["a"], ["c", None]),
        (Param(const=3), [3], [4]),
        (Param(type="number", minimum=1, exclusiveMaximum=3), [1, 2.9], [0, 3]),
        (Param(type="string", minLength=2, pattern="^a"), ["ab"], ["a", "bb"]),
        (Param(type="array"), [[1]], ["[1]"]),
        (Param(type="object"), [{}], [[]]),
        (Param(type="boolean"), [True], [1, "true"]),
    ],
)
def test_a_param_takes_what_its_rules_allow(param: Param, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert param.resolve(value) == value
    for value in bad:
        with pytest.raises(ParamValidationError):
            param.resolve(value)


def test_params_keep_their_rules_when_they_are_overridden() -> None:
    params = ParamsDict({"x": Param(1, type="integer"), "y": "free"})
    assert params.merged({"x": 5, "z": 1}).validate() == {"x": 5, "y": "free", "z": 1}
    with pytest.raises(ParamValidationError, match="param x"):
        params.merged({"x": "five"}).validate()
    assert params["x"] == 1
