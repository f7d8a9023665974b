"""500 DAG files to 16 SSH servers on this machine: `opskit deploy-dag` against rsync to all of them at once."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.sshd import Nodes, make_nodes

T = TypeVar("T")

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


def cpu_seconds(nodes: Nodes) -> float:
    """Of our children that have ended, of the SSH servers with all below them, and of kept connections."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    counted = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rsplit(")", 1)[1].split()
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        pid = int(path.name)
        parents[pid] = int(fields[1])
        ticks[pid] = sum(int(fields[number]) for number in (11, 12, 13, 14))
        if command.startswith(b"ssh: ") and b"/run/ssh-" in command:
            counted.add(pid)
    counted.update(node.process.pid for node in nodes if node.process is not None)
    for pid in parents:
        above, line = pid, []
        while above in parents and above not in counted:
            line.append(above)
            above = parents[above]
        if above in counted:
            counted.update(line)
    return usage.ru_utime + usage.ru_stime + sum(ticks[pid] for pid in counted) / os.sysconf("SC_CLK_TCK")


def rsync(nodes: Nodes, tree: Path) -> None:
    shell = f"ssh -F {nodes.ssh_config}"
    running = [
        subprocess.Popen(["rsync", "-a", "--delete", "-e", shell, f"{tree}/", f"{node.name}:{node.root}/rsync/"])
        for node in nodes
    ]
    assert all(process.wait() == 0 for process in running)


def opskit(nodes: Nodes, home: Path, *arguments: str) -> dict[str, Any]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-m", "opskit", *arguments, "--output", "json"],
        env={
            **inherited,
            # As after an installation: its modules are compiled.
            "PYTHONPYCACHEPREFIX": str(nodes.folder / "compiled"),
            **nodes.environment(),
            "OPSKIT_HOME": str(home),
            # The hosts load DAG files with an interpreter that has opskit, not only for their syntax.
            "OPSKIT__DEPLOY__PYTHON": sys.executable,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def measure(nodes: Nodes, call: Callable[[], T]) -> tuple[float, float, T]:
    """(wall seconds, CPU seconds, result). Nobody pays for what others have not yet written to disk."""
    os.sync()
    cpu, began = cpu_seconds(nodes), time.perf_counter()
    result = call()
    return time.perf_counter() - began, cpu_seconds(nodes) - cpu, result


class Reader(threading.Thread):
    """Opens the DAG folder of a host once per reading, and reads all of it through that."""

    def __init__(self, dags: Path) -> None:
        super().__init__(daemon=True)
        self._dags = dags
        self.stop = threading.Event()
        self.files = self.mixed = 0

    def run(self) -> None:
        while not self.stop.is_set():
            found = set()
            root = os.open(self._dags, os.O_RDONLY | os.O_DIRECTORY)
            try:
                for _, _, names, descriptor in os.fwalk(".", dir_fd=root):
                    for name in names:
                        file = os.open(name, os.O_RDONLY, dir_fd=descriptor)
                        found.add(os.read(file, 1 << 20).rpartition(b"# version ")[2])
                        os.close(file)
                        self.files += 1
            finally:
                os.close(root)
            self.mixed += len(found) != 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--hosts", type=int, default=16)
    parser.add_argument("--repeat", type=int, default=3, help="of each step; the medians are shown")
    parser.add_argument("--anew", action="store_true", help="no connection is kept from one command to the next")
    parser.add_argument("--deployments", type=int, default=5, help="in the test for mixed reads")
    options = parser.parse_args()
    if options.anew:
        os.environ["OPSKIT__DEPLOY__CONTROL_PERSIST"] = "0"
    if shutil.which("rsync") is None:
        raise SystemExit("rsync is not installed: nothing to compare with")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        nodes = make_nodes(base / "nodes", options.hosts)
        try:
            run(nodes, base, options)
        finally:
            nodes.stop()


def run(nodes: Nodes, base: Path, options: argparse.Namespace) -> None:
    tree = base / "tree"
    version = itertools.count(1)
    spreads: list[float] = []
    home = base / "home"

    def forget() -> None:
        """As before the first deployment, for both."""
        for node in nodes:
            for path in node.root.iterdir():
                path.unlink() if path.is_symlink() else shutil.rmtree(path)
        shutil.rmtree(home, ignore_errors=True)
        (home / "dags").mkdir(parents=True)
        write(tree, options.files, next(version))

    def nothing() -> None: ...

    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("first time", forget),
        ("nothing changed", nothing),
        ("one file changed", lambda: write(tree, options.files, next(version), only=7)),
        ("all files changed", lambda: write(tree, options.files, next(version))),
    )
    print(
        f"{options.files} files to {options.hosts} hosts, medians of {options.repeat}; whole commands, checks and all"
    )
    print(f"{'':20}{'rsync':>8}{'opskit':>8}{'ratio':>8}  wall s{'rsync':>10}{'opskit':>8}{'ratio':>8}  CPU s")
    for name, change in steps:
        rows = []
        for _ in range(options.repeat):
            change()
            plain = measure(nodes, lambda: rsync(nodes, tree))
            ours = measure(nodes, lambda: opskit(nodes, home, "deploy-dag", str(tree)))
            if name != "nothing changed":
                spreads.append(ours[2]["switch_spread_seconds"])
            rows.append((plain[0], ours[0], plain[1], ours[1]))
        wall, our_wall, cpu, our_cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"{name:20}{wall:8.2f}{our_wall:8.2f}{our_wall / wall:8.2f}{cpu:18.2f}{our_cpu:8.2f}{our_cpu / cpu:8.2f}",
            flush=True,
        )
    print(f"{'rollback':20}{'':8}{measure(nodes, lambda: opskit(nodes, home, 'rollback'))[0]:8.2f}")
    print(f"{'drift of all hosts':20}{'':8}{measure(nodes, lambda: opskit(nodes, home, 'dags-drift'))[0]:8.2f}")
    worst, middle = 1000 * max(spreads), 1000 * statistics.median(spreads)
    print(f"spread of the switch: {worst:.0f} ms at most, {middle:.0f} ms in the middle")
    write(tree, options.files, next(version))
    opskit(nodes, home, "deploy-dag", str(tree))
    readers = [Reader(node.dags) for node in itertools.islice(nodes, 4)]
    for reader in readers:
        reader.start()
    for _ in range(options.deployments):
        write(tree, options.files, next(version))
        opskit(nodes, home, "deploy-dag", str(tree))
    for reader in readers:
        reader.stop.set()
        reader.join()
    files, mixed = sum(reader.files for reader in readers), sum(reader.mixed for reader in readers)
    print(f"mixed readings during {options.deployments} deployments: {mixed} ({files:,} files read)")


if __name__ == "__main__":
    main()
