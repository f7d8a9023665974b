"""Readiness in memory: counters, retries, skips, the past, and the end of a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.core.dag.run_instance import TaskInstance
from opskit.core.dag.run_state import RunState
from opskit.core.dag.serialized import SerializedDag, SerializedTask

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


def make_dag(edges: dict[str, list[str]], **settings: dict[str, Any]) -> SerializedDag:
    """`edges`: task → upstream tasks; `settings`: arguments of a task."""
    down: dict[str, list[str]] = {task: [] for task in edges}
    for task, upstream in edges.items():
        for above in upstream:
            down[above].append(task)
    tasks = tuple(
        SerializedTask(task, "PythonOperator", tuple(upstream), tuple(down[task]), **settings.get(task, {}))
        for task, upstream in edges.items()
    )
    return SerializedDag("d", "d.py", {"type": "none"}, tasks)


def make_run(dag: SerializedDag, states: dict[str, str | None] | None = None, **fields: Any) -> RunState:
    run = RunState(
        id=1, dag=dag, run_id="r", run_type="manual", logical_date=NOW, data_interval_start=NOW,
        data_interval_end=NOW, conf={}, start_date=NOW, **fields,
    )  # fmt: skip
    for task in dag.tasks:
        instance = TaskInstance(task, max_tries=task.retries, state=(states or {}).get(task.task_id))
        run.instances[instance.key] = instance
    run.wire()
    return run


def ready(run: RunState) -> set[str]:
    return {task_id for task_id, _ in run.ready}


def finish(run: RunState, task_id: str, state: str = "success", **result: Any) -> str:
    instance = run.instances[(task_id, -1)]
    if instance.key in run.ready:
        run.claim(instance, "w", NOW)
    return run.finished(instance, {"state": state, "started_at": NOW, "ended_at": NOW, **result}, NOW)


def states_of(run: RunState) -> dict[str, str | None]:
    return {key[0]: instance.state for key, instance in run.instances.items()}


def test_a_chain_becomes_ready_one_after_the_other() -> None:
    run = make_run(make_dag({"a": [], "b": ["a"], "c": ["b"]}))
    for task in "abc":
        assert ready(run) == {task}
        finish(run, task)
    assert run.ended
    assert run.state == "success"


def test_a_join_waits_for_all_of_a_fan_out() -> None:
    edges = {"root": [], **{f"t{n}": ["root"] for n in range(300)}, "join": [f"t{n}" for n in range(300)]}
    run = make_run(make_dag(edges))
    finish(run, "root")
    assert len(run.ready) == 300
    for number in range(300):
        assert "join" not in ready(run)
        finish(run, f"t{number}")
    assert ready(run) == {"join"}


def test_a_failure_goes_down_to_the_leaves_and_fails_the_run() -> None:
    run = make_run(make_dag({"a": [], "b": ["a"], "c": ["b"], "other": []}))
    finish(run, "a", "failed")
    assert states_of(run) == {"a": "failed", "b": "upstream_failed", "c": "upstream_failed", "other": None}
    assert not run.ended
    finish(run, "other")
    assert (run.ended, run.state) == (True, "failed")


def test_a_handled_failure_does_not_fail_the_run() -> None:
    run = make_run(make_dag({"a": [], "clean": ["a"]}, clean={"trigger_rule": "all_done"}))
    finish(run, "a", "failed")
    finish(run, "clean")
    assert run.state == "success"


def test_a_very_long_chain_of_skips_does_not_exhaust_the_stack() -> None:
    edges = {"t0": [], **{f"t{n}": [f"t{n - 1}"] for n in range(1, 5000)}}
    run = make_run(make_dag(edges))
    finish(run, "t0", "skipped")
    assert set(states_of(run).values()) == {"skipped"}
    assert run.state == "success"


def test_a_branch_skips_what_it_names_and_what_follows_but_not_the_join() -> None:
    dag = make_dag(
        {"branch": [], "left": ["branch"], "right": ["branch"], "join": ["left", "right"]},
        join={"trigger_rule": "none_failed_min_one_success"},
    )
    run = make_run(dag)
    finish(run, "branch", skip=["right"])
    assert states_of(run)["right"] == "skipped"
    assert ready(run) == {"left"}
    finish(run, "left")
    assert ready(run) == {"join"}


def test_a_branch_skips_an_empty_task_that_would_end_at_once() -> None:
    run = make_run(
        make_dag(
            {"branch": [], "left": ["branch"], "right": ["branch"]}, left={"is_empty": True}, right={"is_empty": True}
        )
    )
    finish(run, "branch", skip=["right"])
    assert states_of(run) == {"branch": "success", "left": "success", "right": "skipped"}


def test_a_failed_try_is_retried_after_its_delay_and_the_try_before_is_kept() -> None:
    run = make_run(make_dag({"a": []}, a={"retries": 1, "retry_delay": 60.0}))
    assert finish(run, "a", "failed", reason="boom") == "up_for_retry"
    assert run.due == [(NOW + timedelta(seconds=60), ("a", -1))]
    assert not run.ready
    run.consider(("a", -1))
    assert ready(run) == {"a"}
    assert finish(run, "a", "failed") == "failed"
    assert [(past.try_number, past.reason) for past in run.superseded] == [(1, "boom")]
    assert run.instances[("a", -1)].try_number == 2
    assert run.state == "failed"


def test_a_failure_that_asks_for_no_retry_gets_none() -> None:
    run = make_run(make_dag({"a": []}, a={"retries": 5}))
    assert finish(run, "a", "failed", retry=False) == "failed"


def test_a_reschedule_keeps_the_try_and_the_time_of_the_first_poke() -> None:
    run = make_run(make_dag({"s": []}, s={"reschedules": True}))
    later = NOW + timedelta(minutes=1)
    finish(run, "s", "up_for_reschedule", reschedule_at=later)
    instance = run.instances[("s", -1)]
    assert (instance.try_number, instance.first_poke_at, instance.next_at) == (1, NOW, later)
    run.consider(("s", -1))
    run.claim(instance, "w", later)
    assert (instance.try_number, instance.dispatches, instance.first_poke_at) == (1, 2, NOW)


def test_the_time_of_the_first_poke_outlives_a_retry_of_a_sensor_that_reschedules_and_of_no_other_task() -> None:
    for reschedules, expected in ((True, NOW), (False, None)):
        run = make_run(make_dag({"s": []}, s={"reschedules": reschedules, "retries": 1}))
        finish(run, "s", "up_for_reschedule", reschedule_at=NOW)
        instance = run.instances[("s", -1)]
        run.consider(("s", -1))
        finish(run, "s", "failed")
        assert (instance.state, instance.first_poke_at) == ("up_for_retry", NOW)
        run.consider(("s", -1))
        run.claim(instance, "w", NOW + timedelta(minutes=10))
        assert (instance.try_number, instance.first_poke_at) == (2, expected)


def test_empty_tasks_end_without_a_process() -> None:
    run = make_run(
        make_dag({"start": [], "work": ["start"], "end": ["work"]}, start={"is_empty": True}, end={"is_empty": True})
    )
    assert ready(run) == {"work"}
    finish(run, "work")
    assert run.state == "success"
    assert run.instances[("end", -1)].try_number == 1


def test_a_run_without_tasks_ends_at_once() -> None:
    assert make_run(make_dag({})).ended


def test_depends_on_past_waits_for_the_same_task_of_the_run_before() -> None:
    dag = make_dag({"a": []}, a={"depends_on_past": True})
    before = make_run(dag)
    later = RunState(
        id=2, dag=dag, run_id="r2", run_type="scheduled", logical_date=NOW, data_interval_start=NOW,
        data_interval_end=NOW, conf={}, start_date=NOW, previous=before,
    )  # fmt: skip
    before.following.append(later)
    later.instances[("a", -1)] = TaskInstance(dag.tasks[0])
    later.wire()
    assert not later.ready
    finish(before, "a")
    assert ready(later) == {"a"}


def test_depends_on_past_never_runs_after_a_failed_past_and_always_in_the_first_run() -> None:
    dag = make_dag({"a": []}, a={"depends_on_past": True})
    assert not make_run(dag, past={"a": "failed"}).ready
    assert ready(make_run(dag, past={"a": "skipped"})) == {"a"}
    assert ready(make_run(dag, past={})) == {"a"}
    assert ready(make_run(dag)) == {"a"}


def test_wait_for_downstream_waits_for_the_followers_of_the_run_before() -> None:
    dag = make_dag({"a": [], "b": ["a"]}, a={"wait_for_downstream": True, "depends_on_past": True})
    assert not make_run(dag, past={"a": "success", "b": None}).ready
    assert ready(make_run(dag, past={"a": "success", "b": "success"})) == {"a"}


def test_a_run_that_is_read_again_continues_where_it_was() -> None:
    dag = make_dag({"a": [], "b": ["a"], "c": ["b"]})
    run = make_run(dag, {"a": "success", "b": None, "c": None})
    assert ready(run) == {"b"}
    assert run.unfinished == 2


def test_a_timeout_skips_the_rest_and_names_what_must_be_killed() -> None:
    run = make_run(make_dag({"a": [], "b": ["a"]}))
    instance = run.instances[("a", -1)]
    run.claim(instance, "w", NOW)
    assert run.time_out(NOW) == [instance]
    assert set(states_of(run).values()) == {"skipped"}
    assert (run.ended, run.state) == (True, "failed")
