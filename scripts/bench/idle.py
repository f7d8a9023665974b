"""What an idle cluster costs: `opskit standalone` with 300 DAG files of 10 tasks, all paused or waiting for their time.

Prints memory (proportional set size, so that shared pages count once) and CPU per process and in all, over `--seconds`.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from dag_files import write_files


@dataclass(frozen=True)
class Usage:
    name: str
    pss_kib: int
    cpu_seconds: float


def tree(root: int) -> list[int]:
    """A process and its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(text[text.rindex(")") + 2 :].split()[1]), []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo.extend(parents.get(pid, []))
    return found


def usage(pid: int) -> Usage | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    name = text[text.index("(") + 1 : text.rindex(")")]
    return Usage(name, pss, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--settle", type=float, default=15.0, help="seconds between the last load and the measurement")
    parser.add_argument("--unpaused", action="store_true", help="DAGs that wait for their time instead of paused ones")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="opskit-bench-") as folder:
        home = Path(folder)
        write_files(home / "dags", arguments.files, 10)
        environment = {**os.environ, "OPSKIT_HOME": folder}
        if arguments.unpaused:
            environment["OPSKIT__CORE__DAGS_ARE_PAUSED_AT_CREATION"] = "false"
        log = home / "standalone.log"
        process = subprocess.Popen(
            [sys.executable, "-m", "opskit", "standalone"], env=environment, stderr=log.open("w")
        )
        try:
            while "all DAG files are loaded" not in log.read_text():
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            time.sleep(arguments.settle)
            before = {pid: found for pid in tree(process.pid) if (found := usage(pid))}
            began = time.monotonic()
            time.sleep(arguments.seconds)
            seconds = time.monotonic() - began
            after = {pid: found for pid in tree(process.pid) if (found := usage(pid))}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    print(f"Idle, {arguments.files} DAG files, over {seconds:.0f} s")
    total_memory = total_cpu = 0.0
    for pid, found in sorted(after.items()):
        cpu = found.cpu_seconds - (before[pid].cpu_seconds if pid in before else 0.0)
        total_memory += found.pss_kib / 1024
        total_cpu += cpu / seconds
        print(f"  {found.name:<18} {found.pss_kib / 1024:7.1f} MiB  {100 * cpu / seconds:6.2f} % CPU")
    print(f"  {'in all':<18} {total_memory:7.1f} MiB  {100 * total_cpu:6.2f} % of one core")


if __name__ == "__main__":
    main()
