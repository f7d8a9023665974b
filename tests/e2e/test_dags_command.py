"""`opskit dags …`, `tasks …`, `config …` and `info` over a metastore without a scheduler."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from opskit.core.metastore.engine import open_engine
from opskit.core.metastore.schema import migrate
from tests.daemons import running

Opskit = Callable[..., "CompletedProcess[str]"]

DAG_FILE = """
from datetime import datetime
from opskit import DAG
from opskit.operators import EmptyOperator, PythonOperator

def work(dag_run=None, **_):
    from opskit import Variable
    print("variable", Variable.get("colour", default_var="none"))
    return 1 / dag_run.conf.get("divisor", 1)

with DAG("daily", schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False, tags=["team-a"]) as dag:
    start = EmptyOperator(task_id="start")
    middle = PythonOperator(task_id="middle", python_callable=work)
    end = EmptyOperator(task_id="end")
    start >> middle >> end
    start >> end

with DAG("manual_only", schedule=None) as other:
    EmptyOperator(task_id="alone")
"""


@pytest.fixture(scope="module")
def loaded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("loaded") / "opskit-home"
    (home / "dags").mkdir(parents=True)
    (home / "dags" / "a.py").write_text(DAG_FILE)
    (home / "dags" / "broken.py").write_text("# opskit dag\n1 / 0\n")
    engine = open_engine(f"sqlite:///{home / 'opskit.db'}")
    migrate(engine)
    engine.dispose()
    with running("dag-processor", home) as daemon:
        daemon.wait_for_line("all DAG files are loaded")
    return home


@pytest.fixture
def loaded(loaded_once: Path, home: Path) -> Path:
    """A home whose DAG folder was loaded once."""
    shutil.copytree(loaded_once, home, dirs_exist_ok=True)
    return home


def rows(opskit: Opskit, *arguments: str) -> Any:
    return json.loads(opskit(*arguments, "--output", "json").stdout)


def test_dags_are_listed_with_what_failed_to_load_on_stderr(loaded: Path, opskit: Opskit) -> None:
    listed = opskit("dags", "list")
    assert "daily" in listed.stdout
    assert "1 DAG files could not be loaded" in listed.stderr
    assert [dag["dag_id"] for dag in rows(opskit, "dags", "list", "--tag", "team-a")] == ["daily"]
    errors = rows(opskit, "dags", "list-import-errors")
    assert errors[0]["path"] == "broken.py"
    assert "ZeroDivisionError" in errors[0]["error"]


def test_pausing_is_told_once_and_leaves_an_audit_line(loaded: Path, opskit: Opskit) -> None:
    assert "not paused" in opskit("dags", "unpause", "daily").stdout
    assert "already" in opskit("dags", "unpause", "daily").stdout
    assert not rows(opskit, "dags", "list", "--tag", "team-a")[0]["is_paused"]
    opskit("dags", "pause", "--treat-dag-id-as-regex", "^da", "--yes")
    assert rows(opskit, "dags", "list", "--tag", "team-a")[0]["is_paused"]


def test_an_unknown_name_gives_the_nearest_one_and_exit_code_2(loaded: Path, opskit: Opskit) -> None:
    for arguments in (
        ("dags", "show", "dialy"),
        ("dags", "trigger", "dialy"),
        ("dags", "pause", "dialy"),
        ("dags", "list-runs", "dialy"),
        ("dags", "next-execution", "dialy"),
        ("dags", "delete", "dialy", "--yes"),
        ("tasks", "list", "dialy"),
        ("tasks", "clear", "dialy", "--yes"),
    ):
        failed = opskit(*arguments, check=False)
        assert failed.returncode == 2, arguments
        assert "did you mean daily?" in failed.stderr, arguments
        assert "Traceback" not in failed.stderr


def test_a_trigger_makes_a_queued_run_and_refuses_nonsense(loaded: Path, opskit: Opskit) -> None:
    run = rows(opskit, "dags", "trigger", "daily", "-r", "mine", "-c", '{"a": 1}', "-e", "2026-02-03")
    assert (run["state"], run["conf"], run["logical_date"]) == ("queued", {"a": 1}, "2026-02-03T00:00:00+00:00")
    assert opskit("dags", "state", "daily", "2026-02-03").stdout.strip() == "queued"
    assert [found["run_id"] for found in rows(opskit, "dags", "list-runs", "-d", "daily")] == ["mine"]
    for arguments in (("-r", "mine"), ("-c", "[1]"), ("-c", "{"), ("-e", "yesterday"), ("-r", "a/b")):
        failed = opskit("dags", "trigger", "daily", *arguments, check=False)
        assert failed.returncode == 2, arguments
        assert "Traceback" not in failed.stderr
    assert len(rows(opskit, "dags", "list-runs", "daily")) == 1
    late = opskit("dags", "trigger", "daily", "--wait", "--timeout", "0.2", check=False)
    assert late.returncode == 4


def test_a_backfill_is_planned_from_the_schedule_and_refused_for_a_paused_dag(loaded: Path, opskit: Opskit) -> None:
    opskit("dags", "trigger", "daily", "-r", "mine", "-e", "2026-01-02T00:00:00+00:00")
    arguments = ("dags", "backfill", "daily", "-s", "2026-01-01", "-e", "2026-01-03")
    planned = rows(opskit, *arguments, "--dry-run")
    assert [(step["run_id"], step["action"]) for step in planned] == [
        ("backfill__2026-01-01T00:00:00+00:00", "create"),
        ("mine", "keep"),
        ("backfill__2026-01-03T00:00:00+00:00", "create"),
    ]
    assert opskit(*arguments, check=False).returncode == 16
    opskit(*arguments, "--no-wait")
    assert len(rows(opskit, "dags", "list-runs", "daily", "--run-type", "backfill")) == 2
    opskit(*arguments, "--no-wait")
    assert len(rows(opskit, "dags", "list-runs", "daily")) == 3
    assert (
        opskit("dags", "backfill", "manual_only", "-s", "2026-01-01", "-e", "2026-01-03", check=False).returncode == 2
    )


def test_a_dag_is_tested_in_process_and_nothing_is_written(loaded: Path, opskit: Opskit) -> None:
    result = rows(opskit, "dags", "test", "daily", "2026-02-01")
    assert result["task_states"] == {"start": "success", "middle": "success", "end": "success"}
    failed = opskit("dags", "test", "daily", "--conf", '{"divisor": 0}', check=False)
    assert failed.returncode == 4
    assert "ZeroDivisionError" in failed.stderr
    assert rows(opskit, "dags", "list-runs", "daily") == []


def test_one_task_is_tested_in_process(loaded: Path, opskit: Opskit) -> None:
    done = opskit("tasks", "test", "daily", "middle", "2026-02-01", "-c", '{"divisor": 2}')
    assert "variable none" in done.stdout
    assert "daily.middle: success" in done.stdout
    assert opskit("tasks", "test", "daily", "middle", "-c", '{"divisor": 0}', check=False).returncode == 4
    wrong = opskit("tasks", "test", "daily", "midle", check=False)
    assert (wrong.returncode, "did you mean middle?" in wrong.stderr) == (2, True)


def test_a_dag_can_be_tested_before_anything_is_set_up(home: Path, opskit: Opskit) -> None:
    (home / "dags" / "a.py").write_text(DAG_FILE)
    done = opskit("dags", "test", "daily")
    assert done.stdout.strip().endswith("daily: success")
    assert not (home / "opskit.db").exists()


def test_tasks_are_listed_in_order_and_as_a_tree(loaded: Path, opskit: Opskit) -> None:
    assert [task["task_id"] for task in rows(opskit, "tasks", "list", "daily")] == ["start", "middle", "end"]
    tree = opskit("tasks", "list", "daily", "--tree").stdout.splitlines()
    assert tree[0] == "<EmptyOperator> start"
    assert "    <PythonOperator> middle" in tree
    assert "        <EmptyOperator> end" in tree


def test_the_next_runs_follow_each_other(loaded: Path, opskit: Opskit) -> None:
    runs = rows(opskit, "dags", "next-execution", "daily", "-n", "3")
    assert [run["data_interval_end"] for run in runs[:2]] == [run["data_interval_start"] for run in runs[1:]]


def test_a_deleted_dag_is_gone_with_its_runs(loaded: Path, opskit: Opskit) -> None:
    opskit("dags", "trigger", "daily")
    assert "1 runs" in opskit("dags", "delete", "daily", "--dry-run").stdout
    assert opskit("dags", "delete", "daily", check=False).returncode == 2
    opskit("dags", "delete", "daily", "--yes")
    assert [dag["dag_id"] for dag in rows(opskit, "dags", "list")] == ["manual_only"]


def test_settings_show_where_they_come_from_and_never_a_secret(home: Path, opskit: Opskit) -> None:
    (home / "opskit.toml").write_text("[core]\nparallelism = 3\n[smtp]\nsmtp_password = 'hunter2'\n")
    url = "postgresql://someone:hunter3@127.0.0.1/opskit"
    environment = {"AIRFLOW__CORE__DEFAULT_TIMEZONE": "Europe/Berlin", "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url}
    done = opskit("config", "list", "--output", "json", env=environment)
    found = {f"{row['section']}.{row['key']}": row for row in json.loads(done.stdout)}
    assert (found["core.parallelism"]["value"], found["core.parallelism"]["origin"]) == (3, str(home / "opskit.toml"))
    assert found["core.default_timezone"]["origin"] == "environment AIRFLOW__CORE__DEFAULT_TIMEZONE"
    assert "hunter" not in done.stdout
    assert opskit("config", "get-value", "core", "parallelism").stdout == "3\n"
    assert "hunter" not in opskit("config", "get-value", "database", "sql_alchemy_conn", env=environment).stdout
    wrong = opskit("config", "get-value", "core", "paralelism", check=False)
    assert (wrong.returncode, "did you mean 'parallelism'?" in wrong.stderr) == (2, True)


def test_info_tells_what_is_known_even_when_the_metastore_is_not_there(home: Path, opskit: Opskit) -> None:
    failed = opskit("info", "--output", "json", check=False)
    assert failed.returncode == 12
    assert json.loads(failed.stdout)["home"] == str(home)


def test_info_counts_dags_and_names_the_database(loaded: Path, opskit: Opskit) -> None:
    facts = rows(opskit, "info")
    assert facts["dags"] == {"active": 2, "paused": 2, "inactive": 0, "import errors": 1}
    assert facts["instances"] == []
    assert facts["database"].startswith("sqlite:")
