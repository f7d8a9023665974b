"""Mapped tasks, mapped groups, setups and teardowns in the memory of a run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from opskit.core.dag import lengths
from opskit.core.dag.run_instance import TaskInstance
from opskit.core.dag.run_state import RunState
from opskit.core.dag.serialized import SerializedDag
from tests.unit.scheduler.test_run_state import NOW, make_dag, make_run


def over(task_id: str) -> dict[str, Any]:
    return {"xcom": task_id, "key": "return_value"}


def finish(
    run: RunState, task_id: str, map_index: int = -1, state: str = "success", value: Any = None, **more: Any
) -> None:
    instance = run.instances[(task_id, map_index)]
    run.claim(instance, "w", NOW)
    xcoms = [] if value is None else [("return_value", value)]
    run.finished(instance, {"state": state, "started_at": NOW, "ended_at": NOW, "xcoms": xcoms, **more}, NOW)


def found(run: RunState) -> dict[str, str | None]:
    return {
        task_id if index < 0 else f"{task_id}[{index}]": one.state
        for (task_id, index), one in sorted(run.instances.items())
    }


def ready(run: RunState) -> list[tuple[str, int]]:
    return sorted(run.ready)


MAPPED = {"a": [], "m": ["a"], "end": ["m"]}


def mapped(**more: dict[str, Any]) -> SerializedDag:
    return make_dag(MAPPED, m={"expand": over("a")}, **more)


def test_a_mapped_task_gets_as_many_instances_as_the_list_that_it_is_mapped_over_has_elements() -> None:
    run = make_run(mapped())
    finish(run, "a", value=["x", "y", "z"])
    assert ready(run) == [("m", 0), ("m", 1), ("m", 2)]
    assert run.dropped == [("m", -1)]
    assert [one.key for one in run.added] == ready(run)
    for index in (2, 0):
        finish(run, "m", index)
    assert ready(run) == [("m", 1)]
    finish(run, "m", 1)
    assert ready(run) == [("end", -1)]
    finish(run, "end")
    assert run.ended and run.state == "success"


@pytest.mark.parametrize(
    ("state", "value", "expected", "end"),
    [
        ("success", [], "skipped", "skipped"),
        ("failed", None, "upstream_failed", "upstream_failed"),
        ("skipped", None, "skipped", "skipped"),
    ],
)
def test_over_nothing_it_is_skipped_and_over_what_failed_it_fails(
    state: str, value: Any, expected: str, end: str
) -> None:
    run = make_run(mapped())
    finish(run, "a", state=state, value=value)
    assert found(run) == {"a": state, "m": expected, "end": end}
    assert run.ended


def test_a_mapped_task_whose_rule_is_content_with_failures_still_needs_what_it_is_mapped_over() -> None:
    run = make_run(make_dag(MAPPED, m={"expand": over("a"), "trigger_rule": "all_done"}))
    finish(run, "a", state="failed")
    assert found(run) == {"a": "failed", "m": "upstream_failed", "end": "upstream_failed"}


def test_one_failed_instance_fails_what_follows_by_all_success() -> None:
    run = make_run(mapped())
    finish(run, "a", value={"k": 1, "l": 2})
    finish(run, "m", 0, state="failed")
    assert found(run)["end"] == "upstream_failed" and not run.ended
    finish(run, "m", 1)
    assert run.ended and run.state == "failed"


def test_a_literal_list_is_expanded_at_once() -> None:
    run = make_run(make_dag({"m": [], "end": ["m"]}, m={"expand": {"const": 2}}))
    assert ready(run) == [("m", 0), ("m", 1)]


def test_mapped_over_mapped_counts_the_instances_that_have_pushed_something() -> None:
    run = make_run(make_dag({"a": [], "b": ["a"], "c": ["b"]}, b={"expand": over("a")}, c={"expand": over("b")}))
    finish(run, "a", value=[1, 2, 3])
    finish(run, "b", 0, value="text")
    finish(run, "b", 1)
    assert ("c", -1) in run.instances
    finish(run, "b", 2, value=[])
    assert ready(run) == [("c", 0), ("c", 1)]


GROUP = {"a": [], "g.x": ["a"], "g.y": ["g.x"], "end": ["g.y"]}


def grouped() -> SerializedDag:
    inside = {"expand": over("a"), "mapped_group": "g"}
    return make_dag(GROUP, **{"g.x": inside, "g.y": inside})


def test_in_a_mapped_group_each_instance_follows_its_own() -> None:
    run = make_run(grouped())
    finish(run, "a", value=[1, 2])
    assert ready(run) == [("g.x", 0), ("g.x", 1)]
    finish(run, "g.x", 1)
    assert ready(run) == [("g.x", 0), ("g.y", 1)]
    finish(run, "g.x", 0, state="failed")
    assert found(run)["g.y[0]"] == "upstream_failed"
    finish(run, "g.y", 1)
    assert found(run)["end"] == "upstream_failed" and run.ended and run.state == "failed"


def test_a_branch_in_a_mapped_group_skips_in_its_own_instance_only() -> None:
    run = make_run(grouped())
    finish(run, "a", value=[1, 2])
    finish(run, "g.x", 0, skip=["g.y"])
    finish(run, "g.x", 1)
    assert found(run)["g.y[0]"] == "skipped" and ready(run) == [("g.y", 1)]


def test_a_group_over_nothing_is_skipped_as_a_whole() -> None:
    run = make_run(grouped())
    finish(run, "a", value=[])
    assert found(run) == {"a": "success", "g.x": "skipped", "g.y": "skipped", "end": "skipped"}


def read_again(run: RunState, dag: SerializedDag, **cleared: str) -> RunState:
    """The run as another scheduler reads it."""
    other = RunState(
        id=1, dag=dag, run_id="r", run_type="manual", logical_date=NOW, data_interval_start=NOW,
        data_interval_end=NOW, conf={}, start_date=NOW, lengths={key: {**value} for key, value in run.lengths.items()},
    )  # fmt: skip
    for (task_id, index), one in run.instances.items():
        state = None if task_id in cleared else one.state
        other.instances[(task_id, index)] = TaskInstance(one.task, index, state=state, max_tries=0)
    for task_id in cleared:
        for key in [key for key in other.lengths if key[0] == task_id]:
            del other.lengths[key]
    other.wire()
    return other


@pytest.mark.parametrize("length", [1, 2, 4])
def test_cleared_with_what_it_is_mapped_over_a_task_gets_as_many_instances_as_there_are_then(length: int) -> None:
    dag = mapped()
    run = make_run(dag)
    finish(run, "a", value=[1, 2])
    for index in range(2):
        finish(run, "m", index)
    run = read_again(run, dag, a="", m="", end="")
    assert ready(run) == [("a", -1)]
    finish(run, "a", value=list(range(length)))
    assert ready(run) == [("m", index) for index in range(length)]
    assert [found(run).get(f"m[{index}]") for index in range(length, 2)] == ["removed"] * max(0, 2 - length)
    for index in range(length):
        finish(run, "m", index)
    assert ready(run) == [("end", -1)]


def test_another_scheduler_goes_on_in_the_middle_of_a_mapped_task() -> None:
    dag = mapped()
    run = make_run(dag)
    finish(run, "a", value=[1, 2])
    finish(run, "m", 0)
    run = read_again(run, dag)
    assert ready(run) == [("m", 1)]
    before = make_run(dag)
    before.claim(before.instances[("a", -1)], "w", NOW)
    before.instances[("a", -1)].state = "success"
    before.lengths[("a", "return_value")] = {-1: 3}
    assert len(ready(read_again(before, dag))) == 3


def test_lengths_are_products_sums_and_the_shorter_of_two() -> None:
    known = {"a": 3, "b": 4}

    def evaluate(length: dict[str, Any]) -> int | None:
        return lengths.evaluate(length, lambda task_id, _: known.get(task_id))

    assert evaluate({"product": [over("a"), {"const": 2}, over("b")]}) == 24
    assert evaluate({"sum": [over("a"), over("b")]}) == 7
    assert evaluate({"min": [over("a"), over("b")]}) == 3
    assert evaluate({"max": [over("a"), {"sum": [over("b"), over("b")]}]}) == 8
    assert evaluate({"product": [over("a"), over("c")]}) is None
    assert lengths.of_value({"__classname__": "builtins.tuple", "__version__": 1, "__data__": [1, 2, 3]}) == 3
    assert lengths.of_value("text") is None


WORK = {"setup": [], "work": ["setup"], "more": ["work"], "teardown": ["setup", "more"]}


def with_teardown() -> SerializedDag:
    return make_dag(
        WORK,
        setup={"is_setup": True, "leaf": False},
        more={"setups": ("setup",), "leaf": True},
        teardown={"is_teardown": True, "trigger_rule": "all_done_setup_success", "leaf": False},
    )


def test_a_teardown_runs_after_failed_work_and_does_not_decide_the_run() -> None:
    run = make_run(with_teardown())
    finish(run, "setup")
    finish(run, "work", state="failed")
    assert ready(run) == [("teardown", -1)]
    finish(run, "teardown")
    assert found(run)["more"] == "upstream_failed" and run.state == "failed"
    run = make_run(with_teardown())
    for task in ("setup", "work", "more"):
        finish(run, task)
    finish(run, "teardown", state="failed")
    assert run.ended and run.state == "success"


@pytest.mark.parametrize(("state", "then"), [("failed", "upstream_failed"), ("skipped", "skipped")])
def test_without_its_setup_neither_work_nor_teardown_runs(state: str, then: str) -> None:
    dag = make_dag(
        WORK,
        setup={"is_setup": True},
        work={"trigger_rule": "all_done"},
        more={"setups": ("setup",)},
        teardown={"is_teardown": True, "trigger_rule": "all_done_setup_success"},
    )
    run = make_run(dag)
    finish(run, "setup", state=state)
    finish(run, "work")
    assert found(run) == {"setup": state, "work": "success", "more": then, "teardown": then}


def test_a_task_has_no_part_in_a_run_before_its_own_start_and_those_below_go_on_without_it() -> None:
    dag = make_dag({"a": [], "b": ["a"], "c": ["a", "b"]}, b={"start_date": NOW + timedelta(days=1)})
    run = RunState(
        id=1, dag=dag, run_id="r", run_type="manual", logical_date=NOW, data_interval_start=NOW,
        data_interval_end=NOW, conf={}, start_date=NOW,
    )  # fmt: skip
    run.begin()
    run.wire()
    finish(run, "a")
    assert ready(run) == [("c", -1)]
