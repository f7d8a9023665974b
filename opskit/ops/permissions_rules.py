"""What a policy says of one entry, and whether it is so: decisions only, nothing is opened and nothing written."""

from __future__ import annotations

import grp
import pwd
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from opskit.ops import permissions_acl
from opskit.ops.permissions_acl import Named

_CAN_CHOWN, _CAN_FOWNER = 1 << 0, 1 << 3


class Refused(Exception):
    """Nothing was changed. `kind` is config, usage or guard."""

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind, self.message, self.hint = kind, message, hint


class Held:
    """What holds for an entry, all its rules taken together. None: anything goes."""

    __slots__ = ("acl", "dir_mode", "file_mode", "fine", "gid", "inherit", "uid")

    def __init__(
        self,
        uid: int | None = None,
        gid: int | None = None,
        file_mode: int | None = None,
        dir_mode: int | None = None,
        acl: tuple[Named, ...] = (),
        inherit: bool = False,
    ) -> None:
        self.uid, self.gid, self.file_mode, self.dir_mode = uid, gid, file_mode, dir_mode
        self.acl, self.inherit = acl, inherit
        self.fine: set[tuple[int, int, int]] = set()
        """(mode, uid, gid) of entries that were judged and found right: most entries are like others."""


class State(NamedTuple):
    """What an entry is, or should be. Lists as the kernel's bytes, empty: there is none; None: not looked at."""

    uid: int
    gid: int
    mode: int
    access: bytes | None = None
    default: bytes | None = None


class Rule(NamedTuple):
    """One row of a policy, its names resolved. `root` is the fixed part of its path, absolute."""

    root: str
    shown: str
    pattern: Any | None
    values: Mapping[str, Any]
    optional: bool
    order: tuple[int, bool, int]


def resolve(rows: Sequence[Mapping[str, Any]], home: str) -> list[Rule]:
    """The rules of a policy in the order in which they apply, the most general first.

    Each name is looked up once. Refused for a user or a group that this host does not know.
    """
    users: dict[str, int] = {}
    groups: dict[str, int] = {}
    rules = []
    for order, row in enumerate(rows):
        values: dict[str, Any] = {}
        path = row["path"]
        if row.get("owner") is not None:
            values["uid"] = _number(path, "user", row["owner"], users)
        if row.get("group") is not None:
            values["gid"] = _number(path, "group", row["group"], groups)
        for key in ("file_mode", "dir_mode", "inherit"):
            if row.get(key) is not None:
                values[key] = row[key]
        if row.get("acl") is not None:
            values["acl"] = tuple(
                Named(
                    permissions_acl.USER if kind == "user" else permissions_acl.GROUP,
                    _number(path, kind, name, users if kind == "user" else groups),
                    permissions,
                    execute_folders,
                )
                for kind, name, permissions, execute_folders in row["acl"]
            )
        fixed, pattern = split_glob(path)
        root = fixed if fixed.startswith("/") else home + "/" + fixed
        compiled = None if pattern is None else re.compile(re.escape(root + "/") + pattern, re.DOTALL)
        rules.append(
            Rule(
                root,
                fixed,
                compiled,
                values,
                bool(row.get("optional")),
                (root.count("/"), compiled is not None, order),
            )
        )
    return sorted(rules, key=lambda rule: rule.order)


def split_glob(path: str) -> tuple[str, str | None]:
    """The fixed part of a path and, for one with *, ? or [, an expression for the rest and all below it.

    `*` and `?` stay within one name, `**/` stands for any number of directories.
    """
    parts = path.split("/")
    first = next((index for index, part in enumerate(parts) if any(sign in part for sign in "*?[")), None)
    if first is None:
        return path, None
    expression = ""
    rest = parts[first:]
    for index, part in enumerate(rest):
        last = index == len(rest) - 1
        if part == "**":
            expression += ".+" if last else "(?:[^/]+/)*"
        else:
            expression += _translate(part) + ("" if last else "/")
    return "/".join(parts[:first]), expression + "(?:/.*)?$"


def _translate(part: str) -> str:
    found, at = "", 0
    while at < len(part):
        sign = part[at]
        at += 1
        if sign == "*":
            found += "[^/]*"
        elif sign == "?":
            found += "[^/]"
        elif sign == "[" and "]" in part[at + 1 :]:
            end = part.index("]", at + 1)
            inside = part[at:end].replace("\\", "\\\\")
            found += "[" + ("^/" + inside[1:] if inside[:1] in ("!", "^") else inside) + "]"
            at = end + 1
        else:
            found += re.escape(sign)
    return found


def merged(rules: Sequence[Rule]) -> Held:
    """What several rules say together, each overriding those before it, value by value."""
    values: dict[str, Any] = {}
    for rule in rules:
        values.update(rule.values)
    return Held(**values)


def wanted(state: State, folder: bool, held: Held) -> State:
    """What an entry in this state should be: itself, where the policy says nothing else."""
    base = held.dir_mode if folder else held.file_mode
    mode = state.mode if base is None else base
    access: bytes | None = None
    if held.acl:
        # Where the policy names no mode, the group's own bits are those of the list that is there.
        plain = mode if base is not None else _without_mask(state)
        access = permissions_acl.for_mode(plain, held.acl, folder)
        if state.access and permissions_acl.effective(state.access) == permissions_acl.effective(access):
            access = state.access  # as the kernel made it from the folder's default list
        mode = permissions_acl.mode_with_mask(plain, held.acl, folder)
    default: bytes | None = None
    if folder and held.inherit:
        plain = held.dir_mode if held.dir_mode is not None else _without_mask(state)
        default = permissions_acl.for_mode(plain, held.acl, True)
    if not folder and (held.uid not in (None, state.uid) or held.gid not in (None, state.gid)):
        mode &= 0o1777  # who gets a program of somebody else does not get his rights
    return State(
        state.uid if held.uid is None else held.uid, state.gid if held.gid is None else held.gid, mode, access, default
    )


def _without_mask(state: State) -> int:
    if not state.access:
        return state.mode
    own = [bits for tag, bits, _ in permissions_acl.decode(state.access) if tag == permissions_acl.GROUP_OBJ]
    return state.mode & ~0o070 | own[0] << 3


def why_refused(status: Any, owner: int, unlinked: bool = False) -> str:
    """Why a file that differs is not touched; empty when it may be. `owner`: whose the files here should be.

    `unlinked`: the name by which it was opened is gone, so that the one link that is counted is not ours to judge.
    """
    if not stat.S_ISREG(status.st_mode):
        return ""
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "it is a setuid or setgid program"
    if status.st_uid != owner:
        # Whoever may write here could have linked somebody else's file in.
        if status.st_nlink > 1:
            return f"it has {status.st_nlink} links and belongs to {user_name(status.st_uid)}"
        if unlinked:
            return f"it was removed meanwhile, and belongs to {user_name(status.st_uid)}"
    return ""


def why_not_allowed(old: State, new: State, euid: int, groups: Sequence[int], capabilities: int) -> str:
    """Why this process has not the right to make the change; empty when it has it."""
    if old.uid != new.uid and not capabilities & _CAN_CHOWN:
        return f"only root may give it to {user_name(new.uid)}"
    if capabilities & _CAN_FOWNER and (capabilities & _CAN_CHOWN or old.gid == new.gid):
        return ""
    if old.uid != euid and not capabilities & _CAN_FOWNER:
        return f"it belongs to {user_name(old.uid)}"
    if old.gid != new.gid and new.gid not in groups and not capabilities & _CAN_CHOWN:
        return f"{user_name(euid)} is not in the group {group_name(new.gid)}"
    return ""


def describe(old: State, new: State) -> str:
    """For people: `owner root, should be airflow; mode 0644, should be 0640`."""
    text = []
    if old.uid != new.uid:
        text.append(f"owner {user_name(old.uid)}, should be {user_name(new.uid)}")
    if old.gid != new.gid:
        text.append(f"group {group_name(old.gid)}, should be {group_name(new.gid)}")
    if old.mode != new.mode:
        text.append(f"mode {old.mode:04o}, should be {new.mode:04o}")
    if old.access != new.access:
        text.append(
            "acl {}, should be {}".format(*(permissions_acl.show(acl or b"") for acl in (old.access, new.access)))
        )
    if old.default != new.default:
        shown = [permissions_acl.show(acl or b"") for acl in (old.default, new.default)]
        text.append("default acl {}, should be {}".format(*shown))
    return "; ".join(text)


def _number(path: str, kind: str, name: Any, known: dict[str, int]) -> int:
    if isinstance(name, int):
        return name
    if name not in known:
        look_up: Callable[[str], Any] = pwd.getpwnam if kind == "user" else grp.getgrnam
        try:
            known[name] = int(look_up(name)[2])
        except KeyError:
            raise Refused(
                "config",
                f"permissions.policy.{path!r}: there is no {kind} {name!r} on this host",
                "make it, or correct the policy; nothing was changed",
            ) from None
    return known[name]


@lru_cache(maxsize=None)  # noqa: UP033 -- functools.cache is younger than Python 3.7
def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@lru_cache(maxsize=None)  # noqa: UP033 -- functools.cache is younger than Python 3.7
def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
