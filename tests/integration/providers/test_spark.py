"""SparkSubmitOperator with a program on PATH that plays spark-submit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag import runtime
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException
from opskit.providers.spark import SparkSubmitHook, SparkSubmitOperator

PROGRAM = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    argv = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    file.write(json.dumps({"argv": argv, "mine": os.environ.get("MINE")}) + "\\n")
if "--status" in sys.argv:
    print('"driverState" : "%s",' % os.environ["STATE"])
elif os.path.basename(sys.argv[0]) == "spark-submit":
    print("INFO Submitted application application_1700000000000_0042")
    if os.environ.get("STATE"):
        print("submitted as driver-20240101-0001")
    print("my password=hidden")
    sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that gets a line per call of spark-submit or yarn."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("spark-submit", "yarn"):
        (folder / name).write_text(PROGRAM)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def read(calls: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in calls.read_text().splitlines()]


def test_the_arguments_become_a_command_line(
    calls: Path, store: runtime.MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store.connections["spark_default"] = Connection(
        "spark_default",
        conn_type="spark",
        host="spark://master",
        port=7077,
        extra={"queue": "q", "deploy-mode": "client"},
    )
    with DAG("d", schedule=None) as dag:
        SparkSubmitOperator(
            task_id="t", application="app.py", conf={"spark.a": "1", "spark.secret": "s3cret"}, py_files="a.py,b.py",
            num_executors=2, executor_memory="2g", java_class="org.X", verbose=True, name="{{ dag.dag_id }}",
            application_args=["--day", "{{ dag.dag_id }}", 7], env_vars={"MINE": "yes"},
        )  # fmt: skip
    result = dag.test()
    assert result.state == "success", result.reasons
    assert read(calls) == [
        {
            "argv": [
                "spark-submit", "--master", "spark://master:7077",
                "--conf", "spark.a=1", "--conf", "spark.secret=s3cret",
                "--py-files", "a.py,b.py", "--num-executors", "2", "--executor-memory", "2g", "--name", "d",
                "--class", "org.X", "--verbose", "--queue", "q", "--deploy-mode", "client", "app.py", "--day", "d", "7",
            ],
            "mine": "yes",
        }
    ]  # fmt: skip
    assert "s3cret" not in caplog.text
    assert "password=******" in caplog.text


@pytest.mark.parametrize(
    ("fields", "master"),
    [
        ({"conn_type": "spark", "host": "yarn"}, "yarn"),
        ({"conn_type": "spark", "host": "local[*]"}, "local[*]"),
        ({"conn_type": "spark", "host": "h", "port": 7077}, "spark://h:7077"),
        ({"conn_type": "spark", "host": "k8s://https://h", "port": 443}, "k8s://https://h:443"),
    ],
)
def test_the_connection_names_the_master(
    calls: Path, store: runtime.MemoryStore, fields: dict[str, Any], master: str
) -> None:
    store.connections["c"] = Connection("c", **fields)
    command = SparkSubmitHook(conn_id="c", env_vars={"E": "1"})
    settings = command._settings()
    assert settings["master"] == master
    line = command.build_command("app", settings)
    kind = "spark.yarn.appMasterEnv" if master == "yarn" else "spark.kubernetes.driverEnv"
    assert (f"{kind}.E=1" in line) is (master == "yarn" or "k8s" in master)


def test_failures_are_told(calls: Path, store: runtime.MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", "3")
    with pytest.raises(AirflowException, match=r"Error code is: 3\."):
        SparkSubmitHook().submit("app")  # no connection: yarn
    assert read(calls)[0]["argv"][:3] == ["spark-submit", "--master", "yarn"]
    with pytest.raises(AirflowException, match="refused"):
        SparkSubmitHook(spark_binary="rm").submit("app")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AirflowException, match="not on PATH"):
        SparkSubmitHook().submit("app")
    with pytest.raises(TypeError, match="colour"):
        SparkSubmitHook(colour="red")


def test_a_driver_in_the_cluster_is_followed_to_its_end(
    calls: Path, store: runtime.MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.connections["spark_default"] = Connection("spark_default", conn_type="spark", host="spark://m", port=6066)
    monkeypatch.setenv("STATE", "FINISHED")
    SparkSubmitHook(deploy_mode="cluster").submit("app")
    assert read(calls)[1]["argv"][-2:] == ["--status", "driver-20240101-0001"]
    monkeypatch.setenv("STATE", "FAILED")
    with pytest.raises(AirflowException, match="badly exited with status FAILED"):
        SparkSubmitHook(deploy_mode="cluster").submit("app")


def test_a_killed_task_kills_its_application(calls: Path, store: runtime.MemoryStore) -> None:
    task = SparkSubmitOperator(task_id="t", application="app")
    task.on_kill()
    task.execute({})
    task.on_kill()
    assert read(calls)[-1]["argv"] == ["yarn", "application", "-kill", "application_1700000000000_0042"]
