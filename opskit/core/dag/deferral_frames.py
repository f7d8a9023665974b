"""Deferred tasks between processes: what a task waits for, and what came of it, as plain JSON.

    {"class": "module:Class", "kwargs": {...}, "method": name, "method_kwargs": {...}, "timeout_at": time or null}

A task that asks a person has `"question"` in it (`human_input`): no process waits for the answer.

To it is added, by the process that has waited, `"event": {"method": name, "kwargs": {...}}` or `"event": {"end": state,
"xcoms": {...}}`; by the scheduler, `"error": text` when no process could wait.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from opskit.core.dag import deferral, human_input
from opskit.core.dag.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTerminated,
    TaskDeferralError,
    TaskDeferred,
)
from opskit.core.dag.states import FAILED, SKIPPED, SUCCESS
from opskit.core.dag.triggers.hitl import HITLTrigger
from opskit.core.dag.xcom import decode, encode


def pack(deferred: TaskDeferred, within: float | None) -> dict[str, Any]:
    """What a task waits for. `within`: seconds that are left of its execution_timeout. TypeError for an argument of the
    trigger or of the method that is no plain value."""
    cls, kwargs = deferral.made_of(deferred.trigger)
    if isinstance(deferred.trigger, HITLTrigger):
        # The time that the person has is the trigger's own; what the task's own work may take does not count.
        until = deferred.trigger.timeout_datetime
        return {
            "class": f"{cls.__module__}:{cls.__qualname__}",
            "kwargs": {},
            "method": deferred.method_name,
            "method_kwargs": encode(deferred.kwargs or {}),
            "timeout_at": until and until.isoformat(),
            "question": encode(deferred.trigger.question()),
        }
    timeout = deferred.timeout.total_seconds() if isinstance(deferred.timeout, timedelta) else deferred.timeout
    limits = [seconds for seconds in (timeout, within) if seconds is not None]
    until = datetime.now(UTC) + timedelta(seconds=min(limits)) if limits else None
    return {
        "class": f"{cls.__module__}:{cls.__qualname__}",
        "kwargs": encode(kwargs),
        "method": deferred.method_name,
        "method_kwargs": encode(deferred.kwargs or {}),
        "timeout_at": until and until.isoformat(),
    }


def wait(frame: dict[str, Any], context: Any) -> dict[str, Any]:
    """Wait for it; the event. A trigger that fails is an event, too: the task goes on with its failure."""
    try:
        timeout = None
        if frame["timeout_at"]:
            left = (datetime.fromisoformat(frame["timeout_at"]) - datetime.now(UTC)).total_seconds()
            timeout = max(left, 0.0)
        deferred = TaskDeferred(
            trigger=_load(frame["class"])(**decode(frame["kwargs"])),
            method_name=frame["method"],
            kwargs=decode(frame["method_kwargs"]),
            timeout=timeout,
        )
        method, kwargs = deferral.wait(deferred, context)
        return {"method": method, "kwargs": encode(kwargs)}
    except deferral.Ended as end:
        return {"end": SUCCESS, "xcoms": encode(end.xcoms)}
    except AirflowFailException:
        return {"end": FAILED, "xcoms": context["ti"].pushed}
    except AirflowSkipException:
        return {"end": SKIPPED, "xcoms": context["ti"].pushed}
    except AirflowTaskTerminated as error:  # someone has ended the task: nobody will look at this
        return {"method": deferral.FAIL_METHOD, "kwargs": {"error": str(error)}}
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the trigger is the task's failure
        return {"method": deferral.FAIL_METHOD, "kwargs": {"error": f"{type(error).__name__}: {error}"}}


def resume(frame: dict[str, Any], task: Any, context: Any) -> Any:
    """Go on with a deferred task after its event. AirflowFailException, AirflowSkipException when that ends the task,
    TaskDeferralTimeout and TaskDeferralError when there was none; else what the method gives or raises."""
    event = frame.get("event")
    if event is None:
        raise TaskDeferralError(f"{deferral.TRIGGER_FAILURE}: {frame.get('error', 'no event came')}")
    if "question" in frame:
        kwargs = {**decode(frame["method_kwargs"]), "event": human_input.event_of(frame)}
        return task.resume_execution(frame["method"], kwargs, context)
    if "end" not in event:
        return task.resume_execution(event["method"], decode(event["kwargs"]), context)
    for key, value in event["xcoms"].items():
        context["ti"].xcom_push(key, decode(value))
    if event["end"] == FAILED:
        raise AirflowFailException("the trigger has ended the task as failed")
    if event["end"] == SKIPPED:
        raise AirflowSkipException("the trigger has ended the task as skipped")
    return None


def _load(name: str) -> Any:
    module, _, qualified = name.partition(":")
    found: Any = import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    return found
