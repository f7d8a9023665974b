"""The life of one attempt: outcomes, callbacks, timeouts, signals."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG, TaskGroup
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from opskit.core.dag.execution import Outcome, execute
from opskit.core.dag.operators.branch import tasks_to_skip
from opskit.core.dag.runtime import MemoryStore, RunInfo
from opskit.errors import NotFound
from opskit.operators import (
    BashOperator,
    BranchPythonOperator,
    EmptyOperator,
    LatestOnlyOperator,
    PythonOperator,
    ShortCircuitOperator,
    TriggerDagRunOperator,
)
from tests.waiting import wait_until

Attempt = Callable[..., Outcome]


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule="@daily", start_date=datetime(2024, 1, 1, tzinfo=UTC)) as opened:
        yield opened


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


def python(function: Callable[..., Any], **arguments: Any) -> PythonOperator:
    return PythonOperator(task_id="t", python_callable=function, **arguments)


def test_what_a_task_returns_is_pushed(dag: DAG, attempt: Attempt) -> None:
    python(lambda: {"a": (1, 2)})
    outcome = attempt(dag, "t")
    assert outcome.state == "success"
    assert json.loads(json.dumps(outcome.fields()["xcoms"]))[0][0] == "return_value"


def test_none_is_not_pushed_and_pushing_can_be_switched_off(dag: DAG, attempt: Attempt) -> None:
    python(lambda: None)
    PythonOperator(task_id="off", python_callable=lambda: 1, do_xcom_push=False)
    assert attempt(dag, "t").xcoms == []
    assert attempt(dag, "off").xcoms == []


def test_a_value_that_can_not_be_stored_fails_the_task(dag: DAG, attempt: Attempt) -> None:
    python(object)
    outcome = attempt(dag, "t")
    assert outcome.state == "failed"
    assert "builtins.object can't be stored" in str(outcome.reason)


def test_multiple_outputs_need_a_dict(dag: DAG, attempt: Attempt) -> None:
    python(lambda: {"a": 1, "b": 2}, multiple_outputs=True)
    PythonOperator(task_id="no", python_callable=lambda: [1], multiple_outputs=True)
    assert dict(attempt(dag, "t").xcoms) == {"a": 1, "b": 2, "return_value": {"a": 1, "b": 2}}
    assert attempt(dag, "no").state == "failed"


@pytest.mark.parametrize(
    ("error", "state", "retry", "reason"),
    [
        (ValueError("bad"), "failed", True, "ValueError: bad"),
        (KeyError(), "failed", True, "KeyError"),
        (AirflowFailException("enough"), "failed", False, "AirflowFailException: enough"),
        (AirflowSkipException("not today"), "skipped", True, "not today"),
        (SystemExit(3), "failed", True, "the task called sys.exit(3)"),
        (KeyboardInterrupt(), "failed", True, "KeyboardInterrupt"),
    ],
    ids=repr,
)
def test_an_exception_becomes_the_outcome(
    dag: DAG, attempt: Attempt, error: BaseException, state: str, retry: bool, reason: str
) -> None:
    python(raising(error))
    outcome = attempt(dag, "t")
    assert (outcome.state, outcome.retry, outcome.reason) == (state, retry, reason)
    assert outcome.reusable is isinstance(error, Exception)


def test_a_reschedule_says_when(dag: DAG, attempt: Attempt) -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    python(raising(AirflowRescheduleException(at)))
    outcome = attempt(dag, "t")
    assert (outcome.state, outcome.reschedule_at) == ("up_for_reschedule", at)
    assert outcome.fields()["reschedule_at"] == "2030-01-01T00:00:00+00:00"


def test_pushes_before_a_failure_are_kept(dag: DAG, attempt: Attempt) -> None:
    def run(ti: Any) -> None:
        ti.xcom_push("k", 1)
        raise ValueError

    python(run)
    assert attempt(dag, "t").xcoms == [("k", 1)]


def test_a_task_that_is_gone_fails_without_another_try(dag: DAG, attempt: Attempt) -> None:
    outcome = attempt(dag, "gone")
    assert (outcome.state, outcome.retry) == ("failed", False)
    assert "'gone'" in str(outcome.reason)


def test_the_log_shows_the_tasks_own_frames(dag: DAG, attempt: Attempt, caplog: pytest.LogCaptureFixture) -> None:
    python(lambda: 1 / 0)
    attempt(dag, "t")
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    text = logging.Formatter().format(record)
    assert "1 / 0" in text
    assert "core/dag" not in text


def test_callbacks_follow_the_outcome(dag: DAG, attempt: Attempt) -> None:
    called: list[str] = []

    def note(name: str) -> Callable[[Any], None]:
        return lambda context: called.append(f"{name}:{context['ti'].state}:{context['exception']}")

    callbacks: Any = {
        f"on_{name}_callback": note(name) for name in ("execute", "success", "failure", "retry", "skipped")
    }
    for task_id, function in (
        ("good", lambda: None),
        ("bad", raising(ValueError("x"))),
        ("final", raising(AirflowFailException("y"))),
        ("skip", raising(AirflowSkipException("z"))),
    ):
        PythonOperator(task_id=task_id, python_callable=function, retries=1, **callbacks)

    def run(task_id: str, **values: Any) -> list[str]:
        called.clear()
        attempt(dag, task_id, max_tries=1, **values)
        return called[1:] if called[0] == "execute:running:None" else called

    assert run("good") == ["success:success:None"]
    assert run("bad") == ["retry:up_for_retry:x"]
    assert run("bad", try_number=2) == ["failure:failed:x"]
    assert run("final") == ["failure:failed:y"]
    assert run("skip") == ["skipped:skipped:None"]  # as in Airflow: a skip is no exception to a callback


def test_a_failing_callback_changes_nothing_and_stops_no_other(dag: DAG, attempt: Attempt) -> None:
    called: list[int] = []
    wrong_arity: Any = lambda: None  # noqa: E731
    python(lambda: 1, on_success_callback=[wrong_arity, raising(SystemExit(1)), lambda _: called.append(1)])
    assert attempt(dag, "t").state == "success"
    assert called == [1]


def test_callbacks_of_a_task_whose_process_died_know_the_reason(dag: DAG, attempt: Attempt) -> None:
    seen: list[str] = []
    python(lambda: 1, on_failure_callback=lambda context: seen.append(f"{context['ti'].state} {context['exception']}"))
    outcome = attempt(dag, "t", kind="on_failure_callback", reason="killed by SIGSEGV")
    assert seen == ["failed killed by SIGSEGV"]
    assert outcome.state == "success"


def test_dag_callbacks_get_the_context_of_a_task_instance_and_the_reason(attempt: Attempt, store: MemoryStore) -> None:
    seen: list[Any] = []
    broken: Any = lambda: None  # noqa: E731
    with DAG("d", on_success_callback=seen.append, on_failure_callback=[broken, seen.append]) as dag:
        EmptyOperator(task_id="bad") >> EmptyOperator(task_id="t")
    at = datetime(2024, 3, 1, tzinfo=UTC)
    store.add_run(RunInfo("d", "scheduled__2024-03-01", "scheduled", "failed", at, at, at, {}))
    store.states["d", "scheduled__2024-03-01"] = {("bad", -1): "failed", ("t", -1): "upstream_failed"}
    assert attempt(dag, "", kind="dag_on_success_callback", reason="success").reason is None
    assert attempt(dag, "", kind="dag_on_failure_callback", reason="task_failure").reason is not None
    assert [context["reason"] for context in seen] == ["success", "task_failure"]
    assert seen[0]["run_id"] == "scheduled__2024-03-01"
    found = [(context["ti"].task_id, context["ti"].state) for context in seen]
    assert found == [("t", "upstream_failed"), ("bad", "failed")]
    assert (seen[1]["ds"], seen[1]["dag"]) == ("2024-03-01", dag)


def test_hooks_around_execute_are_called(dag: DAG, attempt: Attempt) -> None:
    called: list[str] = []

    class Both(BaseOperator):
        def pre_execute(self, context: Any) -> None:
            super().pre_execute(context)
            called.append("pre")

        def execute(self, context: Any) -> int:
            called.append("execute")
            return 5

        def post_execute(self, context: Any, result: Any = None) -> None:
            super().post_execute(context, result)
            called.append(f"post {result}")

    Both(task_id="t", pre_execute=lambda _: called.append("given"))
    attempt(dag, "t")
    assert called == ["given", "pre", "execute", "post 5"]


def test_a_timeout_ends_the_task_even_through_a_broad_except(dag: DAG, attempt: Attempt) -> None:
    killed: list[int] = []

    class Stubborn(BaseOperator):
        def execute(self, context: Any) -> None:
            while True:
                try:
                    time.sleep(60)
                except Exception:  # noqa: BLE001
                    pass

        def on_kill(self) -> None:
            killed.append(1)

    Stubborn(task_id="t", execution_timeout=timedelta(milliseconds=50))
    outcome = attempt(dag, "t")
    assert (outcome.state, outcome.retry) == ("failed", True)
    assert outcome.reason == "execution_timeout of 0.05 s is over"
    assert killed == [1]
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_task_within_its_timeout_is_left_alone(dag: DAG, attempt: Attempt) -> None:
    python(lambda: 1, execution_timeout=timedelta(seconds=60))
    before = signal.getsignal(signal.SIGALRM)
    assert attempt(dag, "t").state == "success"
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_sigterm_calls_on_kill_and_ends_the_task(dag: DAG, attempt: Attempt) -> None:
    called: list[str] = []

    class Killed(BaseOperator):
        def execute(self, context: Any) -> None:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            finally:
                called.append("finally")

        def on_kill(self) -> None:
            called.append("on_kill")
            raise ValueError("a failing on_kill does not matter")

    before = signal.getsignal(signal.SIGTERM)
    Killed(task_id="t", on_failure_callback=lambda _: called.append("callback"))
    outcome = attempt(dag, "t")
    assert (outcome.state, outcome.reason, outcome.reusable) == ("failed", "Task received SIGTERM signal", False)
    assert called == ["on_kill", "finally", "callback"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_task_needs_the_main_thread(dag: DAG, attempt: Attempt) -> None:
    """Signals reach no other thread: without them timeouts would silently not work."""
    python(lambda: 1)
    errors: list[str] = []

    def run() -> None:
        try:
            attempt(dag, "t")
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "main thread" in errors[0]


def test_bash_gives_its_last_line_and_keeps_its_environment(dag: DAG, attempt: Attempt, tmp_path: Path) -> None:
    os.environ["FROM_OUTSIDE"] = "seen"
    BashOperator(task_id="plain", bash_command="echo first; echo $FROM_OUTSIDE $AIRFLOW_CTX_TASK_ID")
    BashOperator(task_id="replaced", bash_command='echo "$FROM_OUTSIDE|$X"', env={"X": "{{ ds }}"})
    BashOperator(task_id="added", bash_command='echo "$FROM_OUTSIDE|$X"', env={"X": "1"}, append_env=True)
    BashOperator(task_id="cwd", bash_command="pwd", cwd=str(tmp_path))
    BashOperator(task_id="latin", bash_command=r"printf 'caf\351\n'", output_encoding="latin-1")
    BashOperator(task_id="quiet", bash_command="true")
    try:
        found = {task_id: dict(attempt(dag, task_id).xcoms).get("return_value") for task_id in dag.task_ids}
    finally:
        del os.environ["FROM_OUTSIDE"]
    assert found == {
        "plain": "seen plain", "replaced": "|2024-03-01", "added": "seen|1", "cwd": str(tmp_path), "latin": "café",
        "quiet": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "arguments", "state"),
    [
        ("exit 0", {}, "success"),
        ("exit 99", {}, "skipped"),
        ("exit 1", {}, "failed"),
        ("exit 7", {"skip_on_exit_code": [7, 8]}, "skipped"),
        ("exit 99", {"skip_on_exit_code": None}, "failed"),
        ("kill -9 $$", {}, "failed"),
        ("true", {"cwd": "/dev/null/gone"}, "failed"),
        ("yes | head -1", {}, "success"),
    ],
)
def test_bash_exit_codes(dag: DAG, attempt: Attempt, command: str, arguments: dict[str, Any], state: str) -> None:
    BashOperator(task_id="t", bash_command=command, **arguments)
    assert attempt(dag, "t").state == state


def test_a_timeout_ends_the_whole_process_group_of_bash(dag: DAG, attempt: Attempt, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    BashOperator(
        task_id="t",
        bash_command=f"sleep 300 & echo $! > {pids}; wait",
        execution_timeout=timedelta(seconds=1),
    )
    assert attempt(dag, "t").state == "failed"
    sleeper = int(pids.read_text())
    wait_until(lambda: not Path(f"/proc/{sleeper}/cmdline").exists() or not _cmdline(sleeper), what="the sleeper's end")


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()  # empty for a zombie
    except OSError:
        return b""


def test_a_branch_skips_only_what_can_not_be_reached_otherwise(dag: DAG, attempt: Attempt) -> None:
    branch = BranchPythonOperator(task_id="branch", python_callable=lambda: "a")
    a, b, c, join = (EmptyOperator(task_id=name) for name in ("a", "b", "c", "join"))
    branch >> [a, b, c, join]
    a >> c
    [a, b] >> join
    assert attempt(dag, "branch").skip == ["b"]
    assert tasks_to_skip(branch, ["a", "b"]) == set()
    assert tasks_to_skip(branch, None) == {"a", "b", "c", "join"}
    assert tasks_to_skip(branch, []) == {"a", "b", "c", "join"}


def test_a_branch_may_choose_a_task_group(dag: DAG, attempt: Attempt) -> None:
    branch = BranchPythonOperator(task_id="branch", python_callable=lambda: ["g"])
    with TaskGroup("g") as g:
        EmptyOperator(task_id="a") >> EmptyOperator(task_id="b")
    branch >> [g, EmptyOperator(task_id="other")]
    assert attempt(dag, "branch").skip == ["other"]


@pytest.mark.parametrize("choice", ["nothere", ["a", "nothere"], 3])
def test_a_branch_to_nowhere_fails(dag: DAG, attempt: Attempt, choice: Any) -> None:
    BranchPythonOperator(task_id="branch", python_callable=lambda: choice) >> EmptyOperator(task_id="a")
    outcome = attempt(dag, "branch")
    assert (outcome.state, outcome.skip) == ("failed", [])


@pytest.mark.parametrize(("ignore", "skipped"), [(True, ["a", "b"]), (False, ["a"])])
def test_a_short_circuit_skips_what_follows(dag: DAG, attempt: Attempt, ignore: bool, skipped: list[str]) -> None:
    ShortCircuitOperator(
        task_id="gate", python_callable=lambda value: value, op_args=["{{ dag_run.conf.get('v', '') }}"],
        ignore_downstream_trigger_rules=ignore,
    ) >> EmptyOperator(task_id="a") >> EmptyOperator(task_id="b")  # fmt: skip
    assert attempt(dag, "gate").skip == skipped
    assert attempt(dag, "gate", conf={"v": "yes"}).skip == []


def test_latest_only_lets_old_runs_stop(dag: DAG, attempt: Attempt) -> None:
    LatestOnlyOperator(task_id="latest") >> EmptyOperator(task_id="a")
    assert attempt(dag, "latest").skip == ["a"]
    assert attempt(dag, "latest", run_type="manual").skip == []
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    frame = {
        "run_type": "scheduled", "logical_date": midnight - timedelta(days=1),
        "data_interval_start": midnight - timedelta(days=1), "data_interval_end": midnight,
    }  # fmt: skip
    assert execute(dag, {"task_id": "latest", "run_id": "r"}, frame).skip == []


def test_a_run_of_another_dag_is_triggered(dag: DAG, attempt: Attempt, store: MemoryStore) -> None:
    TriggerDagRunOperator(
        task_id="t", trigger_dag_id="other", conf={"day": "{{ ds }}"}, logical_date="{{ data_interval_end }}",
        trigger_run_id="for__{{ ds }}",
    )  # fmt: skip
    outcome = attempt(dag, "t")
    run = store.get_run("other", run_id="for__2024-03-01")
    assert run is not None
    assert (run.conf, run.logical_date) == ({"day": "2024-03-01"}, datetime(2024, 3, 2, tzinfo=UTC))
    assert ("trigger_run_id", "for__2024-03-01") in outcome.xcoms


def test_a_run_that_exists_fails_skips_or_is_reset(dag: DAG, attempt: Attempt, store: MemoryStore) -> None:
    for task_id, arguments in (
        ("first", {}),
        ("fails", {}),
        ("skips", {"skip_when_already_exists": True}),
        ("resets", {"reset_dag_run": True}),
    ):
        TriggerDagRunOperator(task_id=task_id, trigger_dag_id="other", trigger_run_id="r", **arguments)
    assert [attempt(dag, task_id).state for task_id in dag.task_ids] == ["success", "failed", "skipped", "success"]


@pytest.mark.parametrize(("state", "ends"), [("success", "success"), ("failed", "failed")])
def test_a_triggered_run_is_waited_for(
    dag: DAG, attempt: Attempt, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, state: str, ends: str
) -> None:
    trigger = store.trigger_dag_run

    def trigger_and_end(dag_id: str, **arguments: Any) -> RunInfo:
        run = trigger(dag_id, **arguments)
        threading.Timer(
            0.05, lambda: store.add_run(RunInfo(dag_id, run.run_id, "manual", state, *[run.logical_date] * 3, {}))
        ).start()
        return run

    monkeypatch.setattr(store, "trigger_dag_run", trigger_and_end)
    TriggerDagRunOperator(task_id="t", trigger_dag_id="other", wait_for_completion=True, poke_interval=0.01)
    assert attempt(dag, "t").state == ends


def test_triggering_an_unknown_dag_fails_with_its_name(dag: DAG, attempt: Attempt, store: MemoryStore) -> None:
    store.dag_ids = {"d"}
    TriggerDagRunOperator(task_id="t", trigger_dag_id="nothere", skip_when_already_exists=True)
    outcome = attempt(dag, "t")
    assert outcome.state == "failed"
    assert "nothere" in str(outcome.reason)
    with pytest.raises(NotFound):
        store.trigger_dag_run("nothere")


def test_timeouts_and_ends_are_no_exceptions() -> None:
    assert not issubclass(AirflowTaskTimeout, Exception)


def test_a_child_that_the_task_forked_just_ends_on_sigterm(dag: DAG, attempt: Attempt, tmp_path: Path) -> None:
    marker = tmp_path / "on_kill"

    class Forks(BaseOperator):
        def execute(self, context: Any) -> int:
            ready, tell = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(tell, b"x")  # Python forgets signals that come before its own work after a fork is done
                for _ in range(2000):
                    time.sleep(0.01)
                os._exit(0)
            os.read(ready, 1)
            os.close(ready)
            os.close(tell)
            os.kill(pid, signal.SIGTERM)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        def on_kill(self) -> None:
            marker.write_text("called")

    Forks(task_id="t")
    sys.stdout.flush()
    assert attempt(dag, "t").xcoms == [("return_value", 143)]
    assert not marker.exists()
