"""Changes of task instances: clear, mark, note. A preview takes the same way as the change, up to the writing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from opskit.core.dag import states
from opskit.core.metastore import dags, task_instances, task_notes, task_selection
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.task_instances import TaskInstance
from opskit.core.metastore.task_selection import Selection
from opskit.errors import UsageError
from opskit.web.changes import auditing
from opskit.web.identity import EDIT, Who
from opskit.web.store import Store

__all__ = ["Selection", "clear", "mark", "preview_clear", "preview_mark", "set_note"]

LONGEST_NOTE = 1000
"""Characters, as in Airflow."""
_NAMED = 50
"""So many runs and tasks are named in an audit line."""


def preview_clear(store: Store, who: Who, selection: Selection) -> list[TaskInstance]:
    """What `clear` would clear."""
    with store.reading() as connection:
        return _to_clear(connection, who, selection)


def clear(store: Store, who: Who, selection: Selection, *, resume_runs: bool = True) -> list[TaskInstance]:
    """Let task instances run again; which ones, as they were before. Their runs go on, unless `resume_runs` is False.

    Forbidden when one of them is of a DAG (by an ExternalTaskMarker) that the person may not change: then none is.
    """
    now = datetime.now(UTC)
    concerned = {selection.dag_id}
    if selection.recursive:
        concerned |= {instance.dag_id for instance in preview_clear(store, who, selection)}
    with store.changing() as connection:
        dags.touch(connection, concerned, now)  # all at once: the order keeps us from deadlocks
        chosen = _to_clear(connection, who, selection)
        for dag_id, instances in sorted(_by_dag(chosen).items()):
            task_instances.clear(connection, dag_id, instances, now, resume_runs=resume_runs)
            _audit(connection, who, "tasks clear", now, dag_id, instances, selection, cleared=len(instances))
    return chosen


def preview_mark(store: Store, who: Who, selection: Selection, state: str) -> list[TaskInstance]:
    """What `mark` would change."""
    with store.reading() as connection:
        return [instance for instance in _to_mark(connection, who, selection, state) if instance.state != state]


def mark(store: Store, who: Who, selection: Selection, state: str) -> list[TaskInstance]:
    """Set task instances to success, failed or skipped by hand; which were changed, as they were before. What had
    failed below them is cleared, and their runs go on until a scheduler has judged them again."""
    now = datetime.now(UTC)
    with store.changing() as connection:
        dags.touch(connection, [selection.dag_id], now)
        chosen = _to_mark(connection, who, selection, state)
        changed = task_instances.mark(connection, selection.dag_id, chosen, state, now)
        if changed:
            _audit(connection, who, "tasks mark", now, selection.dag_id, changed, selection, state=state)
    return changed


def set_note(
    store: Store, who: Who, dag_id: str, run_id: str, task_id: str, map_index: int, note: str | None
) -> TaskInstance:
    """A text for people on a task instance; empty or None removes it. UsageError for one that is too long."""
    who.require(EDIT, "Task Instances", dag_id)
    text = checked_note(note)
    now = datetime.now(UTC)
    with store.changing() as connection:
        instance = task_instances.get_task_instance(connection, dag_id, run_id, task_id, map_index)
        task_notes.set_note(connection, instance.key, text, who.username, now)
        auditing.write(
            connection, who, "tasks note", now, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index
        )
    return instance


def _to_clear(connection: Connection, who: Who, selection: Selection) -> list[TaskInstance]:
    who.require(EDIT, "Task Instances", selection.dag_id)
    chosen = task_selection.to_clear(connection, selection)
    for dag_id in sorted({instance.dag_id for instance in chosen}):
        who.require(EDIT, "Task Instances", dag_id)
    return chosen


def _to_mark(connection: Connection, who: Who, selection: Selection, state: str) -> list[TaskInstance]:
    who.require(EDIT, "Task Instances", selection.dag_id)
    if state not in (states.SUCCESS, states.FAILED, states.SKIPPED):
        raise UsageError(f"a task can't be marked {state!r}", hint="choose success, failed or skipped")
    return task_selection.to_mark(connection, selection)


def _by_dag(instances: Sequence[TaskInstance]) -> dict[str, list[TaskInstance]]:
    found: dict[str, list[TaskInstance]] = {}
    for instance in instances:
        found.setdefault(instance.dag_id, []).append(instance)
    return found


def _audit(
    connection: Connection,
    who: Who,
    event: str,
    now: datetime,
    dag_id: str,
    instances: Sequence[TaskInstance],
    selection: Selection,
    **extra: object,
) -> None:
    tasks = sorted({instance.task_id for instance in instances})
    runs = sorted({instance.run_id for instance in instances})
    auditing.write(
        connection,
        who,
        event,
        now,
        dag_id=dag_id,
        run_id=selection.run_id if dag_id == selection.dag_id else None,
        task_id=tasks[0] if len(tasks) == 1 else None,
        runs=runs[:_NAMED],
        tasks=tasks[:_NAMED],
        **extra,
    )


def checked_note(note: str | None) -> str | None:
    """A note as it is kept: None for an empty one. UsageError for one that is too long."""
    text = (note or "").strip()
    if len(text) > LONGEST_NOTE:
        raise UsageError(f"the note has {len(text)} characters, at most {LONGEST_NOTE} are kept")
    return text or None
