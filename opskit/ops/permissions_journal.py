"""The undo file of a repair: what each changed entry was, written before it is changed, and read from its end.

    <OPSKIT_HOME>/run/permissions-undo/<time>-<pid>.<number>.jsonl

The first line tells what it is, each further line one entry. The file is 0600 and of whoever repaired; it is believed
only when it still is, because it says to whom things are given.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from typing import Any

from opskit.ops.permissions_roots import FOLDER, open_folder
from opskit.ops.permissions_rules import Refused, State, user_name

FOLDER_NAME = "permissions-undo"
KEPT = 10
_BLOCK = 1 << 16


class Journal:
    """Made with its first line, so a run that changes nothing leaves nothing."""

    def __init__(self, home: str, name: str, header: dict[str, Any]) -> None:
        self._home, self._name, self._header = home, name, header
        self._descriptor = -1
        self.path = ""

    def add(self, root: str, below: str, status: os.stat_result, old: State, new: State) -> None:
        """Remember one entry. It is in the file before the entry is changed."""
        if self._descriptor < 0:
            self._open()
        line = {
            "root": root,
            "path": below,
            "id": [status.st_dev, status.st_ino],
            "old": _plain(old),
            "new": _plain(new),
        }
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        folder = _undo_folder(self._home, make=True)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_APPEND
            taken = len([name for name in _names(folder) if name.startswith(self._name)])
            name = f"{self._name}.{taken:03d}.jsonl"
            self._descriptor = os.open(name, flags, 0o600, dir_fd=folder)
            self.path = os.path.join(self._home, "run", FOLDER_NAME, name)
            os.write(self._descriptor, json.dumps(self._header).encode() + b"\n")
            for old in _names(folder)[:-KEPT]:
                os.unlink(old, dir_fd=folder)
        finally:
            os.close(folder)


def read(descriptor: int) -> Iterator[tuple[str, str, tuple[int, int], State, State]]:
    """The entries of an undo file, the last one first: root, path below it, device and inode, what it was, what it
    became. A line that was cut off by a crash is passed over: its entry was not changed."""
    for line in _lines_from_the_end(descriptor):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "root" in row:
            device, inode = row["id"]
            yield row["root"], row["path"], (device, inode), _state(row["old"]), _state(row["new"])


def open_undo(home: str, name: str) -> tuple[int, str, int]:
    """Descriptor, path and owner of an undo file: the one of this name, or the newest.

    Refused when there is none, or when it is not surely of this user, or for root of the owner of OPSKIT_HOME: he may
    have such repairs made by his policy anyhow.
    """
    try:
        folder = _undo_folder(home, make=False)
    except OSError:
        raise Refused("usage", "there is nothing to undo: no repair has changed anything here") from None
    trusted = {os.geteuid()}
    if os.geteuid() == 0:
        trusted.add(os.stat(home).st_uid)
    try:
        mine = [found for found in _names(folder) if os.stat(found, dir_fd=folder).st_uid in trusted]
        if not name and not mine:
            owner = user_name(os.fstat(folder).st_uid)
            raise Refused(
                "usage", "there is nothing to undo: this user has repaired nothing here", f"undo it as {owner}"
            )
        chosen = os.path.basename(name) or mine[-1]
        try:
            descriptor = os.open(chosen, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            raise Refused("usage", f"there is no undo file {chosen}: {error.strerror}") from None
    finally:
        os.close(folder)
    status = os.fstat(descriptor)
    if (
        not stat.S_ISREG(status.st_mode)
        or status.st_uid not in trusted
        or status.st_nlink > 1
        or status.st_mode & 0o077
    ):
        os.close(descriptor)
        raise Refused(
            "guard",
            f"{chosen} is not this user's own private file (owner {user_name(status.st_uid)}, "
            f"mode {stat.S_IMODE(status.st_mode):04o}, {status.st_nlink} links)",
            f"undo it as the user who repaired: {user_name(status.st_uid)}",
        )
    header = os.pread(descriptor, 4096, 0).split(b"\n", 1)[0]
    try:
        known = json.loads(header)["opskit_undo"] == 1
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        os.close(descriptor)
        raise Refused("usage", f"{chosen} is no undo file of permissions fix")
    return descriptor, os.path.join(home, "run", FOLDER_NAME, chosen), status.st_uid


def _undo_folder(home: str, make: bool) -> int:
    """The open folder of undo files; with `make`, made where it is missing, and of the owner of what it lies in."""
    current = open_folder(home)
    try:
        for name, mode in (("run", 0o750), (FOLDER_NAME, 0o700)):
            if make:
                owner = os.fstat(current)
                try:
                    os.mkdir(name, mode, dir_fd=current)
                except FileExistsError:
                    pass
                else:
                    if os.geteuid() == 0:
                        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=current, follow_symlinks=False)
            following = os.open(name, FOLDER, dir_fd=current)
            os.close(current)
            current = following
        return current
    except BaseException:
        os.close(current)
        raise


def _names(folder: int) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".jsonl"))


def _lines_from_the_end(descriptor: int) -> Iterator[bytes]:
    rest = b""
    at = os.fstat(descriptor).st_size
    while at > 0:
        size = min(_BLOCK, at)
        at -= size
        parts = (os.pread(descriptor, size, at) + rest).split(b"\n")
        rest = parts[0]
        yield from (part for part in reversed(parts[1:]) if part)
    if rest:
        yield rest


def _plain(state: State) -> list[Any]:
    lists = [None if value is None else value.hex() for value in (state.access, state.default)]
    return [state.uid, state.gid, state.mode, *lists]


def _state(row: list[Any]) -> State:
    access, default = (None if value is None else bytes.fromhex(value) for value in row[3:])
    return State(row[0], row[1], row[2], access, default)
