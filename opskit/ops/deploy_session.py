"""A conversation with the program on one node."""

from __future__ import annotations

import importlib
import importlib.util
import json
import marshal
import zlib
from collections.abc import Callable
from functools import cache
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
from opskit.ops.node_wire import MARKER
from opskit.system.ssh import RemoteHost, RemoteProcess

_NOISE = 1 << 16
"""So much may a login shell say before our program begins."""
_MODULES = ("node_tree", "node_wire", "node_store", "node_stage", "node_switch", "node_check", "deploy_node")
_KINDS: dict[str, type[OpskitError]] = {
    "guard": GuardRefused,
    "lock": LockHeld,
    "usage": UsageError,
    "verification": VerificationFailed,
    "dag": DagInvalid,
    "remote": RemoteError,
}
_PORTABLE = 2
"""The version of the marshal format that every Python 3 reads."""
_START = """
import _frozen_importlib_external, sys
for package in ("opskit", "opskit.ops"):
    sys.modules[package] = type(sys)(package)
    sys.modules[package].__path__ = []
fits = program["magic"] == _frozen_importlib_external.MAGIC_NUMBER and program["tag"] == sys.implementation.cache_tag
for name, source, code in program["modules"]:
    full = "opskit.ops." + name
    sys.modules[full] = module = type(sys)(full)
    setattr(sys.modules["opskit.ops"], name, module)
    exec(marshal.loads(code) if fits else compile(source, name, "exec"), module.__dict__)
sys.modules["opskit.ops.deploy_node"].serve()
"""


@cache
def node_program() -> bytes:
    """What runs on a node: the modules as source, and compiled for a node with our own version of Python."""
    import sys

    modules = []
    for name in _MODULES:
        spec = importlib.util.find_spec(f"opskit.ops.{name}")
        assert spec is not None and spec.loader is not None
        code = spec.loader.get_code(spec.name)  # type: ignore[attr-defined]
        modules.append((name, files("opskit.ops").joinpath(f"{name}.py").read_text(), marshal.dumps(code)))
    program = {"magic": importlib.util.MAGIC_NUMBER, "tag": sys.implementation.cache_tag, "modules": modules}
    return zlib.compress(marshal.dumps(program, _PORTABLE), 6)


class NodeSession:
    """Asks one node. The node's lock lives as long as this."""

    def __init__(self, host: RemoteHost, python: str, timeout: float, patience: float = 0.0) -> None:
        """A node without a request for 3 * `timeout` + 60 + `patience` seconds gives up: nobody is there any more."""
        self.name = host.name
        self._host = host
        self._python = python
        self._timeout = timeout
        self._idle = 3 * timeout + 60 + patience
        self._process: RemoteProcess | None = None
        self._said_hello = False
        self._left = False
        self._heard: dict[str, Any] | OpskitError | None = None

    def open(self, program: bytes) -> None:
        """Connect and start the program. RemoteError, or GuardRefused for a host key, here or with the first answer."""
        bootstrap = (
            "import marshal,os,sys,zlib;assert sys.version_info>=(3,7),'python 3.7 or newer is needed';b=b'';"
            f"exec('while len(b)<{len(program)}:b+=os.read(0,{len(program)}-len(b)) or os._exit(9)');"
            "program=marshal.loads(zlib.decompress(b));"
            f"exec({_START!r})"
        )
        process = self._host.start([self._python, "-I", "-S", "-c", bootstrap])
        self._process = process
        self._said_hello = False
        try:
            process.send(program, timeout=self._timeout)
        except OpskitError:
            raise process.failure() from None

    def begin(self, program: bytes, **hello: Any) -> dict[str, Any]:
        """Connect, start the program and ask it "hello". Raises as `open` and `ask` do."""
        try:
            self.open(program)
            return self.ask("hello", **hello)
        except RemoteError:
            if self._said_hello or not self._host.was_connected:
                raise
            # What an earlier command left of a connection is dead: a new one tells whether the host is, too.
            if self._process is not None:
                self._process.kill()
            self._host.abandon()
            self.open(program)
            return self.ask("hello", **hello)

    def ask(self, op: str, *, payload: Callable[[], Any] | None = None, size: int = 0, **fields: Any) -> dict[str, Any]:
        """One request and its answer. `payload` gives the chunks of `size` bytes that follow the request.

        Raises what the node refused, under this host's name.
        """
        self._hear()
        self.post(op, payload=payload, size=size, **fields)
        return self.answer()

    def leave(self, op: str, **fields: Any) -> None:
        """A request whose answer is `collect`ed at some time, whatever is asked in between."""
        self.post(op, **fields)
        self._left = True

    def collect(self) -> dict[str, Any] | None:
        """The answer to what was left to the node, once; None when nothing was. Raises what the node refused."""
        self._hear()
        heard, self._heard = self._heard, None
        if isinstance(heard, OpskitError):
            raise heard
        return heard

    def _hear(self) -> None:
        if self._left:
            self._left = False
            try:
                self._heard = self.answer()
            except OpskitError as error:
                self._heard = error

    def post(self, op: str, *, payload: Callable[[], Any] | None = None, size: int = 0, **fields: Any) -> None:
        """A request whose `answer` is asked for later."""
        process = self._process
        assert process is not None
        request = marshal.dumps({"op": op, "payload": size, "idle": self._idle, **fields}, _PORTABLE)
        process.send(len(request).to_bytes(4, "big") + request, timeout=self._timeout)
        if payload is not None:
            for chunk in payload():
                process.send(chunk, timeout=self._timeout)

    def answer(self) -> dict[str, Any]:
        """The answer to what was posted. Raises what the node refused, under this host's name."""
        if not self._said_hello:
            self._await_marker()
        length = int.from_bytes(self._receive(4), "big")
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

    def _await_marker(self) -> None:
        assert self._process is not None
        said = b""
        while not said.endswith(MARKER):
            rest = 1 if said else len(MARKER)
            part = self._process.receive(rest, timeout=self._timeout) if len(said) < _NOISE else b""
            if not part:
                raise self._process.failure()
            said += part
        self._said_hello = True

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
