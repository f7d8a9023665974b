"""DockerOperator with Docker's library, against a small server that plays the engine."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.errors import DagInvalid
from opskit.providers.docker import DockerContainerFailedException, DockerHook, DockerOperator
from tests.unit.providers.docker_engine import Engine, docker_engine

# Docker's library leaves the socket of an attached container to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with docker_engine(tmp_path) as made:
        yield made
    gc.collect()


def run(engine: Engine, **options: Any) -> Any:
    return DockerOperator(**{"task_id": "t", "image": "known:1", "docker_url": engine.url, **options}).execute({})


def test_a_container_is_made_run_and_its_last_line_is_pushed(engine: Engine, dag: DAG) -> None:
    DockerOperator(
        task_id="t",
        image="new:2",
        command="echo {{ dag.dag_id }}",
        docker_url=engine.url,
        environment={"A": "{{ task.task_id }}"},
        private_environment={"SECRET": "s"},
        env_file="B=2\n# c\nC='x y'\n",
        mounts=[{"target": "/data", "source": "/srv", "type": "bind"}],
        volumes=["/a:/b"],
        network_mode="bridge",
        auto_remove="force",
        cpus=0.5,
        mem_limit="1g",
        container_name="box",
    )
    result = dag.test()
    assert result.state == "success", result.reasons
    assert result.xcoms["t"]["return_value"] == "last"
    made = engine.created[0]
    assert (made["Image"], made["Cmd"], made["name"]) == ("new:2", ["echo", "d"], "box")
    assert sorted(made["Env"]) == ["A=t", "AIRFLOW_TMP_DIR=/tmp/airflow", "B=2", "C=x y", "SECRET=s"]
    config = made["HostConfig"]
    assert [mount["Target"] for mount in config["Mounts"]] == ["/data", "/tmp/airflow"]
    assert (config["Binds"], config["CpuShares"], config["Memory"]) == (["/a:/b"], 512, 2**30)
    assert engine.calls.index("POST /images/create") < engine.calls.index("POST /containers/create")
    assert engine.calls[-1] == "DELETE /containers/c1 force"


def test_an_image_that_is_there_is_not_pulled_unless_told(engine: Engine) -> None:
    assert run(engine, xcom_all=True, mount_tmp_dir=False) == ["first", "last"]
    assert "POST /images/create" not in engine.calls
    assert run(engine, force_pull=True, do_xcom_push=False, mount_tmp_dir=False) is None
    assert "POST /images/create" in engine.calls
    assert not any(call.startswith("DELETE") for call in engine.calls)


def test_the_code_of_the_container_decides(engine: Engine) -> None:
    engine.code = 3
    with pytest.raises(DockerContainerFailedException, match="'StatusCode': 3") as caught:
        run(engine, auto_remove="success", mount_tmp_dir=False)
    assert caught.value.logs == ["first", "last"]
    assert engine.calls[-1] == "DELETE /containers/c1"
    with pytest.raises(AirflowSkipException):
        run(engine, skip_on_exit_code=[3], mount_tmp_dir=False)


def test_what_was_pickled_is_fetched(engine: Engine) -> None:
    assert run(engine, retrieve_output=True, retrieve_output_path="/out", mount_tmp_dir=False) == {"answer": 42}
    assert run(engine, retrieve_output=True, retrieve_output_path="/nothing", mount_tmp_dir=False) is None


def test_an_engine_elsewhere_runs_it_without_the_folder(engine: Engine) -> None:
    engine.sees_host = False
    assert run(engine) == "last"
    assert "AIRFLOW_TMP_DIR" not in str(engine.created[0])


def test_a_task_that_is_killed_stops_its_container(engine: Engine) -> None:
    task = DockerOperator(task_id="t", image="known:1", docker_url=engine.url, auto_remove="force")
    task.on_kill()
    assert engine.calls == []
    with task.cli:
        task.container = {"Id": "c1"}
        task.on_kill()
    assert engine.calls[-2:] == ["POST /containers/c1/stop", "DELETE /containers/c1 force"]


def test_arguments_are_read_as_airflow_does(engine: Engine, tmp_path: Path) -> None:
    assert DockerOperator.format_command("['a', 'b']") == ["a", "b"]
    assert DockerOperator(task_id="old", image="i", auto_remove=True).auto_remove == "success"
    with pytest.raises(DagInvalid, match="auto_remove"):
        DockerOperator(task_id="bad", image="i", auto_remove="maybe")
    nobody = "tcp://127.0.0.1:1"
    hook = DockerHook(None, [nobody, engine.url])
    with hook.api_client as client:
        assert client.version()["ApiVersion"] == "1.45"
        assert hook.test_connection()[0] is False  # this engine has no /_ping
    with pytest.raises(AirflowException, match="any given Docker hosts"):
        DockerHook(None, nobody).get_conn()
