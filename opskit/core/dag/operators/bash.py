"""BashOperator: a bash command or script as a task."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.core.dag.hooks.subprocess import SubprocessHook
from opskit.errors import DagInvalid


class BashOperator(BaseOperator):
    """Run `bash -c bash_command`. Exit code 0: success, `skip_on_exit_code`: skipped, any other: failed. The last line
    of its output is pushed as XCom. `env` replaces the environment, or adds to it with `append_env`."""

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
        output_processor: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if bash_command is None:
            raise DagInvalid(f"task {self.task_id}: bash_command is None")
        self.bash_command = bash_command
        self.env = env
        self.append_env = append_env
        self.output_encoding = output_encoding
        codes = skip_exit_code if skip_exit_code is not None else skip_on_exit_code
        self.skip_on_exit_code: Container[int] = (
            codes if codes is not None and not isinstance(codes, int) else [] if codes is None else [codes]
        )
        self.cwd = cwd
        self.output_processor = output_processor or (lambda line: line)
        self._hook: SubprocessHook | None = None

    @property
    def subprocess_hook(self) -> SubprocessHook:
        if self._hook is None:
            self._hook = SubprocessHook()
        return self._hook

    def get_env(self, context: Any) -> dict[str, str]:
        """The environment of the command, with the ids of the task instance in AIRFLOW_CTX_*."""
        if self.env is None or self.append_env:
            env = {**os.environ, **(self.env or {})}
        else:
            env = dict(self.env)
        ti = context["ti"]
        env.update(ti.environment())
        return {key: str(value) for key, value in env.items()}

    def execute(self, context: Any) -> Any:
        if not isinstance(self.bash_command, str):
            raise AirflowException(f"bash_command is {type(self.bash_command).__name__}, a text is needed")
        if self.cwd is not None and not os.path.isdir(self.cwd):
            raise AirflowException(f"Can not find the cwd: {self.cwd}")
        result = self.subprocess_hook.run_command(
            ["bash", "-c", self.bash_command],
            env=self.get_env(context),
            output_encoding=self.output_encoding,
            cwd=self.cwd,
        )
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
