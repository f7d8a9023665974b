"""Runs `opskit …` in a process that is forked from an interpreter which has read the third-party libraries already.

To read SQLAlchemy, rich and their like is most of what a short command costs. Nothing of opskit is read beforehand:
each command imports what it needs of it, with its own environment, and ends as any process does. OPSKIT_TEST_COLD=1
starts an interpreter for each command.
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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests import strays

_INTERPRETER = Path(__file__).with_name("warm_interpreter.py")
_READ_AT_START = ("PYTHON", "LANG", "LC_", "LD_", "OPENSSL", "OPSKIT_TEST_COLD")
"""What an interpreter reads only once: who has other values of these gets one of its own."""


def run(
    *arguments: str,
    env: dict[str, str],
    timeout: float = 120.0,
    cwd: str | os.PathLike[str] = ".",
    input: str = "",
    **others: Any,
) -> subprocess.CompletedProcess[str]:
    """`opskit` with these arguments, its output as text. Raises what subprocess.run raises.

    `others` are options of subprocess.run; whoever gives any gets an interpreter of its own.
    """
    command = [sys.executable, "-m", "opskit", *arguments]
    if others.get("stdin") == subprocess.DEVNULL:
        del others["stdin"]
    if others or not _Warm.fits(env):
        others.setdefault("input", input)
        return subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd, **others
        )
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
        files[0].write(input)
        files[0].seek(0)
        request = {
            "command": command,
            "environment": env,
            "cwd": os.path.abspath(cwd),
            "umask": _umask(),
        }
        code = _Warm.existing().ask(request, [file.fileno() for file in files], timeout)
        for file in files:
            file.seek(0)
        return subprocess.CompletedProcess(command, code, files[1].read(), files[2].read())


class _Warm:
    """The interpreter of this test process."""

    _made: _Warm | None = None

    @classmethod
    def existing(cls) -> _Warm:
        if cls._made is None:
            cls._made = cls()
        return cls._made

    @staticmethod
    def fits(env: dict[str, str]) -> bool:
        if "OPSKIT_TEST_COLD" in os.environ or not hasattr(os, "pidfd_open"):
            return False
        return _at_start(env) == _Warm.existing()._read

    def __init__(self) -> None:
        self._read = _at_start(os.environ)
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

    def ask(self, request: dict[str, Any], descriptors: list[int], timeout: float) -> int:
        """The exit code; of a killed process, minus the signal."""
        content = json.dumps(request).encode()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._path)
            connection.settimeout(60)
            sent = socket.send_fds(connection, [struct.pack("!I", len(content)) + content], descriptors)
            connection.sendall((struct.pack("!I", len(content)) + content)[sent:])
            pid = _number(connection)
            connection.settimeout(timeout)
            try:
                return _number(connection)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                connection.settimeout(60)
                _number(connection)
                raise subprocess.TimeoutExpired(request["command"], timeout) from None

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._folder.cleanup()


def _at_start(environment: Any) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


def _number(connection: socket.socket) -> int:
    content = connection.recv(4)
    assert len(content) == 4, "the warm interpreter has ended"
    return int(struct.unpack("!i", content)[0])


def _umask() -> int:
    found = os.umask(0o077)
    os.umask(found)
    return found
