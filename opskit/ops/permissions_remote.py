"""Asks another host about its permissions: the modules that do the work are sent there as source, over SSH."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from opskit.config import Config
from opskit.errors import RemoteError
from opskit.ops.permissions_node import MARKER
from opskit.ops.permissions_rules import Refused
from opskit.system.ssh import connect, unreachable

# Each imports only those before it.
_MODULES = ("acl", "rules", "roots", "journal", "tree", "node")


@cache
def _program() -> str:
    """The modules under their own names, so that they import each other there as they do here."""
    sources = {
        f"opskit.ops.permissions_{name}": files("opskit.ops").joinpath(f"permissions_{name}.py").read_text()
        for name in _MODULES
    }
    return f"""import sys, types
for package in ("opskit", "opskit.ops"):
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = []
for name, source in {sources!r}.items():
    module = sys.modules[name] = types.ModuleType(name)
    setattr(sys.modules["opskit.ops"], name.rpartition(".")[2], module)
    exec(compile(source, name, "exec"), module.__dict__)
"""


def ask(config: Config, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of one host; see `permissions_node`. Refused by it, RemoteError, or GuardRefused for a host key."""
    home = config.get("permissions", "remote_home") or request["home"]
    program = f"{_program()}module.serve({dict(request, home=home)!r})\n".encode()
    bootstrap = (
        "import os,sys;assert sys.version_info>=(3,7),'python 3.7 or newer is needed';b=b'';"
        f"exec('while len(b)<{len(program)}:b+=os.read(0,{len(program)}-len(b)) or os._exit(9)');"
        "exec(compile(b,'opskit-permissions','exec'))"
    )
    python = config.get("deploy", "python") or "python3"
    host = connect(
        name,
        transport=config.get("deploy", "transport"),
        connect_timeout=config.get("deploy", "connect_timeout"),
        ssh_config=config.get("deploy", "ssh_config"),
    )
    try:
        argv = [*config.get("permissions", "become"), python, "-I", "-c", bootstrap]
        result = host.run(argv, stdin=[program], timeout=config.get("permissions", "timeout"))
    finally:
        host.close()
    text = result.stdout.decode(errors="replace")
    _, marker, said = text.rpartition(MARKER)
    if result.exit_code or not marker:
        words = (result.stderr.decode(errors="replace").strip() or text.strip()).splitlines()
        raise unreachable(name, f"the program there ended with {result.exit_code}: {words[-1] if words else 'no word'}")
    try:
        found: dict[str, Any] = json.loads(said)
    except ValueError as error:
        raise RemoteError(f"{name}: the answer can't be read: {error}") from error
    if "failed" in found:
        raise Refused(*found["failed"])
    return found
