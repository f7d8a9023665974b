"""Answers of people to what tasks ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from opskit.core.dag import human_input
from opskit.core.metastore import dags, questions, task_instances
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.questions import Question
from opskit.errors import NotFound
from opskit.web.changes import auditing
from opskit.web.faults import Conflict, Forbidden
from opskit.web.identity import EDIT, Who
from opskit.web.store import Store


def find(
    connection: Connection, dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int | None = None
) -> Question:
    """What a task instance has asked, by this try or the newest that has. NotFound."""
    instance = task_instances.get_task_instance(connection, dag_id, run_id, task_id, map_index)
    found = questions.find(connection, instance.dag_run_id, task_id, map_index, try_number)
    if found is None:
        which = f"try {try_number} of " if try_number is not None else ""
        raise NotFound(f"{which}{task_id} of {run_id} has asked nobody anything")
    return found


def may_answer(who: Who, asked: Question) -> bool:
    """Whether this person may answer it, while it waits."""
    return who.can(EDIT, "Task Instances", asked.dag_id) and human_input.may_answer(asked.asked, who.username)


def answer(
    store: Store,
    who: Who,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: int,
    chosen: Sequence[str],
    filled: Mapping[str, Any],
) -> Question:
    """Answer what waits; the task goes on with it. Forbidden for somebody who is not asked, Conflict when it waits no
    more, UsageError for an answer that does not fit."""
    who.require(EDIT, "Task Instances", dag_id)
    now = datetime.now(UTC)
    with store.changing() as connection:
        dags.touch(connection, [dag_id], now)
        asked = find(connection, dag_id, run_id, task_id, map_index)
        if not asked.waits:
            raise Conflict(_why(asked))
        if not human_input.may_answer(asked.asked, who.username):
            names = ", ".join(one["name"] for one in asked.asked["assigned_users"])
            raise Forbidden(f"{who.username} is not asked: {task_id} waits for an answer of {names}")
        options, params = human_input.checked(asked.asked, chosen, filled)
        questions.answer(connection, asked, options, params, who.username, who.name or who.username, now)
        auditing.write(
            connection,
            who,
            "tasks answer",
            now,
            dag_id=dag_id,
            run_id=asked.run_id,
            task_id=task_id,
            map_index=map_index,
            try_number=asked.try_number,
            chosen_options=options,
        )
        return find(connection, dag_id, run_id, task_id, map_index)


def _why(asked: Question) -> str:
    if asked.responded_by is not None:
        return f"{asked.responded_by_name} has answered it already, at {asked.responded_at:%Y-%m-%d %H:%M:%S} UTC"
    if asked.responded_at is not None:
        return "nobody answered in time: its defaults were taken"
    return f"{asked.task_id} does not wait for an answer any more"
