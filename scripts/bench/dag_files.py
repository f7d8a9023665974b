"""From an empty metastore to schedulable: a DAG folder of 300 files with 10 tasks each, by `opskit dag-processor`.

Prints the seconds from the start of the process until every DAG has its row, the lower limit measured in the same run
(one fork per file of a process that has the authoring model imported, compiling and running the same files, two at a
time), and the ratio. `--database URL` takes an empty database instead of SQLite.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DAG_FILE = '''"""One of many."""

from datetime import datetime

from opskit import DAG
from opskit.operators import PythonOperator


def work(number):
    return number


with DAG("bench_{number:04d}", schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False) as dag:
    tasks = [
        PythonOperator(task_id=f"task_{{i}}", python_callable=work, op_args=[i], retries=2) for i in range({tasks})
    ]
    for one, other in zip(tasks, tasks[1:]):
        one >> other
'''

LIMIT = """
import os, sys, time
from pathlib import Path
from opskit import DAG
from opskit.operators import PythonOperator
import opskit.core.dag.serialization
files = sorted(Path(sys.argv[1]).glob("*.py"))
began = time.monotonic()
running = 0
for file in files:
    if running == 2:
        os.wait()
        running -= 1
    if os.fork() == 0:
        exec(compile(file.read_text(), str(file), "exec"), {"__name__": "dag_file", "__file__": str(file)})
        os._exit(0)
    running += 1
while running:
    os.wait()
    running -= 1
print(time.monotonic() - began)
"""


def write_files(folder: Path, files: int, tasks: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        (folder / f"bench_{number:04d}.py").write_text(DAG_FILE.format(number=number, tasks=tasks))


def migrate(home: Path, environment: dict[str, str]) -> None:
    from opskit.config import load
    from opskit.core.metastore import schema
    from opskit.core.metastore.engine import open_engine

    engine = open_engine(load(home, environment))
    schema.migrate(engine)
    engine.dispose()


def measure(home: Path, environment: dict[str, str], files: int) -> float:
    from opskit.config import load
    from opskit.core.metastore.engine import open_engine, reading

    engine = open_engine(load(home, environment))
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "opskit", "dag-processor"],
        env=environment,
        stderr=(home / "dag-processor.log").open("w"),
    )
    try:
        while True:
            with reading(engine) as connection:
                stored = connection.exec_driver_sql("SELECT COUNT(*) FROM dag").scalar()
            if stored == files:
                return time.monotonic() - began
            if process.poll() is not None or time.monotonic() - began > 120:
                raise SystemExit((home / "dag-processor.log").read_text() or "not within 120 s")
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        engine.dispose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--database", default="", help="URL of an empty database; default: SQLite")
    parser.add_argument("--log", action="store_true", help="show the log of the DAG processor")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="opskit-bench-") as folder:
        home = Path(folder)
        write_files(home / "dags", arguments.files, arguments.tasks)
        environment = {**os.environ, "OPSKIT_HOME": folder}
        if arguments.database:
            environment["OPSKIT__DATABASE__SQL_ALCHEMY_CONN"] = arguments.database
        migrate(home, environment)
        limit = float(
            subprocess.run(
                [sys.executable, "-c", LIMIT, str(home / "dags")], check=True, capture_output=True, text=True
            ).stdout
        )
        seconds = measure(home, environment, arguments.files)
        if arguments.log:
            print((home / "dag-processor.log").read_text(), file=sys.stderr)
    print(f"DAG files: {arguments.files} of {arguments.tasks} tasks on {arguments.database.split(':')[0] or 'sqlite'}")
    print(f"  schedulable after            {seconds:6.2f} s")
    print(f"  fork, compile and run alone  {limit:6.2f} s")
    print(f"  ratio                        {seconds / limit:6.2f}")


if __name__ == "__main__":
    main()
