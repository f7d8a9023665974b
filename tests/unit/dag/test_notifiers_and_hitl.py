"""Notifiers as callbacks, and operators that wait for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag.exceptions import AirflowSkipException
from opskit.core.dag.execution import Outcome
from opskit.core.dag.notifiers import BaseNotifier
from opskit.core.dag.operators.hitl import (
    ApprovalOperator,
    HITLBranchOperator,
    HITLEntryOperator,
    HITLOperator,
)
from opskit.operators import EmptyOperator, PythonOperator

Attempt = Callable[..., Outcome]
SOON = timedelta(milliseconds=10)
sent: list[str] = []


class Note(BaseNotifier):
    template_fields: Sequence[str] = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        if self.text == "break":
            raise LookupError("no mailbox")
        sent.append(f"{self.text} / {context['text']}")


@pytest.fixture
def dag() -> Iterator[DAG]:
    sent.clear()
    with DAG("d", schedule="@daily", start_date=datetime(2024, 1, 1, tzinfo=UTC)) as opened:
        yield opened


def raising(error: Exception) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("callback", "error"),
    [
        ("on_success_callback", None),
        ("on_failure_callback", ValueError("x")),
        ("on_skipped_callback", AirflowSkipException("x")),
        ("on_execute_callback", None),
    ],
)
def test_a_notifier_is_a_callback_whose_fields_are_rendered_for_each_task(
    dag: DAG, attempt: Attempt, callback: str, error: Exception | None
) -> None:
    note = Note("{{ ti.task_id }} on {{ ds }}")
    function = raising(error) if error else lambda: None
    for task_id in ("a", "b"):
        PythonOperator(task_id=task_id, python_callable=function, **{callback: [note, lambda context: None]})
        attempt(dag, task_id)
    assert sent == [f"{task_id} on 2024-03-01 / {{{{ ti.task_id }}}} on {{{{ ds }}}}" for task_id in ("a", "b")]
    assert note.text == "{{ ti.task_id }} on {{ ds }}"


def test_a_notifier_that_fails_is_logged_and_changes_nothing(
    dag: DAG, attempt: Attempt, caplog: pytest.LogCaptureFixture
) -> None:
    PythonOperator(task_id="t", python_callable=lambda: None, on_success_callback=[Note("break"), Note("after")])
    assert attempt(dag, "t").state == "success"
    assert sent == ["after / after"]
    assert "no mailbox" in caplog.text


def test_a_person_can_not_answer_yet_and_that_is_said_at_once(dag: DAG, attempt: Attempt) -> None:
    HITLEntryOperator(task_id="form", subject="Name it", params={"name": "x"})
    ApprovalOperator(task_id="ask", subject="Go on?", defaults="Approve")
    for task_id in dag.task_ids:
        outcome = attempt(dag, task_id, max_tries=3)
        assert (outcome.state, outcome.retry) == ("failed", False)
        assert "asks for a person's answer, which can't be given here yet" in (outcome.reason or "")


def test_defaults_are_taken_when_the_time_is_over(dag: DAG, attempt: Attempt) -> None:
    HITLOperator(
        task_id="t",
        subject="Which on {{ ds }}?",
        options=["a", "b", "c"],
        defaults=["a", "c"],
        multiple=True,
        params={"n": 1},
        response_timeout=SOON,
        notifiers=Note("asked"),
    )
    outcome = attempt(dag, "t")
    assert outcome.reason is None
    answer = dict(outcome.xcoms)["return_value"]
    assert (answer["chosen_options"], answer["params_input"]) == (["a", "c"], {"n": 1})
    assert sent == ["asked / asked"]


@pytest.mark.parametrize(
    ("arguments", "state", "skip"),
    [
        ({"defaults": "Approve"}, "success", []),
        ({"defaults": "Reject"}, "success", ["next"]),
        ({"defaults": "Reject", "ignore_downstream_trigger_rules": True}, "success", ["last", "next"]),
        ({"defaults": "Reject", "fail_on_reject": True}, "failed", []),
    ],
)
def test_a_rejection_skips_what_comes_after_or_fails(
    dag: DAG, attempt: Attempt, arguments: dict[str, Any], state: str, skip: list[str]
) -> None:
    ask = ApprovalOperator(task_id="t", subject="?", execution_timeout=SOON, **arguments)
    ask >> EmptyOperator(task_id="next") >> EmptyOperator(task_id="last")
    outcome = attempt(dag, "t")
    assert (outcome.state, outcome.skip) == (state, skip)


def test_the_chosen_option_is_a_branch(dag: DAG, attempt: Attempt) -> None:
    ask = HITLBranchOperator(
        task_id="t",
        subject="?",
        options=["Left", "right"],
        options_mapping={"Left": "left"},
        defaults="Left",
        response_timeout=SOON,
    )
    ask >> [EmptyOperator(task_id="left"), EmptyOperator(task_id="right")]
    assert attempt(dag, "t").skip == ["right"]


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (HITLOperator, {"options": []}, "cannot be empty"),
        (HITLOperator, {"options": ["a"], "defaults": "b"}, "subset"),
        (HITLOperator, {"options": ["a", "b"], "defaults": ["a", "b"]}, "More than one"),
        (HITLOperator, {"options": ["a"], "params": {"_options": 1}}, "not allowed"),
        (ApprovalOperator, {"options": ["a"]}, "not allowed"),
        (HITLBranchOperator, {"options": ["a"], "options_mapping": {"b": "x"}}, "not in `options`"),
        (HITLBranchOperator, {"options": ["a"], "options_mapping": {"a": 1}}, "must be strings"),
    ],
)
def test_questions_that_can_not_be_asked_are_refused(
    dag: DAG, cls: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cls(task_id="t", subject="?", **arguments)
