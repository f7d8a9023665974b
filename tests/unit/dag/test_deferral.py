"""Deferred tasks: their triggers, what goes on after them, and how they fail."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.deferral import remade, wait
from opskit.core.dag.exceptions import AirflowTaskTerminated, TaskDeferred
from opskit.core.dag.execution import Outcome
from opskit.core.dag.runtime import MemoryStore, RunInfo
from opskit.core.dag.triggers.base import (
    BaseTrigger,
    StartTriggerArgs,
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)
from opskit.core.dag.triggers.external_task import DagStateTrigger, WorkflowTrigger
from opskit.core.dag.triggers.file import FileDeleteTrigger, FileTrigger
from opskit.core.dag.triggers.temporal import DateTimeTrigger, TimeDeltaTrigger

Attempt = Callable[..., Outcome]
NOW = datetime(2024, 3, 1, tzinfo=UTC)
cleaned: list[str] = []


class Script(BaseTrigger):
    """Does what its text says."""

    def __init__(self, what: str, payload: Any = None) -> None:
        super().__init__()
        self.what = what
        self.payload = payload

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return ("elsewhere.Script", {"what": self.what, "payload": self.payload})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if self.what == "hang":
            await asyncio.sleep(60)
        if self.what == "late":
            raise TimeoutError("the server did not answer")
        if self.what == "kill":
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        if self.what == "fail":
            raise LookupError("no such thing")
        events = {"success": TaskSuccessEvent, "failed": TaskFailedEvent, "skipped": TaskSkippedEvent}
        if self.what in events:
            yield events[self.what](xcoms={"from": self.what})
        if self.what == "wrong":
            yield self.payload
        if self.what == "fire":
            yield TriggerEvent({"payload": self.payload, "task": self.task_instance.task_id})

    async def cleanup(self) -> None:
        cleaned.append(self.what)

    async def on_kill(self) -> None:
        cleaned.append("killed")
        raise LookupError("nothing to stop")


class Waits(BaseOperator):
    """Defers once for each script, and tells what it saw."""

    def __init__(self, *, scripts: list[str], limit: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scripts = scripts
        self.limit = limit

    def execute(self, context: Any) -> Any:
        self.go_on(context, [], self.scripts)

    def go_on(self, context: Any, seen: list[Any], left: list[str], event: Any = None) -> Any:  # noqa: RET503
        seen = seen if event is None else [*seen, event]
        if not left:
            return seen
        kwargs = {"seen": seen, "left": left[1:]}
        self.defer(trigger=Script(left[0], len(left)), method_name="go_on", kwargs=kwargs, timeout=self.limit)


@pytest.fixture
def dag() -> Iterator[DAG]:
    cleaned.clear()
    with DAG("d", schedule="@daily", start_date=datetime(2024, 1, 1, tzinfo=UTC)) as opened:
        yield opened


def test_a_deferred_task_goes_on_with_the_event_as_often_as_it_defers(dag: DAG, attempt: Attempt) -> None:
    started: list[str] = []
    Waits(task_id="t", scripts=["fire", "fire"], on_execute_callback=lambda context: started.append("again"))
    outcome = attempt(dag, "t")
    assert outcome.xcoms == [("return_value", [{"payload": 2, "task": "t"}, {"payload": 1, "task": "t"}])]
    assert (cleaned, started) == (["fire", "fire"], ["again"] * 3)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("fail", "TaskDeferralError: Trigger failure: LookupError: no such thing"),
        ("nothing", "TaskDeferralError: Trigger failure"),
        ("late", "TaskDeferralError: Trigger failure: TimeoutError: the server did not answer"),
        ("wrong", "yielded int, a TriggerEvent is needed"),
    ],
)
def test_a_trigger_that_fails_or_never_fires_fails_the_task(
    dag: DAG, attempt: Attempt, script: str, reason: str
) -> None:
    Waits(task_id="t", scripts=[script])
    outcome = attempt(dag, "t")
    assert (outcome.state, outcome.retry) == ("failed", True)
    assert reason in (outcome.reason or "")
    assert cleaned == [script]


@pytest.mark.parametrize("limit", [0.01, timedelta(milliseconds=10)])
def test_a_trigger_that_does_not_fire_in_time_fails_the_task(dag: DAG, attempt: Attempt, limit: Any) -> None:
    Waits(task_id="t", scripts=["hang"], limit=limit)
    assert attempt(dag, "t").reason == "TaskDeferralTimeout: Trigger timeout"
    assert cleaned == ["hang"]


def test_the_execution_timeout_holds_while_a_task_is_deferred(dag: DAG, attempt: Attempt) -> None:
    Waits(task_id="t", scripts=["hang"], execution_timeout=timedelta(milliseconds=50))
    assert "execution_timeout" in (attempt(dag, "t").reason or "")


@pytest.mark.parametrize("state", ["success", "failed", "skipped"])
def test_a_trigger_may_end_the_task_itself(dag: DAG, attempt: Attempt, state: str) -> None:
    Waits(task_id="t", scripts=[state, "fire"])
    outcome = attempt(dag, "t")
    assert (outcome.state, outcome.xcoms) == (state, [("from", state)])


def test_an_operator_may_start_from_its_trigger(dag: DAG, attempt: Attempt) -> None:
    class Starts(Waits):
        start_from_trigger = True
        start_trigger_args = StartTriggerArgs(
            trigger_cls="opskit.core.dag.triggers.temporal.TimeDeltaTrigger",
            trigger_kwargs={"delta": timedelta(0)},
            next_method="go_on",
            next_kwargs={"seen": ["first"], "left": []},
        )

        def execute(self, context: Any) -> Any:
            raise AssertionError("it must not begin here")

    Starts(task_id="t", scripts=[])
    [(_, [first, moment])] = attempt(dag, "t").xcoms
    assert (first, bool(moment)) == ("first", True)


def test_a_trigger_that_can_not_be_loaded_is_named(dag: DAG, attempt: Attempt) -> None:
    class Starts(Waits):
        start_from_trigger = True
        start_trigger_args = StartTriggerArgs(trigger_cls="no.such.Trigger", next_method="go_on")

    Starts(task_id="t", scripts=[])
    assert "the trigger no.such.Trigger can't be loaded" in (attempt(dag, "t").reason or "")


def test_a_trigger_runs_with_what_it_serializes_and_nothing_else() -> None:
    trigger = Script("fire", 1)
    trigger.forgotten = True  # type: ignore[attr-defined]
    again = remade(trigger)
    assert isinstance(again, Script)
    assert (again.what, again.payload, hasattr(again, "forgotten")) == ("fire", 1, False)


def first(trigger: BaseTrigger) -> Any:
    async def run() -> Any:
        async for event in remade(trigger).run():
            return event
        return None

    return asyncio.run(run())


def test_a_trigger_of_a_moment_fires_at_it_and_survives_being_remade() -> None:
    delta = TimeDeltaTrigger(timedelta(milliseconds=20))
    again = remade(delta)
    assert type(again) is DateTimeTrigger
    assert again.moment == delta.moment
    assert first(delta) == TriggerEvent(delta.moment)
    assert datetime.now(UTC) >= delta.moment
    assert type(first(TimeDeltaTrigger(timedelta(0), end_from_trigger=True))) is TaskSuccessEvent


@pytest.mark.parametrize("arguments", [{}, {"moment": NOW, "target_time": "2024-01-01T00:00:00Z"}])
def test_a_trigger_of_a_moment_needs_one(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="either moment or target_time"):
        DateTimeTrigger(**arguments)


def test_file_triggers_find_files_and_may_remove_them(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    file = tmp_path / "deep" / "er" / "x.csv"
    file.touch()
    assert first(FileTrigger(f"{tmp_path}/**/*.csv", recursive=True)) == TriggerEvent(True)
    assert first(FileTrigger(str(tmp_path / "deep"))) == TriggerEvent(True)
    assert first(FileDeleteTrigger(str(file))) == TriggerEvent(True)
    assert not file.exists()


def test_a_trigger_of_runs_tells_their_states(store: MemoryStore) -> None:
    for number, state in enumerate(["success", "failed"]):
        date = NOW + timedelta(days=number)
        store.add_run(RunInfo("other", f"r{number}", "manual", state, date, date, date, {}))
    event = first(DagStateTrigger("other", ["success", "failed"], run_ids=["r0", "r1"], poll_interval=0))
    classpath, payload = event.payload
    assert classpath.endswith(".DagStateTrigger")
    assert (payload["r0"], payload["r1"], payload["dag_id"]) == ("success", "failed", "other")
    by_date = first(DagStateTrigger("other", ["success"], execution_dates=[NOW]))
    assert by_date.payload[1]["r0"] == "success"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"run_ids": ["r"]}, "success"),
        ({"logical_dates": [NOW], "external_task_ids": ["a"]}, "success"),
        ({"execution_dates": [NOW], "external_task_ids": ["a", "b"], "failed_states": ["failed"]}, "failed"),
        ({"run_ids": ["r"], "external_task_ids": ["c"], "skipped_states": ["skipped"]}, "skipped"),
        ({"run_ids": ["r"], "external_task_group_id": "g", "failed_states": ["failed"]}, "success"),
    ],
)
def test_a_trigger_of_another_workflow_tells_how_it_ended(
    store: MemoryStore, arguments: dict[str, Any], status: str
) -> None:
    store.add_run(RunInfo("other", "r", "manual", "success", NOW, NOW, NOW, {}))
    store.states["other", "r"] = {
        ("a", -1): "success",
        ("b", -1): "failed",
        ("c", -1): "skipped",
        ("g.one", 0): "success",
        ("g.one", 1): "success",
    }
    trigger = WorkflowTrigger("other", allowed_states=["success"], **arguments)
    assert first(trigger) == TriggerEvent({"status": status})


def test_a_trigger_that_is_killed_stops_what_it_has_started(dag: DAG, caplog: pytest.LogCaptureFixture) -> None:
    task = Waits(task_id="t", scripts=[])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(AirflowTaskTerminated):
        wait(TaskDeferred(trigger=Script("kill"), method_name="go_on"), {"ti": SimpleNamespace(task=task)})
    assert cleaned == ["killed", "kill"]
    assert "nothing to stop" in caplog.text
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
