"""The controller's side of a template: starts it, asks for forks, hears how they ended, says why a load failed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from opskit.config import Config
from opskit.core.dag import load_options
from opskit.core.runner import packets, processes
from opskit.core.runner.zygote_spec import Spec

_OUR_FRAME = re.compile(
    rf'  File "(?:{re.escape(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))}/|<string>)'
)
# The hooks of threading must be known before it is imported, so this can't be the top of a module of ours.
_PROGRAM = """
import sys
from opskit.core.runner import forking
forking.install()
from opskit.core.runner import template
sys.exit(template.main(int(sys.argv[1]), sys.argv[2:]))
"""
OUTPUT_SHOWN = 8 * 1024
"""Bytes of what a DAG file printed that an error shows."""


class TemplateProcess:
    """A running template. `fileno()` becomes readable when `receive` has news."""

    def __init__(self, warm: Sequence[str] = ()) -> None:
        """`warm`: modules that its forks are to share, beside the runtime."""
        ours, theirs = packets.pair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), *warm],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                # Forked attempts would share one buffer setting anyway; their streams are our own.
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._control = ours
        self.pid = self._process.pid

    def fileno(self) -> int:
        return self._control.fileno()

    def fork(self, kind: bytes, number: int, spec: Spec, channel: socket.socket, output: int) -> None:
        """Ask for a zygote (Z) or a check (L). BrokenPipeError when the template is gone."""
        data = json.dumps(asdict(spec)).encode()
        packets.send(self._control, kind, number, data, (channel.fileno(), output))

    def kill(self, number: int, signal_number: int) -> None:
        try:
            packets.send(self._control, b"K", number, str(int(signal_number)).encode())
        except (BrokenPipeError, ConnectionResetError):
            pass  # with the template its children are gone too

    def receive(self) -> packets.Packet | None:
        """The next news (R, F, X); None when the template is gone. BlockingIOError when there are none."""
        return packets.receive(self._control, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Let go of it: it ends its children, then itself."""
        self._control.close()

    def wait(self, timeout: float) -> None:
        """Until it has ended; killed after `timeout` seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            processes.kill_group(self.pid, signal.SIGKILL)
            self._process.wait()

    def set_ended(self, status: int) -> None:
        """Somebody else has reaped it."""
        self._process.returncode = os.waitstatus_to_exitcode(status)


def spec_for(config: Config, fileloc: str) -> Spec:
    return Spec(
        fileloc=fileloc,
        dags_folder=str(config.dags_folder),
        load_memory_limit=config.get("core", "dag_file_memory_limit"),
        logs_folder=str(config.logs_folder),
        task_memory_limit=config.get("core", "task_memory_limit"),
        gateway_socket=str(config.run_folder / "gateway.sock"),
        log_level=config.get("logging", "logging_level"),
        mask_secrets=config.get("core", "hide_sensitive_var_conn_fields"),
        **load_options.of_config(config),
    )


def new_output() -> int:
    """Descriptor of an anonymous file for what a DAG file prints while it is loaded."""
    return os.memfd_create("opskit-output", os.MFD_CLOEXEC)


def read_output(output: int) -> str:
    size = os.fstat(output).st_size
    text = os.pread(output, OUTPUT_SHOWN, max(0, size - OUTPUT_SHOWN)).decode(errors="replace").strip()
    return f"… {text}" if size > OUTPUT_SHOWN else text


def why_not_loaded(status: int | None, output: str, timed_out: float | None, spec: Spec) -> str:
    """Words for a process that ended while it loaded a file. `timed_out`: the limit in seconds, where that was why."""
    if timed_out is not None:
        where = _where(output, spec.dags_folder)
        text = f"timed out after {timed_out:g} s" + (f" in {where}" if where else "") + " (core.dagbag_import_timeout)"
    elif status is None:
        text = "the process that loaded the file was killed, and with it the one that had started it"
    else:
        code, signal_number = processes.how_it_ended(status)
        if signal_number is None:
            text = f"the file ended its process with exit code {code} (os._exit)"
        else:
            text = f"killed by {processes.signal_name(signal_number)} while it was loaded"
            if signal_number == signal.SIGKILL:
                text += " (out of memory?)"
    return with_output(text, output)


def with_output(text: str, output: str) -> str:
    """An error with what the file printed; of a stack that faulthandler wrote, without our own frames."""
    lines = [line for line in output.splitlines() if not _OUR_FRAME.match(line)]
    return "\n".join([text, "--- output of the file:", *lines]) if lines else text


def headline(error: str) -> str:
    """The line of an error that says most."""
    lines = [line for line in error.splitlines() if line.strip()] or [""]
    return lines[-1] if lines[0].lstrip().startswith('File "') else lines[0]


def _where(output: str, dags_folder: str) -> str | None:
    """The innermost line of user code in a stack that faulthandler wrote."""
    frames = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', output)
    for path, line, function in frames:
        if path.startswith((dags_folder, os.path.realpath(dags_folder))):
            return f"{os.path.basename(path)}:{line} in {function}"
    return None
