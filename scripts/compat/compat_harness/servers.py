"""Starting a side (compat_harness.opskit_side, compat_harness.airflow_side) and asking it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compat_harness import sandbox

ROOT = Path(__file__).resolve().parents[3]


class Server:
    """One process that answers items. Without a `home`, in a sandbox, with its home in there."""

    def __init__(self, side: str, python: str | Path, home: Path | None = None, *options: str) -> None:
        inner = [str(python), "-m", f"compat_harness.{side}", "--home", str(home or sandbox.HOME), *options]
        path = [str(Path(__file__).parents[1])] + ([str(ROOT)] if side == "opskit_side" else [])
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": os.pathsep.join(path)}
        self.process = subprocess.Popen(
            inner if home is not None else sandbox.command(*inner),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd="/",  # -m puts it on sys.path
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        if not self.stdout.readline():
            self.stop()
            raise SystemExit(f"{side} does not start with {python}")

    def ask(self, item: dict[str, Any]) -> dict[str, Any] | None:
        """None when the server has died of it."""
        try:
            self.stdin.write(json.dumps(item) + "\n")
            self.stdin.flush()
            line = self.stdout.readline()
        except BrokenPipeError:
            return None
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def stop(self) -> None:
        try:
            self.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.stdout.close()


def ask_all(
    side: str, python: str | Path, items: list[dict[str, Any]], *, home: Path | None = None, renew: int = 60
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each item with its answer. After `renew` items a new server takes over, so that what files leave behind does not
    add up."""
    server: Server | None = None
    try:
        for number, item in enumerate(items):
            if server is None or number % renew == 0:
                if server is not None:
                    server.stop()
                server = Server(side, python, home)
            answer = server.ask(item)
            if answer is None:
                server.stop()
                server = None
                answer = {
                    "id": item["id"],
                    "airflow": item["airflow"],
                    "dags": {},
                    "fatal": "it ended the whole sandbox",
                }
            yield item, answer
    finally:
        if server is not None:
            server.stop()
