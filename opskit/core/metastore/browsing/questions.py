"""What tasks ask people, a part at a time: what waits for an answer, and what was answered."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from sqlalchemy import Select, and_, func, not_, select
from sqlalchemy.engine import Connection

from opskit.core.dag import states
from opskit.core.metastore.browsing.window import Window, cut, total
from opskit.core.metastore.questions import Question, made, selected
from opskit.core.metastore.tables import dag_run, question, task_instance


@dataclass(frozen=True, slots=True)
class QuestionFilter:
    """None: whatever it is. `readable`: DAGs that may be seen. `waits`: it can be answered now, or not any more."""

    dag_id: str | None = None
    readable: Set[str] | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    waits: bool | None = None
    responded_by: str | None = None
    responded: bool | None = None
    """Somebody has answered it, or its defaults were taken."""


ORDERS = ("created_at", "responded_at", "subject", "dag_id", "run_id", "task_id")


def list_questions(connection: Connection, which: QuestionFilter, window: Window) -> tuple[list[Question], int]:
    """Orders: see ORDERS."""
    query = _filtered(selected(), which)
    each = question.c
    columns = {"created_at": each.created_at, "responded_at": each.responded_at, "subject": each.subject}
    columns |= {"dag_id": dag_run.c.dag_id, "run_id": dag_run.c.run_id, "task_id": each.task_id}
    keys = (each.created_at, each.dag_run_id, each.task_id, each.map_index, each.try_number)
    found = [made(row) for row in connection.execute(cut(query, window, columns, *keys))]
    return found, window.total(len(found), lambda: total(connection, _filtered(selected(each.task_id), which)))


def count_waiting(connection: Connection, readable: Set[str] | None) -> int:
    """How many questions can be answered now, of DAGs that may be seen."""
    which = QuestionFilter(readable=readable, waits=True)
    counted = _filtered(selected(question.c.task_id), which).subquery()
    return int(connection.execute(select(func.count()).select_from(counted)).scalar_one())


def _filtered(query: Select[tuple[object, ...]], which: QuestionFilter) -> Select[tuple[object, ...]]:
    each = question.c
    wanted = ((dag_run.c.dag_id, which.dag_id), (dag_run.c.run_id, which.run_id), (each.task_id, which.task_id))
    for column, value in (*wanted, (each.map_index, which.map_index), (each.responded_by, which.responded_by)):
        if value is not None:
            query = query.where(column == value)
    if which.readable is not None:
        query = query.where(dag_run.c.dag_id.in_(sorted(which.readable)))
    if which.responded is not None:
        query = query.where(each.responded_at.is_not(None) if which.responded else each.responded_at.is_(None))
    if which.waits is not None:
        open_now = and_(each.is_open, task_instance.c.state == states.DEFERRED)
        query = query.where(open_now if which.waits else not_(and_(each.is_open, task_instance.c.state.is_not(None))))
    return query
