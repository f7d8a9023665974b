"""HITLTrigger: the wait for a person's answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict

from opskit.core.dag import human_input
from opskit.core.dag.triggers.base import BaseTrigger, TriggerEvent
from opskit.core.dag.triggers.temporal import LONGEST_SLEEP

NOBODY = "nobody can answer here: only a task that a scheduler runs is answered, by page or API"


class HITLUser(TypedDict):
    """A person: `id` is the username."""

    id: str
    name: str


class HITLTrigger(BaseTrigger):
    """Waits for an answer until `timeout_datetime` (None: for ever). A scheduler keeps the question, and no process
    waits; `run` is for tests of a DAG, where nobody can answer."""

    def __init__(
        self,
        *,
        options: Sequence[str],
        params: Mapping[str, Any] | None = None,
        defaults: Sequence[str] | None = None,
        multiple: bool = False,
        timeout_datetime: datetime | None = None,
        subject: str = "",
        body: str | None = None,
        assigned_users: Sequence[Mapping[str, str]] | None = None,
        ti_id: Any = None,
        poke_interval: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.options = list(options)
        self.params = {name: _param(one) for name, one in (params or {}).items()}
        self.defaults = None if defaults is None else list(defaults)
        self.multiple = multiple
        self.timeout_datetime = timeout_datetime
        self.subject = subject
        self.body = body
        self.assigned_users = [{"id": str(one["id"]), "name": str(one["name"])} for one in assigned_users or ()]
        self.ti_id = ti_id
        self.poke_interval = poke_interval

    def question(self) -> dict[str, Any]:
        """As `human_input` describes it."""
        return {
            "subject": self.subject,
            "body": self.body,
            "options": self.options,
            "defaults": self.defaults,
            "multiple": self.multiple,
            "params": self.params,
            "assigned_users": self.assigned_users,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow.providers.standard.triggers.hitl.HITLTrigger",
            {**self.question(), "timeout_datetime": self.timeout_datetime},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if self.timeout_datetime is None:
            yield TriggerEvent({"error": NOBODY, "error_type": "unknown"})
            return
        while (remaining := (self.timeout_datetime - datetime.now(UTC)).total_seconds()) > 0:
            await asyncio.sleep(min(remaining, LONGEST_SLEEP))
        frame = {"question": self.question(), "event": {"timed_out_at": self.timeout_datetime.isoformat()}}
        yield TriggerEvent(human_input.event_of(frame))


def _param(one: Any) -> dict[str, Any]:
    """A param as it travels; a plain value is its default."""
    if isinstance(one, dict) and {"value", "description", "schema"} <= one.keys():
        return dict(one)
    return {"value": one, "description": None, "schema": {}}
