"""Releases of the DAG folder, as `deploy-dag` lays them out: which one is current, where one lies, and holding one.

`<parent>/dags` is a link to `<parent>/.opskit-releases/<release>/`. Whoever holds a shared lock on `<release>.in-use`
beside it keeps the release from being removed.
"""

from __future__ import annotations

import fcntl
import os

RELEASES = ".opskit-releases"


def release_of(dags_folder: str) -> str:
    """The release that the DAG folder is now; empty for a plain folder."""
    folder, release = os.path.split(os.path.realpath(dags_folder))
    return release if os.path.basename(folder) == RELEASES else ""


def folder_of(dags_folder: str, release: str) -> str | None:
    """Where a release lies; None when it is not (or no longer) on this host."""
    if not release or "/" in release or release.startswith("."):
        return None
    current = os.path.realpath(dags_folder)
    parent, name = os.path.split(current)
    root = parent if os.path.basename(parent) == RELEASES else os.path.join(parent, RELEASES)
    folder = os.path.join(root, release)
    if name != release and not os.path.isdir(folder):
        return None
    return folder


def hold(folder: str) -> int | None:
    """Keep the release in this folder until the descriptor is closed. None: it can't be held (it is about to go)."""
    try:
        descriptor = os.open(f"{folder}.in-use", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
