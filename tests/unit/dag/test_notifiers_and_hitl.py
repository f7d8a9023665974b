"""Notifiers as callbacks, and operators that wait for a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from opskit import DAG, Param
from opskit.core.dag import human_input
from opskit.core.dag.exceptions import AirflowSkipException
from opskit.core.dag.execution import Outcome, execute
from opskit.core.dag.notifiers import BaseNotifier
from opskit.core.dag.operators.hitl import (
    ApprovalOperator,
    HITLBranchOperator,
    HITLEntryOperator,
    HITLOperator,
)
from opskit.core.dag.xcom import decode
from opskit.errors import UsageError
from opskit.operators import EmptyOperator, PythonOperator

Attempt = Callable[..., Outcome]
SOON = timedelta(milliseconds=10)
RUN = {"run_type": "manual", "logical_date": "2024-03-01T00:00:00+00:00", "conf": {}}
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


def test_nobody_can_answer_in_a_test_of_a_dag_and_that_is_said_at_once(dag: DAG, attempt: Attempt) -> None:
    HITLEntryOperator(task_id="form", subject="Name it", params={"name": "x"})
    ApprovalOperator(task_id="ask", subject="Go on?", defaults="Approve")
    for task_id in dag.task_ids:
        outcome = attempt(dag, task_id)
        assert outcome.state == "failed"
        assert "nobody can answer here" in (outcome.reason or "")


def test_without_defaults_a_task_that_nobody_answers_fails_when_the_time_is_over(dag: DAG, attempt: Attempt) -> None:
    ApprovalOperator(task_id="t", subject="?", response_timeout=SOON)
    outcome = attempt(dag, "t")
    assert outcome.state == "failed" and "HITLTimeoutError" in (outcome.reason or "")


def asked(dag: DAG, task_id: str) -> dict[str, Any]:
    """What an attempt of this task leaves when nobody waits in its process, as it travels."""
    frame = {"key": [1, task_id, -1, 1], "kind": "task", "dag_id": "d", "run_id": "r", "task_id": task_id}
    outcome = execute(dag, {**frame, "map_index": -1, "try_number": 1, "max_tries": 0, "run": RUN})
    assert outcome.state == "deferred" and outcome.deferral is not None
    made: dict[str, Any] = json.loads(json.dumps(outcome.deferral))
    return made


def test_a_question_travels_with_all_that_a_person_needs_and_without_the_params_of_the_dag() -> None:
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC), params={"of_dag": 1}) as dag:
        HITLOperator(
            task_id="t",
            subject="Which on {{ ds }}?",
            body="**all** of it",
            options=["a", "b"],
            params={"n": Param(3, type="integer", minimum=1), "name": Param(type="string")},
            assigned_users={"id": "mia", "name": "Mia"},
            response_timeout=timedelta(hours=1),
            execution_timeout=timedelta(seconds=30),
        )
    frame = asked(dag, "t")
    assert frame["question"] == {
        "subject": "Which on 2024-03-01?",
        "body": "**all** of it",
        "options": ["a", "b"],
        "defaults": None,
        "multiple": False,
        "params": {
            "n": {"value": 3, "description": None, "schema": {"type": "integer", "minimum": 1}},
            "name": {"value": None, "description": None, "schema": {"type": "string"}, "required": True},
        },
        "assigned_users": [{"id": "mia", "name": "Mia"}],
    }
    left = (datetime.fromisoformat(frame["timeout_at"]) - datetime.now(UTC)).total_seconds()
    assert 3000 < left <= 3600  # the time of the task's own work is another one


def test_a_task_goes_on_with_the_answer_of_a_person(dag: DAG, attempt: Attempt) -> None:
    ask = HITLBranchOperator(task_id="t", subject="?", options=["left", "right"], params={"n": 1}, multiple=True)
    ask >> [EmptyOperator(task_id="left"), EmptyOperator(task_id="right")]
    frame = asked(dag, "t")
    at = "2024-03-02T10:00:00+00:00"
    by = {"id": "mia", "name": "Mia"}
    said = {"chosen_options": ["right"], "params_input": {"n": 5}, "responded_at": at, "responded_by_user": by}
    outcome = attempt(dag, "t", deferral={**frame, "event": {"answer": said}})
    assert (outcome.state, outcome.skip) == ("success", ["left"])
    outcome = attempt(dag, "t", deferral={**frame, "event": {"answer": {**said, "params_input": {"n": 1, "m": 1}}}})
    assert outcome.state == "failed" and "does not match params" in (outcome.reason or "")


def test_an_answer_is_pushed_with_who_gave_it_and_when(dag: DAG, attempt: Attempt) -> None:
    HITLEntryOperator(task_id="t", subject="?", params={"n": 1})
    frame = asked(dag, "t")
    by = {"id": "mia", "name": "Mia"}
    at = "2024-03-02T10:00:00+00:00"
    said = {"chosen_options": ["OK"], "params_input": {"n": 5}, "responded_at": at, "responded_by_user": by}
    outcome = attempt(dag, "t", deferral={**frame, "event": {"answer": said}})
    assert decode(dict(outcome.xcoms)["return_value"]) == {**said, "responded_at": datetime.fromisoformat(at)}


def test_the_address_for_an_answer_has_the_options_and_params_in_it(dag: DAG) -> None:
    ask = HITLOperator(task_id="t", subject="?", options=["a b", "c"], params={"n": 1})
    ti = SimpleNamespace(dag_id="d", run_id="r 1", task_id="t", map_index=-1)
    link = ask.generate_link_to_ui(task_instance=ti, base_url="https://x/", options="a b", params_input={"n": 2})
    assert link == "https://x/dags/d/runs/r%201/tasks/t?map_index=-1&tab=answer&_options=a+b&n=2"
    with pytest.raises(ValueError, match="not valid options"):
        ask.generate_link_to_ui(task_instance=ti, base_url="https://x", options=["z"])


QUESTION = {
    "options": ["a", "b", "c"],
    "multiple": False,
    "assigned_users": [],
    "params": {
        "n": {"value": 1, "description": None, "schema": {"type": "integer"}},
        "name": {"value": None, "description": None, "schema": {"type": "string"}, "required": True},
    },
}


@pytest.mark.parametrize(
    ("chosen", "filled", "message"),
    [
        (["z"], {}, "'z' can't be chosen"),
        ([], {}, "choose an option"),
        (["a", "b"], {}, "only one option"),
        (["a"], {"m": 1, "name": "x"}, "there is no param m"),
        (["a"], {}, "param name: no value was given"),
        (["a"], {"name": 5}, "param name: 5 is not of type"),
        (["a"], {"name": "x", "n": "5"}, "param n"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(chosen: list[str], filled: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        human_input.checked(QUESTION, chosen, filled)


def test_an_answer_is_completed_with_the_defaults_and_has_the_order_of_the_options() -> None:
    several = {**QUESTION, "multiple": True}
    assert human_input.checked(several, ["c", "a", "c"], {"name": "x"}) == (["a", "c"], {"n": 1, "name": "x"})


@pytest.mark.parametrize(
    ("users", "may"),
    [
        ([], True),
        ([{"id": "mia", "name": "Mia M"}], True),
        ([{"id": "bob", "name": "mia"}], False),
        ([{"id": "17", "name": "mia"}], True),
        ([{"id": "bob", "name": "Bob"}], False),
    ],
)
def test_only_those_who_are_asked_may_answer(users: list[dict[str, str]], may: bool) -> None:
    assert human_input.may_answer({**QUESTION, "assigned_users": users}, "mia") is may


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
