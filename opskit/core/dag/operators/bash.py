"""BashOperator: a bash command or script as a task."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Sequence
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.core.dag.hooks.subprocess import SubprocessHook, SubprocessResult
from opskit.errors import DagInvalid

LONGEST_ARGUMENT = 120 * 1024
"""Linux takes 128 KiB in one argument of a program; what is longer goes into a file."""


def exit_codes(value: int | Container[int] | None) -> Container[int]:
    """One exit code, several, or none."""
    if value is None:
        return ()
    return value if isinstance(value, Container) else (value,)


def command_environment(given: dict[str, Any] | None, append: bool, context: Any) -> dict[str, str]:
    """The environment of a command, with the ids of the task instance in AIRFLOW_CTX_*. AirflowException for a value
    that is no text."""
    for name, value in (given or {}).items():
        if not isinstance(value, str):
            raise AirflowException(f"env[{name!r}] is {type(value).__name__}, a text is needed: write {str(value)!r}")
    env = {**os.environ, **(given or {})} if given is None or append else dict(given)
    env.update(context["ti"].environment())
    return env


def run_bash(hook: SubprocessHook, command: str, env: dict[str, str], encoding: str, cwd: str | None) -> Any:
    """`bash -c command`; a command that is too long for that is run from a file in its working folder."""
    if len(command) <= LONGEST_ARGUMENT and len(command.encode()) <= LONGEST_ARGUMENT:
        return hook.run_command(["bash", "-c", command], env=env, output_encoding=encoding, cwd=cwd)
    return run_script(hook, command, env, encoding, cwd)


def run_script(
    hook: SubprocessHook, script: str, env: dict[str, str], encoding: str, cwd: str | None
) -> SubprocessResult:
    """`bash FILE`, the file a temporary one in the working folder."""
    from contextlib import ExitStack
    from tempfile import NamedTemporaryFile, TemporaryDirectory

    with ExitStack() as stack:
        folder = cwd or stack.enter_context(TemporaryDirectory(prefix="opskit-"))
        file = stack.enter_context(NamedTemporaryFile("w", dir=folder, suffix=".sh"))
        file.write(script)
        file.flush()
        name = os.path.basename(file.name)
        return hook.run_command(["bash", name], env=env, output_encoding=encoding, cwd=folder)


class BashOperator(BaseOperator):
    """Run `bash -c bash_command`. Exit code 0: success, `skip_on_exit_code`: skipped, any other: failed. The last line
    of its output is pushed as XCom. `env` replaces the environment, or adds to it with `append_env`.

    A `bash_command` that ends with .sh or .bash names a template file; what it renders to runs as a script, in `cwd`
    where that is given (so that folder must be writable)."""

    template_fields: Sequence[str] = ("bash_command", "env", "cwd")
    template_fields_renderers: ClassVar[dict[str, str]] = {"bash_command": "bash", "env": "json"}
    template_ext: Sequence[str] = (".sh", ".bash")
    ui_color = "#f0ede4"

    def __init__(
        self,
        *,
        bash_command: str,
        env: dict[str, str] | None = None,
        append_env: bool = False,
        output_encoding: str = "utf-8",
        skip_on_exit_code: int | Container[int] | None = 99,
        skip_exit_code: int | None = None,
        cwd: str | None = None,
        output_processor: Callable[[str], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if bash_command is None:
            raise DagInvalid(f"task {self.task_id}: bash_command is None")
        self.bash_command = bash_command
        self.env = env
        self.append_env = append_env
        self.output_encoding = output_encoding
        self.skip_on_exit_code = exit_codes(skip_exit_code if skip_exit_code is not None else skip_on_exit_code)
        self.cwd = cwd
        self.output_processor: Callable[[str], Any] = output_processor or (lambda line: line)
        self._is_script = isinstance(bash_command, str) and bash_command.endswith(tuple(self.template_ext))
        self._hook: SubprocessHook | None = None

    @property
    def subprocess_hook(self) -> SubprocessHook:
        if self._hook is None:
            self._hook = SubprocessHook()
        return self._hook

    def get_env(self, context: Any) -> dict[str, str]:
        """The environment of the command, with the ids of the task instance in AIRFLOW_CTX_*."""
        return command_environment(self.env, self.append_env, context)

    def execute(self, context: Any) -> Any:
        command = self.bash_command
        if not isinstance(command, str):
            raise AirflowException(f"bash_command is {type(command).__name__}, a text is needed")
        if self.cwd is not None:
            if not os.path.exists(self.cwd):
                raise AirflowException(f"Can not find the cwd: {self.cwd}")
            if not os.path.isdir(self.cwd):
                raise AirflowException(f"The cwd {self.cwd} must be a directory")
        run = run_script if self._is_script else run_bash
        result = run(self.subprocess_hook, command, self.get_env(context), self.output_encoding, self.cwd)
        if result.exit_code in self.skip_on_exit_code:
            raise AirflowSkipException(f"Bash command returned exit code {result.exit_code}. Skipping.")
        if result.exit_code != 0:
            raise AirflowException(
                f"Bash command failed. The command returned a non-zero exit code {result.exit_code}."
            )
        return self.output_processor(result.output)

    def on_kill(self) -> None:
        if self._hook is not None:
            self._hook.send_sigterm()
