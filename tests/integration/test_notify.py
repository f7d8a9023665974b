"""What the daemons tell systemd, heard on a real notification socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import Daemon, running
from tests.waiting import wait_until

KINDS = ("scheduler", "dag-processor", "worker")


def test_a_daemon_is_ready_after_its_first_loop_then_pings_and_says_that_it_stops(
    home: Path, opskit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opskit("db", "migrate")
    heard: dict[str, list[str]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        listeners: dict[str, socket.socket] = {}
        daemons: dict[str, Daemon] = {}
        for kind in KINDS:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            listener.bind(str(tmp_path / kind))
            listener.setblocking(False)
            listeners[kind] = listener
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / kind))
            daemons[kind] = stack.enter_context(running(kind, home, scheduler__scheduler_heartbeat_sec="0.2"))

        def listen(kind: str) -> list[str]:
            for name, listener in listeners.items():
                while True:
                    try:
                        heard[name] += listener.recv(4096).decode().split("\n")
                    except BlockingIOError:
                        break
            return heard[kind]

        for kind in KINDS:
            wait_until(lambda kind=kind: "READY=1" in listen(kind), what=f"READY=1 from {kind}")  # type: ignore[misc]
            before = heard[kind].count("WATCHDOG=1")
            wait_until(lambda kind=kind, n=before: listen(kind).count("WATCHDOG=1") > n, what=f"pings from {kind}")  # type: ignore[misc]
        codes = {kind: daemons[kind].stop() for kind in KINDS}
        assert codes == dict.fromkeys(KINDS, 0)
        for kind in KINDS:
            assert listen(kind).count("READY=1") == 1
            assert heard[kind][-1].startswith("EXTEND_TIMEOUT_USEC=") or heard[kind][-1] == "STOPPING=1"
            assert "STOPPING=1" in heard[kind]
        # stop grace 10 s, kill grace 60 s, and half a minute
        assert "EXTEND_TIMEOUT_USEC=100000000" in heard["worker"]
