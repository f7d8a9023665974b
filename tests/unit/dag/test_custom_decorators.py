"""Decorators of packages: their own operators behind a function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from opskit import DAG, TaskGroup
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.custom_decorators import DecoratedOperator, get_unique_task_id, task_decorator_factory
from opskit.core.dag.execution import Outcome
from opskit.core.dag.operators.asynchronous import BaseAsyncOperator, is_async_callable

Attempt = Callable[..., Outcome]


class Shouts(BaseOperator):
    template_fields: Sequence[str] = ("text",)

    def __init__(self, *, text: str, mark: str = "!", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text = text
        self.mark = mark

    def execute(self, context: Any) -> Any:
        return {"said": self.text.upper() + self.mark}


class ShoutsDecorated(DecoratedOperator, Shouts):
    """The function gives the text."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *Shouts.template_fields)
    custom_operator_name = "@shouts"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(kwargs_to_upstream={"text": ""}, **kwargs)

    def execute(self, context: Any) -> Any:
        self.op_kwargs = self.determine_kwargs(context)
        self.text = self.python_callable(*self.op_args, **self.op_kwargs)
        return super().execute(context)


def shouts(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> Any:
    return task_decorator_factory(
        python_callable, multiple_outputs=multiple_outputs, decorated_operator_class=ShoutsDecorated, **kwargs
    )


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as opened:
        yield opened


def test_a_decorator_of_a_package_makes_its_own_tasks(dag: DAG, attempt: Attempt) -> None:
    @shouts
    def plain(name: str, ds: str | None = None) -> str:
        return f"{name} {ds}"

    @shouts(mark="?", task_id="other")
    def given(name: str) -> dict[str, str]:
        return name  # type: ignore[return-value]

    plain("it is {{ ds_nodash }}")
    given.override(retries=3)(name="x")
    assert attempt(dag, "plain").xcoms == [("return_value", {"said": "IT IS 20240301 2024-03-01!"})]
    assert dict(attempt(dag, "other").xcoms) == {"said": "X?", "return_value": {"said": "X?"}}
    assert dag.get_task("other").retries == 3
    assert dag.get_task("plain").operator_name == "@shouts"


def test_a_call_that_can_not_work_is_refused_when_the_task_is_made(dag: DAG) -> None:
    @shouts
    def plain(name: str) -> str:
        return name

    with pytest.raises(TypeError, match="'name' is missing"):
        plain()
    with pytest.raises(TypeError, match="too many"):
        plain(1, 2)


def test_the_source_of_the_function_comes_without_its_decorator(dag: DAG) -> None:
    @shouts
    def plain(name: str) -> str:
        return name

    made = plain("x").operator
    assert made.get_python_source() == "def plain(name: str) -> str:\n    return name"


def test_a_unique_id_counts_up_within_its_group(dag: DAG) -> None:
    assert get_unique_task_id("plain", dag) == "plain"

    @shouts
    def plain(name: str) -> str:
        return name

    plain("x")
    assert get_unique_task_id("plain") == "plain__1"
    with TaskGroup("g") as group:
        assert get_unique_task_id("plain", dag, group) == "plain"
        plain("y")
        assert get_unique_task_id("plain", dag, group) == "plain__1"


class Later(BaseAsyncOperator):
    async def aexecute(self, context: Any) -> Any:
        return context["ds"]


def test_the_work_of_an_operator_may_be_a_coroutine(dag: DAG, attempt: Attempt) -> None:
    Later(task_id="t")
    assert attempt(dag, "t").xcoms == [("return_value", "2024-03-01")]


async def coroutine() -> None: ...


class Callable_:  # noqa: N801 - a name of its own beside typing's
    async def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [(coroutine, True), (functools.partial(coroutine), True), (Callable_(), True), (print, False)],
)
def test_what_gives_a_coroutine_is_known(function: Any, expected: bool) -> None:
    assert is_async_callable(function) is expected
