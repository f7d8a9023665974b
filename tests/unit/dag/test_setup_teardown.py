"""Setup and teardown: marks, `with` blocks, and what the scheduler is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from opskit import DAG, TaskGroup, task
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.execution import Outcome
from opskit.core.dag.serialization import serialize
from opskit.core.dag.serialized import SerializedTask, load
from opskit.core.dag.setup_teardown import context_wrapper
from opskit.core.dag.taskflow import setup, teardown
from opskit.core.dag.trigger_rules import decide
from opskit.errors import DagInvalid
from opskit.operators import EmptyOperator, ShortCircuitOperator


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as opened:
        yield opened


def node(task_id: str, **arguments: Any) -> EmptyOperator:
    return EmptyOperator(task_id=task_id, **arguments)


def tasks(dag: DAG) -> dict[str, SerializedTask]:
    return {found.task_id: found for found in load(serialize(dag)).tasks}


def edges(dag: DAG) -> set[str]:
    return {f"{found.task_id}>{below}" for found in dag.tasks for below in found.downstream_task_ids}


def test_a_teardown_marks_its_setups_and_follows_them(dag: DAG) -> None:
    s, w, t = node("s"), node("w"), node("t")
    s >> w >> t.as_teardown(setups=s)
    found = tasks(dag)
    assert (found["s"].is_setup, found["t"].is_teardown) == (True, True)
    assert found["t"].trigger_rule == "all_done_setup_success"
    assert edges(dag) == {"s>w", "w>t", "s>t"}
    assert (found["w"].leaf, found["t"].leaf, found["s"].leaf) == (True, False, None)


def test_a_teardown_that_fails_the_run_decides_it(dag: DAG) -> None:
    s, w, t = node("s"), node("w"), node("t")
    s >> w >> t.as_teardown(setups=s, on_failure_fail_dagrun=True)
    found = tasks(dag)
    assert [found[task_id].leaf for task_id in "swt"] == [None, None, None]


def test_a_task_needs_the_setups_before_it_whose_teardown_is_still_to_come(dag: DAG) -> None:
    s, w1, w2, t, after = node("s"), node("w1"), node("w2"), node("t"), node("after")
    own, lone = node("own"), node("lone")
    s >> w1 >> w2 >> t.as_teardown(setups=s) >> after
    lone.as_setup() >> own >> w1
    found = tasks(dag)
    assert (found["w1"].setups, found["w2"].setups) == (("lone",), ("lone", "s"))
    assert (found["own"].setups, found["after"].setups) == ((), ("lone",))


def test_tasks_in_a_with_block_lie_between_setup_and_teardown(dag: DAG) -> None:
    made = {name: setup(lambda: None).override(task_id=name)() for name in ("s1", "s2")}
    ended = {name: teardown(lambda: None).override(task_id=name)() for name in ("t1", "t2")}
    with made["s1"] >> ended["t1"]:
        node("a") >> node("b")
        with made["s2"] >> ended["t2"] as scope:
            node("c")
            scope.add_task(node("d"))
        node("e")
    assert edges(dag) == {
        *("s1>t1", "s1>a", "a>b", "b>t1", "s1>s2", "s2>c", "s2>d", "c>t2", "d>t2", "s2>t2", "t2>t1"),
        *("s1>e", "e>t1"),
    }


def test_of_several_setups_each_stands_before_the_block(dag: DAG) -> None:
    s1, s2, t = node("s1"), node("s2"), node("t")
    t.as_teardown(setups=[s1, s2])
    with context_wrapper([s1, s2]):
        node("w")
    assert edges(dag) == {"s1>t", "s2>t", "s1>w", "s2>w", "w>t"}


def test_only_setups_and_teardowns_open_a_block(dag: DAG) -> None:
    with pytest.raises(AirflowException, match="Only setup/teardown tasks"), node("a"):
        pass


def test_what_follows_a_group_does_not_wait_for_its_teardown(dag: DAG) -> None:
    with TaskGroup("g") as group:
        s, w, t = node("s"), node("w"), node("t")
        s >> w >> t.as_teardown(setups=s)
    group >> node("after")
    assert "g.w>after" in edges(dag)
    assert "g.t>after" not in edges(dag)


def test_a_short_circuit_does_not_skip_teardowns(dag: DAG, attempt: Callable[..., Outcome]) -> None:
    s, w, t = node("s"), node("w"), node("t")
    short = ShortCircuitOperator(task_id="short", python_callable=lambda: False)
    s >> short >> w >> t.as_teardown(setups=s)
    assert attempt(dag, "short").skip == ["w"]


def test_a_mapped_task_can_be_a_teardown(dag: DAG) -> None:
    @teardown(on_failure_fail_dagrun=True)  # type: ignore[untyped-decorator]
    def clean(place: str) -> None: ...

    s = node("s")
    s.as_setup() >> clean.expand(place=["a", "b"])
    found = tasks(dag)["clean"]
    assert (found.is_teardown, found.expand, dag.get_task("clean").on_failure_fail_dagrun) == (True, {"const": 2}, True)


def test_what_contradicts_itself_is_refused(dag: DAG) -> None:
    with pytest.raises(ValueError, match="already a setup"):
        node("a").as_setup().as_teardown()
    with pytest.raises(DagInvalid, match="trigger rule of a teardown"):
        teardown(task(trigger_rule="all_done")(lambda: None))()
    node("s").as_setup() >> node("w", trigger_rule="all_done")
    with pytest.raises(DagInvalid, match="follows the setup s"):
        dag.validate()


@pytest.mark.parametrize(
    ("success", "failed", "skipped", "expected"),
    [(1, 0, 0, "wait"), (1, 1, 0, "run"), (0, 2, 0, "upstream_failed"), (1, 0, 1, "skipped"), (0, 0, 1, "skipped")],
)
def test_all_done_min_one_success_allows_failures_but_no_skips(
    success: int, failed: int, skipped: int, expected: str
) -> None:
    done = success + failed + skipped
    assert decide("all_done_min_one_success", 2, success, failed, skipped, 0, 0, done) == expected
