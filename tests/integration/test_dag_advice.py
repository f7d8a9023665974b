"""What a deployment tells of its DAGs: tasks that come and go, what they need and nobody has, odd schedules."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from opskit.config import Config, load
from opskit.core.metastore import dag_loads, pools, schema
from opskit.core.metastore.engine import open_engine, transaction
from opskit.core.runner.loader import Loader
from opskit.ops.dag_advice import Advice, advise
from opskit.platforms import find
from tests.metastore_rows import loaded_file, start_run

Opskit = Callable[..., "subprocess.CompletedProcess[str]"]
NOW = datetime.now(UTC)

DAG = """
from datetime import datetime, timedelta
from opskit import DAG
from opskit.operators import BashOperator, EmptyOperator
{before}
with DAG("etl", start_date={start}, schedule={schedule}, catchup={catchup}{more}):
    {tasks}
"""


def write(home: Path, tasks: str = "EmptyOperator(task_id='a')", **changes: str) -> None:
    values = {"before": "", "start": "datetime(2026, 1, 1)", "schedule": "None", "catchup": "False", "more": ""}
    (home / "dags" / "etl.py").write_text(DAG.format(tasks=tasks, **{**values, **changes}))


@pytest.fixture
def engine(metastore_url: str) -> Any:
    engine = open_engine(metastore_url)
    yield engine
    engine.dispose()


@pytest.fixture
def config(metastore_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", metastore_url)
    return load()


def looked_at(config: Config) -> Advice:
    platform = find(config)
    files = platform.dag_files.load(config.dags_folder, ["etl.py"])
    assert [file.error for file in files] == [None]
    return advise(platform, files)


def store(config: Config, engine: Engine) -> None:
    """What the DAG processor does with the file."""
    loader = Loader(config)
    (found,) = loader.load(["etl.py"], 30.0, 0, 1)
    loader.close()
    with transaction(engine) as connection:
        dag_loads.store_loaded_files(connection, [loaded_file("etl.py", found.dags[0])], NOW)


def test_tasks_that_come_and_go_are_told(config: Config, engine: Engine, home: Path) -> None:
    write(home, "EmptyOperator(task_id='a') >> EmptyOperator(task_id='b')")
    (change,) = looked_at(config).changes
    assert change.is_new and change.added == ("a", "b")
    store(config, engine)
    assert looked_at(config) == Advice()
    with transaction(engine) as connection:
        start_run(connection, "etl", NOW, {"a": "success", "b": "running"})
    write(home, "EmptyOperator(task_id='c')")
    advice = looked_at(config)
    (change,) = advice.changes
    assert not change.is_new and (change.added, change.removed) == (("c",), ("a", "b"))
    assert advice.warnings == ("etl.py: etl: task b goes, and has 1 unfinished task instances",)


def test_what_nobody_has_is_named_until_somebody_makes_it(
    config: Config, engine: Engine, home: Path, opskit: Opskit
) -> None:
    command = "{{ var.value.region }} {{ var.json.limits.cpu }} {{ var.value.get('zone', 'x') }} {{ variable.x }}"
    write(
        home,
        f"""BashOperator(task_id='a', pool='spark', bash_command={command!r})
    Copy(task_id='b')""",
        before="""
class Copy(EmptyOperator):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.source_conn_id, self.target_conn_id, self.aws_conn_id = "crm", "{{ params.target }}", None
""",
    )
    found = "\n".join(looked_at(config).warnings)
    assert "no pool spark" in found
    assert "no connection crm (" in found
    assert "no variable limits, region, zone (" in found
    with transaction(engine) as connection:
        pools.set_pool(connection, "spark", 3)
    opskit("connections", "add", "crm", "--conn-type", "http", env=environment(config))
    for name in ("region", "zone", "limits"):
        opskit("variables", "set", name, "1", env=environment(config))
    assert looked_at(config).warnings == ()


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"start": "None", "schedule": "'@daily'"}, "no start_date"),
        ({"schedule": "'@daily'", "more": ", end_date=datetime(2026, 2, 1)"}, "its end_date 2026-02-01 has passed"),
        ({"schedule": "timedelta(seconds=5)"}, "it runs every 5 s"),
        ({"schedule": "'@daily'", "catchup": "True"}, "catchup is on: "),
        ({"schedule": "'* * * * *'", "catchup": "True"}, "catchup is on: 1,000 or more runs"),
        ({"before": "import time; time.sleep(0.2)"}, "to load"),
    ],
)
def test_an_odd_schedule_or_a_slow_file_is_told(
    config: Config, home: Path, changes: dict[str, str], warning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSKIT__DEPLOY__IMPORT_SECONDS", "0.2" if "load" in warning else "0")
    write(home, **changes)
    (found,) = looked_at(load()).warnings
    assert warning in found


def test_a_plain_dag_gets_no_warning(config: Config, home: Path) -> None:
    for schedule, catchup in (("'@daily'", "False"), ("None", "True"), ("'@once'", "True"), ("'@continuous'", "False")):
        write(home, schedule=schedule, catchup=catchup, more=", max_active_runs=1")
        assert looked_at(config).warnings == ()


def test_without_a_metastore_it_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", "postgresql://nobody@127.0.0.1:1/none")
    write(home, "EmptyOperator(task_id='a', pool='spark')")
    advice = looked_at(load())
    assert advice.warnings == () and "were not compared" in advice.notes[0]


def test_the_command_warns_shows_and_refuses(home: Path, opskit: Opskit, tmp_path: Path) -> None:
    schema_engine = open_engine(f"sqlite:///{home / 'opskit.db'}")
    schema.migrate(schema_engine)
    schema_engine.dispose()
    write(home, "EmptyOperator(task_id='a', pool='spark')")
    source = tmp_path / "new"
    (home / "dags").rename(source)
    (home / "dags").mkdir()
    done = opskit("deploy-dag", source, "--dry-run")
    assert "etl.py: etl: new, 1 tasks" in done.stdout and "warning: etl.py: etl: there is no pool spark" in done.stderr
    for _ in range(2):  # what was looked at once is looked at again
        refused = opskit("deploy-dag", source, "--strict", check=False)
        assert refused.returncode == 15 and "no pool spark" in refused.stderr
        assert list((home / "dags").iterdir()) == []
    done = opskit("deploy-dag", source, "-o", "json")
    report = json.loads(done.stdout)
    assert [dag["dag_id"] for dag in report["dags"]] == ["etl"] and len(report["warnings"]) == 1
    assert (home / "dags" / "etl.py").exists()


def environment(config: Config) -> dict[str, str]:
    return {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": str(config.get("database", "sql_alchemy_conn"))}
