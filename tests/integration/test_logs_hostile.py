"""`opskit logs clean` on trees that somebody changes all the time: links, renames and mounts at every moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.core.metastore.engine import open_engine, transaction
from opskit.core.metastore.tables import dag_run, task_instance
from tests.databases import Databases

OLD = datetime.now(UTC) - timedelta(days=60)
PROGRAM = """
import json, os, random, shutil, signal, subprocess, sys
from datetime import UTC, datetime
from pathlib import Path
disk, rounds, mounting, old = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "mounting", float(sys.argv[4])
runs, tasks = 6, 2
if mounting:
    subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)
logs, precious = disk / "logs", disk / "precious"
dag = logs / "dag_id=d"
witnesses = []
for run in range(runs):
    for task in range(tasks):
        folder = precious / f"run_id=r{run}" / f"task_id=t{task}"
        folder.mkdir(parents=True)
        (folder / "attempt=1.log").touch()
        os.utime(folder / "attempt=1.log", (old, old))
        # A second name: a file that was removed and made again would be another one.
        os.link(folder / "attempt=1.log", disk / f"witness-{run}-{task}")
        witnesses.append(disk / f"witness-{run}-{task}")
live, young = (logs / f"dag_id=live/run_id={run}/task_id=t/attempt=1.log" for run in ("r", "done"))
for path in (live, young):
    path.parent.mkdir(parents=True)
    path.touch()
os.utime(live, (old, old))

def somewhere(chance):
    run = chance.randrange(runs)
    inside, goal = dag / f"run_id=r{run}", precious / f"run_id=r{run}"
    if chance.random() < 0.5:
        task = f"task_id=t{chance.randrange(tasks)}"
        inside, goal = inside / task, goal / task
    return inside, goal

def attack():
    import ctypes
    libc = ctypes.CDLL(None)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    chance = random.Random(7)
    while True:
        inside, goal = somewhere(chance)
        aside = logs / f"aside{chance.random()}"
        deed = chance.randrange(5 if mounting else 4)
        try:
            if deed <= 1:  # a directory becomes a link to precious logs, and a directory again
                inside.rename(aside)
                inside.symlink_to(goal)
                inside.unlink()
                aside.rename(inside)
            elif deed == 2:  # one directory takes the place of another
                other = somewhere(chance)[0]
                inside.rename(aside)
                other.rename(inside)
                aside.rename(other)
            elif deed == 3 and chance.random() < 0.02:  # a log becomes a link to a precious one
                log = inside / "attempt=1.log"
                log.unlink()
                log.symlink_to(goal / "attempt=1.log")
            elif deed == 4:  # precious logs are mounted over a directory, from the same file system
                if libc.mount(bytes(goal), bytes(inside), None, 4096, None) == 0:
                    libc.umount2(bytes(inside), 2)
        except OSError:
            try:
                aside.rename(inside)
            except OSError:
                continue

attacker = os.fork()
if attacker == 0:
    attack()
try:
    from opskit import config, platforms
    from opskit.ops import logs as verb
    platform = platforms.find(config.load())
    removed = 0
    for _ in range(rounds):
        for left in (dag, *logs.glob("aside*")):
            try:
                left.rename(disk / f"junk{random.random()}")  # never emptied: precious logs may be mounted in it
            except OSError:
                continue
        for run in range(runs):
            for task in range(tasks):
                try:
                    folder = dag / f"run_id=r{run}" / f"task_id=t{task}"
                    folder.mkdir(parents=True, exist_ok=True)
                    descriptor = os.open(folder / "attempt=1.log", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                    os.utime(descriptor, (old, old))
                    os.close(descriptor)
                except OSError:
                    continue
        removed += verb.clean(platform, now=datetime.now(UTC), dry_run=False, force=True).removed_logs
    harmed = [path.name for path in witnesses if path.stat().st_nlink != 2]
    print(json.dumps([removed, harmed, live.exists(), young.exists()]))
finally:
    os.kill(attacker, signal.SIGTERM)
    os.waitpid(attacker, 0)
"""


@pytest.mark.parametrize("rounds", [150, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_nothing_but_old_logs_goes_while_the_tree_is_changed_all_the_time(
    home: Path, tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    url = databases.migrated("sqlite")
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", url)
    monkeypatch.setenv("OPSKIT__LOGS__KEEP_RUNS", "0")
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setenv("OPSKIT__LOGGING__BASE_LOG_FOLDER", str(disk / "logs"))
    engine = open_engine(url)
    with transaction(engine) as connection:
        dates = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "queued_at"), OLD)
        row = {"dag_id": "live", "run_id": "r", "run_type": "manual", "state": "running", **dates}
        number = connection.execute(dag_run.insert().values(**row)).inserted_primary_key[0]
        connection.execute(task_instance.insert().values(dag_run_id=number, task_id="t", state="running"))
    engine.dispose()
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    may_mount = subprocess.run([*unshare, "true"], capture_output=True).returncode == 0
    arguments = [str(disk), str(rounds), "mounting" if may_mount else "not mounting", str(OLD.timestamp())]
    command = [*(unshare if may_mount else []), sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3500)
    databases.drop(url)
    assert done.returncode == 0, done.stderr
    removed, harmed, live_stays, young_stays = json.loads(done.stdout)
    assert removed > rounds, "next to nothing was removed: this shows nothing"
    assert (harmed, live_stays, young_stays) == ([], True, True)
