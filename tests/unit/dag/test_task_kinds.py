"""The kinds of `@task`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from opskit import DAG, task
from opskit.core.dag import task_kinds
from opskit.core.dag.custom_decorators import DecoratedOperator, task_decorator_factory
from opskit.core.dag.execution import Outcome

Attempt = Callable[..., Outcome]


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as opened:
        yield opened


@pytest.mark.parametrize("kind", sorted(task_kinds.OPERATORS))
def test_every_kind_has_a_class_that_takes_a_function(dag: DAG, kind: str) -> None:
    more = {"python": "/usr/bin/python3"} if "external" in kind else {}
    if kind in ("kubernetes", "docker"):
        more = {"image": "python:3.11"}
    if kind == "sftp_sensor":
        more = {"path": "/there"}

    def function() -> None: ...

    made = getattr(task, kind)(**more)(function)()
    assert made.operator.task_id == "function"


def test_an_unknown_kind_names_those_that_exist() -> None:
    with pytest.raises(AttributeError, match=r"no @task\.branches here: the kinds are bash, branch, "):
        task.branches  # noqa: B018


def test_provider_packages_bring_kinds_along(dag: DAG, attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    from opskit.compat.providers_manager import ProvidersManager

    told = {"task-decorators": [{"name": "shouting", "class-name": f"{__name__}.shouting_task"}]}
    monkeypatch.setitem(ProvidersManager().__dict__, "providers", {"some-package": told})
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])

    @task.shouting(mark="!")
    def work(word: str) -> str:
        return word.upper()

    work("hey {{ ds_nodash }}")
    assert attempt(dag, "work").xcoms == [("return_value", "HEY 20240301!")]


class Shouting(DecoratedOperator):
    def __init__(self, *, mark: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mark = mark

    def execute(self, context: Any) -> str:
        return str(self.python_callable(*self.op_args, **self.op_kwargs)) + self.mark


def shouting_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
    return task_decorator_factory(python_callable, decorated_operator_class=Shouting, **kwargs)


@pytest.mark.parametrize(
    ("kind", "answer", "state", "reason"),
    [
        ("run_if", True, "success", None),
        ("run_if", False, "skipped", "not today"),
        ("run_if", (False, "because"), "skipped", "because"),
        ("skip_if", True, "skipped", "not today"),
        ("skip_if", (False, None), "success", None),
    ],
)
def test_a_condition_around_a_task_skips_it(
    dag: DAG, attempt: Attempt, kind: str, answer: Any, state: str, reason: str | None
) -> None:
    seen: list[str] = []

    def condition(context: Any) -> Any:
        seen.append(context["task_instance"].task_id)
        return answer

    @getattr(task, kind)(condition, skip_message="not today")
    @task(pre_execute=lambda context: seen.append("before"))
    def work() -> int:
        return 1

    work()
    outcome = attempt(dag, "work")
    assert (outcome.state, outcome.reason, seen) == (state, reason, ["before", "work"])


def test_a_condition_needs_a_task_below_it(dag: DAG) -> None:
    with pytest.raises(TypeError, match="goes around @task"):
        task.run_if(lambda context: True)(lambda: None)
