"""Verbs as processes: shared, bounded, ended. A small program stands for `opskit` here; the real one is asked in
tests/integration/web."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opskit import config as settings
from opskit.errors import LockHeld, NotFound, OpskitError, UsageError
from opskit.system.processes import process_state
from opskit.web.job_files import JobFiles
from opskit.web.job_runner import JobRunner, this_process
from opskit.web.verb_list import VERBS, Verb
from opskit.web.verbs import Job, Verbs
from tests.waiting import wait_until

PROGRAM = """
import json, os, signal, subprocess, sys, time
words = sys.argv[1:]
what = sys.argv[1]
open(os.environ["OPSKIT_HOME"] + "/calls", "a").write(json.dumps(words) + "\\n")
if what == "doctor":
    print("looking", file=sys.stderr)
    print(json.dumps({"words": words, "nice": os.nice(0), "notify": os.environ.get("NOTIFY_SOCKET")}))
    sys.exit(4)
if what == "dags-drift":
    child = subprocess.Popen(["sleep", "100"])
    print("begun", child.pid, file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    time.sleep(100)
if what == "backup":
    print("x" * 3000)
if what == "drill":
    print("no store", file=sys.stderr)
    sys.exit(13)
if what == "permissions":
    sys.stdout.write("[" + "1," * 5_000_000)
    sys.stdout.flush()
    time.sleep(100)
"""
Make = Callable[[], Verbs]


@pytest.fixture
def verbs(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Verbs]:
    program = home / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    made = Verbs(settings.load(), (sys.executable, "-S", str(program)))
    yield made
    made.close()


@pytest.fixture
def workers(home: Path) -> Iterator[tuple[Verbs, Verbs]]:
    """Of two processes of a webserver that has another one for jobs."""
    program = home / "program.py"
    program.write_text(PROGRAM)
    config = settings.load()
    runner = JobRunner(
        JobFiles(config.run_folder), home, config.run_folder, (sys.executable, "-S", str(program)), stays=True
    )
    runner.look()
    yield Verbs(config, webserver=this_process()), Verbs(config, webserver=this_process())
    runner.close()


def calls(home: Path) -> int:
    path = home / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def ended(verbs: Verbs, job: Job) -> Job:
    return verbs.wait(job.id, 30)


def test_a_verb_is_asked_by_its_door_with_low_priority_and_its_report_is_kept(verbs: Verbs) -> None:
    job = ended(verbs, verbs.start("doctor", by="ann"))
    assert (job.state, job.exit_code, job.message) == ("done", 4, "looking")
    assert job.report == {"words": ["doctor", "--output", "json"], "nice": os.nice(0) + 10, "notify": None}
    assert (job.command, job.by) == ("opskit doctor", "ann")
    assert verbs.newest("doctor") == job


def test_those_who_ask_for_the_same_share_one_run(verbs: Verbs, home: Path) -> None:
    first = verbs.start("dags-drift", by="ann")
    assert verbs.start("dags-drift", by="bob").id == first.id
    assert verbs.under_way("dags-drift") is not None
    assert verbs.jobs()[0].by == "ann"
    wait_until(lambda: calls(home) == 1)


def test_an_answer_of_a_moment_ago_is_given_again_and_an_old_one_is_asked_anew(verbs: Verbs, home: Path) -> None:
    first = verbs.answer("doctor", fresh_for=60, patience=30)
    assert verbs.answer("doctor", fresh_for=60, patience=30) == first
    assert calls(home) == 1
    assert verbs.answer("doctor", fresh_for=0, patience=30).id != first.id


def test_a_failed_question_is_not_asked_again_at_once(verbs: Verbs, home: Path) -> None:
    job = verbs.answer("drill", "latest", fresh_for=60, patience=30)
    assert (job.state, job.exit_code, job.message) == ("failed", 13, "no store")
    assert verbs.answer("drill", "latest", fresh_for=60, patience=30).id == job.id
    assert verbs.newest("drill", "latest") is None
    assert calls(home) == 1


def test_output_that_is_no_json_is_a_failure(verbs: Verbs) -> None:
    job = ended(verbs, verbs.start("backup"))
    assert (job.state, job.report) == ("failed", None)
    assert "its output is no JSON" in job.message


def test_stopping_a_job_ends_all_its_processes(verbs: Verbs) -> None:
    job = verbs.start("dags-drift")
    child = int(wait_until(lambda: verbs.job(job.id).message.split()[1:])[0])
    verbs.stop(job.id)
    job = ended(verbs, job)
    assert (job.state, job.exit_code) == ("failed", 143)
    wait_until(lambda: _is_gone(child))


def test_what_one_process_starts_another_sees_shares_and_stops(workers: tuple[Verbs, Verbs], home: Path) -> None:
    one, other = workers
    before = other.generation()
    job = one.start("dags-drift", by="ann")
    assert other.start("dags-drift", by="bob").id == job.id
    assert other.generation() > before
    child = int(wait_until(lambda: other.job(job.id).message.split()[1:])[0])
    assert [seen.id for seen in other.jobs()] == [job.id]
    other.stop(job.id)
    assert one.wait(job.id, 30).exit_code == 143
    wait_until(lambda: _is_gone(child))
    answer = one.answer("doctor", fresh_for=60, patience=30)
    assert (answer.state, other.answer("doctor", fresh_for=60)) == ("done", answer)
    assert calls(home) == 2


def test_a_job_whose_process_was_killed_with_its_webserver_has_failed(verbs: Verbs, home: Path) -> None:
    begun = textwrap.dedent(f"""
        import sys, time
        from opskit import config
        from opskit.web.verbs import Verbs
        verbs = Verbs(config.load(), (sys.executable, "-S", {str(home / "program.py")!r}))
        verbs.start("dags-drift", by="ann")
        verbs.start("backup")
        for name in ("watchdog", "permissions-check", "doctor"):
            verbs.start(name)
        time.sleep(100)
    """)
    with subprocess.Popen([sys.executable, "-c", begun]) as other:
        try:
            wait_until(lambda: len(verbs.jobs()) == 5, 30)
            child = int(wait_until(lambda: verbs.jobs()[-1].message.split()[1:])[0])
        finally:
            other.kill()
    wait_until(lambda: all(job.has_ended for job in verbs.jobs()), 30)
    drift = verbs.last("dags-drift")
    assert drift is not None
    assert (drift.state, drift.by) == ("failed", "ann")
    assert "the process that ran it has ended" in drift.message
    assert _is_gone(child)


def test_a_file_that_is_no_job_harms_nobody(verbs: Verbs, home: Path) -> None:
    job = ended(verbs, verbs.start("doctor"))
    (home / "run" / "jobs" / "00.1.json").write_text('{"id": "00"')
    (home / "run" / "jobs" / ".0a.2.json").write_text("")
    (home / "run" / "jobs" / "lock").write_text("")  # the machine has stopped meanwhile
    assert [one.id for one in Verbs(settings.load()).jobs()] == [job.id]


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return process_state(pid, 0.0) == "gone"


def test_a_verb_that_prints_without_end_or_takes_too_long_is_ended(
    verbs: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ended(verbs, verbs.start("permissions-check"))
    assert (job.state, job.exit_code) == ("failed", -15)
    assert "more than 4 MiB" in job.message
    slow = Verb("dags-drift", ("dags-drift",), "", 0.3)
    monkeypatch.setitem(VERBS, "dags-drift", slow)
    job = ended(verbs, verbs.start("dags-drift"))
    assert job.state == "failed"
    assert "it took more than 0.3 s, and was ended" in job.message


def test_two_run_at_once_the_others_wait_and_too_many_are_refused(
    verbs: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(11):
        name = f"slow-{number}"
        monkeypatch.setitem(VERBS, name, Verb(name, ("dags-drift",), "", 60))
    jobs = [verbs.start(f"slow-{number}") for number in range(10)]
    states = [verbs.job(job.id).state for job in jobs]
    assert states == ["running"] * 2 + ["queued"] * 8
    with pytest.raises(LockHeld, match="wait already"):
        verbs.start("slow-10")
    assert verbs.stop(jobs[9].id).message == "it was stopped before it began"
    verbs.stop(jobs[0].id)
    wait_until(lambda: verbs.job(jobs[2].id).state == "running")


@pytest.mark.parametrize("parameter", ["", "--yes", "20260101T000000Z-00000000 --yes", "../x", "latest\n"])
def test_nothing_but_the_id_of_a_backup_reaches_a_command_line(verbs: Verbs, parameter: str, home: Path) -> None:
    with pytest.raises(UsageError, match="is no id of a backup"):
        verbs.start("restore-plan", parameter)
    with pytest.raises(NotFound, match="can't be run from here"):
        verbs.start("restore")
    assert calls(home) == 0


def test_nothing_that_can_be_started_replaces_or_removes() -> None:
    for verb in VERBS.values():
        words = verb.words
        if words[0] in ("restore", "logs", "db"):
            assert {"--plan", "--dry-run", "status"} & set(words), words
        assert not {"--yes", "--repair", "fix", "--force"} & set(words)


def test_a_long_one_holds_up_no_short_one_and_nothing_holds_up_reading(
    verbs: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds, starts in (("a", 7200, True), ("b", 7200, True), ("c", 60, True), ("d", 60, True)):
        monkeypatch.setitem(VERBS, name, Verb(name, ("dags-drift",), "", seconds, may_be_started=starts))
    monkeypatch.setitem(VERBS, "list", Verb("list", ("doctor",), "", 60, may_be_started=False))
    states = {name: verbs.job(verbs.start(name).id).state for name in ("a", "b", "c", "d")}
    assert states == {"a": "running", "b": "queued", "c": "running", "d": "running"}
    assert ended(verbs, verbs.start("list")).state == "done"


def test_whoever_shows_jobs_hears_that_one_has_ended(verbs: Verbs) -> None:
    before = verbs.generation()
    job = verbs.start("doctor")
    begun = verbs.generation()
    assert begun > before
    ended(verbs, job)
    assert verbs.generation() > begun


def test_a_folder_that_can_not_be_used_is_named_and_is_no_change(verbs: Verbs, home: Path) -> None:
    (home / "run").mkdir(exist_ok=True)
    (home / "run" / "jobs").write_text("")
    with pytest.raises(OpskitError, match=r"run/jobs can't be made"):
        verbs.start("doctor")
    with pytest.raises(OpskitError, match=r"jobs can't be kept in .*run/jobs: Not a directory"):
        verbs.jobs()
    assert verbs.generation() == 0
    assert calls(home) == 0
