"""How statements of DAG files are read: no database is needed for that."""

from __future__ import annotations

import subprocess
import sys

import pytest

from opskit.core.metastore.airflow_models import virtual
from opskit.core.metastore.airflow_models.place import Place
from opskit.core.metastore.airflow_models.sql_text import (
    NotUnderstood,
    inserted,
    mentioned,
    parse,
    take_apart,
    with_tables,
)


def test_the_names_alone_load_no_sqlalchemy() -> None:
    code = """
import sys
from opskit.core.metastore.airflow_models import DagRun, TaskInstance, XCom
from opskit.core.dag.connection import Connection
from opskit.core.dag.variable import Variable
class Backend(XCom):
    @staticmethod
    def serialize_value(value, **context):
        return XCom.serialize_value(value)
def f(ti: TaskInstance, run: "DagRun | None" = None) -> None: ...
assert Backend.serialize_value([1]) == b"[1]" and not isinstance(1, DagRun)
assert Connection(conn_id="c", password="p").password == "p" and not hasattr(Variable, "__wrapped__")
assert "sqlalchemy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "verb", "target"),
    [
        ("select 1", "select", ""),
        ("  (SELECT 1) UNION (SELECT 2)", "select", ""),
        ("-- note\nWITH a AS (SELECT 1) SELECT * FROM a;", "select", ""),
        ("DELETE FROM public.dag_run WHERE id = 1", "delete", "dag_run"),
        ('update "dag" as d set is_paused = true', "update", "dag"),
        ("INSERT INTO `log` (event) VALUES ('x')", "insert", "log"),
        ("REPLACE INTO variable (val) VALUES (1)", "insert", "variable"),
        ("DROP TABLE IF EXISTS task_instance", "define", "task_instance"),
        ("truncate table dag_run", "define", "dag_run"),
        ("COPY log(event) FROM STDIN", "define", "log"),
        ("PRAGMA foreign_keys", "other", ""),
    ],
)
def test_what_a_statement_does(text: str, verb: str, target: str) -> None:
    found = parse(text)
    assert (found.verb, found.target) == (verb, target)


def test_literals_and_comments_name_no_table() -> None:
    found = parse("SELECT 'dag_run', /* xcom */ 'it''s log' FROM task_instance -- variable")
    assert mentioned(found, virtual.NAMES) == ["task_instance"]


def test_a_lock_on_rows_is_left_out() -> None:
    found = parse("SELECT * FROM dag_run WHERE id = 1 FOR UPDATE OF dag_run SKIP LOCKED")
    assert (found.text, found.locks) == ("SELECT * FROM dag_run WHERE id = 1", True)


def test_tables_are_put_before_the_query() -> None:
    assert with_tables("SELECT 1", "x AS (y)") == "WITH x AS (y) SELECT 1"
    assert with_tables("WITH RECURSIVE a AS (b) SELECT 1", "x AS (y)") == "WITH RECURSIVE x AS (y), a AS (b) SELECT 1"
    assert with_tables("CREATE TABLE t AS SELECT 1", "x AS (y)") == "CREATE TABLE t AS WITH x AS (y) SELECT 1"


def test_an_update_is_taken_apart() -> None:
    parts = take_apart(
        parse("UPDATE dag d SET is_paused = (a = b, 1), x='c, d' FROM other o WHERE d.dag_id = o.dag_id")
    )
    assert (parts.alias, parts.tables.split(), parts.where.strip()) == (
        "d",
        ["dag", "d,", "other", "o"],
        "d.dag_id = o.dag_id",
    )
    assert parts.assignments == (("is_paused", "(a = b, 1)"), ("x", "'c, d'"))
    parts = take_apart(parse("DELETE FROM xcom USING dag_run r WHERE r.id = xcom.dag_run_id"))
    assert (parts.alias, parts.tables.split()) == ("xcom", ["xcom,", "dag_run", "r"])


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM dag_run WHERE id = 1 RETURNING id",
        "DELETE FROM dag_run ORDER BY id LIMIT 5",
        "WITH a AS (SELECT 1) DELETE FROM dag_run",
        "UPDATE dag JOIN other ON 1 SET is_paused = 1",
    ],
)
def test_what_can_not_be_taken_apart_is_refused(text: str) -> None:
    with pytest.raises(NotUnderstood):
        take_apart(parse(text))


def test_a_second_statement_is_not_overlooked() -> None:
    with pytest.raises(NotUnderstood, match="one statement"):
        parse("SELECT 1; DELETE FROM dag_run")
    assert parse("SELECT ';'; ").verb == "select"


def test_values_become_a_query() -> None:
    columns, query = inserted(parse("INSERT INTO variable (key, `val`) VALUES (?, 'a,(b'), (lower('X'), ?)"))
    assert columns == ["key", "val"]
    assert query == "SELECT ? AS v0,  'a,(b' AS v1 UNION ALL SELECT lower('X') AS v0,  ? AS v1"
    with pytest.raises(NotUnderstood, match="ON CONFLICT"):
        inserted(parse("INSERT INTO variable (key) VALUES (1) ON CONFLICT DO NOTHING"))


def test_a_folder_with_odd_letters_is_a_literal() -> None:
    assert Place("postgresql", "public", "/da'gs/100%").below_dags("f") == "'/da''gs/100%%/' || f"
    assert Place("mysql", "m", "/a\\b").below_dags("f") == "CONCAT('/a\\\\b/', f)"
    assert Place("sqlite", "main", "/100%").below_dags("f") == "'/100%/' || f"
