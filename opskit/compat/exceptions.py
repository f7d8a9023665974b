"""The rest of Airflow's exceptions, beside those in `opskit.core.dag.exceptions`: what DAG files and providers raise,
catch or derive from."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from opskit.core.dag.exceptions import AirflowException, AirflowNotFoundException


class AirflowBadRequest(AirflowException):
    """The request or a parameter of it is wrong."""


class AirflowConfigException(AirflowException):
    """A setting is missing or wrong."""


class InvalidStatsNameException(AirflowException):
    """The name of a metric can't be used."""


class AirflowWebServerTimeout(AirflowException):
    """The web server did not answer."""


class AirflowInternalRuntimeError(BaseException):
    """Something that must not happen; not an Exception, so that a broad `except` does not swallow it."""


class AirflowRuntimeError(AirflowException):
    """What task code asked for failed."""


class UnmappableOperator(AirflowException):
    """An operator can't be mapped."""


class UnmappableXComLengthPushed(AirflowException):
    """The XCom that a task is mapped over is too long."""


class AirflowDagCycleException(AirflowException):
    """The tasks of a DAG depend on each other in a circle."""


class AirflowDagDuplicatedIdException(AirflowException):
    """Two files have a DAG of the same id."""

    def __init__(self, dag_id: str, incoming: str, existing: str) -> None:
        super().__init__(dag_id, incoming, existing)
        self.dag_id, self.incoming, self.existing = dag_id, incoming, existing

    def __str__(self) -> str:
        return f"DAG {self.dag_id!r} of {self.incoming} is in {self.existing}, too"


class AirflowDagInconsistent(AirflowException):
    """A DAG has settings that contradict each other."""


class AirflowClusterPolicyViolation(AirflowException):
    """A policy forbids the DAG or task."""


class AirflowClusterPolicySkipDag(AirflowException):
    """A policy leaves the DAG out, silently."""


class AirflowClusterPolicyError(AirflowException):
    """A policy itself failed."""


class AirflowTimetableInvalid(AirflowException):
    """A timetable can't be used."""


class DagNotFound(AirflowNotFoundException):
    """There is no such DAG."""


class DagCodeNotFound(AirflowNotFoundException):
    """The text of a DAG file is not there."""


class DagRunNotFound(AirflowNotFoundException):
    """There is no such DagRun."""


class TaskNotFound(AirflowNotFoundException):
    """There is no such task."""


class TaskInstanceNotFound(AirflowNotFoundException):
    """There is no such task instance."""


class PoolNotFound(AirflowNotFoundException):
    """There is no such pool."""


class DagRunAlreadyExists(AirflowBadRequest):
    """A run of this DAG with this id or date exists."""

    def __init__(self, dag_run: Any, execution_date: datetime | None = None, run_id: str | None = None) -> None:
        super().__init__(f"there is a run {run_id or getattr(dag_run, 'run_id', dag_run)} already")
        self.dag_run = dag_run


class DagFileExists(AirflowBadRequest):
    """A DAG file of this name exists."""


class FailStopDagInvalidTriggerRule(AirflowException):
    """A DAG with fail_stop has a task with another trigger rule than all_success."""


class FailFastDagInvalidTriggerRule(FailStopDagInvalidTriggerRule):
    """The same, of fail_fast."""


class DuplicateTaskIdFound(AirflowException):
    """Two tasks of a DAG have the same id."""


class TaskAlreadyInTaskGroup(AirflowException):
    """A task was put into a second task group."""

    def __init__(self, task_id: str, existing_group_id: str | None, new_group_id: str) -> None:
        super().__init__(task_id, new_group_id)
        self.task_id, self.existing_group_id, self.new_group_id = task_id, existing_group_id, new_group_id

    def __str__(self) -> str:
        existing = self.existing_group_id or "the root of the DAG"
        return f"task {self.task_id!r} can't be in {self.new_group_id!r}: it is in {existing}"


class SerializationError(AirflowException):
    """A value can't be written or read back."""


class NoAvailablePoolSlot(AirflowException):
    """A pool has too few slots."""


class DagConcurrencyLimitReached(AirflowException):
    """A DAG has as many running tasks as it may have."""


class TaskConcurrencyLimitReached(AirflowException):
    """A task has as many running instances as it may have."""


class BackfillUnfinished(AirflowException):
    """A backfill ended with tasks that did not."""


class FileSyntaxError(NamedTuple):
    """An error in a file, and its line."""

    line_no: int | None
    message: str


class AirflowFileParseException(AirflowException):
    """A file of connections or variables can't be read."""

    def __init__(self, msg: str, file_path: str, parse_errors: list[FileSyntaxError]) -> None:
        super().__init__(msg)
        self.msg, self.file_path, self.parse_errors = msg, file_path, parse_errors

    def __str__(self) -> str:
        lines = [f"{self.file_path}: {self.msg}"]
        lines += [f"line {error.line_no}: {error.message}" for error in self.parse_errors]
        return "\n".join(lines)


class ConnectionNotUnique(AirflowException):
    """Several connections have this id."""


class VariableNotUnique(AirflowException):
    """Several variables have this key."""


class PodMutationHookException(AirflowException):
    """The pod mutation hook failed."""


class PodReconciliationError(AirflowException):
    """A pod can't be told from its configuration."""


class AirflowDeprecatedWarning(DeprecationWarning):
    """Root of the warnings about old names."""


class RemovedInAirflow3Warning(AirflowDeprecatedWarning):
    """Something that Airflow 3 does not have."""

    deprecated_since: str | None = None


class RemovedInAirflow4Warning(AirflowDeprecatedWarning):
    """Something that Airflow 4 will not have."""

    deprecated_since: str | None = None


class AirflowProviderDeprecationWarning(AirflowDeprecatedWarning):
    """Something that a later version of a provider will not have."""

    deprecated_provider_since: str | None = None


class DeserializingResultError(ValueError):
    """The result of a task in a virtual environment can't be read."""

    def __str__(self) -> str:
        return "the result can't be read back: the package of its class may be missing, or have another version, here"


class UnknownExecutorException(ValueError):
    """There is no such executor."""


class NodeNotFound(ValueError):
    """There is no such task or group."""
