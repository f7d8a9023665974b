"""SQL on a real SQLite file: hook, operators, sensor."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException, AirflowFailException
from opskit.core.dag.hooks.base import BaseHook
from opskit.core.dag.operators.empty import EmptyOperator
from opskit.core.dag.operators.python import PythonOperator
from opskit.providers.optional import AirflowOptionalProviderFeatureException
from opskit.providers.sql.checks import (
    SQLCheckOperator,
    SQLIntervalCheckOperator,
    SQLThresholdCheckOperator,
    SQLValueCheckOperator,
)
from opskit.providers.sql.column_checks import SQLColumnCheckOperator, SQLTableCheckOperator
from opskit.providers.sql.handlers import fetch_one_handler
from opskit.providers.sql.operators import BranchSQLOperator, SQLExecuteQueryOperator, SqliteOperator
from opskit.providers.sql.sensor import SqlSensor
from opskit.providers.sql.sqlite import SqliteHook
from opskit.providers.sql.transfer import GenericTransfer, SQLInsertRowsOperator

Connect = Callable[..., Connection]


@pytest.fixture
def hook(sqlite: Path) -> SqliteHook:
    made = SqliteHook()
    made.run("create table people (id integer primary key, name text, born date)")
    made.insert_rows("people", [(1, "Ada", "1815-12-10"), (2, "Alan", "1912-06-23"), (3, None, None)])
    return made


def test_records_and_first_rows_come_as_tuples(hook: SqliteHook) -> None:
    assert hook.get_records("select id, name from people order by id") == [(1, "Ada"), (2, "Alan"), (3, None)]
    assert hook.get_first("select name from people where id = ?", parameters=(2,)) == ("Alan",)
    assert hook.get_first("select name from people where id = :id", parameters={"id": 9}) is None


def test_several_statements_give_the_last_result_or_all(hook: SqliteHook) -> None:
    text = "select 1 as a; select 2 as b;"
    assert hook.run(text, handler=fetch_one_handler, split_statements=True) == (2,)
    assert [column[0] for column in hook.last_description] == ["b"]
    assert hook.run(text, handler=fetch_one_handler, split_statements=True, return_last=False) == [(1,), (2,)]
    assert len(hook.descriptions) == 2
    assert hook.run(["select 1", "select 2"], handler=fetch_one_handler) == [(1,), (2,)]
    assert hook.run("insert into people (name) values ('Grace')", handler=None) is None
    with pytest.raises(ValueError, match="empty"):
        hook.run("  ")


def test_a_failing_statement_undoes_those_before_it(hook: SqliteHook) -> None:
    with pytest.raises(sqlite3.OperationalError):
        hook.run(["delete from people", "delete from nothing"])
    assert hook.get_first("select count(*) from people") == (3,)


def test_rows_are_inserted_in_columns_in_batches_and_replaced(hook: SqliteHook) -> None:
    hook.insert_rows("people", ((n, f"n{n}") for n in range(10, 15)), target_fields=["id", "name"], commit_every=2)
    hook.insert_rows("people", [(10, "other")], target_fields=["id", "name"], replace=True, executemany=True)
    hook.insert_rows("people", [(20, datetime(2024, 1, 2, tzinfo=UTC))], target_fields=["id", "born"])
    assert hook.get_first("select count(*), max(name) from people where id >= 10") == (6, "other")
    assert hook.get_first("select born from people where id = 20") == ("2024-01-02T00:00:00+00:00",)


def test_the_hook_of_a_connection_is_found_by_its_type(hook: SqliteHook, connect: Connect) -> None:
    found = BaseHook.get_hook("sqlite_default")
    assert isinstance(found, SqliteHook)
    assert found.get_first("select count(*) from people") == (3,)
    assert connect("other", conn_type="sqlite", host=":memory:").get_hook().test_connection()[0]
    with pytest.raises(AirflowException, match="no hook for its type 'cassandra'"):
        connect("c", conn_type="cassandra").get_hook()


def test_sqlite_paths_are_read_from_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FILE_DB", f"sqlite://{tmp_path}/a.db")
    SqliteHook("file_db").run("create table t (a)")
    assert (tmp_path / "a.db").exists()
    assert SqliteHook("file_db").get_uri() == f"sqlite:///{tmp_path}/a.db"
    monkeypatch.setenv("AIRFLOW_CONN_READ_ONLY", f"sqlite://{tmp_path}/a.db?mode=ro")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        SqliteHook("read_only").run("create table u (a)")


def test_sqlalchemy_gets_an_engine_that_reaches_the_same_data(hook: SqliteHook) -> None:
    engine = hook.get_sqlalchemy_engine()
    with engine.connect() as conn:
        assert conn.exec_driver_sql("select count(*) from people").scalar() == 3
    engine.dispose()
    assert [column["name"] for column in hook.get_table_schema("people")] == ["id", "name", "born"]


def test_a_missing_library_is_named_when_it_is_needed(hook: SqliteHook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(AirflowOptionalProviderFeatureException, match=r"get_pandas_df.*pip install pandas"):
        hook.get_pandas_df("select 1")


def test_a_query_is_rendered_and_its_rows_are_pushed(hook: SqliteHook, dag: DAG, tmp_path: Path) -> None:
    (tmp_path / "names.sql").write_text("select name from {{ params.table }} where id = :id")
    dag.template_searchpath = [str(tmp_path)]
    SQLExecuteQueryOperator(
        task_id="file", conn_id="sqlite_default", sql="names.sql", params={"table": "people"}, parameters={"id": 2}
    )
    SqliteOperator(task_id="old", sql=["select 1", "select '{{ dag.dag_id }}'"])
    SqliteOperator(task_id="quiet", sql="delete from people", do_xcom_push=False)
    result = dag.test()
    assert result.state == "success", result.reasons
    pulled = {task_id: values["return_value"]["__data__"] if isinstance(values["return_value"], dict)
              else values["return_value"] for task_id, values in result.xcoms.items()}  # fmt: skip
    assert pulled["file"] == [{"__classname__": "builtins.tuple", "__version__": 1, "__data__": ["Alan"]}]
    assert "quiet" not in pulled
    assert hook.get_first("select count(*) from people") == (0,)


def test_what_is_made_of_the_results_is_up_to_the_operator(hook: SqliteHook) -> None:
    task = SQLExecuteQueryOperator(
        task_id="t",
        conn_id="sqlite_default",
        sql="select 1 as a; select 2 as b",
        split_statements=True,
        return_last=False,
        handler=fetch_one_handler,
        output_processor=lambda results, descriptions: [
            {column[0]: value for column, value in zip(columns, row, strict=True)}
            for row, columns in zip(results, descriptions, strict=True)
        ],
        show_return_value_in_logs=True,
    )
    assert task.execute({}) == [{"a": 1}, {"b": 2}]


def test_a_connection_that_is_no_database_is_refused(connect: Connect) -> None:
    connect("web", conn_type="http", host="example.org")
    with pytest.raises(AirflowException, match=r"no database|no hook"):
        SQLExecuteQueryOperator(task_id="t", conn_id="web", sql="select 1").execute({})
    with pytest.raises(AirflowException, match="conn_id is not given"):
        SQLExecuteQueryOperator(task_id="t", sql="select 1").execute({})


def test_checks_hold_or_fail(hook: SqliteHook) -> None:
    conn: dict[str, Any] = {"task_id": "t", "conn_id": "sqlite_default"}
    SQLCheckOperator(**conn, sql="select count(*), 'x' from people").execute({})
    with pytest.raises(AirflowException, match="Test failed"):
        SQLCheckOperator(**conn, sql="select 1, 0").execute({})
    with pytest.raises(AirflowException, match="zero rows"):
        SQLCheckOperator(**conn, sql="select 1 where 0").execute({})
    with pytest.raises(AirflowFailException):
        SQLCheckOperator(**conn, sql="select 0", retry_on_failure=False).execute({})
    SQLValueCheckOperator(**conn, sql="select count(*) from people", pass_value=3).execute({})
    SQLValueCheckOperator(**conn, sql="select 95", pass_value=100, tolerance=0.1).execute({})
    SQLValueCheckOperator(**conn, sql="select -95", pass_value=-100, tolerance=0.1).execute({})
    SQLValueCheckOperator(**conn, sql="select name from people where id = 1", pass_value="Ada").execute({})
    for query, value in (("select 80", 100), ("select 'Bob'", "Ada"), ("select 'Bob'", 1)):
        with pytest.raises(AirflowException, match="failed"):
            SQLValueCheckOperator(**conn, sql=query, pass_value=value, tolerance=0.1).execute({})
    SQLThresholdCheckOperator(**conn, sql="select 5", min_threshold=1, max_threshold="select 9").execute({})
    with pytest.raises(AirflowException, match=r"not within thresholds 6\.0 and 9\.0"):
        SQLThresholdCheckOperator(**conn, sql="select 5", min_threshold=6, max_threshold=9).execute({})


def test_metrics_are_compared_with_those_of_other_days(hook: SqliteHook, dag: DAG) -> None:
    hook.run("create table daily (ds text, n integer)")
    hook.insert_rows("daily", [("2024-03-01", 2), ("2024-03-01", 3), ("2024-02-23", 1)])
    common: dict[str, Any] = {"conn_id": "sqlite_default", "table": "daily", "days_back": -7}
    SQLIntervalCheckOperator(task_id="good", metrics_thresholds={"COUNT(*)": 2.5, "SUM(n)": 5.5}, **common)
    SQLIntervalCheckOperator(task_id="bad", metrics_thresholds={"SUM(n)": 5}, **common)
    SQLIntervalCheckOperator(
        task_id="relative", metrics_thresholds={"SUM(n)": 4.5}, ratio_formula="relative_diff", **common
    )
    result = dag.test(logical_date=datetime(2024, 3, 1, tzinfo=UTC))
    assert result.task_states == {"good": "success", "bad": "failed", "relative": "success"}, result.reasons
    with pytest.raises(AirflowException, match="max_over_min, relative_diff"):
        SQLIntervalCheckOperator(task_id="x", metrics_thresholds={}, ratio_formula="mean", **common)


def test_columns_are_checked_in_one_query(hook: SqliteHook) -> None:
    def check(mapping: dict[str, Any], **options: Any) -> None:
        SQLColumnCheckOperator(
            task_id="t", conn_id="sqlite_default", table="people", column_mapping=mapping, **options
        ).execute({})

    check({"id": {"min": {"equal_to": 1}, "max": {"geq_to": 3, "less_than": 4}, "unique_check": {"equal_to": 0}},
           "name": {"null_check": {"equal_to": 1}, "distinct_check": {"equal_to": 2}}})  # fmt: skip
    check({"name": {"null_check": {"equal_to": 0}}}, partition_clause="born IS NOT NULL")
    check({"name": {"null_check": {"equal_to": 0, "partition_clause": "id < 3"}}})
    check({"id": {"max": {"equal_to": 2.9, "tolerance": 0.1}}})
    check({"id": {"min": {"equal_to": 0}}}, partition_clause="id > 99")
    with pytest.raises(AirflowException, match="Test failed"):
        check({"id": {"min": {"equal_to": 0}}}, partition_clause="id > 99", accept_none=False)
    with pytest.raises(AirflowException, match="Column: name\n\tCheck: null_check"):
        check({"name": {"null_check": {"equal_to": 0}}})
    for mapping, text in (
        ({"id": {"mean": {"equal_to": 0}}}, "Invalid column check: mean"),
        ({"id": {"min": {}}}, "one or more of"),
        ({"id": {"min": {"greater_than": 3, "less_than": 3}}}, "no value is both"),
        ({"id": {"min": {"equal_to": 3, "less_than": 3}}}, "beside another"),
    ):
        with pytest.raises((AirflowException, ValueError), match=text):
            check(mapping)


def test_conditions_hold_for_each_row_or_for_the_table(hook: SqliteHook) -> None:
    def check(statement: str, **options: Any) -> None:
        SQLTableCheckOperator(
            task_id="t", conn_id="sqlite_default", table="people", checks={"one": {"check_statement": statement}},
            **options,
        ).execute({})  # fmt: skip

    check("COUNT(*) = 3")
    check("id > 0")
    with pytest.raises(AirflowException, match="Check: one"):
        check("name IS NOT NULL")
    check("name IS NOT NULL", partition_clause="id < 3")
    with pytest.raises(AirflowException, match="Check: one"):
        check("id = 0", partition_clause="id > 99")
    check("id = 0", partition_clause="id > 99", accept_none=True)


@pytest.mark.parametrize(
    ("query", "followed"),
    [("select 1", "yes"), ("select 0", "no"), ("select 'True'", "yes"), ("select 'off'", "no")],
)
def test_a_query_decides_which_branch_is_followed(hook: SqliteHook, dag: DAG, query: str, followed: str) -> None:
    branch = BranchSQLOperator(
        task_id="b", conn_id="sqlite_default", sql=query, follow_task_ids_if_true="yes", follow_task_ids_if_false=["no"]
    )
    branch >> [EmptyOperator(task_id="yes"), EmptyOperator(task_id="no")]
    states = dag.test().task_states
    assert {name for name in ("yes", "no") if states[name] == "success"} == {followed}


def test_a_branch_needs_an_answer_that_means_something(hook: SqliteHook, dag: DAG) -> None:
    for query in ("select 'maybe'", "select 1 where 0", "select null"):
        task = BranchSQLOperator(
            task_id=f"b{hash(query)}", conn_id="sqlite_default", sql=query, follow_task_ids_if_true=[],
            follow_task_ids_if_false=[],
        )  # fmt: skip
        with pytest.raises(AirflowException):
            task.execute({})


def test_a_sensor_waits_for_a_true_value(hook: SqliteHook) -> None:
    def poke(sql: str, **options: Any) -> bool:
        return SqlSensor(task_id="s", conn_id="sqlite_default", sql=sql, **options).poke({})

    assert poke("select count(*) from people")
    assert not poke("select 0")
    assert not poke("select 1 where 0")
    assert poke("select 0, 5", selector=lambda row: row[1])
    assert poke("select 7", success=lambda value: value == 7)
    assert poke("select count(*) from people where id = ?", parameters=[1])
    with pytest.raises(AirflowException, match="Failure criteria"):
        poke("select 'broken'", failure=lambda value: value == "broken")
    with pytest.raises(AirflowException, match="fail_on_empty"):
        poke("select 1 where 0", fail_on_empty=True)


def test_rows_go_from_one_database_to_another(hook: SqliteHook, connect: Connect, tmp_path: Path) -> None:
    connect("target", conn_type="sqlite", host=str(tmp_path / "target.db"))
    SqliteHook("target").run("create table copies (id integer, name text)")
    for options, count in (({}, 3), ({"page_size": 2, "preoperator": "delete from copies"}, 3)):
        GenericTransfer(
            task_id="t",
            sql="select id, name from people order by id",
            destination_table="copies",
            source_conn_id="sqlite_default",
            destination_conn_id="target",
            insert_args={"target_fields": ["id", "name"]},
            **options,
        ).execute({})
        assert SqliteHook("target").get_first("select count(*) from copies") == (count,)


def test_what_a_task_returned_is_inserted(hook: SqliteHook, dag: DAG) -> None:
    rows = PythonOperator(task_id="rows", python_callable=lambda: [{"id": 7, "name": "Edsger", "more": 1}, {"id": 8}])
    SQLInsertRowsOperator(
        task_id="insert",
        conn_id="sqlite_default",
        table_name="people",
        rows=rows.output,
        ignored_columns=["born"],
        preoperator="delete from people",
    )
    result = dag.test()
    assert result.state == "success", result.reasons
    assert hook.get_records("select id, name, born from people") == [(7, "Edsger", None), (8, None, None)]


def test_a_cursor_can_be_used_by_hand(hook: SqliteHook) -> None:
    with closing(hook.get_conn()) as conn:
        assert conn.execute("select count(*) from people").fetchone() == (3,)
    cursor = hook.get_cursor()
    assert cursor.execute("select 1").fetchone() == (1,)
    cursor.connection.close()
