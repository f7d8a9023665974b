"""500 DAG files to 8 SSH servers on this machine: `opskit deploy-dag` against rsync to all of them at once."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.sshd import Nodes, make_nodes

DAG = """from datetime import datetime
from opskit import DAG
from opskit.operators import EmptyOperator

with DAG("bench_{number}", start_date=datetime(2024, 1, 1), schedule=None):
    for number in range(10):
        EmptyOperator(task_id=f"task_{{number}}")
# version {version}
"""


def write(tree: Path, count: int, version: int, only: int | None = None) -> None:
    for number in range(count) if only is None else [only]:
        path = tree / f"team{number % 10}" / f"dag_{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(DAG.format(number=number, version=version))


def rsync(nodes: Nodes, tree: Path) -> float:
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [
                "rsync",
                "-a",
                "--delete",
                "-e",
                f"ssh -F {nodes.ssh_config}",
                f"{tree}/",
                f"{node.name}:{node.root}/rsync/",
            ]
        )
        for node in nodes
    ]
    assert all(process.wait() == 0 for process in running)
    return time.perf_counter() - began


def opskit(nodes: Nodes, home: Path, *arguments: str) -> tuple[float, float]:
    """Seconds of the whole command, and from the first connection until all hosts have switched and confirmed it."""
    began = connected = confirmed = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "opskit", "deploy-dag", *arguments, "--output", "json"],
        env={**os.environ, **nodes.environment(), "OPSKIT_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("connect"):
            connected = time.perf_counter()
        confirmed = time.perf_counter() if line.startswith(("plan", "confirm", "finish")) else confirmed
    if process.wait() != 0:
        raise SystemExit("".join(said))
    return time.perf_counter() - began, confirmed - connected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--hosts", type=int, default=8)
    options = parser.parse_args()
    if shutil.which("rsync") is None:
        raise SystemExit("rsync is not installed: nothing to compare with")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        nodes = make_nodes(base / "nodes", options.hosts)
        try:
            tree, home = base / "tree", base / "home"
            (home / "dags").mkdir(parents=True)
            write(tree, options.files, 1)
            print(f"{options.files} files to {options.hosts} hosts, seconds:")
            print(f"{'':24}{'rsync':>8}{'opskit':>8}{'ratio':>8}{'whole command':>24}")
            steps = (
                ("first time", lambda: None, [str(tree)]),
                ("nothing changed", lambda: None, [str(tree)]),
                ("one file changed", lambda: write(tree, options.files, 2, only=7), [str(tree)]),
                ("all files changed", lambda: write(tree, options.files, 3), [str(tree)]),
                ("rollback", lambda: None, ["--rollback"]),
            )
            for name, change, arguments in steps:
                change()
                plain = rsync(nodes, tree) if arguments != ["--rollback"] else None
                whole, after = opskit(nodes, home, *arguments)
                shown = f"{plain:8.2f}{after:8.2f}{after / plain:8.2f}" if plain else f"{'':8}{after:8.2f}{'':8}"
                print(f"{name:24}{shown}{whole:24.2f}")
        finally:
            nodes.stop()


if __name__ == "__main__":
    main()
