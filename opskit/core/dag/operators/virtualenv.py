"""Python functions in another Python: PythonVirtualenvOperator, ExternalPythonOperator and their branches."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.core.dag.hooks.subprocess import SubprocessHook
from opskit.core.dag.operators import python_environment, python_script
from opskit.core.dag.operators.bash import exit_codes
from opskit.core.dag.operators.branch import BaseBranchOperator
from opskit.core.dag.operators.python import PartOfContext, PythonOperator, arguments_from
from opskit.errors import DagInvalid

SERIALIZERS = ("pickle", "cloudpickle", "dill")
CACHE_KEY_VARIABLE = "python_virtualenv_operator_cache_key"


class _BasePythonVirtualenvOperator(PythonOperator):
    """A function, written with def, whose source is run by another Python. It sees its arguments, what it asks of the
    context (texts, params, points in time, and snapshots of dag, dag_run and task), and `virtualenv_string_args`;
    nothing else of the DAG file. What it returns comes back through the serializer."""

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        serializer: str | None = None,
        use_dill: bool = False,
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        string_args: Iterable[str] | None = None,
        templates_dict: dict[str, Any] | None = None,
        templates_exts: Sequence[str] | None = None,
        expect_airflow: bool = True,
        skip_on_exit_code: int | Container[int] | None = None,
        env_vars: dict[str, str] | None = None,
        inherit_env: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            templates_dict=templates_dict,
            templates_exts=templates_exts,
            **kwargs,
        )
        if not isinstance(inspect.unwrap(python_callable), FunctionType) or python_callable.__name__ == "<lambda>":
            raise DagInvalid(f"task {self.task_id}: {type(self).__name__} takes functions that were written with def")
        if inspect.isgeneratorfunction(python_callable):
            raise DagInvalid(f"task {self.task_id}: {type(self).__name__} does not support using 'yield'")
        if use_dill and serializer:
            raise DagInvalid(f"task {self.task_id}: give serializer, use_dill is its old name")
        self.serializer = serializer or ("dill" if use_dill else "pickle")
        if self.serializer not in SERIALIZERS:
            raise DagInvalid(f"task {self.task_id}: serializer is {serializer!r}, choose {', '.join(SERIALIZERS)}")
        self.string_args = list(string_args or ())
        self.expect_airflow = expect_airflow
        self.skip_on_exit_code = exit_codes(skip_on_exit_code)
        self.env_vars = env_vars
        self.inherit_env = inherit_env
        self._hook: SubprocessHook | None = None
        self._from_context: set[str] = set()

    def determine_kwargs(self, context: Any) -> dict[str, Any]:
        own = dict(self.op_kwargs)
        passable = PartOfContext(context, python_script.PASSABLE_KEYS.__contains__)
        given = arguments_from(self.python_callable, self.op_args, own, passable)
        self._from_context = given.keys() - own.keys()
        for name, parameter in inspect.signature(self.python_callable).parameters.items():
            is_named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            needed = is_named and parameter.default is parameter.empty and name not in given
            if needed and name in context and name not in self._bound_by_position():
                raise AirflowException(
                    f"{self.python_callable.__name__}() asks for {name!r}, which can't be given to another Python; "
                    f"these can: {', '.join(sorted(python_script.PASSABLE_KEYS))}"
                )
        return given

    def _bound_by_position(self) -> set[str]:
        return set(list(inspect.signature(self.python_callable).parameters)[: len(self.op_args)])

    def get_python_source(self) -> str:
        """The source of the function, without decorators that make it a task."""
        return python_script.source_of(self.python_callable)

    @property
    def _runner(self) -> SubprocessHook:
        if self._hook is None:
            self._hook = SubprocessHook()
        return self._hook

    def on_kill(self) -> None:
        if self._hook is not None:
            self._hook.send_sigterm()

    def _execute_python_callable_in_subprocess(self, python_path: Path) -> Any:
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="opskit-call-") as name:
            folder = Path(name)
            call, result, texts, problem = (folder / file for file in ("call", "result", "string_args", "problem"))
            call.write_bytes(python_script.call_data(self.serializer, self.op_args, self.op_kwargs, self._from_context))
            texts.write_text("\n".join(map(str, self.string_args)))
            program = folder / "script.py"
            program.write_text(python_script.script(self.python_callable, self.serializer), encoding="utf-8")
            command = [os.fspath(path) for path in (python_path, program, call, result, texts, problem)]
            ended = self._runner.run_command(command, env=self._environment(), cwd=os.getcwd())
            if ended.exit_code in self.skip_on_exit_code:
                raise AirflowSkipException(f"Process exited with code {ended.exit_code}. Skipping.")
            if ended.exit_code != 0:
                why = problem.read_text() if problem.exists() else ended.output
                raise AirflowException(f"Process returned non-zero exit status {ended.exit_code}.\n{why}")
            return self._read_result(result)

    def _read_result(self, path: Path) -> Any:
        data = path.read_bytes()
        if not data:
            return None
        try:
            return python_script.library(self.serializer).loads(data)
        except Exception as error:
            raise AirflowException(
                f"what {self.python_callable.__name__}() returned can't be read here: {type(error).__name__}: {error}. "
                "Return plain values, or install what it needs on this host, too"
            ) from error

    def _environment(self) -> dict[str, str]:
        env = {**(os.environ if self.inherit_env else {}), **(self.env_vars or {})}
        if getattr(self.dag, "dialect", None) == 3:
            # There the folder of the DAGs can be imported from; elsewhere, too, with a PYTHONPATH of one's own.
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), self.dag.folder]))
        return env


class PythonVirtualenvOperator(_BasePythonVirtualenvOperator):
    """Makes a virtual environment for the task and removes it afterwards; with `venv_cache_path` it is kept there for
    all tasks that need the same. `requirements`: a list, or the text of a requirements file (a `.txt` template, too).

    `index_urls`: package indexes instead of the configured ones, none at all when empty; those of
    `index_urls_from_connection_ids` (a connection's host, login and password) come behind them."""

    template_fields: Sequence[str] = (
        "requirements",
        "index_urls",
        "index_urls_from_connection_ids",
        "venv_cache_path",
        *PythonOperator.template_fields,
    )
    template_ext: Sequence[str] = (".txt",)

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        requirements: Iterable[str] | str | None = None,
        python_version: str | None = None,
        system_site_packages: bool = True,
        pip_install_options: list[str] | None = None,
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        index_urls: Collection[str] | str | None = None,
        index_urls_from_connection_ids: Collection[str] | str | None = None,
        venv_cache_path: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)
        if python_version is not None and not isinstance(python_version, str):
            raise DagInvalid(f"task {self.task_id}: python_version is {python_version!r}, a text is needed")
        if python_version and python_version.split(".")[0] != str(sys.version_info.major) and (op_args or op_kwargs):
            raise DagInvalid(
                f"task {self.task_id}: Python {python_version} can't be given op_args or op_kwargs by this Python",
                hint="use string_args",
            )
        self.requirements = _texts(requirements) or []
        self.python_version = python_version
        self.system_site_packages = system_site_packages
        self.pip_install_options = pip_install_options
        self.index_urls = _texts(index_urls)
        self.index_urls_from_connection_ids = _texts(index_urls_from_connection_ids)
        self.venv_cache_path = venv_cache_path

    def execute_callable(self) -> Any:
        from tempfile import TemporaryDirectory

        wanted = self._wanted()
        if self.venv_cache_path:
            python = python_environment.cached(wanted, Path(self.venv_cache_path), self._runner, self.log)
            return self._execute_python_callable_in_subprocess(python)
        with TemporaryDirectory(prefix="opskit-venv-") as folder:
            python = python_environment.make(wanted, Path(folder), self._runner)
            return self._execute_python_callable_in_subprocess(python)

    def _wanted(self) -> python_environment.Environment:
        from opskit.core.dag.variable import Variable

        requirements = [line for text in self.requirements for line in str(text).splitlines() if line.strip()]
        is_named = any(_package(line) == self.serializer for line in requirements)
        if self.serializer != "pickle" and not self.system_site_packages and not is_named:
            requirements.append(self.serializer)
        return python_environment.Environment(
            python=python_environment.program_for(self.python_version),
            requirements=requirements,
            system_site_packages=self.system_site_packages,
            pip_install_options=list(self.pip_install_options or ()),
            index_urls=self._index_urls(),
            cache_key=str(Variable.get(CACHE_KEY_VARIABLE, "")) if self.venv_cache_path else "",
        )

    def _index_urls(self) -> list[str] | None:
        if not self.index_urls_from_connection_ids:
            return self.index_urls
        from opskit.core.dag.hooks.package_index import PackageIndexHook

        more = [PackageIndexHook(conn_id).get_connection_url() for conn_id in self.index_urls_from_connection_ids]
        return [*(self.index_urls or ()), *more]


class BranchPythonVirtualenvOperator(BaseBranchOperator, PythonVirtualenvOperator):
    """The function returns the task_id(s) or group id(s) to follow."""

    def choose_branch(self, context: Any) -> Any:
        return PythonVirtualenvOperator.execute(self, context)


class ExternalPythonOperator(_BasePythonVirtualenvOperator):
    """Runs the function with `python`, the absolute path of a Python program."""

    template_fields: Sequence[str] = ("python", *PythonOperator.template_fields)

    def __init__(
        self,
        *,
        python: str,
        python_callable: Callable[..., Any],
        expect_pendulum: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(python_callable=python_callable, **kwargs)
        if not python:
            raise DagInvalid(f"task {self.task_id}: python is {python!r}, the path of a Python program is needed")
        self.python = os.fspath(python)
        self.expect_pendulum = expect_pendulum

    def execute_callable(self) -> Any:
        program = Path(self.python)
        if not program.is_absolute():
            raise AirflowException(f"python is {self.python}, an absolute path is needed")
        if not program.is_file():
            raise AirflowException(f"there is no Python program {self.python} on this host")
        return self._execute_python_callable_in_subprocess(program)


class BranchExternalPythonOperator(BaseBranchOperator, ExternalPythonOperator):
    """The function returns the task_id(s) or group id(s) to follow."""

    def choose_branch(self, context: Any) -> Any:
        return ExternalPythonOperator.execute(self, context)


def _texts(value: Iterable[str] | str | None) -> list[str] | None:
    """One text or several as a list, so that each of them is a template."""
    if value is None:
        return None
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _package(requirement: str) -> str:
    """The name in a requirement."""
    import re

    return re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0].lower()
