"""Deferred tasks in the memory of a run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import ANY

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


ASKS = {**WAITS, "question": {"subject": "?", "options": ["a"], "defaults": ["a"], "params": {}}}


def asking(timeout_at: str | None) -> RunState:
    run = make_run(make_dag({"a": []}))
    instance = run.instances[("a", -1)]
    run.claim(instance, "w", NOW)
    deferral = {**ASKS, "timeout_at": timeout_at}
    run.finished(instance, {"state": "deferred", "deferral": deferral, "started_at": NOW}, NOW)
    return run


def test_a_task_that_asks_a_person_waits_without_a_process() -> None:
    run = asking(None)
    instance = run.instances[("a", -1)]
    assert (instance.state, instance.dispatches, instance.next_at) == ("deferred", 1, None)
    assert run.asked == [instance] and not run.to_trigger and not run.due and not run.ready


def test_a_task_that_nobody_answers_in_time_goes_on_within_the_same_try() -> None:
    run = asking((NOW + timedelta(hours=1)).isoformat())
    instance = run.instances[("a", -1)]
    assert run.due == [(NOW + timedelta(hours=1), ("a", -1))]
    run.asked.clear()
    run.consider(instance.key)
    assert instance.state == "scheduled" and run.asked == [instance] and instance.key in run.ready
    run.claim(instance, "w", NOW)
    assert (instance.try_number, instance.dispatches) == (1, 2)
    assert instance.deferral is not None and instance.deferral["event"] == {"timed_out_at": ANY}
