"""Walks directory trees by descriptors: never by path, never through a link, never onto another file system.

A name is looked up once, in a directory that is held open, and a directory that was swapped for a link is not entered.
So nobody who can write below the root can lead a walk out of it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import GuardRefused, UsageError

DEEPEST = 200
"""Directories below this depth are not entered (each level holds a descriptor)."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 20
_SYSTEM = (
    *("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root"),
    *("/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/local/bin"),  # noqa: S108
    *("/usr/sbin", "/usr/share", "/var", "/var/lib", "/var/log", "/var/run", "/var/tmp"),  # noqa: S108
)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


# openat2(2): no mount crossed (also none of the same file system), no link followed, nothing above the directory.
_OPENAT2 = 437
_HOW = _OpenHow(_DIRECTORY, 0, 0x01 | 0x02 | 0x04 | 0x08)
_HOW_POINTER, _HOW_SIZE = ctypes.cast(ctypes.pointer(_HOW), ctypes.c_void_p), ctypes.sizeof(_HOW)
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
_syscall.restype = ctypes.c_long
_has_openat2: bool | None = None


def open_child(directory: int, name: str) -> int:
    """Descriptor of a directory with this name in an open one: never through a link, never onto another mount.

    The kernel itself refuses both, so nothing can be mounted or swapped between a look and the opening. OSError with
    ELOOP or ENOTDIR for what is no directory, and EXDEV for a place where something is mounted, a part of the same
    file system included.
    """
    global _has_openat2
    if _has_openat2 is not False:
        descriptor: int = _syscall(_OPENAT2, directory, os.fsencode(name), _HOW_POINTER, _HOW_SIZE)
        if descriptor >= 0:
            return descriptor
        code = ctypes.get_errno()
        if _has_openat2 is None:
            # Linux before 5.6, or a container that forbids what it does not know.
            _has_openat2 = code not in (errno.ENOSYS, errno.EPERM)
        if _has_openat2:
            raise OSError(code, os.strerror(code), name)
    descriptor = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        if os.fstat(descriptor).st_dev != os.fstat(directory).st_dev or mount_id(descriptor) != mount_id(directory):
            raise OSError(errno.EXDEV, "another file system", name)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_chain(root: int, names: Sequence[str]) -> int:
    """Descriptor of a directory so many levels below an open one, each level opened as `open_child` does."""
    current = os.dup(root)
    try:
        for name in names:
            following = open_child(current, name)
            os.close(current)
            current = following
    except BaseException:
        os.close(current)
        raise
    return current


def mount_id(descriptor: int) -> int:
    """Which mount an open file or directory lies on; -1 where /proc does not tell."""
    try:
        with open(f"/proc/self/fdinfo/{descriptor}") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("mnt_id:")), -1)
    except OSError:
        return -1


def why_not_entered(error: OSError) -> str:
    """For people: what `open_child` met."""
    if error.errno == errno.EXDEV:
        return "another file system"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "was swapped during the walk"
    return error.strerror or str(error)


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory that is held open. `directory` is valid only until the walk goes on."""

    directory: int
    name: str
    path: str
    """Below the root, for people and for rules; never used to reach the entry."""
    status: os.stat_result
    left: bool = False
    """For directories: all that is in it has been visited."""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    def unchanged(self) -> os.stat_result | None:
        """The present status, if the name still means the same entry that was not written since; else None."""
        try:
            now = os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return now if identity(now) == identity(self.status) and now.st_mtime_ns == self.status.st_mtime_ns else None


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that could not be entered or read, and why."""

    path: str
    reason: str


def identity(status: os.stat_result) -> tuple[int, int, int]:
    """What makes two looks be at the same thing: device, inode and kind."""
    return status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode)


def walk(
    root: int,
    *,
    enter: Callable[[Entry], bool] | None = None,
    obstacle: Callable[[Obstacle], None] | None = None,
    mounts: frozenset[str] = frozenset(),
) -> Iterator[Entry]:
    """All entries below an open directory, children before their directory (which comes a first time, before them,
    with `left=False`). Nothing is kept of what was seen. `enter` says whether to go into a directory.

    What vanishes meanwhile is passed over; what can't be read is told to `obstacle`. Other devices, the paths in
    `mounts` (see `mounts_below`) and depths beyond DEEPEST are obstacles too.
    """
    device = os.fstat(root).st_dev
    tell = obstacle or (lambda _: None)
    yield from _walk(root, "", device, 0, enter or (lambda _: True), tell, mounts)


def _walk(
    directory: int,
    path: str,
    device: int,
    depth: int,
    enter: Callable[[Entry], bool],
    tell: Callable[[Obstacle], None],
    mounts: frozenset[str],
) -> Iterator[Entry]:
    # listdir and not scandir: a handle held over deletions may skip names, and its d_type is a look we repeat anyway.
    for name in os.listdir(directory):
        below = f"{path}{name}"
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        entry = Entry(directory, name, below, status)
        if not entry.is_directory:
            yield entry
            continue
        if status.st_dev != device or below in mounts:
            tell(Obstacle(below, "another file system"))
            continue
        if depth >= DEEPEST:
            tell(Obstacle(below, f"more than {DEEPEST} levels deep"))
            continue
        yield entry
        if not enter(entry):
            continue
        try:
            child = open_child(directory, name)
        except FileNotFoundError:
            continue
        except OSError as error:
            tell(Obstacle(below, why_not_entered(error)))
            continue
        try:
            opened = os.fstat(child)
            if identity(opened) != identity(status):
                tell(Obstacle(below, "was swapped during the walk"))
                continue
            yield from _walk(child, f"{below}/", device, depth + 1, enter, tell, mounts)
        except OSError as error:
            tell(Obstacle(below, error.strerror or str(error)))
            continue
        finally:
            os.close(child)
        yield Entry(directory, name, below, opened, left=True)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A directory as the root of a walk: as `open_directory`, and GuardRefused for protected directories."""
    descriptor = open_directory(path)
    try:
        refuse_protected(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def open_directory(path: Path) -> int:
    """Descriptor of a directory, opened component by component. A link on the way is followed only where root or this
    user made it. UsageError when there is none, GuardRefused for a link of somebody else."""
    shown, trusted = path, {0, os.geteuid()}
    rest = [part for part in os.path.abspath(path).split("/") if part]
    current = os.open("/", _DIRECTORY)
    links = 0
    try:
        while rest:
            part = rest.pop(0)
            try:
                status = os.stat(part, dir_fd=current, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    links += 1
                    if links > _MOST_LINKS:
                        raise GuardRefused(f"{shown}: too many links on the way")
                    if status.st_uid not in trusted:
                        raise GuardRefused(
                            f"{shown}: {part} is a link that another user made",
                            hint="name the directory itself, or let root own the link",
                        )
                    target = os.readlink(part, dir_fd=current)
                    rest = [piece for piece in target.split("/") if piece not in ("", ".")] + rest
                    following = os.open("/", _DIRECTORY) if target.startswith("/") else os.dup(current)
                else:
                    following = os.open(part, _DIRECTORY, dir_fd=current)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise UsageError(f"{shown} is no directory", hint="it does not exist, or is a file") from error
            except PermissionError as error:
                raise UsageError(f"{shown} can't be opened: {error.strerror}", hint="run as its owner") from error
            os.close(current)
            current = following
        return current
    except BaseException:
        os.close(current)
        raise


def open_beneath(base: int, base_path: Path, relative: str) -> int:
    """Descriptor of a directory below an open one. Links on the way are followed, whoever made them, as long as they
    stay below it; GuardRefused for one that leads out. UsageError when there is no such directory."""
    prefixes = {os.path.abspath(base_path), os.path.realpath(base_path)}
    rest = [part for part in relative.split("/") if part not in ("", ".")]
    way: list[int] = [os.dup(base)]
    links = 0
    try:
        while rest:
            part = rest.pop(0)
            outside = GuardRefused(f"{base_path}/{relative}: {part} leads out of {base_path}")
            if part == "..":
                if len(way) == 1:
                    raise outside
                os.close(way.pop())
                continue
            try:
                if not stat.S_ISLNK(os.stat(part, dir_fd=way[-1], follow_symlinks=False).st_mode):
                    way.append(os.open(part, _DIRECTORY, dir_fd=way[-1]))
                    continue
                target = os.readlink(part, dir_fd=way[-1])
            except OSError as error:
                raise UsageError(f"{base_path}/{relative} can't be opened: {error.strerror}") from error
            links += 1
            if links > _MOST_LINKS:
                raise GuardRefused(f"{base_path}/{relative}: too many links on the way")
            if target.startswith("/"):
                inside = [target[len(prefix) :] for prefix in prefixes if f"{target}/".startswith(f"{prefix}/")]
                if not inside:
                    raise outside
                target = inside[0]
                while len(way) > 1:
                    os.close(way.pop())
            rest = [piece for piece in target.split("/") if piece not in ("", ".")] + rest
        return way.pop()
    finally:
        for descriptor in way:
            os.close(descriptor)


def refuse_protected(descriptor: int, path: Path) -> None:
    """GuardRefused when this open directory is one that no clean-up or repair may take as its root."""
    here = os.fstat(descriptor)
    for protected in (*_SYSTEM, *_home_folders()):
        try:
            status = os.stat(protected)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == (here.st_dev, here.st_ino):
            raise GuardRefused(f"{path} is {protected}, a protected directory", hint="name a directory of opskit's own")


def _home_folders() -> set[str]:
    return {entry.pw_dir for entry in pwd.getpwall() if entry.pw_dir.startswith("/")}


def mounts_below(root: int) -> frozenset[str]:
    """Paths below an open directory where something is mounted, a part of the same file system included."""
    try:
        top = os.readlink(f"/proc/self/fd/{root}")
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return frozenset()  # no /proc: the device numbers still tell other file systems
    points = (_unescaped(line.split()[4]) for line in lines)
    prefix = top.rstrip("/") + "/"
    return frozenset(point.removeprefix(prefix) for point in points if point.startswith(prefix))


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
