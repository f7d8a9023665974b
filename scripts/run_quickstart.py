"""Starts a small cluster in OPSKIT_HOME (default: .quickstart), lets it back itself up, and shows the proof."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environment
from debian import Missing
from servers import die_with_parent

BACKUP = "metastore_backup"
USER = "admin"
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
        password = _prepare(python, home)
        url = _choose_port(python)
        with _standalone(python, home) as cluster:
            if url:
                _wait_for_pages(cluster, home, url)
            run_id = _back_up(python, home, cluster)
            _say_what_next(python, home, run_id, url, password)
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


def _prepare(python: Path, home: Path) -> str | None:
    """The DAG folder and the metastore; the password of the user that was made, None when there was one."""
    for name, source in (("maintenance", "maintenance_dags"), ("examples", "maintenance_dags/examples")):
        folder = home / "dags" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted((environment.ROOT / source).glob("*.py")):
            if not (folder / file.name).exists():  # yours, if you have changed it
                shutil.copy(file, folder)
    _run(python, "db", "migrate")
    _say("the metastore is there (SQLite), with the maintenance DAGs and two examples")
    if _json(python, "users", "list"):
        return None
    made = _run(python, "users", "create", "--username", USER, "--role", "Admin", "--use-random-password")
    return made.rpartition("password:")[2].strip()


def _choose_port(python: Path) -> str:
    """Where the pages will be: on the port that is configured, or a free one when somebody has it. Empty: nowhere."""
    if _run(python, "config", "get-value", "webserver", "enabled").strip().lower() == "false":
        return ""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(_run(python, "config", "get-value", "webserver", "web_server_port"))))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ["OPSKIT__WEBSERVER__WEB_SERVER_PORT"] = str(port)
    return f"http://127.0.0.1:{port}"


def _wait_for_pages(cluster: subprocess.Popen[bytes], home: Path, url: str) -> None:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    _wait(cluster, home, answers, what="the webserver did not answer")
    _say(f"the web UI answers on {url}")


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


def _say_what_next(python: Path, home: Path, run_id: str, url: str, password: str | None) -> None:
    known = (
        f"password {password}" if password else f"opskit users reset-password --username {USER} gives a new password"
    )
    pages = f"Open {url} and sign in as {USER} ({known}).\n" if url else ""
    print(
        f"""
{pages}
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


def _wait(
    cluster: subprocess.Popen[bytes],
    home: Path,
    condition: Callable[[], bool],
    seconds: float = 120,
    what: str = "the DAG files were not read",
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if cluster.poll() is not None:
            raise Failed(f"opskit standalone ended with {cluster.returncode}: see {home}/standalone.log")
        if time.monotonic() > deadline:
            raise Failed(f"{what} in {seconds:g} s: see {home}/standalone.log")
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
