"""States of DagRuns and task instances, spelled as in Airflow, and which change may follow which."""

from __future__ import annotations

# None (no state yet) is the state of a task instance that waits for its upstream tasks.
SCHEDULED = "scheduled"
QUEUED = "queued"
RUNNING = "running"
SUCCESS = "success"
FAILED = "failed"
SKIPPED = "skipped"
UPSTREAM_FAILED = "upstream_failed"
UP_FOR_RETRY = "up_for_retry"
UP_FOR_RESCHEDULE = "up_for_reschedule"
DEFERRED = "deferred"
RESTARTING = "restarting"
REMOVED = "removed"

TASK_STATES: tuple[str | None, ...] = (
    None,
    SCHEDULED,
    QUEUED,
    RUNNING,
    SUCCESS,
    FAILED,
    SKIPPED,
    UPSTREAM_FAILED,
    UP_FOR_RETRY,
    UP_FOR_RESCHEDULE,
    DEFERRED,
    RESTARTING,
    REMOVED,
)
FINISHED = frozenset({SUCCESS, FAILED, SKIPPED, UPSTREAM_FAILED, REMOVED})
"""Nothing more happens to such a task instance unless someone clears it."""
IN_FLIGHT = frozenset({QUEUED, RUNNING})
"""Claimed: an executor holds it, and it occupies slots of its pool."""
HELD = IN_FLIGHT | {DEFERRED}
"""A worker has something of it: an attempt, or the trigger that it waits for, which occupies no slots."""
DAG_RUN_STATES = (QUEUED, RUNNING, SUCCESS, FAILED)

_FROM_WAITING = {QUEUED, SKIPPED, UPSTREAM_FAILED, FAILED, SUCCESS, REMOVED, SCHEDULED}
_FROM_IN_FLIGHT = {SUCCESS, FAILED, SKIPPED, UP_FOR_RETRY, UP_FOR_RESCHEDULE, DEFERRED, REMOVED, None}
TRANSITIONS: dict[str | None, frozenset[str | None]] = {
    None: frozenset(_FROM_WAITING),
    SCHEDULED: frozenset(_FROM_WAITING | {None}),
    QUEUED: frozenset(_FROM_IN_FLIGHT | {RUNNING}),
    RUNNING: frozenset(_FROM_IN_FLIGHT | {RESTARTING}),
    RESTARTING: frozenset({None, FAILED}),
    UP_FOR_RETRY: frozenset(_FROM_WAITING | {None}),
    UP_FOR_RESCHEDULE: frozenset(_FROM_WAITING | {None}),
    DEFERRED: frozenset(_FROM_IN_FLIGHT | {SCHEDULED, QUEUED}),
    # A finished task instance moves only by a clear, or when someone marks it.
    **{state: frozenset({None, SUCCESS, FAILED, SKIPPED, REMOVED} - {state}) for state in FINISHED},
}


def allowed(before: str | None, after: str | None) -> bool:
    """Whether a task instance may go from one state to the other."""
    return after in TRANSITIONS[before]
