"""Spares forks of single-threaded processes the work that other modules do after each fork.

`threading` and `logging` register hooks that repair their locks in a forked child, because another thread may have
held one. Where there is no other thread there is nothing to repair, but the hooks write to a hundred pages of memory
that the child shares with its parent, and each costs a page fault: a fourth of what an attempt costs. `install` must
be called before those modules are imported; from then on `fork` skips their hooks when that is safe. Any other fork
(`os.fork`, multiprocessing) runs them as ever, and the hooks of other modules (`random` takes a new seed) always run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

SPARED = frozenset({"threading", "logging"})
_sparing = False


def install() -> None:
    """Let hooks of the SPARED modules be known when they are registered; nothing for those imported already."""
    register = os.register_at_fork

    def register_at_fork(**hooks: Callable[[], Any]) -> None:
        module = sys._getframe(1).f_globals.get("__name__")
        register(**{when: _sparable(hook) if module in SPARED else hook for when, hook in hooks.items()})

    os.register_at_fork = register_at_fork  # type: ignore[assignment]


def _sparable(hook: Callable[[], Any]) -> Callable[[], Any]:
    def unless_spared() -> None:
        if not _sparing:
            hook()

    return unless_spared


def fork() -> int:
    """`os.fork`, without the hooks of the SPARED modules when this process has one thread."""
    global _sparing
    threading = sys.modules.get("threading")
    _sparing = threading is None or len(threading._active) + len(threading._limbo) == 1
    try:
        return os.fork()
    finally:
        _sparing = False
