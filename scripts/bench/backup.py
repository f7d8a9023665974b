"""Backup and drill against a plain dump and a plain restore in the same run: seconds, ratio and peak memory.

    scripts/bench/backup.py [--server URL] [--task-instances N]

The server (default: OPSKIT_TEST_POSTGRES_URL, OPSKIT_TEST_MARIADB_URL, then SQLite) must allow making databases.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import text

from opskit.core.metastore.engine import open_engine, transaction
from opskit.core.metastore.schema import migrate
from opskit.system import encryption

RUNS_PER_DAG = 1_000
TASKS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", action="append", help="postgresql://…/ or mysql://…/ or sqlite")
    parser.add_argument("--task-instances", type=int, default=200_000)
    arguments = parser.parse_args()
    known = [os.environ.get("OPSKIT_TEST_POSTGRES_URL"), os.environ.get("OPSKIT_TEST_MARIADB_URL"), "sqlite"]
    for server in arguments.server or [url for url in known if url]:
        measure(server, arguments.task_instances)
    return 0


def measure(server: str, count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="opskit-bench-") as folder:
        home = Path(folder)
        url, drop = make_database(server, home)
        try:
            fill(url, count)
            dump, restore = plain(url, home)
            seconds, peak, report = ours(url, home)
            hidden, hidden_peak, _ = ours(url, home, "--recipient", encryption.new_identity()[1])
        finally:
            drop()
    total = dump + restore
    kind = report["source"]["kind"]
    print(
        f"backup {kind}: {report['rows']:,} rows, {report['source']['size_bytes'] >> 20} MiB: "
        f"plain dump {dump:.2f} s + plain restore {restore:.2f} s = {total:.2f} s; "
        f"opskit backup with drill {seconds:.2f} s (taken in {report['seconds']['backup']:.2f}, "
        f"proven in {report['seconds']['drill']:.2f}), ratio {seconds / total:.2f}, peak {peak} MiB; "
        f"encrypted {hidden:.2f} s, ratio {hidden / total:.2f}, peak {hidden_peak} MiB"
    )


def make_database(server: str, home: Path) -> tuple[str, Any]:
    if server == "sqlite":
        return f"sqlite:///{home}/opskit.db", lambda: None
    name = f"opskit_bench_backup_{os.getpid()}"
    if server.startswith("postgres"):
        import psycopg

        with psycopg.connect(server.rstrip("/") + "/postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]

        def drop() -> None:
            with psycopg.connect(server.rstrip("/") + "/postgres", autocommit=True) as connection:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[call-overload]
    else:
        mariadb(server, f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")

        def drop() -> None:
            mariadb(server, f"DROP DATABASE {name}")

    return server.rstrip("/") + "/" + name, drop


def fill(url: str, count: int) -> None:
    """Runs, task instances, an XCom for each, and two audit lines for each."""
    engine = open_engine(url)
    migrate(engine)
    kind = engine.dialect.name
    runs = count // TASKS
    numbers = {
        "postgresql": f"SELECT i FROM generate_series(1, {count * 2}) AS g(i)",
        "sqlite": "WITH RECURSIVE g(i) AS "
        f"(SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {count * 2}) SELECT i FROM g",
    }.get(kind, f"SELECT seq AS i FROM seq_1_to_{count * 2}")
    join = "CONCAT('{}', {})" if kind not in ("sqlite", "postgresql") else "'{}' || {}"
    at = "'2026-01-01 00:00:00.000000'" if kind != "postgresql" else "timestamptz '2026-01-01'"
    later = {
        "postgresql": f"{at} + i * interval '1 second'",
        "sqlite": f"datetime({at}, '+' || i || ' seconds') || '.000000'",
    }.get(kind, f"{at} + INTERVAL i SECOND")
    div, mod = ("(i / 10)", "(i % 10)") if kind in ("sqlite", "postgresql") else ("(i DIV 10)", "(i MOD 10)")
    with transaction(engine) as connection:
        run = lambda statement: connection.execute(text(statement.replace(":", r"\:")))  # noqa: E731
        run(
            "INSERT INTO dag_run (id, dag_id, run_id, run_type, state, logical_date, data_interval_start, "
            f"data_interval_end, conf, queued_at, start_date, end_date) SELECT i, {join.format('dag_', div)}, "
            f"{join.format('scheduled__', 'i')}, 'scheduled', 'success', {later}, {at}, {at}, '{{}}', {at}, {at}, {at} "
            f"FROM ({numbers}) n WHERE i <= {runs + 1}"
        )
        run(
            "INSERT INTO task_instance (dag_run_id, task_id, map_index, state, try_number, max_tries, dispatches, "
            "operator, pool, pool_slots, priority_weight, queued_at, start_date, end_date, worker_id, hostname, pid) "
            f"SELECT {div} + 1, {join.format('some_task_', mod)}, -1, 'success', 1, 2, 1, 'PythonOperator', "
            f"'default_pool', 1, 1, {at}, {later}, {later}, '6a0a4b4e-0000-4000-8000-000000000000', 'worker-1', i "
            f"FROM ({numbers}) n WHERE i < {count}"
        )
        run(
            'INSERT INTO xcom (dag_run_id, task_id, map_index, "key", value, created_at) '.replace(
                '"', '"' if kind in ("sqlite", "postgresql") else "`"
            )
            + f"SELECT {div} + 1, {join.format('some_task_', mod)}, -1, 'return_value', "
            f"{join.format('a result of some length ', 'i')}, {at} FROM ({numbers}) n WHERE i < {count}"
        )
        run(
            "INSERT INTO log (at, owner, event, dag_id, run_id, task_id, extra) "
            f"SELECT {later}, 'airflow', 'success', {join.format('dag_', div)}, {join.format('scheduled__', 'i')}, "
            f"{join.format('some_task_', mod)}, '{{}}' FROM ({numbers}) n"
        )
    engine.dispose()
    if kind == "postgresql":
        subprocess.run(["psql", "-qd", url, "-c", "VACUUM ANALYZE"], check=True)


def plain(url: str, home: Path) -> tuple[float, float]:
    """Seconds of the engine's own dump to a file, and of its own restore."""
    parts, dump = urlsplit(url), home / "plain.dump"
    if url.startswith("sqlite"):
        source = home / "opskit.db"
        first = timed(lambda: dump_sqlite(source, dump))
        second = timed(lambda: sqlite3_cli(home / "restored.db", dump))
        return first, second
    if url.startswith("postgres"):
        server, target = url.rpartition("/")[0], f"opskit_bench_plain_{os.getpid()}"
        first = timed(lambda: shell(["pg_dump", "-Fc", "-f", str(dump), url]))
        shell(["psql", "-qd", f"{server}/postgres", "-c", f"CREATE DATABASE {target} TEMPLATE template0"])
        second = timed(lambda: shell(["pg_restore", "-j2", "-d", f"{server}/{target}", str(dump)]))
        shell(["psql", "-qd", f"{server}/postgres", "-c", f"DROP DATABASE {target} WITH (FORCE)"])
        return first, second
    server, target = url.rpartition("/")[0], f"opskit_bench_plain_{os.getpid()}"
    login = [f"-h{parts.hostname}", f"-P{parts.port}", f"-u{parts.username}", f"-p{parts.password}"]
    packed = f"mariadb-dump {' '.join(login)} --single-transaction {parts.path[1:]} | gzip > {dump}"
    first = timed(lambda: shell(["sh", "-c", packed]))
    mariadb(server, f"CREATE DATABASE {target}")
    second = timed(lambda: shell(["sh", "-c", f"gzip -dc {dump} | mariadb {' '.join(login)} {target}"]))
    mariadb(server, f"DROP DATABASE {target}")
    return first, second


def dump_sqlite(source: Path, dump: Path) -> None:
    """`sqlite3 .dump | gzip`, as cron scripts do it."""
    shell(["sh", "-c", f"sqlite3 {source} .dump | gzip > {dump}"])


def sqlite3_cli(target: Path, dump: Path) -> None:
    shell(["sh", "-c", f"gzip -dc {dump} | sqlite3 {target}"])


def ours(url: str, home: Path, *options: str) -> tuple[float, int, dict[str, Any]]:
    """Seconds and peak memory (MiB) of `opskit backup` as a process, and its report."""
    program = (
        "import sys, opskit.cli as cli\n"
        "code = cli.run(['backup', '-q', '-o', 'json', *sys.argv[1:]])\n"
        # Of this program alone: ru_maxrss also counts the process that it was forked from.
        "peak = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0]\n"
        "print(peak, file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    environ = {**os.environ, "OPSKIT_HOME": str(home), "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, *options], env=environ, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"opskit backup ended with {done.returncode}: {done.stderr}")
    return seconds, int(done.stderr.split()[-1]) >> 10, json.loads(done.stdout)


def shell(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def mariadb(server: str, statement: str) -> None:
    engine = open_engine(server.rstrip("/") + "/information_schema")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def timed(call: Any) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
