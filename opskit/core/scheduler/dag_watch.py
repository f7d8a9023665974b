"""Tells when something in the DAG folder changes: inotify on every folder, and on every link that leads to the root."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from opskit.core.dag.ignore_files import IGNORE_FILES
from opskit.core.scheduler.dag_folder import COMPANIONS, links_on_path

log = logging.getLogger(__name__)


class FolderWatch:
    """`fileno()` becomes readable on a change. `problem` says why a change may go unnoticed until the next listing."""

    def __init__(self, root: Path) -> None:
        """OSError when the system has no inotify, or no more instances of it."""
        from inotify_simple import INotify, flags

        self._root = root
        self._inotify = INotify(nonblocking=True)
        self._flags = flags
        self._moves = int(flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO)
        self._tree = int(self._moves | flags.CLOSE_WRITE | flags.ATTRIB | flags.DELETE_SELF | flags.MOVE_SELF)
        self._watched: dict[int, tuple[str, frozenset[str] | None]] = {}
        """Descriptor → folder, and the names that matter in it (None: a folder of the tree, see _matters)."""
        self.problem: str | None = None

    def fileno(self) -> int:
        return int(self._inotify.fileno())

    def close(self) -> None:
        self._inotify.close()

    def cover(self, folders: list[str]) -> None:
        """Watch these folders of the tree and the links that lead to the root, and nothing else."""
        names: dict[str, set[str]] = {}
        for folder, name in links_on_path(self._root):
            names.setdefault(folder, set()).add(name)
        wanted: dict[str, frozenset[str] | None] = {folder: frozenset(found) for folder, found in names.items()}
        wanted.update(dict.fromkeys(folders))
        self.problem = None
        now: dict[int, tuple[str, frozenset[str] | None]] = {}
        for folder, found in wanted.items():
            try:
                # Adding again is the way to learn that a path leads to another folder than before.
                descriptor = self._inotify.add_watch(folder, self._tree if found is None else self._moves)
            except FileNotFoundError:
                continue  # gone since it was listed: its parent tells
            except OSError as error:
                self.problem = f"{folder} can't be watched: {error.strerror} (see fs.inotify.max_user_watches)"
                continue
            # Two paths may lead to one folder: then its rules are the wider ones.
            before = now.get(descriptor)
            now[descriptor] = (folder, None) if before and (before[1] is None or found is None) else (folder, found)
        for descriptor in self._watched.keys() - now.keys():
            try:
                self._inotify.rm_watch(descriptor)
            except OSError:
                pass  # it went with its folder
        self._watched = now

    def take(self) -> bool:
        """Read all events; whether one of them concerns DAG files."""
        changed = False
        for event in self._inotify.read(timeout=0):
            if event.mask & self._flags.Q_OVERFLOW:
                changed = True
            elif event.wd in self._watched:
                changed = changed or self._matters(event.wd, event.mask, event.name)
        return changed

    def _matters(self, descriptor: int, mask: int, name: str) -> bool:
        names = self._watched[descriptor][1]
        if names is not None:
            return name in names
        if not name:
            return bool(mask & (self._flags.DELETE_SELF | self._flags.MOVE_SELF | self._flags.UNMOUNT))
        if mask & self._flags.ISDIR:
            # A task that is run writes no folders but this one.
            return name != "__pycache__" and not mask & self._flags.ATTRIB
        return name.endswith(COMPANIONS) or name in IGNORE_FILES or self._may_be_a_folder(descriptor, mask, name)

    def _may_be_a_folder(self, descriptor: int, mask: int, name: str) -> bool:
        """A link to a folder comes and goes without ISDIR. Of one that is gone, only the name can tell what it was."""
        if not mask & self._moves:
            return False
        path = os.path.join(self._watched[descriptor][0], name)
        return os.path.isdir(path) or "." not in name


def watch(root: Path) -> FolderWatch | None:
    """A watch on the DAG folder, or None where inotify does not work; the log says so."""
    try:
        return FolderWatch(root)
    except ImportError as error:
        log.warning("changes are seen at full listings only: %s", error)
    except OSError as error:
        log.warning("changes are seen at full listings only: inotify does not work here: %s", error)
    return None
