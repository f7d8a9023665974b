# ruff: noqa: UP006, UP035, PTH114, PTH117 -- it runs on Python 3.7 too
"""Trees of files on a node, and the few system calls a release needs. Sent to the nodes with `deploy_node`.

So it imports nothing but the standard library, as of Python 3.7, and of that at its start only what the interpreter has
loaded anyhow: `json`, `re`, `hashlib`, `ctypes` and `typing` would cost each node more than all its other work.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

    Files = Dict[str, List[Any]]
else:
    Files = dict
    """Path below the tree → [sha256, size, executable]."""

RELEASES = ".opskit-releases"
IGNORED_NAMES = frozenset({"__pycache__", ".git", ".hg", ".svn", ".DS_Store"})
_LARGE = 1 << 20
_FICLONE = 0x40049409


def _without_openssl() -> Any:
    for module in ("_sha2", "_sha256"):
        try:
            return __import__(module).sha256
        except ImportError:
            pass
    return None


_small = _without_openssl()


class Refused(Exception):
    """What the operator is told. `kind` becomes the exit code: guard, lock, usage, verification, dag, remote."""

    def __init__(self, kind: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.hint = kind, message, hint


def new_sha256(size: int = 0) -> Any:
    """A SHA-256 object. For small contents without OpenSSL, whose loading takes longer than hashing them."""
    if size < _LARGE and _small is not None:
        return _small()
    import hashlib

    return hashlib.sha256()


def manifest_hash(files: Files, policy: dict[str, str] | None) -> str:
    """Content and policy of a tree in 32 hex digits."""
    import json

    text = json.dumps([policy, sorted(files.items())], sort_keys=True, separators=(",", ":"))
    digest = new_sha256(len(text))
    digest.update(text.encode())
    found: str = digest.hexdigest()[:32]
    return found


def is_release_name(name: str) -> bool:
    """32 hex digits, the hash of the manifest; with .N behind it where a damaged release had to be made again."""
    digest, dot, number = name.partition(".")
    return len(digest) == 32 and not digest.strip("0123456789abcdef") and (number.isdigit() if dot else True)


def check_path(path: str) -> str:
    """Refuse a path that is not strictly below its tree."""
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise Refused("guard", f"the path {path!r} does not stay inside the DAG folder")
    return path


def is_ignored(name: str) -> bool:
    return name in IGNORED_NAMES or name.endswith((".pyc", ".pyo"))


def file_sha256(path: str) -> str:
    """Of a regular file; its last component is not followed when it is a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        block = os.read(descriptor, _LARGE)
        digest = new_sha256(len(block))
        while block:
            digest.update(block)
            block = os.read(descriptor, _LARGE) if len(block) == _LARGE else b""
    finally:
        os.close(descriptor)
    found: str = digest.hexdigest()
    return found


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
                if stat.S_ISREG(info.st_mode):
                    files[path] = info
                elif stat.S_ISDIR(info.st_mode):
                    folders[path] = info
                    walk(entry.path, path + "/")
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


def seal_of(files: dict[str, os.stat_result], folders: dict[str, os.stat_result], others: dict[str, str]) -> str:
    """A digest of what the kernel told of a tree in a scan: names, inodes, sizes, owners, modes, times of change.

    While it stays the same nobody has touched anything: the time of change of an inode can't be set back.
    """
    found = {**files, **folders}
    digest = new_sha256()
    lines = []
    for path in sorted(found):
        info = found[path]
        # A folder's size and times move with caches beside the files.
        times = f"{info.st_size} {info.st_mtime_ns} {info.st_ctime_ns}" if path in files else ""
        lines.append(f"{path!r} {info.st_ino} {info.st_mode} {info.st_uid} {info.st_gid} {times}\n")
    digest.update("".join(lines).encode("utf-8", "surrogateescape"))
    digest.update(repr(sorted(others.items())).encode())
    sealed: str = digest.hexdigest()
    return sealed


def user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def resolve_owner(policy: dict[str, str]) -> tuple[int, int]:
    """(uid, gid), -1 for "leave it". A group that is not named is the owner's own."""
    import grp
    import pwd

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


def clone(source: str, target: str, mode: int) -> bool:
    """Make `target` share the blocks of `source` until one of them is written to. False where that is not possible."""
    import fcntl

    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.ioctl(writing, _FICLONE, reading)
            os.fchmod(writing, mode)
            return True
        except OSError:
            os.unlink(target)
            return False
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def exchange(first: str, second: str) -> None:
    """Let two names of one file system change places, in one step."""
    import ctypes

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


def flush_file(descriptor: int) -> None:
    os.fsync(descriptor)


def flush_filesystem(descriptor: int) -> None:
    """Have everything on the file system of an open file on disk."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs") or libc.syncfs(descriptor) != 0:
        os.sync()


def sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: str) -> None:
    """Remove a tree of ours, through descriptors: nobody can lead us out of it."""
    if os.path.islink(path):
        os.unlink(path)
    elif os.path.isdir(path):
        try:
            _remove_entries(path)
        except PermissionError:
            # Folders without write permission for their owner.
            for folder, _, _ in os.walk(path):
                os.chmod(folder, 0o700)
            _remove_entries(path)
        os.rmdir(path)  # noqa: PTH106


def _remove_entries(path: str) -> None:
    for _, folders, files, descriptor in os.fwalk(path, topdown=False):
        for name in files:
            os.unlink(name, dir_fd=descriptor)
        for name in folders:
            try:
                os.rmdir(name, dir_fd=descriptor)
            except NotADirectoryError:
                os.unlink(name, dir_fd=descriptor)  # a link to a folder


def remove_file(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
