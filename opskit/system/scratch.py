"""Temporary folders that don't outlive their use, also when their process was killed."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
    with locked(folder, _LOCK):
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def remove_leftovers(parent: Path) -> list[Path]:
    """Remove the scratch folders whose processes are gone; which."""
    removed = []
    for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
        # A folder without its lock file is about to be used, or was killed at birth: it is empty then.
        if not (folder / f"{_LOCK}.lock").exists():
            continue
        with contextlib.suppress(LockHeld, FileNotFoundError), locked(folder, _LOCK):
            shutil.rmtree(folder)
            removed.append(folder)
    return removed
