"""Python functions in another Python: real virtual environments, without the network."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opskit.core.dag import loading, runtime
from opskit.core.dag.execution import Outcome, execute
from opskit.core.dag.hooks.subprocess import SubprocessHook, SubprocessResult
from opskit.core.dag.operators import python_environment
from opskit.errors import DagInvalid, OpskitError

Run = Callable[..., Outcome]
HEAD = """
from datetime import datetime

from opskit import DAG, task
from opskit.core.dag.operators.virtualenv import (
    BranchExternalPythonOperator, ExternalPythonOperator, PythonVirtualenvOperator,
)
from opskit.operators import EmptyOperator
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Load a DAG file with this body and run one task of it."""
    runtime.set_store(runtime.MemoryStore())

    def run_task(body: str, task_id: str = "t", **names: Any) -> Outcome:
        path = tmp_path / "file.py"
        lines = "".join(f"{name} = {value!r}\n" for name, value in {"PYTHON": sys.executable, **names}.items())
        opening = "with DAG('d', start_date=datetime(2024, 1, 1), params={'n': 7}) as dag:\n"
        path.write_text(HEAD + lines + opening + body)
        [dag] = loading.load_file(path, tmp_path)
        frame = {
            "key": [1, task_id, -1, 1],
            "dag_id": "d",
            "run_id": "r",
            "task_id": task_id,
            "run": {"run_type": "manual", "logical_date": "2024-03-01T00:00:00+00:00", "conf": {"x": 1}},
        }
        return execute(dag, frame)

    return run_task


def test_a_function_gets_arguments_and_context_and_returns_a_value(run: Run) -> None:
    outcome = run(
        """
    @task.external_python(python=PYTHON, task_id="t", string_args=["one", "two"], templates_dict={"day": "{{ ds }}"})
    def f(a, b=2, *, ds, params, logical_date, dag_run, templates_dict=None, ti=None):
        import sys
        return {
            "sum": a + b, "ds": ds, "n": params["n"], "year": logical_date.year, "conf": dag_run.conf, "ti": ti,
            "day": templates_dict["day"], "texts": virtualenv_string_args, "name": __name__, "frames": len(sys.argv),
        }
    f(40)
"""
    )
    assert outcome.reason is None
    assert dict(outcome.xcoms)["return_value"] == {
        "sum": 42,
        "ds": "2024-03-01",
        "n": 7,
        "year": 2024,
        "conf": {"x": 1},
        "ti": None,
        "day": "2024-03-01",
        "texts": ["one", "two"],
        "name": "__main__",
        "frames": 5,
    }


def test_a_function_that_takes_everything_gets_what_can_be_passed(run: Run) -> None:
    outcome = run(
        """
    def f(**context):
        return sorted(name for name in context if context[name] is not None and "success" not in name)
    ExternalPythonOperator(task_id="t", python=PYTHON, python_callable=f, op_kwargs={"mine": 1})
"""
    )
    names = dict(outcome.xcoms)["return_value"]
    assert {"mine", "ds", "dag_run", "task", "params", "logical_date"} <= set(names)
    assert "ti" not in names


def test_a_function_that_needs_what_cannot_be_passed_is_told(run: Run) -> None:
    outcome = run(
        """
    def f(ti):
        return 1
    ExternalPythonOperator(task_id="t", python=PYTHON, python_callable=f)
"""
    )
    assert "asks for 'ti', which can't be given to another Python" in (outcome.reason or "")


def test_an_argument_that_cannot_be_written_is_named(run: Run) -> None:
    outcome = run(
        """
    def f(good, bad):
        return 1
    ExternalPythonOperator(task_id="t", python=PYTHON, python_callable=f, op_kwargs={"good": 1, "bad": lambda: 1})
"""
    )
    assert "op_kwargs 'bad' can't be given to another Python" in (outcome.reason or "")


@pytest.mark.parametrize(
    ("body", "state", "reason"),
    [
        ("import sys; sys.exit(42)", "skipped", "Process exited with code 42. Skipping."),
        ("raise ValueError('what is wrong')", "failed", "ValueError: what is wrong"),
        ("import os; os._exit(3)", "failed", "non-zero exit status 3"),
    ],
)
def test_the_exit_code_decides_and_an_error_is_told(run: Run, body: str, state: str, reason: str) -> None:
    outcome = run(
        f"""
    def f():
        {body}
    ExternalPythonOperator(task_id="t", python=PYTHON, python_callable=f, skip_on_exit_code=[42, 43])
"""
    )
    assert outcome.state == state
    assert reason in (outcome.reason or "")


def test_a_branch_skips_what_was_not_chosen(run: Run) -> None:
    outcome = run(
        """
    def f():
        return "left"
    branch = BranchExternalPythonOperator(task_id="t", python=PYTHON, python_callable=f)
    branch >> [EmptyOperator(task_id="left"), EmptyOperator(task_id="right")]
"""
    )
    assert (outcome.state, outcome.skip) == ("success", ["right"])


def test_the_environment_is_the_given_one_when_nothing_is_inherited(run: Run) -> None:
    outcome = run(
        """
    def f():
        import os
        return sorted(name for name in os.environ if name in ("HOME", "MINE"))
    ExternalPythonOperator(task_id="t", python=PYTHON, python_callable=f, inherit_env=False, env_vars={"MINE": "1"})
"""
    )
    assert dict(outcome.xcoms)["return_value"] == ["MINE"]


def test_a_class_of_the_dag_file_cannot_come_back_and_that_is_said(run: Run) -> None:
    outcome = run(
        """
    def f():
        class Own(dict):
            pass
        globals()["Own"] = Own
        Own.__qualname__ = "Own"
        return Own()
    ExternalPythonOperator(task_id="t", python=PYTHON, python_callable=f)
"""
    )
    assert "what f() returned can't be read here" in (outcome.reason or "")


def test_an_environment_is_made_for_the_task_and_removed(run: Run) -> None:
    outcome = run(
        """
    @task.virtualenv(task_id="t", system_site_packages=True, multiple_outputs=True)
    def f(n) -> dict:
        import sys
        return {"n": n, "own": sys.prefix != sys.base_prefix, "prefix": sys.prefix}
    f(1)
"""
    )
    assert outcome.reason is None
    values = dict(outcome.xcoms)
    assert (values["n"], values["own"]) == (1, True)
    assert not Path(values["prefix"]).exists()


@pytest.mark.parametrize("program", [pytest.param("pip", marks=pytest.mark.soak), "uv"])
def test_a_cached_environment_has_its_requirements_and_is_made_once(
    tmp_path: Path, run: Run, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    if program == "uv" and which("uv") is None:
        pytest.skip("uv is not installed")
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "uv" and program == "pip" else which(name))
    with zipfile.ZipFile(tmp_path / "greeting-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greeting.py", "def text():\n    return 'hello'\n")
        wheel.writestr("greeting-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.2\n")
        wheel.writestr("greeting-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("greeting-1.2.dist-info/RECORD", "")
    body = """
    def f():
        import greeting, sys
        return [greeting.text(), sys.prefix]
    PythonVirtualenvOperator(
        task_id="t", python_callable=f, requirements="greeting==1.2  # ours", system_site_packages=False,
        index_urls=[], pip_install_options=["--find-links", WHEELS], venv_cache_path=CACHE,
    )
"""
    names = {"WHEELS": str(tmp_path), "CACHE": str(tmp_path / "cache")}
    first = run(body, **names)
    assert first.reason is None
    [text, prefix] = dict(first.xcoms)["return_value"]
    assert (text, Path(prefix).parent) == ("hello", tmp_path / "cache")
    made = (Path(prefix) / python_environment.MARKER).stat().st_mtime_ns
    assert run(body, **names).xcoms == first.xcoms
    assert (Path(prefix) / python_environment.MARKER).stat().st_mtime_ns == made


def test_an_environment_that_was_never_finished_is_made_again(tmp_path: Path) -> None:
    import logging

    wanted = python_environment.Environment(python=sys.executable, system_site_packages=True)
    log = logging.getLogger("test")
    python = python_environment.cached(wanted, tmp_path, SubprocessHook(), log)
    folder = python.parent.parent
    (folder / python_environment.MARKER).unlink()
    (folder / "left-over").touch()
    assert python_environment.cached(wanted, tmp_path, SubprocessHook(), log) == python
    assert not (folder / "left-over").exists()


@pytest.mark.parametrize(
    ("index_urls", "configuration"),
    [
        (None, None),
        ([], "no-index = true"),
        (
            ["https://one.invalid/", "https://two.invalid/"],
            "index-url = https://one.invalid/\nextra-index-url = https://two",
        ),
    ],
)
def test_without_uv_pip_of_the_new_environment_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index_urls: list[str] | None, configuration: str | None
) -> None:
    class Recording(SubprocessHook):
        def __init__(self) -> None:
            super().__init__()
            self.commands: list[list[str]] = []

        def run_command(self, command: Any, *_: Any, **__: Any) -> SubprocessResult:
            self.commands.append([str(part) for part in command])
            return SubprocessResult(0, "")

    monkeypatch.setattr(shutil, "which", lambda name: None)
    hook = Recording()
    wanted = python_environment.Environment(
        python="/usr/bin/python3",
        requirements=["a==1", "b"],
        system_site_packages=False,
        pip_install_options=["--no-deps"],
        index_urls=index_urls,
    )
    python = python_environment.make(wanted, tmp_path, hook)
    assert python == tmp_path / "bin" / "python"
    install = ["-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "-r"]
    assert hook.commands == [
        ["/usr/bin/python3", "-m", "venv", str(tmp_path)],
        [str(python), *install, f"{tmp_path}/requirements.txt"],
    ]
    assert (tmp_path / "requirements.txt").read_text() == "a==1\nb\n"
    pip = tmp_path / "pip.conf"
    assert (configuration in pip.read_text()) if configuration else not pip.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("python_callable=lambda: 1", "functions that were written with def"),
        ("python_callable=print", "functions that were written with def"),
        ("python_callable=f, serializer='json'", "choose pickle, cloudpickle, dill"),
        ("python_callable=f, python_version=3", "a text is needed"),
        ("python_callable=f, python_version='2.7', op_args=[1]", "use string_args"),
        ("python_callable=g", "'yield'"),
    ],
)
def test_arguments_that_cannot_work_are_refused_when_the_file_is_loaded(run: Run, arguments: str, message: str) -> None:
    body = f"""
    def f():
        pass
    def g():
        yield 1
    PythonVirtualenvOperator(task_id="t", {arguments})
"""
    with pytest.raises(OpskitError) as caught:
        run(body)
    assert isinstance(caught.value, DagInvalid)
    assert message in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("python", "message"), [("python3", "an absolute path is needed"), ("/no/python", "there is no Python program")]
)
def test_a_program_that_is_not_there_is_named(run: Run, python: str, message: str) -> None:
    body = f"""
    def f():
        pass
    ExternalPythonOperator(task_id="t", python={python!r}, python_callable=f)
"""
    assert message in (run(body).reason or "")
