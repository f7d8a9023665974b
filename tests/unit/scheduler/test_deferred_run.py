"""Deferred tasks in the memory of a run."""

from __future__ import annotations

from typing import Any

from opskit.core.dag.run_state import TRIGGER_DEATHS, RunState
from tests.unit.scheduler.test_run_state import NOW, make_dag, make_run

WAITS = {"class": "m:T", "kwargs": {}, "method": "go_on", "method_kwargs": {}, "timeout_at": None}


def deferred() -> RunState:
    run = make_run(make_dag({"a": []}))
    instance = run.instances[("a", -1)]
    run.claim(instance, "w", NOW)
    assert run.finished(instance, {"state": "deferred", "deferral": WAITS, "started_at": NOW}, NOW) == "deferred"
    assert run.to_trigger == [instance] and instance.dispatches == 2
    return run


def trigger_ends(run: RunState, **result: Any) -> None:
    run.triggered(run.instances[("a", -1)], result, NOW)


def test_a_deferred_task_that_goes_on_and_is_handed_back_before_it_began_keeps_its_event() -> None:
    run = deferred()
    instance = run.instances[("a", -1)]
    trigger_ends(run, state="success", event={"method": "go_on", "kwargs": {}})
    run.claim(instance, "w", NOW)
    run.finished(instance, {"state": "up_for_reschedule", "reschedule_at": NOW}, NOW)
    assert instance.deferral is not None and instance.deferral["event"]["method"] == "go_on" and not run.resumed
    run.consider(instance.key)
    run.claim(instance, "w", NOW)
    assert instance.try_number == 1
    run.finished(instance, {"state": "success", "started_at": NOW}, NOW)
    assert instance.deferral is None and run.resumed == [("a", -1)] and run.state == "success"


def test_a_trigger_that_dies_again_and_again_is_an_error_of_the_task() -> None:
    run = deferred()
    instance = run.instances[("a", -1)]
    for _ in range(TRIGGER_DEATHS - 1):
        trigger_ends(run, state="failed", signal="SIGSEGV", reason="killed by SIGSEGV")
        assert instance.state == "deferred"
        run.consider(instance.key)
    trigger_ends(run, state="failed", signal="SIGSEGV", reason="killed by SIGSEGV")
    assert instance.state == "scheduled" and ("a", -1) in run.ready
    assert instance.deferral is not None and instance.deferral["error"] == "killed by SIGSEGV"


def test_a_trigger_that_is_lost_with_its_worker_is_started_again_as_often_as_it_takes() -> None:
    run = deferred()
    for _ in range(3 * TRIGGER_DEATHS):
        trigger_ends(run, state="failed", signal="worker lost")
        run.consider(("a", -1))
    trigger_ends(run, state="up_for_reschedule")
    assert run.instances[("a", -1)].state == "deferred"
