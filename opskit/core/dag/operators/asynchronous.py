"""BaseAsyncOperator: an operator whose work is a coroutine."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from opskit.core.dag.base_operator import BaseOperator


def is_async_callable(function: Any) -> bool:
    """Whether calling it gives a coroutine: a coroutine function, also within partial() or behind __call__."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


class BaseAsyncOperator(BaseOperator):
    """A subclass does its work in `aexecute`."""

    @property
    def is_async(self) -> bool:
        return True

    async def aexecute(self, context: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no aexecute()")

    def execute(self, context: Any) -> Any:
        import asyncio

        return asyncio.run(self.aexecute(context))
