# ruff: noqa: UP006, UP035, PTH114, PTH117 -- it runs on Python 3.7 too
"""Trees of files on a node, and the few system calls a release needs. Sent to the nodes with `deploy_node`.

So it imports nothing but the standard library, as of Python 3.7.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
from typing import Any, Dict, List

RELEASES = ".opskit-releases"
NAME = re.compile(r"[0-9a-f]{32}(\.[0-9]+)?")
IGNORED_NAMES = frozenset({"__pycache__", ".git", ".hg", ".svn", ".DS_Store"})


Files = Dict[str, List[Any]]
"""Path below the tree → [sha256, size, executable]."""


class Refused(Exception):
    """What the operator is told. `kind` becomes the exit code: guard, lock, usage, verification, dag, remote."""

    def __init__(self, kind: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.hint = kind, message, hint


def manifest_hash(files: Files, policy: dict[str, str] | None) -> str:
    """Content and policy of a tree in 32 hex digits."""
    text = json.dumps([policy, sorted(files.items())], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_path(path: str) -> str:
    """Refuse a path that is not strictly below its tree."""
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise Refused("guard", f"the path {path!r} does not stay inside the DAG folder")
    return path


def is_ignored(name: str) -> bool:
    return name in IGNORED_NAMES or name.endswith((".pyc", ".pyo"))


def file_sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 18), b""):
            digest.update(block)
    return digest.hexdigest()


def scan(root: str) -> tuple[dict[str, os.stat_result], dict[str, os.stat_result], dict[str, str]]:
    """(files, directories, others) below a folder. files: {path: lstat}, others: {path: text}. Follows no link."""
    files: dict[str, os.stat_result] = {}
    folders: dict[str, os.stat_result] = {}
    others: dict[str, str] = {}

    def walk(folder: str, prefix: str) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_ignored(entry.name):
                    continue
                path = prefix + entry.name
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    folders[path] = info
                    walk(entry.path, path + "/")
                elif stat.S_ISREG(info.st_mode):
                    files[path] = info
                elif stat.S_ISLNK(info.st_mode):
                    others[path] = "a symbolic link to " + os.readlink(entry.path)
                else:
                    others[path] = "neither file nor folder"

    walk(root, "")
    return files, folders, others


def tree_files(root: str) -> tuple[Files, dict[str, str]]:
    """{path: [sha256, size, executable]} of a folder's regular files, and its other entries."""
    files, _, others = scan(root)
    listed: Files = {
        path: [file_sha256(os.path.join(root, path)), info.st_size, bool(info.st_mode & 0o100)]
        for path, info in files.items()
    }
    return listed, others


def user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def resolve_owner(policy: dict[str, str]) -> tuple[int, int]:
    """(uid, gid), -1 for "leave it". A group that is not named is the owner's own."""
    uid = gid = -1
    if policy["owner"]:
        try:
            entry = pwd.getpwuid(int(policy["owner"])) if policy["owner"].isdigit() else pwd.getpwnam(policy["owner"])
        except KeyError:
            raise Refused("usage", "there is no user {!r}".format(policy["owner"]), "see [deploy] owner") from None
        uid, gid = entry.pw_uid, entry.pw_gid
    if policy["group"]:
        try:
            gid = int(policy["group"]) if policy["group"].isdigit() else grp.getgrnam(policy["group"]).gr_gid
        except KeyError:
            raise Refused("usage", "there is no group {!r}".format(policy["group"]), "see [deploy] group") from None
    return uid, gid


def leaves_tree(root: str, path: str) -> bool:
    """Whether a link means something else when its tree is moved."""
    target = os.readlink(os.path.join(root, path)) if os.path.islink(os.path.join(root, path)) else ""
    if not target or os.path.isabs(target):
        return False
    joined = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return joined == ".." or joined.startswith("../")


def exchange(first: str, second: str) -> None:
    """Let two names of one file system change places, in one step."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = (os.fsencode(first), os.fsencode(second))
    if hasattr(libc, "renameat2"):
        done = libc.renameat2(-100, names[0], -100, names[1], 2)
    else:
        numbers = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}
        number = numbers.get(os.uname().machine)
        if number is None:
            raise OSError(errno.ENOSYS, "no exchange of names on this machine")
        done = libc.syscall(number, -100, names[0], -100, names[1], 2)
    if done != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), first)


def flush_filesystem(path: str) -> None:
    """Have everything on disk before a name points to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "syncfs") or libc.syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)


def sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: str) -> None:
    """Remove a tree of ours. Its folders may be without write permission."""
    if os.path.islink(path):
        os.unlink(path)
    elif os.path.isdir(path):
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)
        shutil.rmtree(path)


def remove_file(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
