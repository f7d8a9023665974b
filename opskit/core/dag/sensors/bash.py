"""BashSensor: wait until a bash command ends with exit code 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opskit.core.dag.exceptions import AirflowFailException
from opskit.core.dag.hooks.subprocess import SubprocessHook
from opskit.core.dag.operators.bash import command_environment, run_bash
from opskit.core.dag.sensors.base import BaseSensorOperator


class BashSensor(BaseSensorOperator):
    """Exit code 0: done; any other: poke again; `retry_exit_code` given: only that one, others fail."""

    template_fields: Sequence[str] = ("bash_command", "env")

    def __init__(
        self,
        *,
        bash_command: str,
        env: dict[str, str] | None = None,
        output_encoding: str = "utf-8",
        retry_exit_code: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bash_command = bash_command
        self.env = env
        self.output_encoding = output_encoding
        self.retry_exit_code = retry_exit_code
        self._hook = SubprocessHook()

    def poke(self, context: Any) -> bool:
        env = command_environment(self.env, False, context)
        result = run_bash(self._hook, self.bash_command, env, self.output_encoding, None)
        if result.exit_code == 0:
            return True
        if self.retry_exit_code is not None and result.exit_code != self.retry_exit_code:
            raise AirflowFailException(f"Command exited with return code {result.exit_code}")
        return False

    def on_kill(self) -> None:
        self._hook.send_sigterm()
