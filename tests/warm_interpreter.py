"""An interpreter that has read the third-party libraries, and forks a process of `opskit` for each request.

A program, not a module: tests/warm.py starts it, with a socket to listen at as standard input's neighbour: see `main`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import socket
import struct
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any

LIBRARIES = (
    "alembic.command",
    "click.shell_completion",
    "croniter",
    "cryptography.fernet",
    "inotify_simple",
    "jsonschema",
    "pendulum",
    "psutil",
    "psycopg",
    "pymysql",
    "rich.console",
    "rich.table",
    "rich.text",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
)
"""What short commands read, where it is installed."""
Request = tuple[dict[str, Any], list[int]]


def main(descriptor: int) -> None:
    """Serve the socket of this number until standard input ends; return in each process that is to be opskit."""
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)
    assert not {name.partition(".")[0] for name in sys.modules} & {"opskit", "tests"}, "libraries only"
    gc.collect()
    gc.freeze()
    request = serve(socket.socket(fileno=descriptor))
    if request is not None:
        become(*request)


def serve(listening: socket.socket) -> Request | None:
    """In the process that is to be opskit: what it was asked for. None: nobody will ask any more."""
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(listening, selectors.EVENT_READ)
    running: dict[int, tuple[int, socket.socket]] = {}
    """pidfd → pid, and who waits for its end."""
    while True:
        for key, _ in selector.select():
            if key.fd == 0:
                return None
            if key.fd in running:
                selector.unregister(key.fd)
                os.close(key.fd)
                pid, asker = running.pop(key.fd)
                tell(asker, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                asker.close()
                continue
            asker, _ = listening.accept()
            request = receive(asker)
            pid = os.fork()
            if pid == 0:
                selector.close()
                for opened in (listening, asker, *(other for _, other in running.values())):
                    opened.close()
                for pidfd in running:
                    os.close(pidfd)
                return request
            for number in request[1]:
                os.close(number)
            tell(asker, pid)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = pid, asker
            selector.register(pidfd, selectors.EVENT_READ)


def receive(asker: socket.socket) -> Request:
    content, descriptors, _, _ = socket.recv_fds(asker, 1 << 20, 3)
    (length,) = struct.unpack_from("!I", content)
    while len(content) < 4 + length:
        content += asker.recv(1 << 20)
    return json.loads(content[4:]), descriptors


def tell(asker: socket.socket, number: int) -> None:
    with suppress(OSError):  # it asked and went away
        asker.sendall(struct.pack("!i", number))


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """What a new interpreter would find."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if request["new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    tempfile.tempdir = None
    sys.path[0] = request["cwd"]
    sys.orig_argv[:] = request["command"]
    sys.argv[:] = request["command"][2:]
    code: Any = None
    try:
        runpy.run_module("opskit", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code
    leave(code or 0)


def leave(code: int) -> None:
    """As an interpreter ends, but without taking apart all that it has read: that would be half of what is left."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main(int(sys.argv[1]))
