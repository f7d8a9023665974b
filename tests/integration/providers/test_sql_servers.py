"""The SQL hooks against PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from opskit.core.dag import runtime
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException
from opskit.providers.sql.column_checks import SQLColumnCheckOperator, SQLTableCheckOperator
from opskit.providers.sql.mysql import MySqlHook
from opskit.providers.sql.operators import MySqlOperator, PostgresOperator, SQLExecuteQueryOperator
from opskit.providers.sql.postgres import PostgresHook


@pytest.fixture
def store() -> Iterator[runtime.MemoryStore]:
    made = runtime.MemoryStore()
    runtime.set_store(made)
    yield made
    runtime.set_store(None)


@pytest.fixture
def postgres(postgres_url: str, store: runtime.MemoryStore) -> PostgresHook:
    store.connections["postgres_default"] = Connection("postgres_default", uri=postgres_url)
    return PostgresHook()


@pytest.fixture
def mysql(mariadb_url: str, store: runtime.MemoryStore) -> MySqlHook:
    store.connections["mysql_default"] = Connection("mysql_default", uri=mariadb_url)
    return MySqlHook()


def test_postgresql_does_what_dag_files_ask_of_it(postgres: PostgresHook, tmp_path: Path) -> None:
    hook = postgres
    hook.run("create table t (id integer primary key, price numeric, name text); insert into t values (1, 2.50, 'a;b')")
    assert hook.get_records("select * from t where name = %s", parameters=("a;b",)) == [(1, Decimal("2.50"), "a;b")]
    assert hook.get_first("select name from t where id = %(id)s", parameters={"id": 1}) == ("a;b",)
    assert hook.get_first("select 'ten %'") == ("ten %",)
    hook.insert_rows("t", [(1, 3, "new"), (2, 4, None)], ["id", "price", "name"], replace=True, replace_index="id")
    assert hook.get_records("select id, name from t order by id") == [(1, "new"), (2, None)]
    with pytest.raises(ValueError, match="replace_index"):
        hook.insert_rows("t", [(1, 3, "new")], ["id", "price", "name"], replace=True)
    assert hook.get_table_primary_key("t") == ["id"]
    assert hook.test_connection() == (True, "Connection successfully tested")
    # A parameter may stand where only a literal may: psycopg2 puts it into the statement.
    hook.run("create table d (a integer default %s)", parameters=(7,))

    hook.bulk_dump("t", str(tmp_path / "t.tsv"))
    assert sorted((tmp_path / "t.tsv").read_text().splitlines()) == ["1\t3\tnew", "2\t4\t\\N"]
    hook.run("delete from t")
    hook.bulk_load("t", str(tmp_path / "t.tsv"))
    hook.copy_expert("COPY (select id from t order by id) TO STDOUT WITH CSV HEADER", str(tmp_path / "t.csv"))
    assert (tmp_path / "t.csv").read_text() == "id\n1\n2\n"


def test_autocommit_runs_what_no_transaction_allows(postgres: PostgresHook) -> None:
    postgres.run("vacuum", autocommit=True)
    with pytest.raises(Exception, match="cannot run inside a transaction"):
        postgres.run("vacuum")


def test_a_with_block_commits_and_leaves_the_connection_open(postgres: PostgresHook) -> None:
    with closing(postgres.get_conn()) as conn:
        with conn, conn.cursor() as cursor:
            cursor.execute("create table t (a integer)")
        with pytest.raises(ZeroDivisionError), conn:
            conn.cursor().execute("insert into t values (1)")
            raise ZeroDivisionError
        with conn.cursor() as cursor:
            cursor.execute("select count(*) from t")
            assert cursor.fetchone() == (0,)


def test_rows_come_as_the_connection_says(postgres: PostgresHook, store: runtime.MemoryStore) -> None:
    connection = store.connections["postgres_default"]
    for cursor, check in (
        ("dictcursor", lambda row: (row["a"], row[1]) == (1, 2) and list(row) == [1, 2]),
        ("realdictcursor", lambda row: dict(row) == {"a": 1, "b": 2}),
        ("namedtuplecursor", lambda row: row.b == 2),
    ):
        connection.extra = f'{{"cursor": "{cursor}", "connect_timeout": "5"}}'
        assert check(postgres.get_first("select 1 as a, 2 as b")), cursor
    connection.extra = '{"cursor": "other"}'
    with pytest.raises(AirflowException, match="dictcursor"):
        postgres.get_conn()


def test_the_session_and_the_database_can_be_chosen(postgres: PostgresHook, postgres_url: str) -> None:
    task = PostgresOperator(
        task_id="t", sql="show statement_timeout", runtime_parameters={"statement_timeout": "3210ms"}
    )
    assert task.execute({}) == [("3210ms",)]
    other = SQLExecuteQueryOperator(
        task_id="o", conn_id="postgres_default", sql="select current_database()", database="postgres"
    )
    assert other.execute({}) == [("postgres",)]
    assert PostgresHook(schema="postgres").get_first("select current_database()") == ("postgres",)
    assert postgres.get_uri().startswith("postgresql://")
    engine = postgres.get_sqlalchemy_engine()
    with engine.connect() as conn:
        assert conn.exec_driver_sql("select current_database()").scalar() == postgres_url.rpartition("/")[2]
    engine.dispose()


def test_notices_of_the_server_reach_the_log(postgres: PostgresHook, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    PostgresHook(enable_log_db_messages=True).run("do $$ begin raise notice 'mind the gap'; end $$")
    assert "mind the gap" in caplog.text


def test_checks_work_on_servers(postgres: PostgresHook, mysql: MySqlHook) -> None:
    for hook, conn_id in ((postgres, "postgres_default"), (mysql, "mysql_default")):
        hook.run("create table t (a integer)")
        hook.insert_rows("t", [(1,), (None,)])
        SQLColumnCheckOperator(
            task_id=f"c{conn_id}", conn_id=conn_id, table="t",
            column_mapping={"a": {"null_check": {"equal_to": 1}, "max": {"leq_to": 1}}},
        ).execute({})  # fmt: skip
        SQLTableCheckOperator(
            task_id=f"t{conn_id}",
            conn_id=conn_id,
            table="t",
            checks={"rows_there": {"check_statement": "COUNT(*) = 2"}},
        ).execute({})


def test_mariadb_does_what_dag_files_ask_of_it(mysql: MySqlHook, tmp_path: Path) -> None:
    hook = mysql
    hook.run(["create table t (id integer primary key, name varchar(20))", "insert into t values (1, 'a')"])
    assert tuple(hook.get_records("select * from t")) == ((1, "a"),)
    hook.insert_rows("t", [(1, "new"), (2, "ö%")], target_fields=["id", "name"], replace=True)
    assert hook.get_first("select name from t where id = %s", parameters=(2,)) == ("ö%",)
    assert MySqlOperator(task_id="t", sql="select 1; select 2", split_statements=True).execute({}) == ((2,),)
    (tmp_path / "t.tsv").write_text("3\tthree\n")
    with pytest.raises(AirflowException, match="local_infile=True"):
        hook.bulk_load("t", str(tmp_path / "t.tsv"))
    with closing(hook.get_conn()) as conn:
        hook.set_autocommit(conn, True)
        assert hook.get_autocommit(conn)
    engine = hook.get_sqlalchemy_engine()
    with engine.connect() as conn:
        assert conn.exec_driver_sql("select count(*) from t").scalar() == 2
    engine.dispose()


def test_mariadb_loads_files_of_this_host(mysql: MySqlHook, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("3\tthree\n")
    hook = MySqlHook(local_infile=True)
    hook.run("create table t (id integer primary key, name varchar(20))")
    hook.bulk_load("t", str(tmp_path / "t.tsv"))
    hook.bulk_load_custom("t", str(tmp_path / "t.tsv"))
    assert hook.get_first("select * from t") == (3, "three")
