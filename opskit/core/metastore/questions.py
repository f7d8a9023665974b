"""What tasks ask people (`hitl_detail`): one row for each try that has asked.

The scheduler's wave keeps the question, and its end where nobody answers in time. An answer is a change from outside:
it makes the task instance ready in the rows, under the lock of its DAG, and no scheduler can overlook it. A question is
open while its task instance still waits with this try; one whose task was cleared or marked is not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, select, update
from sqlalchemy.engine import Connection, Row

from opskit.core.dag import human_input, states
from opskit.core.dag.run_instance import TaskInstance
from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.scheduling import DEFER_KEY
from opskit.core.metastore.tables import dag_run, question, task_instance, xcom

_COLUMNS = [
    "dag_run_id",
    "task_id",
    "map_index",
    "try_number",
    "asked",
    "subject",
    "created_at",
    "timeout_at",
    "is_open",
]
_ENDED = ["responded_at", "responded_by", "responded_by_name", "answer"]


@dataclass(frozen=True, slots=True)
class Question:
    """What one try of a task instance has asked. `waits`: it can be answered now."""

    dag_id: str
    run_id: str
    dag_run_id: int
    task_id: str
    map_index: int
    try_number: int
    asked: dict[str, Any]
    """As `core/dag/human_input.py` describes it."""
    created_at: datetime
    timeout_at: datetime | None
    waits: bool
    responded_at: datetime | None
    responded_by: str | None
    responded_by_name: str | None
    chosen_options: list[str] | None
    params_input: dict[str, Any] | None

    @property
    def subject(self) -> str:
        return str(self.asked["subject"])


def keep(connection: Connection, asked: Sequence[tuple[int, TaskInstance]], now: datetime) -> None:
    """`(dag_run.id, task instance)` of those that begin to ask, and of those whose time is over; in the wave."""
    new = []
    for number, instance in asked:
        frame = instance.deferral
        if frame is None or "question" not in frame:
            continue  # given up meanwhile
        asks, at = frame["question"], frame["timeout_at"]
        key = (number, *instance.key, instance.try_number)
        if "event" in frame:
            _lapse(connection, key, frame, now)
            continue
        until = None if at is None else datetime.fromisoformat(at)
        row = (json.dumps(asks, ensure_ascii=False), str(asks["subject"]), now, until, True)
        new.append((*key, *row, None, None, None, None))
    bulk_insert(connection, question, _COLUMNS + _ENDED, new, on_conflict="update")


def _lapse(connection: Connection, key: tuple[int, str, int, int], frame: dict[str, Any], now: datetime) -> None:
    event = human_input.event_of(frame)
    answer = None if "error" in event else _answer(event["chosen_options"], event["params_input"])
    values = {"is_open": False, "responded_at": None if answer is None else now, "answer": answer}
    connection.execute(update(question).where(*_is(key)).values(values))


def _answer(chosen: list[str], filled: dict[str, Any]) -> str:
    return json.dumps({"chosen_options": chosen, "params_input": filled}, ensure_ascii=False)


def _is(key: tuple[int, str, int, int]) -> list[Any]:
    each = question.c
    columns = (each.dag_run_id, each.task_id, each.map_index, each.try_number)
    return [column == value for column, value in zip(columns, key, strict=True)]


_WAITING = and_(
    task_instance.c.dag_run_id == question.c.dag_run_id,
    task_instance.c.task_id == question.c.task_id,
    task_instance.c.map_index == question.c.map_index,
    task_instance.c.try_number == question.c.try_number,
    task_instance.c.state == states.DEFERRED,
)


def still_asks() -> ColumnElement[bool]:
    """Of task instances: it waits for a person, and for no process."""
    return exists(select(question.c.dag_run_id).where(_WAITING, question.c.is_open).correlate(task_instance))


def selected(*columns: Any) -> Any:
    """A query of questions with the ids of their runs, and whether their task instance still waits."""
    joined = question.join(dag_run, dag_run.c.id == question.c.dag_run_id).outerjoin(task_instance, _WAITING)
    waits = and_(question.c.is_open, task_instance.c.state.is_not(None)).label("waits")
    return select(*(columns or (question, dag_run.c.dag_id, dag_run.c.run_id, waits))).select_from(joined)


def made(row: Row[Any]) -> Question:
    """A row of `selected`."""
    answer = {} if row.answer is None else json.loads(row.answer)
    return Question(
        row.dag_id,
        row.run_id,
        row.dag_run_id,
        row.task_id,
        row.map_index,
        row.try_number,
        json.loads(row.asked),
        row.created_at,
        row.timeout_at,
        bool(row.waits),
        row.responded_at,
        row.responded_by,
        row.responded_by_name,
        answer.get("chosen_options"),
        answer.get("params_input"),
    )


def find(
    connection: Connection, dag_run_id: int, task_id: str, map_index: int, try_number: int | None = None
) -> Question | None:
    """What this try has asked (None: the newest that has asked); None when there is nothing."""
    each = question.c
    query = selected().where(each.dag_run_id == dag_run_id, each.task_id == task_id, each.map_index == map_index)
    if try_number is not None:
        query = query.where(each.try_number == try_number)
    row = connection.execute(query.order_by(each.try_number.desc()).limit(1)).first()
    return None if row is None else made(row)


def answer(
    connection: Connection,
    asked: Question,
    chosen: list[str],
    filled: dict[str, Any],
    username: str,
    name: str,
    now: datetime,
) -> None:
    """Keep an answer that was checked, and let the task go on with it. The caller has touched the DAG before it read
    the question, which waits."""
    key = (asked.dag_run_id, asked.task_id, asked.map_index)
    each = xcom.c
    kept = (each.dag_run_id == key[0], each.task_id == key[1], each.map_index == key[2], each.key == DEFER_KEY)
    frame = json.loads(connection.execute(select(each.value).where(*kept)).scalar_one())
    said = {
        "chosen_options": chosen,
        "params_input": filled,
        "responded_at": now.isoformat(),
        "responded_by_user": {"id": username, "name": name},
    }
    frame["event"] = {"answer": said}
    connection.execute(update(xcom).where(*kept).values(value=json.dumps(frame, ensure_ascii=False)))
    connection.execute(
        update(task_instance)
        .where(
            task_instance.c.dag_run_id == key[0], task_instance.c.task_id == key[1], task_instance.c.map_index == key[2]
        )
        .values(state=states.SCHEDULED, next_at=None)
    )
    connection.execute(
        update(question)
        .where(*_is((*key, asked.try_number)))
        .values(
            is_open=False,
            responded_at=now,
            responded_by=username[:250],
            responded_by_name=name[:500],
            answer=_answer(chosen, filled),
        )
    )
