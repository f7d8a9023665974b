"""Retry policies: whether a failed try is followed by another one, and when, by the exception that it ended with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from importlib import import_module
from typing import Any

ExceptionSpec = type[BaseException] | str


class RetryAction(Enum):
    """What follows a failed try."""

    RETRY = "retry"
    """Another try, as long as the task's `retries` allow one."""
    FAIL = "fail"
    """No other try."""
    DEFAULT = "default"
    """What the task's arguments say."""


@dataclass(frozen=True)
class RetryDecision:
    """What a policy says. `retry_delay` None: the task's own."""

    action: RetryAction = RetryAction.DEFAULT
    retry_delay: timedelta | None = None
    reason: str | None = None

    @classmethod
    def fail(cls, reason: str | None = None) -> RetryDecision:
        return cls(RetryAction.FAIL, reason=reason)

    @classmethod
    def retry(cls, delay: timedelta | None = None, reason: str | None = None) -> RetryDecision:
        return cls(RetryAction.RETRY, delay, reason)

    @classmethod
    def default(cls) -> RetryDecision:
        return cls()


class RetryPolicy:
    """A subclass says in `evaluate`, in the process of the task, what follows a failed try. It is not asked about
    AirflowFailException and a sensor's timeout: those are final."""

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        raise NotImplementedError(f"{type(self).__name__} has no evaluate()")


@dataclass
class RetryRule:
    """What follows exceptions of a class, or of several (classes, or dotted names of them)."""

    exception: ExceptionSpec | list[ExceptionSpec]
    action: RetryAction = RetryAction.RETRY
    retry_delay: timedelta | None = None
    reason: str | None = None
    match_subclasses: bool = True

    def __post_init__(self) -> None:
        for spec in self._specs():
            if isinstance(spec, str) and "." not in spec:
                raise ValueError(f"RetryRule: {spec!r} is no dotted name of an exception, such as builtins.ValueError")

    def _specs(self) -> list[ExceptionSpec]:
        return self.exception if isinstance(self.exception, list) else [self.exception]

    def matches(self, exc: BaseException) -> bool:
        """Whether the rule is about this exception. A name that can't be imported matches nothing, and is logged."""
        classes = tuple(self._classes())
        return isinstance(exc, classes) if self.match_subclasses else type(exc) in classes

    def _classes(self) -> Iterator[type[BaseException]]:
        for spec in self._specs():
            if not isinstance(spec, str):
                yield spec
                continue
            module, _, name = spec.rpartition(".")
            try:
                yield getattr(import_module(module), name)
            except (ImportError, AttributeError):
                _log().warning("The exception %r of a retry rule can't be imported: it matches nothing", spec)


class ExceptionRetryPolicy(RetryPolicy):
    """The first rule that is about the exception decides; `default` when there is none."""

    def __init__(self, rules: list[RetryRule], default: RetryAction = RetryAction.DEFAULT) -> None:
        self.rules = rules
        self.default = default

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        for rule in self.rules:
            if rule.matches(exception):
                reason = rule.reason or f"Matched rule for {type(exception).__name__}"
                return RetryDecision(rule.action, rule.retry_delay, reason)
        return RetryDecision(self.default)


def ask(policy: RetryPolicy, exception: BaseException, ti: Any, context: Any) -> RetryDecision:
    """What the policy says; the default when it fails itself, which is logged."""
    try:
        decision = policy.evaluate(
            exception=exception, try_number=ti.try_number, max_tries=ti.max_tries, context=context
        )
    except Exception:  # noqa: BLE001 - a policy is the author's code
        _log().exception("The retry policy failed, the task's arguments decide")
        return RetryDecision()
    if decision.reason:
        _log().info("Retry policy: %s, %s", decision.action.value, decision.reason)
    return decision


def _log() -> logging.Logger:
    return logging.getLogger("airflow.task")
