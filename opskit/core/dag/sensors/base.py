"""BaseSensorOperator: wait until something is true, while holding a slot (poke) or giving it back (reschedule)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferralTimeout,
)
from opskit.errors import DagInvalid


class PokeReturnValue:
    """What `poke` may return instead of a bool: whether it is done, and a value to push as XCom."""

    def __init__(self, is_done: bool, xcom_value: Any = None) -> None:
        self.is_done = is_done
        self.xcom_value = xcom_value

    def __bool__(self) -> bool:
        return self.is_done


class BaseSensorOperator(BaseOperator):
    """A subclass answers `poke(context)`. `poke_interval` and `timeout` are seconds or timedeltas; the timeout counts
    from the first poke of the try, across reschedules. When it is over the task fails for good, or, with soft_fail, is
    skipped."""

    ui_color = "#e6f1f2"
    valid_modes = ("poke", "reschedule")

    def __init__(
        self,
        *,
        poke_interval: timedelta | float = 60,
        timeout: timedelta | float = 60 * 60 * 24 * 7,
        soft_fail: bool = False,
        mode: str = "poke",
        exponential_backoff: bool = False,
        max_wait: timedelta | float | None = None,
        silent_fail: bool = False,
        never_fail: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.poke_interval = self._seconds(poke_interval, "poke_interval")
        self.timeout = self._seconds(timeout, "timeout")
        self.max_wait = None if max_wait is None else self._seconds(max_wait, "max_wait")
        if mode not in self.valid_modes:
            raise DagInvalid(f"task {self.task_id}: mode is {mode!r}, choose poke or reschedule")
        if soft_fail and never_fail:
            raise DagInvalid(f"task {self.task_id}: soft_fail and never_fail exclude each other")
        self.mode = mode
        self.soft_fail = soft_fail
        self.exponential_backoff = exponential_backoff
        self.silent_fail = silent_fail
        self.never_fail = never_fail

    def _seconds(self, value: timedelta | float, argument: str) -> float:
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds < 0:
            raise DagInvalid(f"task {self.task_id}: {argument} is {value!r}, seconds or a timedelta are needed")
        return seconds

    @property
    def reschedule(self) -> bool:
        """Whether it gives its slot back between pokes."""
        return self.mode == "reschedule"

    def poke(self, context: Any) -> bool | PokeReturnValue:
        """Whether the wait is over."""
        raise NotImplementedError(f"{type(self).__name__} has no poke()")

    def execute(self, context: Any) -> Any:
        started_at: datetime = context["ti"].first_poke_at
        clock_start = time.monotonic()

        def waited() -> float:
            if self.reschedule:
                return (datetime.now(UTC) - started_at).total_seconds()
            return time.monotonic() - clock_start

        pokes = 1
        while True:
            done = self._poke_once(context)
            if done:
                break
            if waited() > self.timeout:
                message = f"Sensor has timed out: it waited {waited():.0f} s, its timeout is {self.timeout:g} s."
                if self.soft_fail:
                    raise AirflowSkipException(message)
                raise AirflowSensorTimeout(message)
            pause = self._next_pause(started_at, waited, pokes)
            if self.reschedule:
                raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=pause))
            time.sleep(pause)
            pokes += 1
        self.log.info("Success criteria met. Exiting.")
        return done.xcom_value if isinstance(done, PokeReturnValue) else None

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowException as error:
            if self.soft_fail or (self.never_fail and not isinstance(error, TaskDeferralTimeout)):
                raise AirflowSkipException(str(error)) from error
            if isinstance(error, TaskDeferralTimeout) and getattr(self._dag, "dialect", None) != 2:
                raise AirflowSensorTimeout(*error.args) from error
            raise

    def _poke_once(self, context: Any) -> bool | PokeReturnValue:
        try:
            return self.poke(context)
        except (AirflowSkipException, AirflowRescheduleException):
            raise
        except (AirflowSensorTimeout, AirflowTaskTimeout, AirflowFailException) as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException("Skipping due to soft_fail or never_fail.") from error
            raise
        except Exception as error:
            if self.silent_fail:
                self.log.exception("Sensor poke failed; it will be tried again")
                return False
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail.") from error
            raise

    def _next_pause(self, started_at: datetime, waited: Callable[[], float], pokes: int) -> float:
        """Seconds until the next poke. With exponential_backoff Airflow's formula: from poke_interval·2^(n-2) to twice
        that, where in between is a hash of sensor and poke; never beyond the timeout."""
        if not self.exponential_backoff:
            return self.poke_interval
        if self.reschedule:
            # Another process poked before: count from the time that has passed.
            passed: float = self.poke_interval
            while passed <= waited():
                pokes += 1
                passed += self.poke_interval * 2 ** (pokes - 1)
        from hashlib import sha1

        least = max(int(self.poke_interval * 2 ** (pokes - 2)), 1)
        name = f"{self.dag_id}#{self.task_id}#{started_at}#{pokes}"
        spread = int(sha1(name.encode(), usedforsecurity=False).hexdigest(), 16)
        pause = min(float(least + spread % least), max(self.timeout - int(waited()), 0.0))
        return pause if self.max_wait is None else min(pause, self.max_wait)


def poke_mode_only(cls: type[BaseSensorOperator]) -> type[BaseSensorOperator]:
    """Around a sensor class that can't give its slot back: any other mode than poke is refused."""
    if not (isinstance(cls, type) and issubclass(cls, BaseSensorOperator)):
        raise ValueError(f"poke_mode_only goes around a class that derives from BaseSensorOperator, not {cls!r}")

    def get(_: BaseSensorOperator) -> str:
        return "poke"

    def put(_: BaseSensorOperator, mode: str) -> None:
        if mode != "poke":
            raise ValueError(f"Cannot set mode to '{mode}'. Only 'poke' is acceptable")

    cls.mode = property(get, put)  # type: ignore[assignment]
    return cls
