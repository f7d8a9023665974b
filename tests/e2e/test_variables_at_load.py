"""DAG files that read variables and connections at their top level, from `opskit variables set` to a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.daemons import running
from tests.waiting import wait_until

Opskit = Callable[..., "CompletedProcess[str]"]

DAG_FILE = """
from datetime import datetime
from opskit import DAG, Variable
from opskit.hooks import BaseHook
from opskit.operators import PythonOperator

SETTINGS = Variable.get("settings", deserialize_json=True)
LAKE = BaseHook.get_connection("lake")

def work(table):
    print(f"{table} at {LAKE.host}, {LAKE.password}")

with DAG("asks", schedule=None, start_date=datetime(2026, 1, 1), is_paused_upon_creation=False):
    for table in SETTINGS["tables"]:
        PythonOperator(task_id=table, python_callable=work, op_args=[table])
"""


def tasks(opskit: Opskit) -> list[str]:
    listed = opskit("tasks", "list", "asks", "--output", "json", check=False)
    return sorted(row["task_id"] for row in json.loads(listed.stdout)) if listed.returncode == 0 else []


@pytest.mark.timeout(300)
def test_variables_shape_a_dag_from_its_first_load_to_its_runs(home: Path, opskit: Opskit) -> None:
    (home / "dags" / "asks.py").write_text(DAG_FILE)
    with running("standalone", home, scheduler__variable_refresh_interval="1"):

        def errors() -> str:
            return opskit("dags", "list-import-errors", check=False).stdout

        wait_until(lambda: "Variable settings does not exist" in errors(), 60.0, what="an import error")
        opskit("connections", "add", "lake", "--conn-uri", "postgres://me:hunter22@north/db")
        opskit("variables", "set", "settings", '{"tables": ["one", "two"]}')
        wait_until(lambda: tasks(opskit) == ["one", "two"], what="the DAG")
        opskit("dags", "trigger", "asks", "-r", "first", "--wait", "--timeout", "60")
        log = opskit("tasks", "logs", "asks", "first", "one").stdout
        assert "one at north, ***" in log and "hunter22" not in log
        opskit("variables", "set", "settings", '{"tables": ["two", "three"]}')
        wait_until(lambda: tasks(opskit) == ["three", "two"], what="the changed DAG")
        opskit("dags", "trigger", "asks", "-r", "second", "--wait", "--timeout", "60")
        assert "three at north" in opskit("tasks", "logs", "asks", "second", "three").stdout
    for arguments in (("dags", "test", "asks"), ("tasks", "test", "asks", "three")):
        assert "three at north" in opskit(*arguments).stdout
