"""A thousand secrets that tasks print: none of them is in a log file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from opskit.config import load
from opskit.core.dag.connection import Connection
from opskit.core.metastore import connections, variables
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.engine import open_engine, transaction
from tests.databases import Databases
from tests.workers import attempt, worker

DAG = """
import json, logging, sys
from opskit import DAG, Variable
from opskit.hooks import BaseHook
from opskit.operators import BashOperator, PythonOperator

def prints():
    log = logging.getLogger("task")
    values = [Variable.get(f"password_{number}") for number in range(500)]
    found = [BaseHook.get_connection(f"c{number}") for number in range(250)]
    for value in values:
        print("plain", value)
        log.info("logged %s", {"any": [value]})
    for connection in found:
        print(connection.password, connection.extra, file=sys.stderr)
        log.warning(json.dumps([connection.password, connection.get_uri()]))
        try:
            raise ValueError(connection.extra_dejson["secret_token"])
        except ValueError:
            log.exception("failed")

with DAG("d") as dag:
    PythonOperator(task_id="prints", python_callable=prints)
    said = {"SAID": "{{ var.value.password_7 }} {{ conn.c7.password }}"}
    BashOperator(task_id="echoes", bash_command='echo "$SAID"', env=said, append_env=True)
"""


def test_a_thousand_secrets_that_tasks_print_are_in_no_log(
    home: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(1)
    secrets = [f"{chance.randbytes(9).hex()}%ü \"'{number}" for number in range(1000)]
    url = databases.migrated("sqlite")
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", url)
    engine = open_engine(url)
    cipher = open_cipher(load(home))
    with transaction(engine) as database:
        for number in range(500):
            variables.set_variable(database, cipher, f"password_{number}", secrets[number])
        for number in range(250):
            password, token = secrets[500 + number], secrets[750 + number]
            extra = json.dumps({"secret_token": token})
            new = Connection(conn_id=f"c{number}", conn_type="http", password=password, extra=extra)
            connections.put_connection(database, cipher, new)
    engine.dispose()
    with worker(home) as running:
        running.write_dag(DAG)
        connected = running.connect()
        connected.fence("d", 1)
        logs = []
        for task_id in ("prints", "echoes"):
            given = attempt(task_id)
            assert connected.do(given)["state"] == "success", running.log(given)
            logs.append(running.log(given))
        written = [path.read_text() for path in (home / "logs").rglob("*") if path.is_file()]
    databases.drop(url)
    (rendered,) = (home / "logs").rglob("*.json")
    assert rendered.parent.name == "task_id=echoes"  # the other one has no templates
    assert json.loads(rendered.read_text())["env"] == {"SAID": "*** ***"}
    assert logs[0].count("plain ***") == 500
    assert logs[0].count("Traceback") == 250
    assert "***" in logs[1]
    everything = "\n".join(written)
    assert [secret for secret in secrets if secret in everything or secret[:18] in everything] == []
