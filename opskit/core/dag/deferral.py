"""Deferred tasks: run the trigger that a task waits for, and go on with the method that it named.

In `dag.test()` it runs in the process of the attempt; else `deferral_frames` carries it to one of its own."""

from __future__ import annotations

import traceback
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from opskit.core.dag.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTerminated,
    TaskDeferralError,
    TaskDeferralTimeout,
    TaskDeferred,
)
from opskit.core.dag.states import FAILED, SKIPPED
from opskit.core.dag.triggers.base import BaseTaskEndEvent, BaseTrigger, StartTriggerArgs, TriggerEvent

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from opskit.core.dag.base_operator import BaseOperator

FAIL_METHOD = "__fail__"
"""Instead of a method's name: the trigger failed, and so does the task."""
TRIGGER_TIMEOUT = "Trigger timeout"
TRIGGER_FAILURE = "Trigger failure"


class Ended(Exception):
    """A trigger has ended its task as a success."""

    def __init__(self, xcoms: dict[str, Any]) -> None:
        super().__init__("the trigger has ended the task")
        self.xcoms = xcoms


def first_deferral(task: BaseOperator) -> TaskDeferred:
    """What a task waits for that starts from its trigger. TypeError without StartTriggerArgs."""
    arguments = task.start_trigger_args
    if not isinstance(arguments, StartTriggerArgs):
        raise TypeError(f"task {task.task_id} has start_from_trigger, but no start_trigger_args")
    trigger = load_class(arguments.trigger_cls)(**(arguments.trigger_kwargs or {}))
    return TaskDeferred(
        trigger=trigger,
        method_name=arguments.next_method,
        kwargs=arguments.next_kwargs,
        timeout=arguments.timeout,
    )


def wait(deferred: TaskDeferred, context: Any) -> tuple[str, dict[str, Any]]:
    """Run the trigger until it fires; the method that goes on, and its arguments.

    A trigger that fails, never fires or takes longer than its timeout gives FAIL_METHOD with `error`. One that ends
    the task raises what ends it: Ended, AirflowFailException, AirflowSkipException. SIGTERM calls the trigger's on_kill
    and raises AirflowTaskTerminated."""
    import asyncio

    ti = context["ti"]
    ti.task.log.info("Pausing task as DEFERRED until %s", type(deferred.trigger).__name__)
    try:
        trigger = remade(deferred.trigger)
        trigger.task_instance = ti
        event = asyncio.run(_first_event(trigger, deferred.timeout))
    except _NotInTime:
        return FAIL_METHOD, {"error": TRIGGER_TIMEOUT}
    except Exception as error:  # noqa: BLE001 - whatever a trigger raises is the task's failure
        return FAIL_METHOD, {"error": TRIGGER_FAILURE, "traceback": traceback.format_exception(error)}
    ti.task.log.info("Resuming after the trigger fired: %s", event)
    if isinstance(event, BaseTaskEndEvent):
        _end(event, ti)
    return deferred.method_name, {**(deferred.kwargs or {}), "event": event.payload}


def resume(task: BaseOperator, method_name: str, kwargs: dict[str, Any] | None, context: Any) -> Any:
    """Go on with this method. TaskDeferralTimeout and TaskDeferralError for FAIL_METHOD."""
    arguments = dict(kwargs or {})
    if method_name == FAIL_METHOD:
        lines = arguments.get("traceback")
        if lines:
            task.log.error("Trigger failed:\n%s", "\n".join(lines))
        error = arguments.get("error", "Unknown")
        if error == TRIGGER_TIMEOUT:
            raise TaskDeferralTimeout(error)
        last = lines[-1].strip() if lines else ""
        raise TaskDeferralError(f"{error}: {last}" if last else error)
    method = getattr(task, method_name, None)
    if method is None:
        raise TaskDeferralError(f"{type(task).__name__} has no method {method_name!r} to go on with")
    return method(context, **arguments)


def load_class(classpath: str) -> Any:
    """The class that `module.Class` names. TaskDeferralError when there is none."""
    from importlib import import_module

    module, _, name = classpath.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise TaskDeferralError(f"the trigger {classpath} can't be loaded: {error}") from error


def remade(trigger: BaseTrigger) -> BaseTrigger:
    """The trigger made anew from what it serializes: what is not in there does not reach it anywhere."""
    cls, kwargs = made_of(trigger)
    made: BaseTrigger = cls(**kwargs)
    return made


def made_of(trigger: BaseTrigger) -> tuple[Any, dict[str, Any]]:
    """The class and the arguments that it serializes."""
    classpath, kwargs = trigger.serialize()
    own = type(trigger)
    # A class whose own name is meant need not be found by its path: that may be another project's.
    cls = own if classpath.rpartition(".")[2] == own.__name__ else _by_path(classpath, own)
    return cls, kwargs


def _by_path(classpath: str, own: type) -> Any:
    """A parent of the trigger's class by its name, else the class of this path."""
    name = classpath.rpartition(".")[2]
    for parent in own.__mro__:
        if parent.__name__ == name:
            return parent
    return load_class(classpath)


async def _first_event(trigger: BaseTrigger, timeout: timedelta | float | None) -> TriggerEvent:
    import asyncio

    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    events: Any = trigger.run()
    waiting = asyncio.ensure_future(_next(events, trigger))
    try:
        with _Killing(waiting) as killing:
            done, _ = await asyncio.wait({waiting}, timeout=seconds)
        if killing.killed:
            await _quietly(trigger, trigger.on_kill, "on_kill of the trigger failed")
            raise AirflowTaskTerminated("the trigger received SIGTERM")
        if not done:
            raise _NotInTime
        return waiting.result()
    finally:
        if waiting.cancel():
            await asyncio.wait({waiting})
        if hasattr(events, "aclose"):
            await events.aclose()
        await _quietly(trigger, trigger.cleanup, "Trigger cleanup failed")


class _NotInTime(Exception):
    """The trigger did not fire within its timeout."""


class _Killing:
    """While the block runs, SIGTERM ends the wait; unless another handler has it already, as in an attempt that waits
    itself."""

    def __init__(self, waiting: asyncio.Future[TriggerEvent]) -> None:
        self.killed = False
        self._waiting = waiting
        self._ours = False

    def __enter__(self) -> _Killing:
        import asyncio
        import signal
        import threading

        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._kill)
            self._ours = True
        return self

    def __exit__(self, *_: object) -> None:
        import asyncio
        import signal

        if self._ours:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    def _kill(self) -> None:
        self.killed = True
        self._waiting.cancel()


async def _quietly(trigger: BaseTrigger, function: Callable[[], Awaitable[None]], complaint: str) -> None:
    try:
        await function()
    except Exception:
        trigger.log.exception("%s", complaint)


async def _next(events: Any, trigger: BaseTrigger) -> TriggerEvent:
    async for event in events:
        if not isinstance(event, TriggerEvent):
            raise TypeError(f"{type(trigger).__name__} yielded {type(event).__name__}, a TriggerEvent is needed")
        return event
    raise TaskDeferralError("Trigger exited without sending an event. Dependent tasks will be failed.")


def _end(event: BaseTaskEndEvent, ti: Any) -> None:
    for key, value in (event.xcoms or {}).items():
        ti.xcom_push(key, value)
    if event.task_instance_state == FAILED:
        raise AirflowFailException("the trigger has ended the task as failed")
    if event.task_instance_state == SKIPPED:
        raise AirflowSkipException("the trigger has ended the task as skipped")
    raise Ended(event.xcoms or {})
