"""Moving in: databases of real Airflows (2.11.2 and 3.3.2), recorded, and what their export commands wrote."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, select

from opskit.core.metastore import audit, connections, crypto, pools, runs, task_instances, variables, xcoms
from opskit.core.metastore.airflow_source import conf_of, xcom_value
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.tables import dag
from tests.databases import Databases
from tests.metastore_rows import store_dag

DUMPS = Path(__file__).parent / "airflow_dumps"
KEY = "Mw4eXgTkqY4YyGNwYfbIxHmTkJCYUJFQHZUEFvNQbnI="  # of the recorded databases


def _restore(generation: int, path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        database.executescript((DUMPS / f"airflow_{generation}.sql").read_text(encoding="utf-8"))
    return f"sqlite:///{path}"


@pytest.fixture
def engine(home: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    url = databases.migrated("sqlite")
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", url)
    (home / "key").write_text(KEY)
    opened = open_engine(url)
    yield opened
    opened.dispose()


@pytest.fixture
def run_import(home: Path, engine: Engine) -> Any:
    """`opskit airflow import …` in this process; the exit code and what it printed as JSON."""
    from opskit.cli import run

    del engine, home

    def invoke(*arguments: object) -> tuple[int, dict[str, Any]]:
        out, error = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(error):
            code = run(["airflow", "import", "--yes", "-o", "json", *map(str, arguments)])
        return code, json.loads(out.getvalue()) if out.getvalue().strip() else {"error": error.getvalue()}

    return invoke


@pytest.mark.parametrize("generation", [2, 3])
def test_everything_of_a_recorded_airflow_is_taken_over_once(
    generation: int, run_import: Any, engine: Engine, home: Path, tmp_path: Path
) -> None:
    url = _restore(generation, tmp_path / "airflow.db")
    before = (tmp_path / "airflow.db").read_bytes()
    with transaction(engine) as connection:
        store_dag(connection, "moving")
        connection.execute(dag.update().values(is_paused=False))
    arguments = ("--from-db", url, "--fernet-key-file", home / "key", "--history")
    code, planned = run_import(*arguments, "--dry-run")
    assert (code, planned["runs"], len(planned["objects"])) == (0, 2, 7 if generation == 2 else 6)
    with reading(engine) as connection:
        assert runs.list_runs(connection) == []
    code, told = run_import(*arguments)
    assert (code, told["failed"]) == (0, [])
    assert told["done"]["runs"] == 2
    cipher = crypto.Cipher(crypto.read_keys(home / "fernet.key"), "the test")
    with reading(engine) as connection:
        warehouse = connections.get_connection(connection, cipher, "warehouse")
        assert (warehouse.password, warehouse.port) == ("s3cret/ü", 5433)
        assert warehouse.extra_dejson == {"sslmode": "require", "token": "t0k"}
        settings = variables.get_variable(connection, cipher, "settings")
        assert json.loads(settings.value) == {"deep": {"list": [1, 2]}}
        assert settings.description == "a JSON one"
        assert pools.get_pool(connection, "loaders").slots == 3
        assert connection.execute(select(dag.c.is_paused)).scalar_one()
        first = runs.list_runs(connection, dag_id="moving")[-1]
        assert (first.state, first.logical_date) == ("success", datetime(2024, 1, 2, tzinfo=UTC))
        states = task_instances.task_states(connection, "moving", first.run_id)
        assert states["double", 1] == "success"
        assert states["never", -1] == "skipped"
        doubled = xcoms.list_xcoms(connection, "moving", first.run_id, "double", 1)["return_value"]
        assert doubled["twice"] == 4
        assert doubled["at"]["__data__"].startswith("2024-01-02T03:00:00")
        line = audit.read(connection, event="airflow import")[0]
        assert (line.extra["objects"], line.extra["runs"]) == (len(planned["objects"]), 2)
    code, again = run_import(*arguments)
    assert (code, again["objects"], again["runs"], again["runs_here_already"]) == (0, [], 0, 2)
    assert {item["what"] for item in again["not_taken"]} >= {"pools/default_pool"}
    assert (tmp_path / "airflow.db").read_bytes() == before, "that Airflow is only read"


def test_what_is_here_stays_unless_it_is_to_be_overwritten(run_import: Any, engine: Engine, home: Path) -> None:
    cipher = crypto.Cipher([crypto.new_key()], "the test")
    with transaction(engine) as connection:
        variables.set_variable(connection, cipher, "plain", "mine")
    files = [
        value for kind in ("connections", "variables", "pools") for value in ("--export-file", DUMPS / f"{kind}_2.json")
    ]
    code, told = run_import(*files)
    assert (code, told["done"]["objects"]) == (0, 4)
    assert "variables/plain" in {item["what"] for item in told["not_taken"]}
    code, told = run_import(*files, "--overwrite")
    assert {(item["name"], item["action"]) for item in told["objects"]} >= {("plain", "replace")}
    own = crypto.Cipher(crypto.read_keys(home / "fernet.key"), "the test")
    with reading(engine) as connection:
        assert variables.get_variable(connection, own, "plain").value == "text"
        assert connections.get_connection(connection, own, "web").host == "example.org"


def test_a_dag_is_unpaused_only_when_that_is_asked_for(run_import: Any, engine: Engine, tmp_path: Path) -> None:
    url = _restore(2, tmp_path / "airflow.db")
    with closing(sqlite3.connect(tmp_path / "airflow.db")) as database, database:
        database.execute("UPDATE dag SET is_paused = 0")
    with transaction(engine) as connection:
        store_dag(connection, "moving")
        connection.execute(dag.update().values(is_paused=True))
    _, told = run_import("--from-db", url)
    assert "--unpause" in {item["what"]: item["why"] for item in told["not_taken"]}["dags/moving"]
    assert "connections/warehouse" in {item["what"] for item in told["not_taken"]}, "no key was given"
    run_import("--from-db", url, "--unpause")
    with reading(engine) as connection:
        assert not connection.execute(select(dag.c.is_paused)).scalar_one()


def test_one_bad_row_does_not_keep_the_others_out(run_import: Any, engine: Engine, home: Path, tmp_path: Path) -> None:
    url = _restore(2, tmp_path / "airflow.db")
    with closing(sqlite3.connect(tmp_path / "airflow.db")) as database, database:
        database.execute("UPDATE dag_run SET conf = X'80049504000000000000008C026F73949389' WHERE id = 1")
        database.execute("UPDATE xcom SET value = X'80055D942E' WHERE dag_run_id = 2 AND task_id = 'numbers'")
        database.execute("UPDATE variable SET val = 'gAAAAAdamaged' WHERE key = 'plain'")
        database.execute("INSERT INTO slot_pool VALUES (9, 'endless', -1, NULL, 1)")
        database.execute(
            "INSERT INTO dag_run (id, dag_id, run_id, run_type, state, execution_date, clear_number) "
            "VALUES (9, 'moving', 'going', 'manual', 'running', '2024-01-09 00:00:00.000000', 0)"
        )
    code, told = run_import("--from-db", url, "--fernet-key-file", home / "key", "--history")
    assert code == 3
    assert {item["what"].split("/")[0] for item in told["failed"]} == {"runs", "xcoms"}
    assert {"variables/plain", "pools/endless", "1 DagRuns"} <= {item["what"] for item in told["not_taken"]}
    assert told["done"]["runs"] == 1
    with reading(engine) as connection:
        assert [run.run_id for run in runs.list_runs(connection)] == ["manual__2024-01-03T00:00:00+00:00"]


def test_settings_that_somebody_chose_are_taken_over(run_import: Any, home: Path, tmp_path: Path) -> None:
    cfg = tmp_path / "airflow.cfg"
    cfg.write_text(
        "[core]\nparallelism = 7\nfernet_key = x\nexecutor = CeleryExecutor\nload_examples = True\n"
        "default_timezone = Europe/Berlin\n[smtp]\nsmtp_host = mail.example.com\nsmtp_password = p\n"
        "[celery]\nworker_concurrency = 5\n"
        "[scheduler]\ncatchup_by_default = maybe\n"
    )
    (home / "opskit.toml").write_text('# ours\n[core]\ndefault_timezone = "UTC"\n')
    code, told = run_import("--airflow-cfg", cfg)
    assert (code, told["settings"]) == (0, {"core.parallelism": 7, "smtp.smtp_host": "mail.example.com"})
    left = {item["what"]: item["why"] for item in told["not_taken"]}
    assert "set here already" in left["core.default_timezone"]
    assert {"core.fernet_key", "core.executor", "smtp.smtp_password", "celery.worker_concurrency"} <= left.keys()
    assert "catchup_by_default" in left["scheduler.catchup_by_default"]
    assert "core.load_examples" not in left, "its default"
    written = (home / "opskit.toml").read_text()
    assert written.startswith('# ours\n[core]\nparallelism = 7\ndefault_timezone = "UTC"')
    assert run_import("--airflow-cfg", cfg)[1]["settings"] == {}


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_the_airflow_may_be_on_a_server(
    kind: str, run_import: Any, databases: Databases, home: Path, tmp_path: Path
) -> None:
    _restore(2, tmp_path / "airflow.db")
    source = create_engine(f"sqlite:///{tmp_path / 'airflow.db'}")
    metadata = MetaData()
    metadata.reflect(source)
    for table in metadata.sorted_tables:
        for column in table.columns:
            column.type = column.type.as_generic()
    url = databases.empty(kind)
    server = open_engine(url)
    metadata.create_all(server)
    with source.connect() as rows, server.begin() as connection:
        for table in metadata.sorted_tables:
            found = [dict(row._mapping) for row in rows.execute(select(table))]
            if found:
                connection.execute(table.insert(), found)
    source.dispose()
    server.dispose()
    code, told = run_import("--from-db", url, "--fernet-key-file", home / "key", "--history")
    databases.drop(url)
    assert (code, told["failed"], told["done"]) == (
        0,
        [],
        {"settings": 0, "objects": 6, "runs": 2, "task_instances": 10, "xcoms": 10},
    )


def test_what_is_no_airflow_is_said_to_be_none(run_import: Any, databases: Databases, tmp_path: Path) -> None:
    code, told = run_import("--from-db", f"sqlite:///{tmp_path / 'nothing.db'}")
    assert (code, "there is no file" in told["error"]) == (12, True)
    sqlite3.connect(tmp_path / "empty.db").close()
    code, told = run_import("--from-db", f"sqlite:///{tmp_path / 'empty.db'}")
    assert (code, "no metastore of Airflow" in told["error"]) == (2, True)
    assert run_import()[0] == 2
    assert run_import("--export-file", __file__)[0] == 2


def test_values_of_airflow_become_our_json() -> None:
    at = {"__classname__": "datetime.datetime", "__version__": 2, "__data__": {"timestamp": 0.0, "tz": ["UTC"]}}
    assert xcom_value(json.dumps([at]).encode()) == [{**at, "__version__": 1, "__data__": "1970-01-01T00:00:00+00:00"}]
    assert xcom_value("12") == "12", "Airflow 3 keeps a text as it is"
    with pytest.raises(ValueError, match="pandas"):
        xcom_value(b'{"__classname__": "pandas.core.frame.DataFrame", "__version__": 1, "__data__": ""}')
    assert conf_of(b"\x80\x05}\x94\x8c\x01a\x94K\x01s.") == {"a": 1}
    with pytest.raises(ValueError, match="conf"):
        conf_of(b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94.")
