"""A million task instances retired as partitions, against deletes of the same rows by key in the same run.

    scripts/bench/run db_clean [--server URL] [--task-instances N]

Meanwhile another process writes to the same tables all the time, as a scheduler does; its longest wait is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from backup import make_database
from sqlalchemy import delete, func, select, text

from opskit import config, platforms
from opskit.core.metastore import partitions
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.schema import migrate
from opskit.core.metastore.tables import dag_run, task_instance, xcom
from opskit.ops import db_clean

TASKS = 10
LIVE_RUNS = 5_000
WRITER = """
import json, sys, time
from datetime import UTC, datetime
from sqlalchemy import text
from opskit.core.metastore import scheduling
from opskit.core.metastore.engine import open_engine, transaction
engine = open_engine(sys.argv[1]); number = int(sys.argv[2])
waits = []
print("ready", flush=True)
import select
n = 0
while not select.select([sys.stdin], [], [], 0.002)[0]:
    now = datetime.now(UTC); started = time.perf_counter(); n += 1
    with transaction(engine) as connection:
        scheduling.lock_dags(connection, [f"dag_{n % 100}"])
        scheduling.update_instances(connection, [(number, "t0", -1, "running", 1, 1, *[now] * 2, *[None] * 3, "w", "h", 1, None)])
        scheduling.insert_xcoms(connection, [(number, "t0", -1, f"k{n}", "1", now)])
    waits.append(time.perf_counter() - started)
waits.sort()
print(json.dumps({"count": len(waits), "median": waits[len(waits) // 2], "longest": waits[-1]}))
"""  # noqa: E501


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", action="append", help="postgresql://…/ or mysql://…/")
    parser.add_argument("--task-instances", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=TASKS, help="task instances of a DagRun")
    arguments = parser.parse_args()
    known = [os.environ.get("OPSKIT_TEST_POSTGRES_URL"), os.environ.get("OPSKIT_TEST_MARIADB_URL")]
    for server in arguments.server or [url for url in known if url]:
        measure(server, arguments.task_instances, arguments.tasks)
    return 0


def measure(server: str, count: int, tasks: int) -> None:
    seconds, waits, sizes = {}, {}, {}
    for way in ("partitions", "keyed deletes"):
        with tempfile.TemporaryDirectory(prefix="opskit-bench-") as folder:
            url, drop = make_database(server, Path(folder))
            try:
                engine = open_engine(url)
                fill(engine, count // tasks, tasks)
                before = size(engine)
                with reading(engine) as connection:
                    live = connection.execute(select(func.max(dag_run.c.id))).scalar_one()
                writer = subprocess.Popen(
                    [sys.executable, "-c", WRITER, url, str(live)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
                assert writer.stdout is not None
                writer.stdout.readline()
                started = time.perf_counter()
                if way == "partitions":
                    removed = by_verb(url, Path(folder))
                else:
                    removed = by_key(engine)
                seconds[way] = time.perf_counter() - started
                waits[way] = json.loads(writer.communicate("end\n")[0])
                sizes[way] = before - size(engine)
                with reading(engine) as connection:
                    left = connection.execute(select(func.count()).select_from(task_instance)).scalar_one()
                assert left == LIVE_RUNS * tasks, left
                kind = engine.dialect.name
                engine.dispose()
            finally:
                drop()
        wait = waits[way]
        print(
            f"db clean {kind}, {way}: {removed:,} task instances with {tasks} a run retired in {seconds[way]:.2f} s, "
            f"{sizes[way] >> 20} MiB returned; another writer: median {wait['median'] * 1e3:.1f} ms, "
            f"longest {wait['longest'] * 1e3:.0f} ms of {wait['count']}",
            flush=True,
        )
    print(f"ratio {seconds['keyed deletes'] / seconds['partitions']:.1f}", flush=True)


def by_verb(url: str, home: Path) -> int:
    place = platforms.find(config.load(home, {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url}))
    report = db_clean.clean(place, now=datetime.now(UTC))
    assert report.done is not None and report.is_complete, report
    print(report.done.rows, report.done.partitions, report.done.longest_transaction_seconds, report.done.notes)
    return report.done.rows["task_instance"]


def by_key(engine: Engine) -> int:
    """What a careful script does: children first, by ranges of the key, a thousand runs a transaction."""
    removed = 0
    with reading(engine) as connection:
        last = connection.execute(select(func.max(dag_run.c.id)).where(dag_run.c.state == "success")).scalar_one()
        last -= LIVE_RUNS
    for start in range(0, last, 1_000):
        with transaction(engine) as connection:
            for table in (xcom, task_instance):
                column = table.c.dag_run_id
                done = connection.execute(delete(table).where(column > start, column <= min(last, start + 1000)))
                removed += done.rowcount if table is task_instance else 0
            number = dag_run.c.id
            connection.execute(delete(dag_run).where(number > start, number <= min(last, start + 1000)))
    return removed


def size(engine: Engine) -> int:
    """Bytes of the files of the three tables."""
    with reading(engine) as connection:
        if engine.dialect.name == "postgresql":
            return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
        return int(
            connection.exec_driver_sql(
                "SELECT SUM(file_size) FROM information_schema.innodb_sys_tablespaces "
                "WHERE name LIKE CONCAT(DATABASE(), '/%%')"
            ).scalar_one()
        )


def fill(engine: Engine, old_runs: int, tasks: int) -> None:
    """Old runs in 100 DAGs and then LIVE_RUNS young ones, with task instances and XComs, in the partitions that would
    have been made as the runs came."""
    migrate(engine)
    postgresql = engine.dialect.name == "postgresql"
    runs = old_runs + LIVE_RUNS
    width = old_runs // 5
    for upper in [*range(width, old_runs + 1, width), old_runs + 100_000]:
        for table in partitions.TABLES:
            with reading(engine) as connection:
                last = max(part.upper or 0 for part in partitions.read(connection)[table])
            if upper > last:
                assert partitions.add(engine, table, last, upper)
    numbers = (
        (lambda n: f"SELECT i FROM generate_series(1, {n}) AS g(i)")
        if postgresql
        else (lambda n: f"SELECT seq AS i FROM seq_1_to_{n}")
    )
    join = (lambda a, b: f"'{a}' || {b}") if postgresql else (lambda a, b: f"CONCAT('{a}', {b})")
    second = (lambda a: f"({a}) * interval '1 second'") if postgresql else (lambda a: f"INTERVAL ({a}) SECOND")
    now = "now()" if postgresql else "UTC_TIMESTAMP(6)"
    day = "interval '200 days'" if postgresql else "INTERVAL 200 DAY"
    div = "/" if postgresql else "DIV"
    at = f"CASE WHEN i <= {old_runs} THEN {now} - {day} + {second('i')} ELSE {now} - {second(f'{runs} - i + 60')} END"
    with transaction(engine) as connection:
        run = lambda statement: connection.execute(text(statement.replace(":", r"\:")))  # noqa: E731
        yes, no = ("true", "false") if postgresql else ("1", "0")
        run(
            "INSERT INTO dag (dag_id, fileloc, is_paused, is_active, version_hash, owners, tags, schedule, revision, "
            f"lease_epoch) SELECT {join('dag_', 'i - 1')}, 'x.py', {no}, {yes}, 'h', '', '', '', 0, 0 "
            f"FROM ({numbers(100)}) n"
        )
        run(
            "INSERT INTO dag_run (id, dag_id, run_id, run_type, state, logical_date, data_interval_start, "
            "data_interval_end, conf, queued_at, start_date, end_date) SELECT i, "
            f"{join('dag_', '(i % 100)')}, {join('scheduled__', 'i')}, 'scheduled', 'success', {at}, {at}, {at}, "
            f"'{{}}', {at}, {at}, {at} FROM ({numbers(runs)}) n"
        )
        for start in range(0, runs * tasks, 500_000):
            some = f"SELECT i + {start} AS i FROM ({numbers(min(500_000, runs * tasks - start))}) m"
            run(
                "INSERT INTO task_instance (dag_run_id, task_id, map_index, state, try_number, max_tries, dispatches, "
                "operator, pool, pool_slots, priority_weight, queued_at, start_date, end_date, worker_id, hostname, "
                f"pid) SELECT (i - 1) {div} {tasks} + 1, {join('t', f'((i - 1) % {tasks})')}, -1, 'success', 1, 2, 1, "
                f"'PythonOperator', 'default_pool', 1, 1, {now}, {now}, {now}, "
                f"'6a0a4b4e-0000-4000-8000-000000000000', 'worker-1', 4711 FROM ({some}) n"
            )
            key = '"key"' if postgresql else "`key`"
            run(
                f"INSERT INTO xcom (dag_run_id, task_id, map_index, {key}, value, created_at) "
                f"SELECT (i - 1) {div} {tasks} + 1, {join('t', f'((i - 1) % {tasks})')}, -1, 'return_value', "
                f"'\"a result\"', {now} FROM ({some}) n"
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE" if postgresql else "ANALYZE TABLE dag_run, task_instance, xcom")


if __name__ == "__main__":
    sys.exit(main())
