"""SubprocessHook: a program in a process group of its own, its output in the task's log."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import subprocess

GRACE_SECONDS = 5.0
ATTEMPT_VARIABLE = "OPSKIT_ATTEMPT_PID"
"""By this variable the worker knows which attempt a left-over program belongs to; it is passed on even with env=…"""


class SubprocessResult(NamedTuple):
    """How the program ended. `output` is the last line that it printed."""

    exit_code: int
    output: str


class SubprocessHook:
    """Runs one program at a time."""

    def __init__(self, **_: Any) -> None:
        self.sub_process: subprocess.Popen[bytes] | None = None

    def run_command(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        output_encoding: str = "utf-8",
        cwd: str | None = None,
    ) -> SubprocessResult:
        """Run the program until it ends, each line of its stdout and stderr logged as it comes. `env=None`: this
        process's environment. Its working folder is a temporary one unless `cwd` is given."""
        import logging
        import subprocess
        from contextlib import ExitStack
        from tempfile import TemporaryDirectory

        log = logging.getLogger("airflow.task.hooks.subprocess")
        with ExitStack() as stack:
            folder = cwd or stack.enter_context(TemporaryDirectory(prefix="opskit-"))
            log.info("Running command: %s", list(command))
            self.sub_process = process = subprocess.Popen(
                list(command),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=None if env is None else _with_attempt(env),
                start_new_session=True,
                # Python ignores SIGPIPE; a shell pipeline needs its default, or `yes | head` never ends.
                restore_signals=True,
            )
            assert process.stdout is not None
            line = ""
            with process.stdout:
                log.info("Output:")
                for raw in process.stdout:
                    line = raw.decode(output_encoding, errors="backslashreplace").rstrip()
                    log.info("%s", line)
            process.wait()
            log.info("Command exited with return code %s", process.returncode)
            return SubprocessResult(exit_code=process.returncode, output=line)

    def send_sigterm(self) -> None:
        """End the program and all that it has started: SIGTERM to its group, SIGKILL after a grace."""
        import signal
        import subprocess

        process = self.sub_process
        if process is None or process.poll() is not None:
            return
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        except ProcessLookupError:
            pass  # it ended by itself


def _with_attempt(env: Mapping[str, str]) -> dict[str, str]:
    attempt = os.environ.get(ATTEMPT_VARIABLE)
    return {**env, ATTEMPT_VARIABLE: attempt} if attempt else dict(env)
