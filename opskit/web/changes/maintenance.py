"""Planned work on the cluster: pause all DAGs, resume those that ran; start a verb."""

from __future__ import annotations

from datetime import UTC, datetime

from opskit.core.metastore import held_dags
from opskit.errors import UsageError
from opskit.web.changes import auditing
from opskit.web.identity import EDIT, Who
from opskit.web.store import Store
from opskit.web.verb_list import verb_of
from opskit.web.verbs import Job, Verbs

_NAMED = 50
"""DAGs that the audit line names; the table has all of them."""


def pause_all(store: Store, who: Who) -> list[str]:
    """Pause every DAG that is not paused; the ids. Attempts that run go on. Forbidden without the right to all DAGs."""
    who.require(EDIT, "DAGs")
    now = datetime.now(UTC)
    with store.changing() as connection:
        changed = held_dags.pause_all(connection, who.username, now)
        if changed:
            auditing.write(connection, who, "dags pause", now, all=True, count=len(changed), dags=changed[:_NAMED])
    return changed


def resume_all(store: Store, who: Who) -> list[str]:
    """Unpause exactly what `pause_all` paused; the ids. UsageError when nothing was paused that way."""
    who.require(EDIT, "DAGs")
    now = datetime.now(UTC)
    with store.changing() as connection:
        if held_dags.held(connection) is None:
            raise UsageError("no DAGs were paused all at once", hint="each DAG has its own switch in the list of DAGs")
        changed = held_dags.resume_all(connection, now)
        auditing.write(connection, who, "dags unpause", now, all=True, count=len(changed), dags=changed[:_NAMED])
    return changed


def start(store: Store, who: Who, verbs: Verbs, name: str, parameter: str = "") -> Job:
    """Run a verb that is safe to be started from here, or join the run of it that is under way.

    Forbidden; NotFound for another verb; UsageError for its parameter; LockHeld when too many wait.
    """
    who.require(EDIT, "Operations")
    verb = verb_of(name)
    if not verb.may_be_started:
        raise UsageError(f"{name} runs by itself when its page is looked at")
    verb.words_with(parameter)
    with store.changing() as connection:
        # Nothing is started of which no line could be written.
        auditing.write(connection, who, "operations start", datetime.now(UTC), command=verb.command(parameter))
        return verbs.start(name, parameter, by=who.username)


def stop(store: Store, who: Who, verbs: Verbs, identifier: str) -> Job:
    """End a job, as Ctrl-C does. Forbidden, NotFound."""
    who.require(EDIT, "Operations")
    job = verbs.stop(identifier)
    with store.changing() as connection:
        auditing.write(connection, who, "operations stop", datetime.now(UTC), command=job.command, job=job.id)
    return job
