"""Exceptions that task code raises or sees; the names are Airflow's, so that DAG files carry over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any


class AirflowException(Exception):
    """Root of what authoring code raises at run time."""


class AirflowNotFoundException(AirflowException):
    """A connection or another named thing does not exist."""


class AirflowSkipException(AirflowException):
    """The task ends as skipped."""


class AirflowFailException(AirflowException):
    """The task ends as failed, without another try."""


class AirflowSensorTimeout(AirflowException):
    """A sensor waited for longer than its timeout. There is no other try."""


class AirflowRescheduleException(AirflowException):
    """The task gives its slot back and wants to run again at `reschedule_date` (aware)."""

    def __init__(self, reschedule_date: datetime) -> None:
        super().__init__(f"reschedule at {reschedule_date.isoformat()}")
        self.reschedule_date = reschedule_date


class AirflowTaskTimeout(BaseException):
    """execution_timeout is over. Not an Exception: a broad `except` in task code must not swallow it."""


class AirflowTaskTerminated(BaseException):
    """The attempt was told to end (SIGTERM). Not an Exception, for the same reason."""


AirflowTermSignal = AirflowTaskTerminated


class XComNotFound(AirflowException):
    """A task needs an XCom that its upstream task did not push."""

    def __init__(self, dag_id: str, task_id: str, key: str) -> None:
        super().__init__(f"XCom {key!r} of task {task_id} of DAG {dag_id} was not pushed")
        self.dag_id, self.task_id, self.key = dag_id, task_id, key


class XComForMappingNotPushed(AirflowException):
    """Another task is mapped over the output of a task, and that has returned nothing."""


class UnmappableXComTypePushed(AirflowException):
    """Another task is mapped over the output of a task, and that has returned neither a list nor a dict."""


class ParamValidationError(AirflowException):
    """A param has no value, or one that its declaration does not allow."""


class TaskDeferred(BaseException):
    """A task waits for a trigger, and goes on with `method_name(context, event=…, **kwargs)` when that has fired. Not
    an Exception: a broad `except` in task code must not swallow it."""

    def __init__(
        self,
        *,
        trigger: Any,
        method_name: str,
        kwargs: dict[str, Any] | None = None,
        timeout: timedelta | float | None = None,
    ) -> None:
        super().__init__(f"<TaskDeferred trigger={trigger!r} method={method_name}>")
        self.trigger = trigger
        self.method_name = method_name
        self.kwargs = kwargs
        self.timeout = timeout


class TaskDeferralError(AirflowException):
    """The trigger of a deferred task failed."""


class TaskDeferralTimeout(AirflowException):
    """The trigger of a deferred task did not fire in time."""
