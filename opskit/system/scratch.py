"""Temporary folders that don't outlive their use, also when their process was killed."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from opskit.errors import LockHeld
from opskit.system.locks import locked

_LOCK = "in-use"


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A fresh folder (mode 0700) below `parent`, removed at the end. What killed processes left there goes first."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_leftovers(parent)
    folder = parent / f"{name}-{secrets.token_hex(6)}"
    folder.mkdir(mode=0o700)
    with _locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. Where another process took the fresh, empty folder for a leftover, it is made again."""
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder, _LOCK))
            except FileNotFoundError:
                folder.mkdir(mode=0o700, exist_ok=True)
            else:
                break
        yield


def remove_leftovers(parent: Path) -> list[Path]:
    """Remove the scratch folders whose processes are gone; which."""
    removed = []
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        if not (folder / f"{_LOCK}.lock").exists():
            # Its process was killed at birth, or is about to lock it and makes it again: it is empty.
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        with contextlib.suppress(LockHeld, FileNotFoundError), locked(folder, _LOCK):
            shutil.rmtree(folder)
            removed.append(folder)
    return removed
