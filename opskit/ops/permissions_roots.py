"""Opens the directories and files where the rules of a policy start, none of them protected.

Like the rest of `permissions_*` that is sent to other hosts it needs Python 3.7 and its standard library only, which is
why it does not build on `system.trees`.
"""

from __future__ import annotations

import os
import pwd
import stat

from opskit.ops.permissions_rules import Refused, Rule, user_name

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ON_THE_WAY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Needs the right to search only: not every folder above may be listed."""
_MOST_LINKS = 20
_PROTECTED = (
    *("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root"),
    *("/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/cache", "/var/lib", "/var/log", "/var/run"),  # noqa: S108
    *("/var/mail", "/var/spool", "/var/tmp"),  # noqa: S108
)
_PROTECTED_WITH_ALL_BELOW = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
)
_OWN_BELOW_PROTECTED = ("/etc/opskit", "/run/opskit", "/usr/local", "/run/user", "/dev/shm")  # noqa: S108


class Root:
    """Where rules start: the open directory `descriptor` itself, or the file `name` in it."""

    def __init__(self, path: str, shown: str, descriptor: int, name: str = "") -> None:
        self.path, self.shown, self.descriptor, self.name = path, shown, descriptor, name


def open_root(path: str, shown: str, home: str, home_descriptor: int, owner: int | None = None) -> Root:
    """The directory or regular file at `path`. Below `home`, links that stay in it are followed (`dags` may be a link
    to a release); elsewhere only those that root or this user made.

    FileNotFoundError when it is not there; Refused for a protected one and, with `owner`, for one outside of `home`
    that belongs to somebody else.
    """
    inside = path.startswith(home + "/")
    above, name = os.path.split(path)
    parent = _open_beneath(home_descriptor, home, above[len(home) + 1 :]) if inside else open_folder(above)
    try:
        if stat.S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            root = Root(path, shown, os.dup(parent), name)
        else:
            descriptor = _open_beneath(home_descriptor, home, path[len(home) + 1 :]) if inside else open_folder(path)
            root = Root(path, shown, descriptor)
    finally:
        os.close(parent)
    try:
        _refuse_protected(root, inside)
        if owner is not None and not inside and os.fstat(root.descriptor).st_uid != owner:
            raise Refused(
                "guard",
                f"permissions.policy names {shown}, which {user_name(owner)} does not own, and {user_name(owner)} can "
                "change the policy: as root that would give away what belongs to others",
                "let opskit.toml belong to root (chown root, chmod 0644), or take the path out of the policy",
            )
    except BaseException:
        os.close(root.descriptor)
        raise
    return root


def open_folder(path: str) -> int:
    """Descriptor of a directory. FileNotFoundError or another OSError when there is none; Refused for a link on the way
    that neither root nor this user made."""
    rest = [part for part in os.path.abspath(path).split("/") if part]
    current = os.open("/", _ON_THE_WAY)
    links = 0
    try:
        while rest:
            part = rest.pop(0)
            status = os.stat(part, dir_fd=current, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MOST_LINKS or status.st_uid not in (0, os.geteuid()):
                    raise Refused(
                        "guard", f"{path}: {part} is a link that another user made", "name the directory itself"
                    )
                target = os.readlink(part, dir_fd=current)
                rest = [piece for piece in target.split("/") if piece not in ("", ".")] + rest
                following = os.open("/", _ON_THE_WAY) if target.startswith("/") else os.dup(current)
            else:
                following = os.open(part, _ON_THE_WAY, dir_fd=current)
            os.close(current)
            current = following
        found = os.open(".", FOLDER, dir_fd=current)
        os.close(current)
        return found
    except BaseException:
        os.close(current)
        raise


def _open_beneath(base: int, base_path: str, relative: str) -> int:
    rest = [part for part in relative.split("/") if part not in ("", ".")]
    way = [os.dup(base)]
    prefixes = {base_path, os.path.realpath(base_path)}
    links = 0
    try:
        while rest:
            part = rest.pop(0)
            if part == "..":
                os.close(way.pop())
                if not way:
                    raise Refused("guard", f"{base_path}/{relative} leads out of {base_path}")
                continue
            if not stat.S_ISLNK(os.stat(part, dir_fd=way[-1], follow_symlinks=False).st_mode):
                way.append(os.open(part, FOLDER, dir_fd=way[-1]))
                continue
            target = os.readlink(part, dir_fd=way[-1])
            links += 1
            if target.startswith("/"):
                inside = [target[len(prefix) :] for prefix in prefixes if (target + "/").startswith(prefix + "/")]
                if not inside:
                    raise Refused("guard", f"{base_path}/{relative}: {part} leads out of {base_path}")
                target = inside[0]
                while len(way) > 1:
                    os.close(way.pop())
            if links > _MOST_LINKS:
                raise Refused("guard", f"{base_path}/{relative}: too many links on the way")
            rest = [piece for piece in target.split("/") if piece not in ("", ".")] + rest
        return way.pop()
    finally:
        for descriptor in way:
            os.close(descriptor)


def _refuse_protected(root: Root, inside: bool) -> None:
    here = os.fstat(root.descriptor)
    hint = "name a directory of opskit's own"
    if not root.name:
        homes = {entry.pw_dir for entry in pwd.getpwall() if entry.pw_dir.startswith("/")}
        for protected in (*_PROTECTED, *homes):
            try:
                status = os.stat(protected)
            except OSError:
                continue
            if (status.st_dev, status.st_ino) == (here.st_dev, here.st_ino):
                raise Refused("guard", f"{root.shown} is {protected}, a protected directory", hint)
    real = _real_path(root.descriptor)
    if inside or not real:
        return
    for protected in _PROTECTED_WITH_ALL_BELOW:
        below = (real + "/").startswith(protected + "/")
        if below and not any((real + "/").startswith(own + "/") for own in _OWN_BELOW_PROTECTED):
            raise Refused("guard", f"{root.shown} is below {protected}, a protected directory", hint)


def _real_path(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def mounts_below(descriptor: int) -> frozenset[str]:
    """Paths below an open directory where something is mounted, a part of the same file system included."""
    top = _real_path(descriptor)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            points = [line.split()[4] for line in file]
    except OSError:
        return frozenset()  # no /proc: the device numbers still tell other file systems
    for code, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        points = [point.replace(code, sign) for point in points]
    prefix = top.rstrip("/") + "/"
    return frozenset(point[len(prefix) :] for point in points if point.startswith(prefix))


class Roots:
    """The open roots of all rules, each directory once. All are opened before the first write, so that a protected or a
    missing one means that nothing is changed; closes them at the end."""

    def __init__(self, rules: list[Rule], home: str, owner: int | None) -> None:
        self._rules, self._home, self._owner = rules, home, owner
        self._open: list[Root] = []

    def __enter__(self) -> list[Root]:
        try:
            home = open_folder(self._home)
        except OSError as error:
            raise Refused(
                "usage",
                f"OPSKIT_HOME {self._home} can't be opened: {error.strerror}",
                "for other hosts [permissions] remote_home says where it lies",
            ) from error
        try:
            for path in dict.fromkeys(rule.root for rule in self._rules):
                of_path = [rule for rule in self._rules if rule.root == path]
                try:
                    self._open.append(open_root(path, of_path[0].shown, self._home, home, self._owner))
                except OSError as error:
                    if isinstance(error, FileNotFoundError) and all(rule.optional for rule in of_path):
                        continue
                    raise Refused(
                        "config",
                        f"permissions.policy names {of_path[0].shown}, which can't be opened: {error.strerror}",
                        "remove it from the policy, or add optional = true",
                    ) from error
        except BaseException:
            self.__exit__()
            raise
        finally:
            os.close(home)
        return self._open

    def __exit__(self, *_: object) -> None:
        for root in self._open:
            os.close(root.descriptor)
        self._open = []
