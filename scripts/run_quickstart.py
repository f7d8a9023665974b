"""Starts a small cluster in OPSKIT_HOME (default: .quickstart), lets it back itself up, and shows the proof."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environment
from debian import Missing
from servers import die_with_parent

BACKUP = "metastore_backup"
OTHERS = [
    "log_cleanup",
    "metastore_cleanup",
    "permission_repair",
    "variable_connection_backup",
    "example_basics",
    "example_sensor",
]


class Failed(Exception):
    """A step did not work."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop when the backup is proven; exit code 0 only then")
    once = parser.parse_args().once
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    home = Path(os.environ.get("OPSKIT_HOME") or environment.ROOT / ".quickstart").absolute()
    os.environ["OPSKIT_HOME"] = str(home)
    try:
        python = environment.make(development=False)
        _say(f"OPSKIT_HOME is {home}")
        _prepare(python, home)
        with _standalone(python, home) as cluster:
            run_id = _back_up(python, home, cluster)
            _say_what_next(python, home, run_id)
            if not once:
                cluster.wait()
                raise Failed(f"opskit standalone ended with {cluster.returncode}: see {home}/standalone.log")
    except (Failed, Missing) as error:
        print(f"\nquickstart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0 if not once else 130
    _say("stopped, all of it worked")
    return 0


def _prepare(python: Path, home: Path) -> None:
    for name, source in (("maintenance", "maintenance_dags"), ("examples", "maintenance_dags/examples")):
        folder = home / "dags" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted((environment.ROOT / source).glob("*.py")):
            if not (folder / file.name).exists():  # yours, if you have changed it
                shutil.copy(file, folder)
    _run(python, "db", "migrate")
    _say("the metastore is there (SQLite), with the maintenance DAGs and two examples")


@contextmanager
def _standalone(python: Path, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (home / "standalone.log").open("ab") as log:
        cluster = subprocess.Popen(
            [str(python), "-m", "opskit", "standalone"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C comes to us, and we stop it in order
            preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        )
    try:
        yield cluster
    finally:
        if cluster.poll() is None:
            _say("stopping …")
            cluster.send_signal(signal.SIGTERM)
        cluster.wait()


def _back_up(python: Path, home: Path, cluster: subprocess.Popen[bytes]) -> str:
    """The run_id of the backup that was proven."""
    _wait(cluster, home, lambda: BACKUP in {dag["dag_id"] for dag in _json(python, "dags", "list")})
    _say("scheduler, DAG processor and worker are up; triggering the backup of the metastore")
    before = {backup["id"] for backup in _json(python, "backup", "list")}
    _run(python, "dags", "unpause", BACKUP)
    run_id = f"quickstart__{time.strftime('%Y-%m-%dT%H:%M:%S')}"
    waiting = [str(python), "-m", "opskit", "dags", "trigger", BACKUP, "--run-id", run_id, "--wait"]
    if subprocess.run([*waiting, "--timeout", "600"], stdout=subprocess.DEVNULL, check=False).returncode:
        logs = subprocess.run(
            [str(python), "-m", "opskit", "tasks", "logs", BACKUP, run_id, "back_up"],
            capture_output=True,
            text=True,
            check=False,
        )
        raise Failed(f"the backup did not succeed:\n{logs.stdout}{logs.stderr}")
    proven = [
        backup
        for backup in _json(python, "backup", "list")
        if backup["id"] not in before and backup["state"] == "verified"
    ]
    if not proven:
        raise Failed("the backup was taken, but is not proven: see opskit backup list")
    _say(f"backup {proven[0]['id']} was restored into a throw-away database and compared: it is proven")
    _run(python, "dags", "unpause", *OTHERS, "--yes")
    return run_id


def _say_what_next(python: Path, home: Path, run_id: str) -> None:
    print(
        f"""
Try next, in another terminal:

    export OPSKIT_HOME={shlex.quote(str(home))} PATH={shlex.quote(str(python.parent))}:$PATH
    opskit dags list
    opskit dags trigger example_basics --wait
    opskit tasks logs {BACKUP} {run_id} back_up
    opskit backup list
    opskit watchdog --explain

Your DAG files go into {home}/dags. The log of the cluster is {home}/standalone.log.
Ctrl-C stops it; scripts/quickstart starts it again with all that it knew.
""",
        flush=True,
    )


def _wait(cluster: subprocess.Popen[bytes], home: Path, condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if cluster.poll() is not None:
            raise Failed(f"opskit standalone ended with {cluster.returncode}: see {home}/standalone.log")
        if time.monotonic() > deadline:
            raise Failed(f"the DAG files were not read in {seconds:g} s: see {home}/standalone.log")
        time.sleep(0.3)


def _json(python: Path, *arguments: str) -> Any:
    return json.loads(_run(python, *arguments, "--output", "json") or "[]")


def _run(python: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(python), "-m", "opskit", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise Failed(f"opskit {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
