"""What an Airflow DAG file costs the DAG processor: opskit's beside that of real Airflow, on the same files in one run.

Both start with an empty SQLite metastore and a folder of N files, 10 tasks each, written for Airflow; what a start
with one file takes is measured, too, and taken off. Prints processor time per file and the ratio. `--environments DIR`
is the folder of the virtual environments that scripts/compat/harness record makes (default: .cache/airflow).
"""

from __future__ import annotations

import argparse
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "compat"), str(ROOT / "scripts" / "bench")]

import dag_files  # noqa: E402
from compat_harness import environments  # noqa: E402

DAG_FILE = dag_files.DAG_FILE.replace("from opskit.operators", "from airflow.operators.python").replace(
    "from opskit import DAG", "from airflow import DAG"
)


def write_files(folder: Path, files: int) -> None:
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / f"bench_{number:04d}.py").write_text(DAG_FILE.format(number=number, tasks=10))


def airflow_seconds(python: Path, home: Path, files: int) -> float:
    """Until `airflow dag-processor` has been once through all files."""
    write_files(home / "dags", files)
    environment = {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    airflow = [str(python), "-m", "airflow"]
    with (home / "log").open("w") as log:
        subprocess.run([*airflow, "db", "migrate"], check=True, env=environment, stdout=log, stderr=log)
        began = processor_seconds()
        subprocess.run(
            [*airflow, "dag-processor", "--num-runs", "1"], check=True, env=environment, stdout=log, stderr=log
        )
    taken = processor_seconds() - began
    stored = sqlite3.connect(home / "airflow.db").execute("SELECT COUNT(*) FROM dag").fetchone()[0]
    if stored != files:
        raise SystemExit(f"Airflow has stored {stored} of {files} DAGs: {(home / 'log').read_text()[-2000:]}")
    return taken


def processor_seconds() -> float:
    """Of all processes that were started and have ended: other load on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def opskit_seconds(home: Path, files: int) -> float:
    """Until `opskit dag-processor` has stored all files."""
    write_files(home / "dags", files)
    environment = {**os.environ, "OPSKIT_HOME": str(home)}
    dag_files.migrate(home, environment)
    began = processor_seconds()
    dag_files.measure(home, environment, files)
    return processor_seconds() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=environments.FOLDER)
    parser.add_argument("--airflow", default="3.3.2", help="a release of Airflow 3; that of 2 needs another database")
    parser.add_argument("--files", type=int, default=100)
    arguments = parser.parse_args()
    python = environments.python_of(arguments.airflow, arguments.environments.resolve())
    few = 1
    with tempfile.TemporaryDirectory(prefix="opskit-bench-") as folder:
        seconds = {}
        for count in (few, arguments.files):
            for side in ("airflow", "opskit"):
                home = Path(folder) / f"{side}-{count}"
                home.mkdir()
                taken = airflow_seconds(python, home, count) if side == "airflow" else opskit_seconds(home, count)
                seconds[side, count] = taken
    more = arguments.files - few
    theirs, ours = ((seconds[side, arguments.files] - seconds[side, few]) / more for side in ("airflow", "opskit"))
    print(f"DAG files: {arguments.files} of 10 tasks, written for Airflow; SQLite")
    print(f"  dag-processor of Airflow {arguments.airflow}  {1000 * theirs:8.1f} ms of processor time per file")
    print(f"  dag-processor of opskit          {1000 * ours:8.1f} ms of processor time per file")
    print(f"  ratio                            {ours / theirs:8.3f}")


if __name__ == "__main__":
    main()
