"""Retry policies: by which exception a try is the last one, or followed by another one, and when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag.exceptions import AirflowFailException
from opskit.core.dag.execution import Outcome
from opskit.core.dag.retry_policy import ExceptionRetryPolicy, RetryAction, RetryDecision, RetryPolicy, RetryRule
from opskit.errors import DagInvalid
from opskit.operators import PythonOperator

RULES = ExceptionRetryPolicy(
    [
        RetryRule(["json.decoder.JSONDecodeError", "nowhere.Error"], RetryAction.FAIL, reason="broken"),
        RetryRule(OSError, retry_delay=timedelta(seconds=7)),
        RetryRule(ValueError, RetryAction.FAIL, match_subclasses=False),
    ]
)


class Broken(RetryPolicy):
    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        raise KeyError("own fault")


def run(attempt: Callable[..., Outcome], error: BaseException, policy: RetryPolicy) -> Outcome:
    def fail() -> None:
        raise error

    with DAG("d") as dag:
        PythonOperator(task_id="t", python_callable=fail, retries=3, retry_policy=policy)
    return attempt(dag, "t", max_tries=3)


@pytest.mark.parametrize(
    ("error", "policy", "retry", "delay"),
    [
        (ValueError("x"), RULES, False, None),
        (UnicodeError("x"), RULES, True, None),
        (FileNotFoundError("x"), RULES, True, 7.0),
        (KeyError("x"), RULES, True, None),
        (KeyError("x"), ExceptionRetryPolicy([], RetryAction.FAIL), False, None),
        (AirflowFailException("x"), ExceptionRetryPolicy([RetryRule(Exception)]), False, None),
        (KeyError("x"), Broken(), True, None),
    ],
)
def test_the_first_rule_about_the_exception_decides(
    attempt: Callable[..., Outcome], error: BaseException, policy: RetryPolicy, retry: bool, delay: float | None
) -> None:
    outcome = run(attempt, error, policy)
    assert (outcome.state, outcome.retry, outcome.retry_delay) == ("failed", retry, delay)
    assert outcome.fields().get("retry_delay") == delay


def test_a_rule_may_name_an_exception_by_its_path() -> None:
    import json

    with pytest.raises(json.JSONDecodeError) as error:
        json.loads("{")
    assert RULES.evaluate(error.value, 1, 3) == RetryDecision.fail("broken")
    with pytest.raises(ValueError, match="no dotted name"):
        RetryRule("ValueError")


def test_a_retry_policy_must_be_one() -> None:
    with pytest.raises(DagInvalid, match="a RetryPolicy is needed"), DAG("d"):
        PythonOperator(task_id="t", python_callable=print, retry_policy="always")
