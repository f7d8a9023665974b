"""`@task.run_if` and `@task.skip_if`: skip a task before it starts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from opskit.core.dag.exceptions import AirflowSkipException

Condition = Callable[[Any], "bool | tuple[bool, str | None]"]
"""Told the context; it may give a message with its answer."""


def run_if(condition: Condition, skip_message: str | None = None) -> Callable[[Any], Any]:
    """Around a `@task`: skip it unless the condition holds."""
    return _decorator("run_if", condition, skip_message, skip_when=False)


def skip_if(condition: Condition, skip_message: str | None = None) -> Callable[[Any], Any]:
    """Around a `@task`: skip it when the condition holds."""
    return _decorator("skip_if", condition, skip_message, skip_when=True)


def _decorator(name: str, condition: Condition, message: str | None, *, skip_when: bool) -> Callable[[Any], Any]:
    @functools.wraps(condition)
    def check(context: Any) -> None:
        answer = condition(context)
        own = None
        if isinstance(answer, tuple):
            answer, own = answer
        if bool(answer) is skip_when:
            raise AirflowSkipException(own or message or "Task was skipped due to condition.")

    def decorate(task: Any) -> Any:
        if not hasattr(task, "override"):
            raise TypeError(f"{name} goes around @task: write @task.{name}(…) above @task")
        before = task.kwargs.get("pre_execute")

        def pre_execute(context: Any) -> None:
            if before is not None:
                before(context)
            check(context)

        return task.override(pre_execute=pre_execute)

    return decorate
