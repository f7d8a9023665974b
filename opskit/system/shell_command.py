"""Runs a command that an operator has configured, through the shell, with a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping

_SHOWN = 2000


def run_command(command: str, environment: Mapping[str, str], *, timeout: float) -> tuple[int | None, str]:
    """(exit code, the end of what it wrote). The code is None when time was over: then its whole group is killed."""
    process = subprocess.Popen(
        ["sh", "-c", command],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output.decode(errors="replace")[-_SHOWN:].strip()
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
