"""Dynamic task mapping: what is made of expand() and partial(), and what the instances are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from opskit import DAG, TaskGroup, task, task_group
from opskit.core.dag import dialect
from opskit.core.dag.exceptions import AirflowSkipException
from opskit.core.dag.execution import Outcome
from opskit.core.dag.runtime import MemoryStore
from opskit.core.dag.serialization import serialize
from opskit.core.dag.serialized import SerializedTask, load
from opskit.core.dag.xcom import decode
from opskit.errors import DagInvalid
from opskit.operators import BashOperator, EmptyOperator, PythonOperator

Attempt = Callable[..., Outcome]
Runner = Callable[..., Any]


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as opened:
        yield opened


@pytest.fixture
def run(dag: DAG, store: MemoryStore, attempt: Attempt) -> Runner:
    """Run one instance, keep what it pushes, and give what it returned; of one that fails or is skipped its outcome."""

    def runner(task_id: str, map_index: int = -1) -> Any:
        outcome = attempt(dag, task_id, map_index=map_index)
        for key, value in outcome.xcoms:
            store.set_xcom(dag.dag_id, "scheduled__2024-03-01", task_id, map_index, key, value)
        return decode(dict(outcome.xcoms).get("return_value")) if outcome.state == "success" else outcome

    return runner


def serialized(dag: DAG, task_id: str) -> SerializedTask:
    return load(serialize(dag)).task(task_id)


@task
def numbers() -> list[int]:
    return [3, 4, 5]


@task
def add(a: Any, b: Any = 0) -> Any:
    return a + b


@task_group
def a_group_of_mapped_tasks(a: Any) -> None:
    add.expand(a=[a])


def test_a_task_mapped_over_a_literal_list_knows_its_length(dag: DAG, run: Runner) -> None:
    add.partial(b=10).expand(a=[1, 2])
    found = serialized(dag, "add")
    assert (found.expand, found.mapped_group, found.operator) == ({"const": 2}, None, "@task")
    assert [run("add", index) for index in (0, 1)] == [11, 12]


def test_a_task_mapped_over_an_output_follows_the_task_that_makes_it(dag: DAG, run: Runner) -> None:
    add.expand(a=numbers())
    found = serialized(dag, "add")
    assert found.expand == {"xcom": "numbers", "key": "return_value"}
    assert found.upstream == ("numbers",)
    run("numbers")
    assert [run("add", index) for index in range(3)] == [3, 4, 5]


def test_of_several_arguments_the_last_one_changes_fastest(dag: DAG, run: Runner) -> None:
    add.expand(a=["x", "y"], b=["1", "2", "3"])
    assert serialized(dag, "add").expand == {"product": [{"const": 2}, {"const": 3}]}
    assert [run("add", index) for index in range(6)] == ["x1", "x2", "x3", "y1", "y2", "y3"]


def test_mapping_over_a_dict_gives_pairs(dag: DAG, run: Runner) -> None:
    @task
    def made() -> dict[str, int]:
        return {"k": 1, "l": 2}

    add.partial(b=("end",)).expand(a={"x": 1, "y": 2})
    add.partial(b=("end",)).expand(a=made())
    assert run("add", 1) == ("y", 2, "end")
    run("made")
    assert run("add__1", 0) == ("k", 1, "end")


def test_a_classic_operator_is_mapped_over_its_arguments_and_renders_them(dag: DAG, run: Runner) -> None:
    BashOperator.partial(task_id="b", env={"WHO": "{{ ti.map_index }}"}, append_env=True, retries=2).expand(
        bash_command=["echo $WHO", "echo {{ ds }}"]
    )
    found = serialized(dag, "b")
    assert (found.operator, found.retries, found.expand) == ("BashOperator", 2, {"const": 2})
    assert [run("b", 0), run("b", 1)] == ["0", "2024-03-01"]


def test_templates_in_what_comes_from_an_xcom_are_not_rendered(dag: DAG, run: Runner) -> None:
    @task
    def commands() -> list[str]:
        return ["echo '{{ nothing }}'"]

    BashOperator.partial(task_id="b").expand(bash_command=commands())
    run("commands")
    assert run("b", 0) == "{{ nothing }}"


def test_expand_kwargs_gives_each_instance_a_dict_of_arguments(dag: DAG, run: Runner) -> None:
    PythonOperator.partial(task_id="p", python_callable=lambda *a, **k: [list(a), k.get("x")]).expand_kwargs(
        [{"op_args": [1]}, {"op_kwargs": {"x": "{{ ds }}"}}]
    )
    add.expand_kwargs(numbers().map(lambda number: {"a": number, "b": 1}))
    assert [run("p", 0), run("p", 1)] == [[[1], None], [[], "2024-03-01"]]
    run("numbers")
    assert run("add", 2) == 6


def test_zip_map_and_concat_tell_their_lengths_and_elements(dag: DAG, run: Runner) -> None:
    one, other = numbers.override(task_id="one")(), add.expand(a=[1, 2])
    number = {"xcom": "one", "key": "return_value"}
    more = {"xcom": "add", "key": "return_value"}
    forms = {
        "zipped": one.zip(other),
        "filled": one.zip(other, fillvalue=0),
        "joined": one.concat(other, one),
        "changed": one.map(lambda x: x * 2).map(lambda x: -x),
    }
    for task_id, form in forms.items():
        PythonOperator.partial(task_id=task_id, python_callable=lambda x: x).expand(op_args=form.map(lambda x: [x]))
    assert serialized(dag, "zipped").expand == {"min": [number, more]}
    assert serialized(dag, "filled").expand == {"max": [number, more]}
    assert serialized(dag, "joined").expand == {"sum": [number, more, number]}
    assert serialized(dag, "changed").expand == number
    for task_id, index in (("one", -1), ("add", 0), ("add", 1)):
        run(task_id, index)
    assert run("zipped", 1) == (4, 2)
    assert run("filled", 2) == (5, 0)
    assert [run("joined", index) for index in (2, 3, 5)] == [5, 1, 3]
    assert run("changed", 0) == -6


def test_a_map_function_that_skips_skips_its_instance_only(dag: DAG, run: Runner) -> None:
    def even(number: int) -> int:
        if number % 2:
            raise AirflowSkipException("odd")
        return number

    add.expand(a=numbers().map(even))
    run("numbers")
    assert [getattr(run("add", 0), "state", None), run("add", 1)] == ["skipped", 4]


def test_the_output_of_a_mapped_task_is_a_sequence_of_what_its_instances_pushed(dag: DAG, run: Runner) -> None:
    @task
    def look(found: Any, ti: Any = None) -> Any:
        assert not isinstance(found, list)
        pulled = ti.xcom_pull(task_ids="add"), ti.xcom_pull(task_ids="add", map_indexes=2)
        return [len(found), found[0], found[-1], found[1:], sum(found), list(found), found == [1, 3], *pulled, found]

    look(add.expand(a=[1, 2, 3]))
    for index in (0, 2):  # 1 was skipped, say
        run("add", index)
    assert run("look") == [2, 1, 3, [3], 4, [1, 3], True, [1, 3], 3, [1, 3]]


def test_tasks_of_a_mapped_group_share_its_length_and_follow_their_index(dag: DAG, run: Runner) -> None:
    @task
    def total(values: Any) -> int:
        return sum(values)

    @task_group
    def work(number: Any, shift: int) -> Any:
        with TaskGroup("inner"):
            doubled = add.override(task_id="double")(number, number)
        EmptyOperator(task_id="between") << doubled
        return add.override(task_id="shift")(doubled, shift)

    total(work.partial(shift=100).expand(number=numbers()))
    length = {"xcom": "numbers", "key": "return_value"}
    for task_id in ("work.inner.double", "work.between", "work.shift"):
        found = serialized(dag, task_id)
        assert (found.expand, found.mapped_group) == (length, "work")
    assert serialized(dag, "work.inner.double").upstream == ("numbers",)
    assert serialized(dag, "total").mapped_group is None
    run("numbers")
    run("work.inner.double", 1)
    assert run("work.shift", 1) == 108
    run("work.inner.double", 2)
    run("work.shift", 2)
    assert run("total") == 218


def test_a_group_mapped_by_expand_kwargs_leaves_out_nothing_of_its_function(dag: DAG, run: Runner) -> None:
    @task_group
    def work(a: Any, b: Any) -> None:
        BashOperator(task_id="say", bash_command="echo $A", env={"A": a, "B": b}, append_env=True)

    work.expand_kwargs([{"a": "1", "b": "2"}, {"a": "3", "b": "4"}])
    assert serialized(dag, "work.say").expand == {"const": 2}
    assert run("work.say", 1) == "3"


@pytest.mark.parametrize(("value", "text"), [(None, "did not push"), ("abc", "unmappable return type 'str'")])
def test_a_task_that_something_is_mapped_over_fails_without_a_list(
    dag: DAG, run: Runner, value: Any, text: str
) -> None:
    @task
    def give() -> Any:
        return value

    add.expand(a=give())
    outcome = run("give")
    assert outcome.state == "failed"
    assert text in outcome.reason


def test_an_instance_fails_that_is_given_an_argument_twice(dag: DAG, run: Runner) -> None:
    add.partial(b=1).expand_kwargs([{"a": 1, "b": 2}])
    add.partial(b=1).expand_kwargs([{"a": 1, "b": 2}], strict=False)
    assert "mapping already partial" in run("add", 0).reason
    assert run("add__1", 0) == 3


def test_in_a_file_for_airflow_a_mapped_argument_goes_over_a_partial_one(attempt: Attempt) -> None:
    with dialect.speaking(2), DAG("e") as other:
        add.partial(a=1, b=5).expand(a=[3])
    assert attempt(other, "add", map_index=0).xcoms == [("return_value", 8)]


def test_default_args_and_arguments_of_the_task_reach_every_instance(attempt: Attempt, store: MemoryStore) -> None:
    seen: list[Any] = []

    class Own(BashOperator):
        def __init__(self, *, colour: str, pool: str = "own", **kwargs: Any) -> None:
            super().__init__(bash_command="true", pool=pool, **kwargs)
            self.colour = colour

        def execute(self, context: Any) -> None:
            seen.append((self.colour, self.retries, self.pool, self.owner, self.task_id, self.dag.dag_id))

    with DAG("d", schedule=None, default_args={"retries": 3, "owner": "me"}) as dag, TaskGroup("g"):
        Own.partial(task_id="o").expand(colour=["red"])
    found = serialized(dag, "g.o")
    assert (found.retries, found.owner, found.pool) == (3, "me", "own")
    attempt(dag, "g.o", map_index=0)
    assert seen == [("red", 3, "own", "me", "g.o", "d")]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: BashOperator.partial(task_id="b").expand(), "no arguments to expand against"),
        (lambda: BashOperator.partial(task_id="b").expand(nothing=[1]), "unexpected keyword argument 'nothing'"),
        (lambda: BashOperator.partial(task_id="b", nothing=1), "unexpected keyword argument 'nothing'"),
        (lambda: BashOperator.partial(task_id="b").expand(bash_command="ls"), "unexpected type 'str'"),
        (lambda: BashOperator.partial(task_id="b", env={}).expand(env=[{}]), "already specified argument: 'env'"),
        (lambda: BashOperator.partial(task_id="b", bash_command="").expand(retries=[1]), "unmappable"),
        (lambda: BashOperator.partial(task_id="b").expand_kwargs("ab"), "a list of dicts"),
        (lambda: BashOperator.partial(task_id="b").expand_kwargs([1]), "int 1"),
        (lambda: BashOperator.partial().expand(bash_command=["ls"]), "needs a task_id"),
        (lambda: add.expand(), "no arguments to expand against"),
        (lambda: add.expand(c=[1]), "unexpected keyword argument 'c'"),
        (lambda: add.partial(a=1).expand(a=[1]), "already partial argument: 'a'"),
        (lambda: add.partial(a=1).partial(a=2), "duplicate partial argument: 'a'"),
        (lambda: task(lambda ds: ds).expand(ds=["1"]), "context variable 'ds'"),
        (lambda: add.expand(a=numbers()["some"]), "cannot map over XCom with custom key 'some'"),
        (lambda: add.override(trigger_rule="always").expand(a=numbers()), "'always'"),
        (lambda: numbers()["some"].map(str), r"map\(\) can't be used on the XCom 'some'"),
        (lambda: a_group_of_mapped_tasks.expand(a=[1]), "is not supported"),
    ],
)
def test_wrong_mapping_is_told_when_the_file_is_loaded(dag: DAG, make: Callable[[], Any], text: str) -> None:
    with pytest.raises(DagInvalid, match=text):
        make()
