"""The life of one attempt inside its process: from the task to its outcome, with timeouts, signals and callbacks."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opskit.core.dag import context as contexts
from opskit.core.dag import plugins, runtime
from opskit.core.dag.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTerminated,
    AirflowTaskTimeout,
    TaskDeferred,
    UnmappableXComTypePushed,
    XComForMappingNotPushed,
)
from opskit.core.dag.runtime import RunInfo
from opskit.core.dag.states import DEFERRED, FAILED, SKIPPED, SUCCESS, UP_FOR_RESCHEDULE
from opskit.core.dag.task_instance import DagRun, Push, RuntimeTaskInstance
from opskit.core.dag.templates import RENDERED
from opskit.core.dag.xcom import XCOM_RETURN_KEY

_Handler = Callable[[int, Any], None]
_raw = import_module("_signal")
set_handler: Callable[[int, Any], Any] = _raw.signal
"""`signal.signal` without the enum members that it makes: some thirty pages less of memory shared with the parent. It
takes a function, IGNORE or DEFAULT."""
IGNORE, DEFAULT = _raw.SIG_IGN, _raw.SIG_DFL

if TYPE_CHECKING:
    import logging

    from opskit.core.dag.base_operator import BaseOperator, Callbacks
    from opskit.core.dag.model import DAG


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: the fields of a *Result* frame that the attempt itself knows."""

    state: str
    retry: bool = True
    """False: no other try, whatever the task's retries say."""
    reason: str | None = None
    reschedule_at: datetime | None = None
    xcoms: list[tuple[str, Any]] = field(default_factory=list)
    """Key and plain JSON value, in the order of the pushes."""
    skip: list[str] = field(default_factory=list)
    """task_ids to skip, sorted."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Events of its outlets, as `asset_outlets.emitted` gives them."""
    deferral: dict[str, Any] | None = None
    """What a deferred task waits for, as `deferral_frames` packs it."""
    event: dict[str, Any] | None = None
    """What a trigger has come to."""
    retry_delay: float | None = None
    """Seconds until the next try, where a retry policy has set them."""
    rendered_map_index: str | None = None
    """What an instance of a mapped task is called, when its task has a map_index_template."""
    reusable: bool = True
    """Whether the process is fit for another attempt. Not part of the frame."""

    def fields(self) -> dict[str, Any]:
        """As JSON, named as in the frame."""
        fields = {
            "state": self.state,
            "retry": self.retry,
            "reason": self.reason,
            "reschedule_at": self.reschedule_at.isoformat() if self.reschedule_at else None,
            "xcoms": [[key, value] for key, value in self.xcoms],
            "skip": self.skip,
        }
        if self.events:
            fields["events"] = self.events
        if self.deferral is not None:
            fields["deferral"] = self.deferral
        if self.event is not None:
            fields["event"] = self.event
        if self.retry_delay is not None:
            fields["retry_delay"] = self.retry_delay
        if self.rendered_map_index is not None:
            fields["rendered_map_index"] = self.rendered_map_index
        return fields


def execute(
    dag: DAG,
    attempt: Mapping[str, Any],
    run: Mapping[str, Any] | None = None,
    report: Push | None = None,
    *,
    test_mode: bool = False,
    last: bool = False,
    triggers_inline: bool = False,
    keep_rendered: Callable[[dict[str, Any]], None] | None = None,
) -> Outcome:
    """Run one attempt. `attempt` is an *Attempt* frame, `run` its `run` (default: the one inside it). `report` is told
    of each XCom push; the outcome holds them as well. `last`: this process runs nothing of the DAG afterwards, so the
    attempt may have the DAG's own task, and what it changes in it stays changed. `triggers_inline`: a deferred
    task waits in here; else its outcome is `deferred`, and it goes on in another attempt. `keep_rendered` is given the
    template fields when rendering has changed one of them.

    Whatever task code raises becomes the outcome; nothing is raised but for a malformed frame. While it runs, SIGTERM
    calls the task's on_kill and ends the attempt as failed."""
    dag_run = _dag_run(dag, attempt, attempt["run"] if run is None else run, test_mode)
    kind = attempt.get("kind") or "task"
    reason = attempt.get("reason")
    if "missed" in attempt:
        from opskit.core.dag import deadlines

        return Outcome(SUCCESS, reason=deadlines.call(dag, dag_run, kind, attempt))
    if kind.startswith("dag_"):
        success = kind == "dag_on_success_callback"
        callbacks = dag.on_success_callback if success else dag.on_failure_callback
        told = _dag_context(dag, dag_run, reason, success)
        event = "on_dag_run_success" if success else "on_dag_run_failed"
        plugins.listener_manager().tell(event, dag_run=dag_run, msg=reason or "")
        return Outcome(SUCCESS, reason=_call_all(callbacks, "DAG callback", told))
    original = dag.task_dict.get(attempt["task_id"])
    if original is None:
        return Outcome(FAILED, retry=False, reason=f"DAG {dag.dag_id} has no task {attempt['task_id']!r} any more")
    task = original if last else original.prepare_for_execution()
    ti = RuntimeTaskInstance(
        task,
        dag_run,
        try_number=attempt.get("try_number", 1),
        max_tries=attempt.get("max_tries"),
        map_index=attempt.get("map_index", -1),
        first_poke_at=_time(attempt.get("first_poke_at")),
        log_path=attempt.get("log_path"),
        push=report,
        test_mode=test_mode,
    )
    os.environ.update(ti.environment())  # for what the task starts, and for functions that look there
    ti.deferral = attempt.get("deferral")
    ti.triggers_inline = triggers_inline
    ti.keep_rendered = keep_rendered
    context = contexts.Context(ti)
    if kind == "trigger":
        from opskit.core.dag import deferral_frames

        assert ti.deferral is not None
        with context:
            if task.is_mapped:
                ti.task = task.unmap(context)
            return Outcome(SUCCESS, event=deferral_frames.wait(ti.deferral, context))
    if kind in ("on_failure_callback", "on_retry_callback"):
        context["exception"] = AirflowException(reason or "the process of the task has ended")
        ti.state = FAILED if kind == "on_failure_callback" else "up_for_retry"
        with context:
            problem = _call_all(getattr(task, kind), kind, context)
            _tell_by_mail(task, ti, context)
        return Outcome(SUCCESS, reason=problem)
    with context, _Handling(signal.SIGTERM, _terminator(ti)):
        return _attempt(ti, context)


def _attempt(ti: RuntimeTaskInstance, context: contexts.Context) -> Outcome:
    """Run the task and its callbacks. The outcome stands before the callbacks start: they can't change it."""
    task = ti.task
    _tell_listeners("running", "queued", ti)
    try:
        if task.is_mapped:
            task = ti.task = task.unmap(context)
        result = _run_task(task, context)
        _push_result(task, ti, result)
        _name_instance(task, ti, context)
        events = _asset_events(task, context, result)
    except TaskDeferred as deferred:
        return _deferred(task, ti, deferred, context)
    except BaseException as error:  # noqa: BLE001 - whatever task code raises is its outcome
        outcome = _by_policy(_failed_outcome(ti, error), error, ti, context)
        if outcome.state != SKIPPED:
            context["exception"] = error
        with suppress(Exception):  # the error of the task counts, not that of its name
            _name_instance(task, ti, context)
    else:
        outcome = Outcome(SUCCESS, xcoms=list(ti.pushed.items()), skip=_skipped(task, ti), events=events)
    return _ended(outcome, task, ti, context)


def _ended(outcome: Outcome, task: BaseOperator, ti: RuntimeTaskInstance, context: contexts.Context) -> Outcome:
    ti._end_date = datetime.now(UTC)
    ti.state = outcome.state
    if task.operator_extra_links and ti.dialect == 3:
        from opskit.core.dag import operator_links

        operator_links.push(task, ti)
    if ti.rendered_map_index is not None:
        outcome = replace(outcome, rendered_map_index=ti.rendered_map_index)
    _tell_listeners(outcome.state, "running", ti, context.get("exception"))
    if outcome.state == SUCCESS:
        _call_all(task.on_success_callback, "on_success_callback", context)
    elif outcome.state == SKIPPED:
        _call_all(task.on_skipped_callback, "on_skipped_callback", context)
    elif outcome.state == FAILED:
        if outcome.retry and ti.is_eligible_to_retry:
            ti.state = "up_for_retry"
            _call_all(task.on_retry_callback, "on_retry_callback", context)
        else:
            _call_all(task.on_failure_callback, "on_failure_callback", context)
        _tell_by_mail(task, ti, context)
    # What callbacks have pushed is kept, too.
    pushed = list(ti.pushed.items())
    return outcome if pushed == outcome.xcoms else replace(outcome, xcoms=pushed)


def _tell_listeners(state: str, before: str, ti: RuntimeTaskInstance, error: Any = None) -> None:
    """What listeners of plugins want to hear of a task instance: that it runs, and how that ended."""
    manager = plugins.listener_manager()
    if manager.has_listeners:
        manager.tell(f"on_task_instance_{state}", previous_state=before, task_instance=ti, error=error, session=None)


def _run_task(task: BaseOperator, context: contexts.Context) -> Any:
    task.render_template_fields(context)
    ti = context["ti"]
    if ti.keep_rendered is not None and RENDERED in task.__dict__:
        ti.keep_rendered({name: getattr(task, name, None) for name in task.template_fields})
    if ti.deferral is not None:
        from opskit.core.dag import deferral_frames

        return _run_step(task, context, deferral_frames.resume, ti.deferral, task, context)
    if task.start_from_trigger:
        from opskit.core.dag import deferral

        first = deferral.first_deferral(task)
        if not ti.triggers_inline:
            raise first
        return _run_deferred(task, context, first)
    try:
        return _run_step(task, context, task.execute, context)
    except TaskDeferred as deferred:
        if not ti.triggers_inline:
            raise
        return _run_deferred(task, context, deferred)


def _run_step(task: BaseOperator, context: contexts.Context, function: Callable[..., Any], *arguments: Any) -> Any:
    task.pre_execute(context)
    _call_all(task.on_execute_callback, "on_execute_callback", context)
    result = _limited(task, 0.0, function, *arguments)
    task.post_execute(context, result)
    return result


def _limited(task: BaseOperator, spent: float, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it within what is left of the task's execution_timeout after `spent` seconds."""
    if task.execution_timeout is None:
        return function(*arguments)
    with _time_limit(task.execution_timeout.total_seconds() - spent, task):
        return function(*arguments)


def _deferred(
    task: BaseOperator, ti: RuntimeTaskInstance, deferred: TaskDeferred, context: contexts.Context
) -> Outcome:
    """The task lets go of its slot until its trigger has fired."""
    from opskit.core.dag import deferral_frames

    left = None
    if task.execution_timeout is not None:
        left = max(task.execution_timeout.total_seconds() - ti.duration, 0.0)
    try:
        packed = deferral_frames.pack(deferred, left)
    except Exception as error:  # noqa: BLE001 - what it defers to is the author's code
        context["exception"] = error
        return _ended(_failed_outcome(ti, error), task, ti, context)
    _log().info("Pausing task as DEFERRED until %s", packed["class"].rpartition(":")[2])
    ti.state = DEFERRED
    return Outcome(DEFERRED, xcoms=list(ti.pushed.items()), deferral=packed)


def _run_deferred(task: BaseOperator, context: contexts.Context, deferred: TaskDeferred) -> Any:
    """Wait for the trigger and go on, as often as the task defers. Its execution_timeout holds for all the waiting, and
    for each of its methods."""
    import time

    from opskit.core.dag import deferral

    started = time.monotonic()
    while True:
        try:
            method, kwargs = _limited(task, time.monotonic() - started, deferral.wait, deferred, context)
        except deferral.Ended:
            return None
        try:
            return _run_step(task, context, task.resume_execution, method, kwargs, context)
        except TaskDeferred as again:
            deferred = again


def _push_result(task: BaseOperator, ti: RuntimeTaskInstance, result: Any) -> None:
    if ti.map_index < 0:
        _check_mappable(task, result if task.do_xcom_push else None)
    if result is None or not task.do_xcom_push:
        return
    if task.multiple_outputs:
        if not isinstance(result, Mapping):
            raise AirflowException(
                f"the task returned {type(result).__name__}, but multiple_outputs needs a dict with texts as keys"
            )
        for key in result:
            if not isinstance(key, str):
                raise AirflowException(f"multiple_outputs: the key {key!r} is {type(key).__name__}, a text is needed")
        for key, value in result.items():
            ti.xcom_push(key, value)
    ti.xcom_push(XCOM_RETURN_KEY, result)


def _by_policy(outcome: Outcome, error: BaseException, ti: RuntimeTaskInstance, context: contexts.Context) -> Outcome:
    """The outcome as the task's retry policy wants it."""
    policy = ti.task.retry_policy
    if policy is None or outcome.state != FAILED or not outcome.retry:
        return outcome
    from opskit.core.dag.retry_policy import RetryAction, ask

    decision = ask(policy, error, ti, context)
    if decision.action is RetryAction.FAIL:
        return replace(outcome, retry=False)
    if decision.action is RetryAction.RETRY and decision.retry_delay is not None:
        return replace(outcome, retry_delay=decision.retry_delay.total_seconds())
    return outcome


def _name_instance(task: BaseOperator, ti: RuntimeTaskInstance, context: contexts.Context) -> None:
    """Render map_index_template, which may use what the task has put into its context."""
    if task.map_index_template is None or ti.map_index < 0 or task.is_mapped:
        return
    ti.rendered_map_index = str(task.render_template(task.map_index_template, context))


def _skipped(task: BaseOperator, ti: RuntimeTaskInstance) -> list[str]:
    """What a branch or short circuit skips: never a teardown."""
    dag = task.get_dag()
    known = dag.task_dict if dag is not None else {}
    return sorted(
        task_id for task_id in ti.skip_downstream if (below := known.get(task_id)) is None or not below.is_teardown
    )


def _check_mappable(task: BaseOperator, result: Any) -> None:
    """AirflowException when another task is mapped over this result, and can't be."""
    if result is not None and isinstance(result, (list, dict)):
        return
    dag = task.get_dag()
    if dag is None or task.task_id not in dag.mapped_over:
        return
    if result is None:
        raise XComForMappingNotPushed("did not push XCom for task mapping")
    if not isinstance(result, Sequence) or isinstance(result, (str, bytes, bytearray)):
        raise UnmappableXComTypePushed(f"unmappable return type {type(result).__qualname__!r}")


def _asset_events(task: BaseOperator, context: contexts.Context, result: Any) -> list[dict[str, Any]]:
    if not task.outlets and not task.inlets and "opskit.core.dag.assets" not in sys.modules:
        return []
    from opskit.core.dag.asset_outlets import after_success

    return after_success(task, context, result)


def _failed_outcome(ti: RuntimeTaskInstance, error: BaseException) -> Outcome:
    xcoms = list(ti.pushed.items())
    text = str(error)
    if isinstance(error, AirflowSkipException):
        _log().info("Skipping task. %s", text)
        return Outcome(SKIPPED, reason=text or None, xcoms=xcoms)
    if isinstance(error, AirflowRescheduleException):
        _log().info("Rescheduling task, marking task as UP_FOR_RESCHEDULE until %s", error.reschedule_date)
        at = error.reschedule_date.astimezone(UTC)
        return Outcome(UP_FOR_RESCHEDULE, reschedule_at=at, xcoms=xcoms)
    reusable = isinstance(error, Exception)
    if isinstance(error, SystemExit):
        reason = f"the task called sys.exit({error.code!r})"
    elif isinstance(error, AirflowTaskTimeout | AirflowTaskTerminated):
        reason = text
    else:
        reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    _log().error("Task failed: %s", reason, exc_info=(type(error), error, _user_frames(error)))
    retry = not isinstance(error, (AirflowFailException, AirflowSensorTimeout))
    return Outcome(FAILED, retry=retry, reason=reason, xcoms=xcoms, reusable=reusable)


def _user_frames(error: BaseException) -> Any:
    """The traceback from the first frame outside of the authoring model on: those before say nothing about the task.
    All of it when there is none, as for an operator's own complaint."""
    own = os.path.dirname(__file__)
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(own):
        frames = frames.tb_next
    return frames if frames is not None else error.__traceback__


def _dag_context(dag: DAG, dag_run: DagRun, reason: str | None, success: bool) -> Any:
    """The context of a DAG-level callback: as in Airflow that of one of its task instances, a failed one if any."""
    tasks = dag.topological_sort()
    if not tasks:
        return {"dag": dag, "dag_run": dag_run, "run_id": dag_run.run_id, "reason": reason}
    store = runtime.current_store()
    states = store.task_states(dag.dag_id, dag_run.run_id) if store is not None else {}
    wanted = SUCCESS if success else FAILED
    found = [key for key, state in states.items() if state == wanted and key[0] in dag.task_dict]
    task_id, map_index = found[-1] if found else (tasks[-1].task_id, -1)
    ti = RuntimeTaskInstance(dag.task_dict[task_id], dag_run, map_index=map_index)
    ti.state = states.get((task_id, map_index))
    context = contexts.Context(ti)
    context["reason"] = reason
    return context


def _call_all(callbacks: Callbacks, name: str, context: Any) -> str | None:
    """Call each; one that fails is logged and stops neither the others nor the task. Texts of what went wrong."""
    if not callbacks:
        return None
    problems: list[str] = []
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        try:
            callback(context)
        except BaseException as error:  # noqa: BLE001 - even sys.exit() in a callback must not change the outcome
            _log().exception("Error when executing %s", name)
            problems.append(f"{name}: {type(error).__name__}: {error}")
    return "; ".join(problems) or None


def _tell_by_mail(task: BaseOperator, ti: RuntimeTaskInstance, context: Any) -> None:
    """The mail of a task with `email=`, which has failed or will be tried again."""
    if task.email:
        from opskit.core.dag import mail

        mail.tell_of_failure(ti, context["exception"], again=ti.state == "up_for_retry")


def _terminator(ti: RuntimeTaskInstance) -> _Handler:
    """A handler of SIGTERM: ends the task with AirflowTaskTerminated, after its on_kill."""
    pid = os.getpid()

    def terminate(signum: int, _: Any) -> None:
        if os.getpid() != pid:
            # A process that the task has forked: it knows nothing of on_kill and just ends.
            os._exit(128 + signum)
        set_handler(signal.SIGTERM, IGNORE)
        _log().error("Received SIGTERM. Terminating subprocesses.")
        _kill(ti.task)
        raise AirflowTaskTerminated("Task received SIGTERM signal")

    return terminate


@contextmanager
def _time_limit(seconds: float, task: BaseOperator) -> Iterator[None]:
    """AirflowTaskTimeout when the block takes longer; the task's on_kill is called first."""
    if seconds <= 0:
        raise AirflowTaskTimeout(f"execution_timeout of {seconds:g} s is over before the task started")

    def stop(*_: Any) -> None:
        _kill(task)
        raise AirflowTaskTimeout(f"execution_timeout of {seconds:g} s is over")

    with _Handling(signal.SIGALRM, stop):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


class _Handling:
    """While the block runs, this handler has the signal."""

    __slots__ = ("_before", "_handler", "_number")

    def __init__(self, number: int, handler: _Handler) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a task must run in the main thread: signals reach no other")
        self._number = number
        self._handler = handler

    def __enter__(self) -> None:
        self._before = set_handler(self._number, self._handler)

    def __exit__(self, *_: object) -> None:
        set_handler(self._number, self._before)


def _kill(task: BaseOperator) -> None:
    try:
        task.on_kill()
    except Exception:  # noqa: BLE001 - the attempt ends anyway
        _log().exception("Error in on_kill")


def _dag_run(dag: DAG, attempt: Mapping[str, Any], run: Mapping[str, Any], test_mode: bool) -> DagRun:
    logical_date = _time(run["logical_date"])
    assert logical_date is not None
    return DagRun(
        RunInfo(
            dag_id=dag.dag_id,
            run_id=attempt["run_id"],
            run_type=run["run_type"],
            state="running",
            logical_date=logical_date,
            data_interval_start=_time(run.get("data_interval_start")) or logical_date,
            data_interval_end=_time(run.get("data_interval_end")) or logical_date,
            conf=dict(run.get("conf") or {}),
            start_date=_time(run.get("start_date")),
            partition_key=run.get("partition_key"),
            partition_date=_time(run.get("partition_date")),
        ),
        dag,
        id=(attempt.get("key") or (None,))[0],
        # In Airflow 2 the run of a dag.test() does not count as one that someone has triggered.
        external_trigger=run["run_type"] == "manual" and not (test_mode and dag.dialect == 2),
    )


def _time(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value)


def _log() -> logging.Logger:
    import logging

    return logging.getLogger("airflow.task")
