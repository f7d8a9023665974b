"""Compares owners, groups and modes with a policy, and writes what differs: by descriptors, never through a link."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.errors import ConfigError, MetastoreUnavailable, UsageError
from opskit.platforms.base import Platform
from opskit.system.locks import locked
from opskit.system.trees import (
    Entry,
    Obstacle,
    identity,
    mounts_below,
    open_beneath,
    open_directory,
    refuse_protected,
    walk,
)

DEFAULT_POLICY: Mapping[str, Mapping[str, Any]] = {"fernet.key": {"file_mode": "0600", "optional": True}}
"""What holds where [permissions] policy says nothing."""
SHOWN = 1000
"""Differences, refusals and obstacles that a report names; all are counted."""
_KEYS = ("owner", "group", "file_mode", "dir_mode", "optional")


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for a path and all below it, up to the path of another rule. None: anything goes."""

    path: str
    """As the policy names it: below OPSKIT_HOME, or absolute."""
    uid: int | None = None
    gid: int | None = None
    file_mode: int | None = None
    dir_mode: int | None = None
    optional: bool = False
    """It is no mistake when the path does not exist."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An entry that is not as the policy says, and what it should be (None: as it is)."""

    path: str
    uid: int | None
    gid: int | None
    mode: int | None
    text: str
    """For people: `mode 0644, should be 0640; owner root, should be airflow`."""


@dataclass(frozen=True, slots=True)
class PermissionsReport:
    """What was compared, what differs, what was written and what was refused, each refusal with its reason."""

    entries: int
    differing: int
    changed: int
    refused: int
    differences: tuple[Difference, ...]
    refusals: tuple[Obstacle, ...]
    obstacles: tuple[Obstacle, ...]
    obstacle_count: int
    audited: bool = True
    """False: the metastore could not be reached to write down the change."""


@dataclass(slots=True)
class _Tally:
    entries: int = 0
    differing: int = 0
    changed: int = 0
    refused: int = 0
    obstacle_count: int = 0
    differences: list[Difference] = field(default_factory=list)
    refusals: list[Obstacle] = field(default_factory=list)
    obstacles: list[Obstacle] = field(default_factory=list)

    def meet(self, path: str, reason: str) -> None:
        self.obstacle_count += 1
        if len(self.obstacles) < SHOWN:
            self.obstacles.append(Obstacle(path, reason))

    def refuse(self, path: str, reason: str) -> None:
        self.refused += 1
        if len(self.refusals) < SHOWN:
            self.refusals.append(Obstacle(path, reason))

    def note(self, difference: Difference) -> None:
        self.differing += 1
        if len(self.differences) < SHOWN:
            self.differences.append(difference)


def check(platform: Platform) -> PermissionsReport:
    """Compare only. ConfigError for a policy that makes no sense, GuardRefused for a protected path."""
    return _run(platform, write=False)


def fix(platform: Platform, *, now: datetime, dry_run: bool = False) -> PermissionsReport:
    """Write what differs, and nothing else: a tree that is as it should be sees no write."""
    with locked(platform.config.run_folder, "permissions"):
        report = _run(platform, write=not dry_run)
    if not report.changed:
        return report
    try:
        platform.audit.write("permissions fix", now, {"changed": report.changed, "refused": report.refused})
    except MetastoreUnavailable:
        # A metastore with wrong permissions is one of the things that are repaired here.
        return replace(report, audited=False)
    return report


def parse_policy(table: Mapping[str, Any]) -> list[Rule]:
    """Rules of the [permissions] policy, names looked up once. ConfigError names the path and what is wrong."""
    rules = []
    for path, row in (table or DEFAULT_POLICY).items():
        if not isinstance(row, Mapping):
            raise ConfigError(f"permissions.policy.{path!r} is no table", hint=f"write it with {', '.join(_KEYS)}")
        unknown = sorted(set(row) - set(_KEYS))
        if unknown:
            raise ConfigError(f"permissions.policy.{path!r} has {unknown[0]!r}", hint=f"known are {', '.join(_KEYS)}")
        if ".." in Path(path).parts or not path.strip("/."):
            raise ConfigError(f"permissions.policy names {path!r}: a path below OPSKIT_HOME, or an absolute one")
        rules.append(
            Rule(
                os.path.normpath(path),
                _number(path, "owner", row.get("owner"), lambda name: pwd.getpwnam(name).pw_uid),
                _number(path, "group", row.get("group"), lambda name: grp.getgrnam(name).gr_gid),
                _mode(path, "file_mode", row.get("file_mode"), 0o777),
                _mode(path, "dir_mode", row.get("dir_mode"), 0o3777),
                bool(row.get("optional", False)),
            )
        )
    return rules


def compare(path: str, status: os.stat_result, rule: Rule) -> Difference | None:
    """How an entry differs from its rule; None when it does not."""
    wanted = rule.dir_mode if stat.S_ISDIR(status.st_mode) else rule.file_mode
    mode = stat.S_IMODE(status.st_mode)
    uid = rule.uid if rule.uid != status.st_uid else None
    gid = rule.gid if rule.gid != status.st_gid else None
    text = []
    if uid is not None:
        text.append(f"owner {_user(status.st_uid)}, should be {_user(uid)}")
    if gid is not None:
        text.append(f"group {_group(status.st_gid)}, should be {_group(gid)}")
    if wanted is not None and wanted != mode:
        text.append(f"mode {mode:04o}, should be {wanted:04o}")
    if not text:
        return None
    return Difference(path, uid, gid, wanted if wanted != mode else None, "; ".join(text))


def why_refused(status: os.stat_result, rule: Rule, root_owner: int) -> str:
    """Why an entry that differs is not touched; empty when it may be."""
    if not stat.S_ISREG(status.st_mode):
        return ""
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "it is a setuid or setgid program"
    owner = root_owner if rule.uid is None else rule.uid
    if status.st_nlink > 1 and status.st_uid != owner:
        # Whoever may write here could have linked somebody else's file in.
        return f"it has {status.st_nlink} links and belongs to {_user(status.st_uid)}"
    return ""


def _run(platform: Platform, *, write: bool) -> PermissionsReport:
    config = platform.config
    rules = parse_policy(config.get("permissions", "policy"))
    # All roots are opened before the first write: a protected or missing one means that nothing is changed.
    tally = _Tally()
    with _Roots(config.home, rules) as roots:
        for root in roots:
            _apply(root, [rule for rule in rules if rule is not root.rule], config.home, tally, write)
    return PermissionsReport(
        entries=tally.entries,
        differing=tally.differing,
        changed=tally.changed,
        refused=tally.refused,
        differences=tuple(tally.differences),
        refusals=tuple(tally.refusals),
        obstacles=tuple(tally.obstacles),
        obstacle_count=tally.obstacle_count,
    )


@dataclass(frozen=True, slots=True)
class _Root:
    """Where a rule starts: `directory` itself, or the file `name` in it."""

    rule: Rule
    directory: int
    name: str = ""


class _Roots:
    """The open roots of all rules; closes them at the end."""

    def __init__(self, home: Path, rules: list[Rule]) -> None:
        self._home = home
        self._rules = rules
        self._open: list[_Root] = []

    def __enter__(self) -> list[_Root]:
        try:
            for rule in self._rules:
                root = self._root(rule)
                if root is not None:
                    self._open.append(root)
        except BaseException:
            self.__exit__()
            raise
        return self._open

    def __exit__(self, *_: object) -> None:
        for root in self._open:
            os.close(root.directory)

    def _root(self, rule: Rule) -> _Root | None:
        parent, name = os.path.split(rule.path)
        try:
            with self._directory(parent or ".") as above:
                status = os.stat(name, dir_fd=above, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    return _Root(rule, os.dup(above), name)
            with self._directory(rule.path) as directory:
                refuse_protected(directory, self._home / rule.path)
                return _Root(rule, os.dup(directory))
        except (FileNotFoundError, UsageError) as error:
            if rule.optional:
                return None
            raise ConfigError(
                f"permissions.policy names {rule.path}, which can't be opened: {error}",
                hint="remove it from the policy, or add optional = true",
            ) from error

    @contextmanager
    def _directory(self, path: str) -> Iterator[int]:
        if path.startswith("/"):
            descriptor = open_directory(Path(path))
        else:
            home = open_directory(self._home)
            try:
                # `dags` may be a link to a release below OPSKIT_HOME, made by whoever deploys.
                descriptor = open_beneath(home, self._home, path)
            finally:
                os.close(home)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _apply(root: _Root, others: list[Rule], home: Path, tally: _Tally, write: bool) -> None:
    rule = root.rule
    if root.name:
        status = os.stat(root.name, dir_fd=root.directory, follow_symlinks=False)
        _entry(Entry(root.directory, root.name, rule.path, status), rule, status.st_uid, tally, write)
        return
    own = os.path.join(home, rule.path)
    nested = {
        os.path.relpath(os.path.join(home, other.path), own)
        for other in others
        if os.path.join(home, other.path).startswith(own + "/")
    }
    top = os.fstat(root.directory)
    _top(root, top, tally, write)
    for entry in walk(
        root.directory,
        enter=lambda entry: entry.path not in nested,
        obstacle=lambda met: tally.meet(f"{rule.path}/{met.path}", met.reason),
        mounts=mounts_below(root.directory),
    ):
        if entry.left or entry.path in nested or not (entry.is_directory or entry.is_file):
            continue  # a link has no mode of its own; sockets and pipes belong to their programs
        shown = Entry(entry.directory, entry.name, f"{rule.path}/{entry.path}", entry.status)
        _entry(shown, rule, top.st_uid, tally, write)


def _top(root: _Root, status: os.stat_result, tally: _Tally, write: bool) -> None:
    tally.entries += 1
    difference = compare(root.rule.path, status, root.rule)
    if difference is None:
        return
    tally.note(difference)
    if write:
        try:
            _write(root.directory, difference)
            tally.changed += 1
        except OSError as error:
            tally.meet(root.rule.path, error.strerror or str(error))


def _entry(entry: Entry, rule: Rule, root_owner: int, tally: _Tally, write: bool) -> None:
    tally.entries += 1
    if compare(entry.path, entry.status, rule) is None:
        return
    try:
        # O_PATH holds the very inode that is judged and then written, needs no right to read it, and starts no device.
        descriptor = os.open(entry.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entry.directory)
    except FileNotFoundError:
        return
    try:
        status = os.fstat(descriptor)
        if identity(status) != identity(entry.status):
            tally.meet(entry.path, "was swapped during the walk")
            return
        difference = compare(entry.path, status, rule)
        if difference is None:
            return
        tally.note(difference)
        refusal = why_refused(status, rule, root_owner)
        if refusal:
            tally.refuse(entry.path, refusal)
        elif write:
            _write(descriptor, difference)
            tally.changed += 1
    except OSError as error:
        tally.meet(entry.path, error.strerror or str(error))
    finally:
        os.close(descriptor)


def _write(descriptor: int, difference: Difference) -> None:
    # fchmod refuses an O_PATH descriptor; the name in /proc leads to its inode and to nothing else.
    path = f"/proc/self/fd/{descriptor}"
    if difference.uid is not None or difference.gid is not None:
        wanted = stat.S_IMODE(os.fstat(descriptor).st_mode) if difference.mode is None else difference.mode
        os.chown(path, _or_as_it_is(difference.uid), _or_as_it_is(difference.gid))
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != wanted:
            os.chmod(path, wanted)
    elif difference.mode is not None:
        os.chmod(path, difference.mode)


def _or_as_it_is(number: int | None) -> int:
    return -1 if number is None else number


def _number(path: str, key: str, name: object, look_up: Any) -> int | None:
    if name is None or name == "":
        return None
    if isinstance(name, int) and not isinstance(name, bool) and name >= 0:
        return name
    try:
        return int(look_up(str(name)))
    except KeyError:
        raise ConfigError(
            f"permissions.policy.{path!r}: there is no {'user' if key == 'owner' else 'group'} {name!r} on this host"
        ) from None


def _mode(path: str, key: str, text: object, most: int) -> int | None:
    if text is None or text == "":
        return None
    try:
        mode = int(text, 8) if isinstance(text, str) else -1
    except ValueError:
        mode = -1
    if mode < 0:
        raise ConfigError(f"permissions.policy.{path!r}: {key} is {text!r}", hint='write octal digits: "0640"')
    if mode & ~most:
        raise ConfigError(
            f"permissions.policy.{path!r}: {key} {text!r} sets bits that a policy may not set",
            hint="setuid never, setgid and sticky only on directories",
        )
    return mode


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
