"""What a healthy `opskit watchdog` costs, against `python -c "import click"` in the same run.

Prints medians of wall and CPU time, the peak memory, and ratios, on a fresh SQLite metastore and on each migrated one
that `--database URL` names; the verdict does not matter for the cost of a look (`--dry-run` is used). Then what a
resident watchdog costs beside a living scheduler.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from opskit.system.processes import cpu_seconds


def measure(command: list[str], environment: Mapping[str, str], rounds: int) -> tuple[float, float, float]:
    """Medians of wall seconds and CPU seconds, and the peak memory in MiB."""
    walls, processors, peak = [], [], 0.0
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, usage = os.wait4(child.pid, 0)
        child.returncode = 0
        walls.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        peak = max(peak, usage.ru_maxrss / 1024)
    return statistics.median(walls), statistics.median(processors), peak


def measure_resident(environment: Mapping[str, str], seconds: float) -> tuple[float, float]:
    """Processor time of a resident watchdog beside a living scheduler, as a part of the time, and its memory in MiB."""
    opskit = [sys.executable, "-m", "opskit"]
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen([*opskit, "scheduler"], **quiet)  # type: ignore[call-overload]
    watchdog = None
    try:
        while not list(Path(environment["OPSKIT_HOME"], "run").glob("scheduler.*.pid.json")):
            time.sleep(0.1)
        time.sleep(3)
        watchdog = subprocess.Popen([*opskit, "watchdog", "--resident"], **quiet)  # type: ignore[call-overload]
        time.sleep(5)  # what its start costs is not what it costs to stay
        before, began = cpu_seconds(watchdog.pid), time.perf_counter()
        time.sleep(seconds)
        part = (cpu_seconds(watchdog.pid) - before) / (time.perf_counter() - began)
        status = Path(f"/proc/{watchdog.pid}/status").read_text()
        memory = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
        return part, memory
    finally:
        for process in filter(None, (watchdog, scheduler)):
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", action="append", default=[], help="URL of a migrated metastore; may be repeated")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--resident", type=float, default=30.0, metavar="SECONDS", help="how long to watch it; 0: not")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "OPSKIT_HOME": home}
        opskit = [sys.executable, "-m", "opskit"]
        subprocess.run([*opskit, "db", "migrate"], env=environment, check=True, stdout=subprocess.DEVNULL)
        urls = {"sqlite": f"sqlite:///{home}/opskit.db", **{url.split(":")[0]: url for url in options.database}}
        commands = [
            ("python -c 'import click'", [sys.executable, "-c", "import click"], environment),
            ("opskit --help", [*opskit, "--help"], environment),
        ]
        settings = {kind: {**environment, "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url} for kind, url in urls.items()}
        commands += [(f"watchdog, {kind}", [*opskit, "watchdog", "--dry-run"], env) for kind, env in settings.items()]
        rows = {name: measure(command, env, options.rounds) for name, command, env in commands}
        base = rows["python -c 'import click'"]
        for name, (wall, processor, memory) in rows.items():
            print(
                f"{name:26} {wall * 1000:6.0f} ms ({wall / base[0]:.2f} x)  "
                f"CPU {processor * 1000:5.0f} ms ({processor / base[1]:.2f} x)  {memory:5.1f} MiB"
            )
        print("aims: --help 4 x, watchdog 3 x, 40 MiB")
        for kind, env in settings.items() if options.resident else ():
            part, memory = measure_resident(env, options.resident)
            print(f"watchdog --resident, {kind}: {part:.2%} of a processor, {memory:.1f} MiB; aim: 1 %")


if __name__ == "__main__":
    main()
