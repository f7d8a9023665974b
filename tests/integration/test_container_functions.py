"""Functions in containers: what a container is given, run here by a Python of this host."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG, task
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.custom_decorators import task_decorator_factory
from opskit.core.dag.operators import container_function
from opskit.core.dag.operators.container_function import RESULT_PATH, ContainerFunction
from opskit.providers.docker import DockerOperator
from opskit.providers.kubernetes import pod_task
from opskit.providers.kubernetes.pod import KubernetesPodOperator


class Container(BaseOperator):
    """Runs a command with nothing but these variables."""

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = folder
        self.environment: dict[str, str] = {}
        self.command: list[str] = []

    def execute(self, context: Any) -> Any:
        subprocess.run(self.command, env=self.environment, check=True, cwd="/")
        data = Path(self.folder, "script.out").read_bytes()
        return pickle.loads(data) if data else None


class InContainer(ContainerFunction, Container):
    custom_operator_name = "@contained"

    def execute(self, context: Any) -> Any:
        self.environment = self.call_environment(context)
        self.command = self.call_command(self.folder)
        return super().execute(context)


def contained(**kwargs: Any) -> Any:
    return task_decorator_factory(decorated_operator_class=InContainer, python_command=sys.executable, **kwargs)


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC), params={"n": 7}) as opened:
        yield opened


def test_a_function_gets_its_arguments_and_gives_its_result(dag: DAG, tmp_path: Path) -> None:
    @contained(folder=str(tmp_path))
    def work(a: int, b: int = 2, *, params: Any = None, ds: str | None = None) -> Any:
        import os

        return [a + b, params["n"], len(ds), "PATH" in os.environ]

    work(40)
    run = dag.test()
    assert run.reasons == {}
    assert run.xcoms["work"]["return_value"] == [42, 7, 10, False]


def test_a_function_that_fails_fails_the_command(dag: DAG, tmp_path: Path) -> None:
    @contained(folder=str(tmp_path))
    def work() -> None:
        raise LookupError("lost")

    work()
    run = dag.test()
    assert run.state == "failed"
    assert (tmp_path / "script.err").read_text() == "LookupError: lost"


def test_a_docker_task_hands_its_function_to_the_container_and_asks_for_the_result(
    dag: DAG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: DockerOperator) -> Any:
        assert (self.image, self.retrieve_output, self.retrieve_output_path) == ("mine", True, RESULT_PATH)
        subprocess.run([str(part) for part in self.command or ()], env=self.environment, check=True, cwd="/")
        return pickle.loads((tmp_path / "script.out").read_bytes())

    monkeypatch.setattr(container_function, "FOLDER", str(tmp_path))
    monkeypatch.setattr(DockerOperator, "_run", run)

    @task.docker(image="mine", python_command=sys.executable, environment={"X": "{{ ds }}"}, multiple_outputs=True)
    def work(n: int) -> dict[str, Any]:
        import os

        return {"n": n, "x": os.environ["X"]}

    work(3)
    run_of = dag.test()
    assert run_of.reasons == {}
    values = run_of.xcoms["work"]
    assert (values["n"], values["x"]) == (3, run_of.run_id.removeprefix("manual__")[:10])


@pytest.mark.parametrize("env", [{"X": "1"}, [{"name": "X", "value": "1"}], None])
def test_a_kubernetes_task_writes_its_result_where_pods_have_it(
    dag: DAG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: Any
) -> None:
    def run(self: KubernetesPodOperator, context: Any) -> Any:
        [container] = [
            one for one in self.build_pod_request_obj(context)["spec"]["containers"] if one["name"] == "base"
        ]
        variables = {one["name"]: one["value"] for one in container["env"]}
        subprocess.run(container["command"], env=variables, check=True, cwd="/")
        return json.loads((tmp_path / "xcom" / "return.json").read_text())

    monkeypatch.setattr(container_function, "FOLDER", str(tmp_path))
    monkeypatch.setattr(pod_task, "XCOM_PATH", str(tmp_path / "xcom"))
    monkeypatch.setattr(KubernetesPodOperator, "execute", run)

    @task.kubernetes(image="mine", name="pod", namespace="n", python_command=sys.executable, env_vars=env)
    def work(n: int) -> Any:
        import os

        return [n, os.environ.get("X")]

    work(3)
    run_of = dag.test()
    assert run_of.reasons == {}
    assert run_of.task_states == {"work": "success"}
    assert json.loads((tmp_path / "xcom" / "return.json").read_text()) == [3, "1" if env else None]
