"""A metastore as an operator's is after a year: 1,000 DAGs, 100,000 DagRuns, a million task instances with XComs.

Not a benchmark by itself: `web` asks it questions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from opskit.core.dag.serialization import serialize
from opskit.core.metastore import partitions
from opskit.core.metastore.dag_loads import LoadedDag, LoadedFile, store_loaded_files
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.schema import migrate

TASKS = 10
TEAMS = ("billing", "search", "growth", "platform", "risk")
FAILED_EVERY = 97
"""One run in so many has failed, with its last but one task."""


def fill(url: str, dags: int = 1_000, task_instances: int = 1_000_000) -> None:
    """Migrate the metastore of this URL (PostgreSQL or SQLite), and fill it. The runs lie in the last year."""
    engine = open_engine(url)
    try:
        migrate(engine)
        runs = task_instances // TASKS
        _make_partitions(engine, runs)
        now = datetime.now(UTC).replace(microsecond=0)
        with transaction(engine) as connection:
            store_loaded_files(connection, list(_files(dags)), now)
            connection.execute(text("UPDATE dag SET is_paused = (dag_id LIKE '%0')"))
        _write_runs(engine, dags, runs, now)
    finally:
        engine.dispose()


def _make_partitions(engine: Engine, runs: int) -> None:
    if engine.dialect.name == "sqlite":
        return
    width = runs // 5
    for upper in [*range(width, runs + 1, width), runs + 100_000]:
        for table in partitions.TABLES:
            with reading(engine) as connection:
                last = max(part.upper or 0 for part in partitions.read(connection)[table])
            if upper > last:
                assert partitions.add(engine, table, last, upper)


def _files(count: int) -> Iterator[LoadedFile]:
    from opskit import DAG, TaskGroup
    from opskit.operators import BashOperator, EmptyOperator

    for number in range(count):
        team = TEAMS[number % len(TEAMS)]
        dag_id = f"{team}_{number:04d}"
        with DAG(
            dag_id,
            schedule="30 2 * * *",
            start_date=datetime(2025, 1, 1, tzinfo=UTC),
            catchup=False,
            tags=[team, f"tier{number % 3}"],
            description=f"What {team} needs each night, part {number}",
            default_args={"owner": team, "retries": 2},
            params={"day": "2026-01-31", "full": False},
        ) as dag:
            begin, end = EmptyOperator(task_id="t0"), EmptyOperator(task_id="t9")
            with TaskGroup("load", prefix_group_id=False):
                loads = [BashOperator(task_id=f"t{i}", bash_command="echo {{ ds }}") for i in range(1, 7)]
            join, check = (
                BashOperator(task_id="t7", bash_command="true"),
                BashOperator(task_id="t8", bash_command="true"),
            )
            begin >> loads >> join >> check >> end
        source = f"# {dag_id}\n" + "print('a line of the file')\n" * 60
        yield LoadedFile(f"{team}/{dag_id}.py", f"{number:064d}", [LoadedDag(dag_id, serialize(dag))], source=source)


def _write_runs(engine: Engine, dags: int, runs: int, now: datetime) -> None:
    """Run i belongs to DAG i mod `dags`, and is one day younger than the run before of the same DAG."""
    postgresql = engine.dialect.name == "postgresql"
    newest = now - timedelta(hours=6)
    days = runs // dags

    def numbers(count: int) -> str:
        if postgresql:
            return f"SELECT i FROM generate_series(0, {count - 1}) AS g(i)"
        return f"WITH RECURSIVE g(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM g WHERE i < {count - 1}) SELECT i FROM g"

    def at(seconds: str) -> str:
        if postgresql:
            return f"timestamptz '{newest.isoformat()}' + ({seconds}) * interval '1 second'"
        return f"strftime('%Y-%m-%d %H:%M:%f000', '{newest:%Y-%m-%d %H:%M:%S}', ({seconds}) || ' seconds')"

    day = f"((i / {dags}) - {days - 1}) * 86400 + (i % {dags})"
    failed = f"(i % {FAILED_EVERY} = 5)"
    with transaction(engine) as connection:
        connection.execute(text("CREATE TEMPORARY TABLE named AS SELECT dag_id, version_hash, "
                                "ROW_NUMBER() OVER (ORDER BY dag_id) - 1 AS number FROM dag"))  # fmt: skip
        statement = (
            "INSERT INTO dag_run (id, dag_id, run_id, run_type, state, logical_date, data_interval_start, "
            "data_interval_end, conf, version_hash, queued_at, start_date, end_date) "
            "SELECT i + 1, dag_id, 'scheduled__' || i, 'scheduled', "
            f"CASE WHEN {failed} THEN 'failed' ELSE 'success' END, "
            f"{at(day)}, {at(day)}, {at(day + ' + 86400')}, '{{}}', version_hash, {at(day)}, {at(day)}, "
            f"{at(day + ' + 60 + i % 600')} FROM ({numbers(runs)}) n JOIN named ON number = i % {dags}"
        )
        connection.execute(text(statement.replace(":", r"\:")))
        for task in range(TASKS):
            of_failed = {8: "failed", 9: "upstream_failed"}.get(task, "success")
            state = f"CASE WHEN {failed} THEN '{of_failed}' ELSE 'success' END"
            begun = f"{at(f'{day} + {task} * 6')}, {at(f'{day} + {task} * 6 + 5')}"
            statement = (
                "INSERT INTO task_instance (dag_run_id, task_id, map_index, state, try_number, max_tries, dispatches, "
                "operator, pool, pool_slots, priority_weight, queued_at, start_date, end_date, worker_id, hostname, "
                f"pid) SELECT i + 1, 't{task}', -1, {state}, 1, 2, 1, 'BashOperator', 'default_pool', 1, 1, "
                f"{at(day)}, {begun}, '6a0a4b4e-0000-4000-8000-000000000000', 'worker-1', 4711 FROM ({numbers(runs)}) n"
            )
            connection.execute(text(statement.replace(":", r"\:")))
        key = '"key"'
        statement = (
            f"INSERT INTO xcom (dag_run_id, task_id, map_index, {key}, value, created_at) "
            f"SELECT i + 1, 't1', -1, 'return_value', '\"a result\"', {at(day)} FROM ({numbers(runs)}) n"
        )
        connection.execute(text(statement.replace(":", r"\:")))
        if postgresql:
            connection.execute(text(f"SELECT setval(pg_get_serial_sequence('dag_run', 'id'), {runs})"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE" if postgresql else "ANALYZE")


if __name__ == "__main__":
    fill(sys.argv[1], *map(int, sys.argv[2:]))
