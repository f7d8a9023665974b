"""What a healthy `opskit watchdog` costs, against `python -c "import click"` in the same run.

Prints medians of wall and CPU time, the peak memory, and ratios. `--database URL` takes a migrated metastore instead
of a fresh SQLite one; the verdict does not matter for the cost of a look (`--dry-run` is used).
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", help="URL of a migrated metastore")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "OPSKIT_HOME": home}
        opskit = [sys.executable, "-m", "opskit"]
        if options.database:
            environment["OPSKIT__DATABASE__SQL_ALCHEMY_CONN"] = options.database
        else:
            subprocess.run([*opskit, "db", "migrate"], env=environment, check=True, stdout=subprocess.DEVNULL)
        rows = {
            "python -c 'import click'": [sys.executable, "-c", "import click"],
            "opskit --help": [*opskit, "--help"],
            "opskit watchdog --dry-run": [*opskit, "watchdog", "--dry-run"],
        }
        measured = {name: measure(command, environment, options.rounds) for name, command in rows.items()}
    base = measured["python -c 'import click'"]
    for name, (wall, processor, memory) in measured.items():
        print(
            f"{name:28} {wall * 1000:6.0f} ms ({wall / base[0]:.2f} x)  "
            f"CPU {processor * 1000:5.0f} ms ({processor / base[1]:.2f} x)  {memory:5.1f} MiB"
        )
    print("aims: --help 4 x, watchdog 3 x, 40 MiB")


if __name__ == "__main__":
    main()
