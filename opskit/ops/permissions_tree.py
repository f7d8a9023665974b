"""Walks the trees of a policy, compares each entry with it, and writes what differs, by descriptors and never by path.

An entry is held open (O_PATH: no right to read it is needed, no device is started) before it is judged, and what was
judged is what is written. So whoever can swap names below the root can lead no write out of it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from typing import Any

from opskit.ops import permissions_acl
from opskit.ops.permissions_journal import Journal
from opskit.ops.permissions_roots import FOLDER, Root, mounts_below
from opskit.ops.permissions_rules import (
    Held,
    Rule,
    State,
    describe,
    merged,
    wanted,
    why_not_allowed,
    why_refused,
)

DEEPEST = 200
"""Directories below this depth are not entered (each level holds a descriptor)."""
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_KIND, _FOLDER, _FILE = 0o170000, 0o040000, 0o100000
_TELL_EVERY = 5000


class Enough(Exception):
    """As many changes were made as were allowed."""


class Tally:
    """What was found and done. The lists hold at most `shown` items each; everything is counted."""

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self.entries = self.differing = self.changed = self.refused = self.denied = self.obstacle_count = 0
        self.differences: list[dict[str, Any]] = []
        self.refusals: list[dict[str, str]] = []
        self.denials: list[dict[str, str]] = []
        self.obstacles: list[dict[str, str]] = []

    def differs(self, path: str, old: State, new: State, status: os.stat_result) -> None:
        self.differing += 1
        if len(self.differences) < self._shown:
            text = describe(old, new)
            since = status.st_ctime
            self.differences.append({"path": path, "text": text, "since": since, "old": shown(old), "new": shown(new)})

    def refuse(self, path: str, reason: str) -> None:
        self.refused += 1
        self._keep(self.refusals, path, reason)

    def deny(self, path: str, reason: str) -> None:
        self.denied += 1
        self._keep(self.denials, path, reason)

    def meet(self, path: str, reason: str) -> None:
        self.obstacle_count += 1
        self._keep(self.obstacles, path, reason)

    def _keep(self, items: list[dict[str, str]], path: str, reason: str) -> None:
        if len(items) < self._shown:
            items.append({"path": path, "reason": reason})

    def as_dict(self) -> dict[str, Any]:
        names = ("entries", "differing", "changed", "refused", "denied", "obstacle_count")
        lists = ("differences", "refusals", "denials", "obstacles")
        return {name: getattr(self, name) for name in (*names, *lists)}


def shown(state: State) -> dict[str, Any]:
    """A state as JSON: octal mode, lists as setfacl writes them."""
    found: dict[str, Any] = {"uid": state.uid, "gid": state.gid, "mode": f"{state.mode:04o}"}
    for key, value in (("acl", state.access), ("default_acl", state.default)):
        if value is not None:
            found[key] = permissions_acl.show(value)
    return found


class Repair:
    """One run over all roots. `journal` None: look only."""

    def __init__(
        self,
        rules: Sequence[Rule],
        tally: Tally,
        journal: Journal | None = None,
        *,
        max_changes: int = 0,
        per_second: float = 0.0,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._rules = rules
        self._tally = tally
        self._journal = journal
        self._max_changes = max_changes
        self._pause = 1.0 / per_second if per_second else 0.0
        self._next_change = 0.0
        self._progress = progress
        self._told = 0
        self._held: dict[tuple[int, ...], Held] = {}
        self._euid, self._groups, self._capabilities = os.geteuid(), [os.getegid(), *os.getgroups()], capabilities()

    def run(self, roots: Sequence[Root]) -> None:
        """Raises Enough when `max_changes` were made."""
        for root in roots:
            _Tree(self, root, [other.path for other in roots if other is not root]).run()

    def rules_for(self, path: str) -> tuple[list[Rule], list[Rule]]:
        """The rules without a pattern that hold at this root and below, and those with one that may hold there."""
        around = [rule for rule in self._rules if path == rule.root or path.startswith(rule.root + "/")]
        return [rule for rule in around if rule.pattern is None], [rule for rule in around if rule.pattern is not None]

    def held(self, rules: tuple[Rule, ...]) -> Held:
        key = tuple(rule.order[2] for rule in rules)
        if key not in self._held:
            self._held[key] = merged(rules)
        return self._held[key]

    def settle(self, descriptor: int, shown_path: str, root: Root, below: str, held: Held, owner: int) -> None:
        """Judge what the descriptor holds, and write what differs."""
        status = os.fstat(descriptor)
        folder = stat.S_ISDIR(status.st_mode)
        old = read_state(descriptor, status, held, folder)
        new = wanted(old, folder, held)
        tally = self._tally
        if new == old:
            if not held.acl and not (folder and held.inherit):
                held.fine.add((status.st_mode, status.st_uid, status.st_gid))
            return
        tally.differs(shown_path, old, new, status)
        rightful = owner if held.uid is None else held.uid
        refusal = why_refused(status, rightful, status.st_uid != rightful and is_unlinked(descriptor))
        if refusal:
            tally.refuse(shown_path, refusal)
            return
        denial = why_not_allowed(old, new, self._euid, self._groups, self._capabilities)
        if denial:
            tally.deny(shown_path, denial)
            return
        if self._journal is None:
            return
        if self._max_changes and tally.changed >= self._max_changes:
            raise Enough
        self._wait()
        self._journal.add(root.path, below, status, old, new)
        if write_state(descriptor, old, new):
            tally.changed += 1
        else:
            tally.meet(shown_path, "the kernel did not take the setgid bit: the group is not one of this user's")

    def _wait(self) -> None:
        if self._pause:
            now = time.monotonic()
            if self._next_change > now:
                time.sleep(self._next_change - now)
            self._next_change = max(now, self._next_change) + self._pause

    def count(self, entries: int) -> None:
        self._tally.entries += entries
        if self._tally.entries - self._told >= _TELL_EVERY:
            self._told = self._tally.entries
            self._progress(self._told)


class _Tree:
    """The walk below one root."""

    def __init__(self, repair: Repair, root: Root, others: list[str]) -> None:
        self.repair, self.root = repair, root
        self.tally = repair._tally
        self.nested = frozenset(path[len(root.path) + 1 :] for path in others if path.startswith(root.path + "/"))
        self.plain, self.globs = repair.rules_for(root.path)
        self.constant = None if self.globs else repair.held(tuple(self.plain))
        top = os.fstat(root.descriptor)
        self.device, self.owner = top.st_dev, top.st_uid
        self.mounts = mounts_below(root.descriptor)

    def run(self) -> None:
        root = self.root
        self.repair.count(1)
        if root.name:
            status = os.stat(root.name, dir_fd=root.descriptor, follow_symlinks=False)
            self.owner = status.st_uid
            self.entry(root.descriptor, root.name, "", self.held(""))
            return
        held = self.held("")
        if not self.is_fine(os.fstat(root.descriptor), held):
            with self.obstacles(""):
                self.repair.settle(root.descriptor, root.shown, root, "", held, self.owner)
        self.folder(root.descriptor, "", 0)

    def held(self, below: str) -> Held:
        if self.constant is not None:
            return self.constant
        path = self.root.path + "/" + below if below else self.root.path
        matching = [rule for rule in self.globs if rule.pattern.match(path)]  # type: ignore[union-attr]
        return self.repair.held(tuple(sorted([*self.plain, *matching], key=lambda rule: rule.order)))

    def shown(self, below: str) -> str:
        return self.root.shown + "/" + below if below else self.root.shown

    def obstacles(self, below: str) -> _Obstacles:
        return _Obstacles(self.tally, self.shown(below))

    @staticmethod
    def is_fine(status: os.stat_result, held: Held) -> bool:
        return (status[0], status[4], status[5]) in held.fine

    def folder(self, directory: int, prefix: str, depth: int) -> None:
        """All entries of an open directory, and all below. This loop is what an audit costs: it stays flat."""
        entries = 0
        folders = []
        constant = self.constant
        fine = constant.fine if constant is not None else None
        with os.scandir(directory) as listing:
            for item in listing:
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                mode = status[0]
                kind = mode & _KIND
                if kind == _FILE:
                    entries += 1
                    if fine is not None and (mode, status[4], status[5]) in fine:
                        continue
                    below = prefix + item.name
                    if below in self.nested:
                        entries -= 1
                        continue
                    held = constant or self.held(below)
                    if (mode, status[4], status[5]) not in held.fine:
                        self.entry(directory, item.name, below, held)
                elif kind == _FOLDER:
                    folders.append((item.name, status))
                # A link has no mode of its own; sockets and pipes belong to their programs.
        for name, status in folders:
            below = prefix + name
            if below in self.nested:
                continue
            entries += 1
            self.subfolder(directory, name, below, status, depth)
        self.repair.count(entries)

    def subfolder(self, directory: int, name: str, below: str, status: os.stat_result, depth: int) -> None:
        if status.st_dev != self.device or below in self.mounts:
            self.tally.meet(self.shown(below), "another file system")
            return
        if depth >= DEEPEST:
            self.tally.meet(self.shown(below), f"more than {DEEPEST} levels deep")
            return
        held = self.held(below)
        if not self.is_fine(status, held):
            self.entry(directory, name, below, held)
        with self.obstacles(below):
            child = os.open(name, FOLDER, dir_fd=directory)
            try:
                opened = os.fstat(child)
                if opened.st_dev != self.device:
                    self.tally.meet(self.shown(below), "another file system")
                else:
                    self.folder(child, below + "/", depth + 1)
            finally:
                os.close(child)

    def entry(self, directory: int, name: str, below: str, held: Held) -> None:
        with self.obstacles(below):
            descriptor = os.open(name, _HANDLE, dir_fd=directory)
            try:
                status = os.fstat(descriptor)
                if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                    return  # it was swapped for something that has no mode of its own
                if status.st_dev != self.device:
                    self.tally.meet(self.shown(below), "another file system")
                    return
                self.repair.settle(descriptor, self.shown(below), self.root, below or self.root.name, held, self.owner)
            finally:
                os.close(descriptor)


class _Obstacles:
    """Notes what can't be read or written under its path. What has vanished, or is a link by now, is passed over."""

    def __init__(self, tally: Tally, path: str) -> None:
        self._tally, self._path = tally, path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, OSError):
            return False
        if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            self._tally.meet(self._path, error.strerror or str(error))
        return True


def read_state(descriptor: int, status: os.stat_result, held: Held, folder: bool) -> State:
    """What an entry is; lists only where the policy says something of them."""
    access = read_acl(descriptor, permissions_acl.ACCESS) if held.acl else None
    default = read_acl(descriptor, permissions_acl.DEFAULT) if folder and held.inherit else None
    return State(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), access, default)


def is_unlinked(descriptor: int) -> bool:
    """Whether the name by which this was opened is gone (it never comes back, not even when it is linked again). Asked
    after the links were counted: a name that is still there was counted."""
    return os.readlink(f"/proc/self/fd/{descriptor}").endswith(" (deleted)")


def read_acl(descriptor: int, name: str) -> bytes:
    """The kernel's form of a list; empty when there is none."""
    try:
        return os.getxattr(f"/proc/self/fd/{descriptor}", name)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return b""
        raise


def write_state(descriptor: int, old: State, new: State) -> bool:
    """Make an open entry so. False when the kernel silently left a bit of the mode out."""
    # fchmod refuses an O_PATH descriptor; the name in /proc leads to its inode and to nothing else.
    path = f"/proc/self/fd/{descriptor}"
    if (old.uid, old.gid) != (new.uid, new.gid):
        os.chown(path, new.uid if old.uid != new.uid else -1, new.gid if old.gid != new.gid else -1)
    for name, before, after in (
        (permissions_acl.ACCESS, old.access, new.access),
        (permissions_acl.DEFAULT, old.default, new.default),
    ):
        if after is not None and before != after:
            if after:
                os.setxattr(path, name, after)
            else:
                os.removexattr(path, name)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != new.mode:
        os.chmod(path, new.mode)
        return stat.S_IMODE(os.fstat(descriptor).st_mode) == new.mode
    return True


def capabilities() -> int:
    """The bits of this process's effective capabilities; all for root where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("CapEff:"):
                    return int(line.split()[1], 16)
    except OSError:
        pass
    return -1 if os.geteuid() == 0 else 0
