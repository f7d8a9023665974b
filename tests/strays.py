"""Finds processes that tests left behind: they carry a mark of this test process in their environment."""

from __future__ import annotations

import os
import signal
from collections.abc import Set
from pathlib import Path

from tests.waiting import wait_until

VARIABLE = "OPSKIT_TEST_PROCESS"
expected: set[int] = set()
"""Servers that live longer than one test; whoever starts one adds it and stops it."""


def mark() -> None:
    """Let all processes that we start from now on be known as ours."""
    os.environ[VARIABLE] = str(os.getpid())


def numbers() -> set[int]:
    """Of all processes of the machine."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} if Path("/proc").is_dir() else set()


def living(mark: str | None = None, before: Set[int] = frozenset()) -> set[int]:
    """Our processes that live (or those with another mark), without ourselves, zombies, and what was there `before`."""
    found = set()
    wanted = f"{VARIABLE}={mark or os.getpid()}".encode()
    for name in numbers() - before - {os.getpid()}:
        try:
            # A zombie's environment reads as empty.
            if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.add(name)
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
    return found - expected


def check(before: Set[int], patience: float = 10.0, mark: str | None = None) -> None:
    """AssertionError when processes are there that were not there before; they are killed."""
    try:
        wait_until(lambda: not living(mark, before), timeout=patience)
    except AssertionError:
        left = {pid: _command(pid) for pid in living(mark, before)}
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if left:
            raise AssertionError(f"processes were left behind: {left}") from None


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "(ended)"
