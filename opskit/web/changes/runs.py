"""Changes of DagRuns: mark, clear, delete, note. Each checks the permission and leaves an audit line."""

from __future__ import annotations

from datetime import UTC, datetime

from opskit.core.metastore import runs, task_instances
from opskit.core.metastore.runs import Run
from opskit.core.metastore.task_instances import TaskInstance
from opskit.core.metastore.task_selection import Selection
from opskit.web.changes import auditing
from opskit.web.changes import task_instances as task_changes
from opskit.web.identity import DELETE, EDIT, Who
from opskit.web.store import Store


def mark(store: Store, who: Who, dag_id: str, run_id: str, state: str) -> Run:
    """Set a run to success or failed, or let it go on (queued). UsageError for another state."""
    who.require(EDIT, "DAG Runs", dag_id)
    now = datetime.now(UTC)
    with store.changing() as connection:
        changed = task_instances.mark_run(connection, dag_id, run_id, state, now)
        auditing.write(
            connection, who, "dags mark", now, dag_id=dag_id, run_id=run_id, state=state, changed=len(changed)
        )
        return runs.get_run(connection, dag_id, run_id)


def clear(
    store: Store, who: Who, dag_id: str, run_id: str, *, dry_run: bool = False, only_failed: bool = False
) -> list[TaskInstance]:
    """Let the tasks of a run run again; which ones, as they were before. `dry_run`: only say so."""
    who.require(EDIT, "DAG Runs", dag_id)
    selection = Selection(dag_id, run_id, only_failed=only_failed)
    if dry_run:
        return task_changes.preview_clear(store, who, selection)
    return task_changes.clear(store, who, selection)


def delete(store: Store, who: Who, dag_id: str, run_id: str) -> None:
    """Delete a run with its history. GuardRefused while an attempt of it is in flight."""
    who.require(DELETE, "DAG Runs", dag_id)
    now = datetime.now(UTC)
    with store.changing() as connection:
        runs.delete_run(connection, dag_id, run_id, now)
        auditing.write(connection, who, "dags delete-run", now, dag_id=dag_id, run_id=run_id)


def set_note(store: Store, who: Who, dag_id: str, run_id: str, note: str | None) -> Run:
    """A text for people; empty or None removes it. UsageError for one that is too long."""
    who.require(EDIT, "DAG Runs", dag_id)
    text = task_changes.checked_note(note)
    with store.changing() as connection:
        runs.set_note(connection, dag_id, run_id, text)
        auditing.write(connection, who, "dags note", datetime.now(UTC), dag_id=dag_id, run_id=run_id)
        return runs.get_run(connection, dag_id, run_id)
