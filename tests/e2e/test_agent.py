"""`opskit agent` as a process: jobs run by themselves, whatever they do, and none is forgotten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.system import daemon
from tests.smtp import smtp_server
from tests.waiting import wait_until

Opskit = Callable[..., "subprocess.CompletedProcess[str]"]
AGENT = """
import json, sys
from opskit import config
from opskit.ops import agent
from opskit.ops.jobs import Job, parse_when
from opskit.telemetry import logs
logs.setup()
rows = json.loads(sys.argv[1])
jobs = [agent.Planned(Job(name, (script,), None, name, limit, 0, light), parse_when(when))
        for name, when, script, limit, light in rows]
sys.exit(agent.run(config.load(), jobs, ["/bin/sh", "-c"]))
"""
"""Jobs of the shell in place of the verbs."""


@contextmanager
def agent(home: Path, *jobs: tuple[str, str, str, int, bool]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, json.dumps(jobs)],
        env={**os.environ, "OPSKIT_HOME": str(home), "OPSKIT__AGENT__STOP_GRACE": "5"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def state(home: Path) -> dict[str, Any]:
    path = home / "run" / "agent.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"jobs": {}, "running": {}}
    return found


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def home_that_tells(home: Path, port: int) -> Path:
    """Alerts go to a mail server."""
    text = f'[alerts]\nemail_to = ["ops@example.org"]\n[smtp]\nsmtp_host = "127.0.0.1"\nsmtp_port = {port}\n'
    (home / "opskit.toml").write_text(text)
    return home


def test_jobs_run_again_and_again_and_none_holds_up_another(home: Path, opskit: Opskit, tmp_path: Path) -> None:
    assert "no agent runs here" in opskit("agent", "--check", check=False).stderr
    good, at_work = tmp_path / "good", tmp_path / "at-work"
    busy = f"mkdir {at_work} || echo overlap >> {tmp_path / 'overlaps'}; sleep 0.2; rmdir {at_work}"
    with (
        smtp_server() as mailbox,
        agent(
            home_that_tells(home, mailbox.port),
            ("good", "every second", f"echo x >> {good}", 60, True),
            ("bad", "every second", "exit 7", 60, True),
            ("endless", "every second", "sleep 60 & wait", 1, True),
            ("first", "every second", busy, 60, False),
            ("second", "every second", busy, 60, False),
        ) as process,
    ):
        wait_until(lambda: len(lines(good)) >= 3, what="the good job, three times")
        wait_until(
            lambda: state(home)["jobs"]["endless"]["exit_code"] == -signal.SIGTERM, what="the end of the endless"
        )
        jobs = state(home)["jobs"]
        assert (jobs["good"]["exit_code"], jobs["bad"]["exit_code"]) == (0, 7)
        wait_until(lambda: state(home)["jobs"]["endless"]["skipped"] > 0, what="a start that was left out")
        wait_until(lambda: all(state(home)["jobs"][name]["ended_at"] for name in ("first", "second")))
        assert f"the agent runs as pid {process.pid}" in opskit("agent", "--check").stdout
        other = opskit("agent", check=False)
        assert (other.returncode, f"pid {process.pid}" in other.stderr) == (11, True)
        wait_until(lambda: any("bad ended with 7" in str(mail["Subject"]) for mail in mailbox.messages), what="a mail")
        process.terminate()
        assert process.stderr is not None
        told = process.stderr.read()
        assert process.wait(20) == 0
    assert not (tmp_path / "overlaps").exists()
    assert (
        told.count("bad ended with 7") > len([mail for mail in mailbox.messages if "bad" in str(mail["Subject"])]) == 1
    )
    assert "endless still runs: this start is left out" in told
    assert "it took longer than 1 s" in told
    assert opskit("agent", "--check", check=False).returncode == 4


def test_what_was_missed_or_interrupted_is_caught_up_once(home: Path, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    soon, before = (f"daily {now.astimezone() + timedelta(hours=hours):%H:%M}" for hours in (2, -2))
    done = tmp_path / "done"

    def record(started: timedelta, took: timedelta | None) -> dict[str, Any]:
        begin = now - started
        return {
            "known_since": (now - timedelta(days=9)).isoformat(),
            "started_at": begin.isoformat(),
            "ended_at": "" if took is None else (begin + took).isoformat(),
            "exit_code": None if took is None else 0,
            "next_at": "",
            "skipped": 0,
        }

    jobs = {
        "missed": record(timedelta(days=3), timedelta(minutes=1)),
        "interrupted": record(timedelta(hours=1), None),
        "in-time": record(timedelta(hours=1), timedelta(minutes=1)),
    }
    (home / "run").mkdir()
    (home / "run" / "agent.json").write_text(json.dumps({"jobs": jobs}))
    rows = [(name, before, f"echo {name} >> {done}", 60, False) for name in (*jobs, "unknown")]
    with agent(home, *rows, ("later", soon, "exit 1", 60, False)) as process:
        wait_until(lambda: len(lines(done)) >= 2, what="what is caught up")
        wait_until(lambda: not state(home)["running"], what="the end of the jobs")
        process.terminate()
        assert process.wait(20) == 0
    assert sorted(lines(done)) == ["interrupted", "missed"]
    assert state(home)["jobs"]["later"]["started_at"] == ""


def test_a_second_signal_ends_what_does_not_end(home: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    stubborn = f"trap '' TERM; echo $$ > {ready}; while :; do sleep 0.1; done"
    with agent(home, ("stubborn", "every second", stubborn, 60, False)) as process:
        wait_until(lambda: lines(ready), what="the job")
        process.terminate()
        pid = int(lines(ready)[0])
        assert daemon.process_started(pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        wait_until(lambda: daemon.process_started(pid) is None, what="the end of the job")
    assert state(home)["jobs"]["stubborn"]["ended_at"] == ""


def test_the_list_shows_the_verbs(home: Path, opskit: Opskit) -> None:
    (home / "opskit.toml").write_text('[agent.jobs]\nbackup = "daily 01:00"\ndrill = "off"\n')
    rows = {row["job"]: row for row in json.loads(opskit("agent", "--list", "--output", "json").stdout)}
    assert (rows["backup"]["when"], rows["backup"]["command"]) == ("daily 01:00", "backup")
    assert "drill" not in rows
