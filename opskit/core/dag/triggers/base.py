"""BaseTrigger: what a deferred task waits for, as an asynchronous generator of events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from opskit.core.dag.states import FAILED, SKIPPED, SUCCESS

if TYPE_CHECKING:
    import logging


@dataclass
class StartTriggerArgs:
    """With `start_from_trigger`, an operator begins with this trigger and goes on with `next_method`."""

    trigger_cls: str
    next_method: str
    trigger_kwargs: dict[str, Any] | None = None
    next_kwargs: dict[str, Any] | None = None
    timeout: timedelta | None = None


class TriggerEvent:
    """What a trigger yields; `payload` is handed to the method that goes on, as `event`. Plain values only."""

    def __init__(self, payload: Any) -> None:
        self.payload = payload

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TriggerEvent) and other.payload == self.payload

    def __hash__(self) -> int:
        return hash(repr(self.payload))

    def __repr__(self) -> str:
        return f"TriggerEvent<{self.payload!r}>"


class BaseTaskEndEvent(TriggerEvent):
    """Ends the task: no method of it goes on. `xcoms` are pushed."""

    task_instance_state: ClassVar[str]

    def __init__(self, *, xcoms: dict[str, Any] | None = None) -> None:
        super().__init__(self.task_instance_state)
        self.xcoms = xcoms


class TaskSuccessEvent(BaseTaskEndEvent):
    task_instance_state = SUCCESS


class TaskFailedEvent(BaseTaskEndEvent):
    task_instance_state = FAILED


class TaskSkippedEvent(BaseTaskEndEvent):
    task_instance_state = SKIPPED


class BaseTrigger(ABC):
    """It is made anew from what `serialize` gives before it runs: what it needs must be in there, as plain values."""

    supports_triggerer_queue = True

    def __init__(self, **_: Any) -> None:
        self.task_instance: Any = None
        self.trigger_id: int | None = None

    @property
    def log(self) -> logging.Logger:
        import logging

        return logging.getLogger(f"airflow.task.triggers.{type(self).__module__}.{type(self).__name__}")

    @abstractmethod
    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Its class (`module.Class`), and the keyword arguments that make it anew."""

    @abstractmethod
    def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event when what it waits for has happened. An asynchronous generator."""

    async def cleanup(self) -> None:  # noqa: B027 - most triggers have nothing to clean up
        """Called once it is no longer needed. What it raises is logged."""

    async def on_kill(self) -> None:  # noqa: B027
        """Called when someone has ended the deferred task: stop what it has started outside. What it raises is logged.
        Not called when the wait only moves to another process."""

    def __repr__(self) -> str:
        classpath, kwargs = self.serialize()
        return f"<{classpath} {', '.join(f'{name}={value}' for name, value in kwargs.items())}>"


class BaseEventTrigger(BaseTrigger):
    """A trigger that may also watch for an asset."""

    @staticmethod
    def hash(classpath: str, kwargs: dict[str, Any]) -> int:
        """Equal for triggers that wait for the same."""
        return hash((classpath, repr(sorted(kwargs.items(), key=lambda item: item[0]))))
