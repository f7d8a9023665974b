"""TaskFlow: what `@task`, `@dag` and `@task_group` make of functions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypedDict

import pytest

from opskit import DAG, dag, task, task_group
from opskit.core.dag.exceptions import ParamValidationError
from opskit.core.dag.execution import Outcome
from opskit.core.dag.xcom_arg import XComArg
from opskit.errors import DagInvalid
from opskit.operators import BashOperator

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def flow() -> Any:
    with DAG("d", start_date=START) as opened:
        yield opened


def test_a_call_makes_a_task_and_gives_its_output(flow: DAG) -> None:
    @task
    def one() -> int:
        return 1

    @task(retries=2)
    def add(a: int, b: int) -> int:
        return a + b

    output = add(one(), b=one())
    assert isinstance(output, XComArg)
    assert list(flow.task_dict) == ["one", "one__1", "add"]
    assert flow.get_task("add").upstream_task_ids == {"one", "one__1"}
    assert flow.get_task("add").retries == 2
    result = flow.test()
    assert result.state == "success"
    assert result.xcoms["add"]["return_value"] == 2


def test_repeated_calls_count_on(flow: DAG) -> None:
    @task
    def f() -> None: ...

    for _ in range(3):
        f()
    f.override(task_id="g")()
    f.override(task_id="g", retries=1)()
    assert list(flow.task_dict) == ["f", "f__1", "f__2", "g", "g__1"]
    assert flow.get_task("g__1").retries == 1
    assert flow.get_task("f").retries == 0


def test_ids_are_counted_within_their_group(flow: DAG) -> None:
    @task
    def f() -> None: ...

    @task_group
    def g() -> None:
        f()
        f()

    f()
    g()
    g()
    assert list(flow.task_dict) == ["f", "g.f", "g.f__1", "g__1.f", "g__1.f__1"]


def test_a_dict_annotation_means_multiple_outputs(flow: DAG) -> None:
    class Row(TypedDict):
        x: int

    @task
    def plain() -> dict[str, int]:
        return {"a": 1, "b": 2}

    @task
    def typed() -> Row:
        return {"x": 3}

    @task(multiple_outputs=False)
    def off() -> dict[str, int]:
        return {"a": 1}

    @task
    def take(*values: int) -> int:
        return sum(values)

    take(plain()["a"], plain()["b"])
    typed(), off()
    assert flow.get_task("plain").multiple_outputs
    assert not flow.get_task("off").multiple_outputs
    result = flow.test()
    assert result.xcoms["plain"] == {"a": 1, "b": 2, "return_value": {"a": 1, "b": 2}}
    assert result.xcoms["off"] == {"return_value": {"a": 1}}
    assert result.xcoms["take"]["return_value"] == 3


def test_a_function_gets_the_context_entries_that_it_names(flow: DAG, attempt: Callable[..., Outcome]) -> None:
    seen: dict[str, Any] = {}

    @task
    def named(value: int, ds: str | None = None, *, ti: Any = None, run_id: str | None = None) -> None:  # type: ignore[assignment]
        seen.update(value=value, ds=ds, task_id=ti.task_id, run_id=run_id)

    @task
    def everything(**context: Any) -> None:
        seen["names"] = set(context)

    named(7)
    everything()
    assert attempt(flow, "named").state == "success"
    assert seen == {"value": 7, "ds": "2024-03-01", "task_id": "named", "run_id": "scheduled__2024-03-01"}
    assert attempt(flow, "everything").state == "success"
    assert {"ds", "ti", "params", "logical_date", "prev_data_interval_start_success", "var", "conn"} <= seen["names"]
    assert not any(name.startswith("_") for name in seen["names"])


def test_a_wrong_call_is_an_error_of_the_file(flow: DAG) -> None:
    @task
    def f(a: int, b: int, ds: str | None = None) -> None: ...

    with pytest.raises(TypeError, match="'b' is missing"):
        f(1)
    with pytest.raises(TypeError, match="c"):
        f(1, 2, c=3)

    @task
    def g(ds: str = "2024-01-01") -> None: ...

    with pytest.raises(DagInvalid, match="'ds' must be None"):
        g()


def test_a_branch_skips_what_it_does_not_choose(flow: DAG) -> None:
    @task.branch
    def choose() -> str:
        return "left"

    @task
    def left() -> None: ...

    @task
    def right() -> None: ...

    @task(trigger_rule="none_failed_min_one_success")
    def join() -> None: ...

    choose() >> [left(), right()] >> join()
    assert flow.test().task_states == {"choose": "success", "left": "success", "right": "skipped", "join": "success"}


def test_a_short_circuit_skips_everything_after_it(flow: DAG) -> None:
    @task.short_circuit
    def gate() -> bool:
        return False

    @task
    def a() -> None: ...

    @task(trigger_rule="all_done")
    def b() -> None: ...

    gate() >> a() >> b()
    assert flow.test().task_states == {"gate": "success", "a": "skipped", "b": "skipped"}


def test_a_short_circuit_that_respects_trigger_rules_skips_one_step(flow: DAG) -> None:
    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def gate() -> bool:
        return False

    @task
    def a() -> None: ...

    @task(trigger_rule="all_done")
    def b() -> None: ...

    gate() >> a() >> b()
    assert flow.test().task_states == {"gate": "success", "a": "skipped", "b": "success"}


def test_bash_runs_the_command_that_the_function_returns(flow: DAG) -> None:
    @task.bash
    def shout(word: str) -> str:
        return f"echo {word} {{{{ params.x }}}}"

    flow.params["x"] = 5
    shout("hi")
    assert flow.test().xcoms["shout"]["return_value"] == "hi 5"


def test_a_sensor_function_is_asked_until_it_is_true(flow: DAG) -> None:
    asked: list[int] = []

    @task.sensor(poke_interval=0)
    def third_time() -> bool:
        asked.append(1)
        return len(asked) == 3

    third_time()
    assert flow.test().state == "success"
    assert len(asked) == 3


def test_a_group_function_takes_and_gives_outputs(flow: DAG) -> None:
    @task
    def one() -> int:
        return 1

    @task
    def double(value: int) -> int:
        return value * 2

    @task_group(group_id="twice")
    def group(value: Any) -> Any:
        """Both steps."""
        return double(double(value))

    end = BashOperator(task_id="end", bash_command="true")
    group(one()) >> end
    assert flow.get_task("end").upstream_task_ids == {"twice.double__1"}
    assert flow.task_group_dict["twice"].tooltip == "Both steps."
    assert flow.test().xcoms["twice.double__1"]["return_value"] == 4


def test_a_group_function_without_result_gives_the_group(flow: DAG) -> None:
    @task
    def step() -> None: ...

    @task_group
    def group() -> None:
        step()

    first = step()
    first >> group()
    assert flow.get_task("group.step").upstream_task_ids == {"step"}


def test_a_dag_function_makes_the_dag_and_its_arguments_are_params() -> None:
    @dag(schedule="@daily", start_date=START, tags=["x"])
    def flow(n: int = 3, m: str = "m") -> None:
        """What it is for."""

        @task
        def show(n: int, m: str) -> list[Any]:
            return [n, m]

        show(n, m)

    made = flow(m="given")
    assert (made.dag_id, made.doc_md, made.tags) == ("flow", "What it is for.", ["x"])
    assert made.params.dump() == {"n": 3, "m": "given"}
    assert made.test().xcoms["show"]["return_value"] == [3, "given"]
    assert made.test(conf={"n": 9}).xcoms["show"]["return_value"] == [9, "given"]


def test_a_dag_function_argument_without_value_must_be_given_by_the_run() -> None:
    @dag
    def flow(n: int) -> None:
        @task
        def show(n: int) -> int:
            return n

        show(n)

    made = flow()
    assert made.test(conf={"n": 1}).state == "success"
    with pytest.raises(ParamValidationError, match="param n"):
        made.test()


def test_the_output_of_a_task_can_not_be_iterated(flow: DAG) -> None:
    @task
    def one() -> list[int]:
        return [1]

    with pytest.raises(TypeError, match="iterated"):
        list(one())
    with pytest.raises(ValueError, match="looked up by a text"):
        one()[0]  # type: ignore[index]


def test_an_output_inside_a_text_becomes_a_template(flow: DAG) -> None:
    @task
    def one() -> str:
        return "value"

    BashOperator(task_id="b", bash_command=f"echo {one()}") << flow.get_task("one")
    assert flow.test().xcoms["b"]["return_value"] == "value"
