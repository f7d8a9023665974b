"""What `airflow.utils.state` offers. The values are texts, so they compare with what a task instance says."""

from __future__ import annotations

from enum import Enum

from opskit.core.dag import states

__all__ = ["DagRunState", "IntermediateTIState", "JobState", "State", "TaskInstanceState", "TerminalTIState"]


class _Text(str, Enum):  # noqa: UP042 - str() gives the value, format() too, in any Python
    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(str(self.value), spec)


class JobState(_Text):
    """Of a scheduler or another resident process."""

    RUNNING = "running"
    SUCCESS = "success"
    RESTARTING = "restarting"
    FAILED = "failed"


class TaskInstanceState(_Text):
    """Of a task instance; None is a state, too: not yet scheduled."""

    REMOVED = states.REMOVED
    SCHEDULED = states.SCHEDULED
    QUEUED = states.QUEUED
    RUNNING = states.RUNNING
    SUCCESS = states.SUCCESS
    RESTARTING = states.RESTARTING
    FAILED = states.FAILED
    UP_FOR_RETRY = states.UP_FOR_RETRY
    UP_FOR_RESCHEDULE = states.UP_FOR_RESCHEDULE
    UPSTREAM_FAILED = states.UPSTREAM_FAILED
    SKIPPED = states.SKIPPED
    DEFERRED = states.DEFERRED
    SHUTDOWN = "shutdown"
    """Of Airflow 2: no task instance gets it."""


class TerminalTIState(_Text):
    """Those in which a task instance has ended."""

    SUCCESS = states.SUCCESS
    FAILED = states.FAILED
    SKIPPED = states.SKIPPED
    UPSTREAM_FAILED = states.UPSTREAM_FAILED
    REMOVED = states.REMOVED


class IntermediateTIState(_Text):
    """Those in which it has neither run nor ended."""

    SCHEDULED = states.SCHEDULED
    QUEUED = states.QUEUED
    RESTARTING = states.RESTARTING
    UP_FOR_RETRY = states.UP_FOR_RETRY
    UP_FOR_RESCHEDULE = states.UP_FOR_RESCHEDULE
    DEFERRED = states.DEFERRED


class DagRunState(_Text):
    """Of a DagRun."""

    QUEUED = states.QUEUED
    RUNNING = states.RUNNING
    SUCCESS = states.SUCCESS
    FAILED = states.FAILED


_COLORS: dict[str | None, str] = {
    None: "lightblue",
    "queued": "gray",
    "running": "lime",
    "success": "green",
    "restarting": "violet",
    "failed": "red",
    "up_for_retry": "gold",
    "up_for_reschedule": "turquoise",
    "upstream_failed": "orange",
    "skipped": "hotpink",
    "removed": "lightgrey",
    "scheduled": "tan",
    "deferred": "mediumpurple",
}


class State:
    """The states as constants, and sets of them."""

    NONE = None
    REMOVED = TaskInstanceState.REMOVED
    SCHEDULED = TaskInstanceState.SCHEDULED
    QUEUED = TaskInstanceState.QUEUED
    RUNNING = TaskInstanceState.RUNNING
    SUCCESS = TaskInstanceState.SUCCESS
    RESTARTING = TaskInstanceState.RESTARTING
    FAILED = TaskInstanceState.FAILED
    UP_FOR_RETRY = TaskInstanceState.UP_FOR_RETRY
    UP_FOR_RESCHEDULE = TaskInstanceState.UP_FOR_RESCHEDULE
    UPSTREAM_FAILED = TaskInstanceState.UPSTREAM_FAILED
    SKIPPED = TaskInstanceState.SKIPPED
    DEFERRED = TaskInstanceState.DEFERRED
    SHUTDOWN = TaskInstanceState.SHUTDOWN

    finished_dr_states = frozenset({DagRunState.SUCCESS, DagRunState.FAILED})
    unfinished_dr_states = frozenset({DagRunState.QUEUED, DagRunState.RUNNING})
    task_states: tuple[TaskInstanceState | None, ...] = (None, *TaskInstanceState)
    dag_states = (DagRunState.QUEUED, DagRunState.SUCCESS, DagRunState.RUNNING, DagRunState.FAILED)
    state_color = _COLORS
    finished = frozenset(TaskInstanceState(state) for state in states.FINISHED)
    unfinished: frozenset[TaskInstanceState | None] = frozenset(
        {
            None,
            TaskInstanceState.SCHEDULED,
            TaskInstanceState.QUEUED,
            TaskInstanceState.RUNNING,
            TaskInstanceState.RESTARTING,
            TaskInstanceState.UP_FOR_RETRY,
            TaskInstanceState.UP_FOR_RESCHEDULE,
            TaskInstanceState.DEFERRED,
        }
    )
    failed_states = frozenset({TaskInstanceState.FAILED, TaskInstanceState.UPSTREAM_FAILED})
    success_states = frozenset({TaskInstanceState.SUCCESS, TaskInstanceState.SKIPPED})
    adoptable_states = frozenset({TaskInstanceState.QUEUED, TaskInstanceState.RUNNING, TaskInstanceState.RESTARTING})
    terminating_states = frozenset({TaskInstanceState.SHUTDOWN, TaskInstanceState.RESTARTING})

    @classmethod
    def color(cls, state: str | None) -> str:
        """The colour of a state in Airflow's pages."""
        return _COLORS.get(None if state is None else str(state), "white")

    @classmethod
    def color_fg(cls, state: str | None) -> str:
        """The colour of text on it."""
        return "white" if cls.color(state) in ("green", "red") else "black"
