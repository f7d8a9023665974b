"""Processes of `opskit …`, forked from an interpreter that has read the third-party libraries already.

To read SQLAlchemy, rich and their like is most of what a short command costs. Nothing of opskit is read beforehand:
each process imports what it needs of it, with its own environment, and ends as any process does. OPSKIT_TEST_COLD=1
starts an interpreter for each.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

from tests import strays

_INTERPRETER = Path(__file__).with_name("warm_interpreter.py")
_READ_AT_START = ("PYTHON", "LANG", "LC_", "LD_", "OPENSSL")
"""What an interpreter reads only once: who has other values of these gets one of its own."""
_PATIENCE = 60.0


def run(
    *arguments: str,
    env: Mapping[str, str],
    timeout: float = 120.0,
    cwd: str | os.PathLike[str] = ".",
    input: str = "",
    **others: Any,
) -> subprocess.CompletedProcess[str]:
    """`opskit` with these arguments, its output as text. Raises what subprocess.run raises.

    `others` are options of subprocess.run; whoever gives any gets an interpreter of its own.
    """
    if others.get("stdin") == subprocess.DEVNULL:
        del others["stdin"]
    if others or not _fits(env):
        others.setdefault("input", input)
        return subprocess.run(
            _command(arguments),
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=cwd,
            **others,
        )
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
        files[0].write(input)
        files[0].seek(0)
        process = _interpreter().start(_command(arguments), env, cwd, [file.fileno() for file in files])
        try:
            process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        for file in files:
            file.seek(0)
        return subprocess.CompletedProcess(process.args, process.wait(), files[1].read(), files[2].read())


def start(*arguments: str, env: Mapping[str, str], output: int | None = None) -> Process:
    """`opskit` with these arguments in a session of its own. `output`: a descriptor; None: to nowhere."""
    with ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "r+b")).fileno()
        out = nowhere if output is None else output
        # By its mark it is found where it is left behind, and that is read from what a process was started with.
        if not _fits(env) or env.get(strays.VARIABLE) != os.environ.get(strays.VARIABLE):
            return subprocess.Popen(
                _command(arguments), env=env, stdin=nowhere, stdout=out, stderr=out, start_new_session=True
            )
        return _interpreter().start(_command(arguments), env, ".", [nowhere, out, out], new_session=True)


class Started:
    """Like subprocess.Popen."""

    def __init__(self, args: list[str], pid: int, connection: socket.socket) -> None:
        self.args, self.pid, self.returncode = args, pid, None
        self._connection = connection

    returncode: int | None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = _number(self._connection)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended, and its end was not told yet
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = Started | subprocess.Popen[bytes]


class _Interpreter:
    """See warm_interpreter.py."""

    def __init__(self) -> None:
        self.read_at_start = _read_at_start(os.environ)
        self._folder = tempfile.TemporaryDirectory(prefix="opskit-warm-")
        self._path = os.path.join(self._folder.name, "socket")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self._path)
            listening.listen(16)
            self._process = subprocess.Popen(
                [sys.executable, _INTERPRETER, str(listening.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listening.fileno()],
            )
        strays.expected.add(self._process.pid)
        atexit.register(self._end)

    def start(
        self,
        command: list[str],
        env: Mapping[str, str],
        cwd: str | os.PathLike[str],
        descriptors: list[int],
        *,
        new_session: bool = False,
    ) -> Started:
        request = {
            "command": command,
            "environment": dict(env),
            "cwd": os.path.abspath(cwd),
            "umask": _umask(),
            "new_session": new_session,
        }
        content = json.dumps(request).encode()
        content = struct.pack("!I", len(content)) + content
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_PATIENCE)
            connection.connect(self._path)
            sent = socket.send_fds(connection, [content], descriptors)
            connection.sendall(content[sent:])
            return Started(command, _number(connection), connection)
        except BaseException:
            connection.close()
            raise

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(_PATIENCE)
        self._folder.cleanup()


@cache
def _interpreter() -> _Interpreter:
    """The one of this test process."""
    return _Interpreter()


def _fits(env: Mapping[str, str]) -> bool:
    if "OPSKIT_TEST_COLD" in os.environ or not hasattr(os, "pidfd_open"):
        return False
    return _read_at_start(env) == _interpreter().read_at_start


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "opskit", *arguments]


def _number(connection: socket.socket) -> int:
    content = connection.recv(4)
    assert len(content) == 4, "the warm interpreter has ended"
    return int(struct.unpack("!i", content)[0])


def _umask() -> int:
    found = os.umask(0o077)
    os.umask(found)
    return found
