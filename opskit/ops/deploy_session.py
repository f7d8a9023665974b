"""A conversation with the program on one node."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from opskit.errors import (
    DagInvalid,
    GuardRefused,
    LockHeld,
    OpskitError,
    RemoteError,
    UsageError,
    VerificationFailed,
)
from opskit.system.ssh import RemoteHost, RemoteProcess

_MARKER = b"opskit-node-1\n"
_NOISE = 1 << 16
"""So much may a login shell say before our program begins."""
_MODULES = ("opskit.ops.node_tree", "opskit.ops.deploy_node")
_KINDS: dict[str, type[OpskitError]] = {
    "guard": GuardRefused,
    "lock": LockHeld,
    "usage": UsageError,
    "verification": VerificationFailed,
    "dag": DagInvalid,
    "remote": RemoteError,
}


def node_program() -> bytes:
    """The source that runs on a node: the modules under their own names, then the conversation."""
    sources = {name: files("opskit.ops").joinpath(f"{name.rpartition('.')[2]}.py").read_text() for name in _MODULES}
    return f"""import sys, types
for package in ("opskit", "opskit.ops"):
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = []
for name, source in {sources!r}.items():
    sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), sys.modules[name].__dict__)
sys.modules["opskit.ops.deploy_node"].serve()
""".encode()


class NodeSession:
    """Asks one node. The node's lock lives as long as this."""

    def __init__(self, host: RemoteHost, python: str, timeout: float) -> None:
        self.name = host.name
        self._host = host
        self._python = python
        self._timeout = timeout
        self._process: RemoteProcess | None = None

    def open(self, program: bytes) -> None:
        """Connect and start the program. RemoteError, or GuardRefused for a host key."""
        bootstrap = (
            "import os,sys;assert sys.version_info>=(3,7),'python 3.7 or newer is needed';b=b'';"
            f"exec('while len(b)<{len(program)}:b+=os.read(0,{len(program)}-len(b)) or os._exit(9)');"
            "exec(compile(b,'opskit-node','exec'))"
        )
        process = self._host.start([self._python, "-I", "-c", bootstrap])
        self._process = process
        try:
            process.send(program, timeout=self._timeout)
        except OpskitError:
            raise process.failure() from None
        said = b""
        while not said.endswith(_MARKER):
            part = process.receive(1, timeout=self._timeout) if len(said) < _NOISE else b""
            if not part:
                raise process.failure()
            said += part

    def ask(self, op: str, *, payload: Callable[[], Any] | None = None, size: int = 0, **fields: Any) -> dict[str, Any]:
        """One request and its answer. `payload` gives the chunks of `size` bytes that follow the request.

        Raises what the node refused, under this host's name.
        """
        process = self._process
        assert process is not None
        request = json.dumps({"op": op, "payload": size, "idle": 3 * self._timeout + 60, **fields}).encode()
        process.send(struct.pack(">I", len(request)) + request, timeout=self._timeout)
        if payload is not None:
            for chunk in payload():
                process.send(chunk, timeout=self._timeout)
        (length,) = struct.unpack(">I", self._receive(4))
        answer: dict[str, Any] = json.loads(self._receive(length))
        if "error" in answer:
            kind, message, hint = answer["error"]
            raise _KINDS[kind](f"{self.name}: {message}", hint=hint)
        return answer

    def close(self) -> None:
        if self._process is not None:
            self._process.end_input()
            try:
                # The node clears its staging away before it goes.
                self._process.finish(timeout=10.0)
            except OpskitError:
                pass  # it is lost anyhow, and the next deployment clears up
            self._process.kill()
            self._process = None
        self._host.close()

    def _receive(self, size: int) -> bytes:
        assert self._process is not None
        parts = []
        while size:
            part = self._process.receive(size, timeout=self._timeout)
            if not part:
                raise self._process.failure()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
