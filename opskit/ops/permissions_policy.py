"""Reads the policy of `opskit permissions`: shape and modes are checked here, names on the host that they are of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit.errors import ConfigError
from opskit.ops.permissions_rules import split_glob

DEFAULT: Mapping[str, Mapping[str, Any]] = {"fernet.key": {"file_mode": "0600", "optional": True}}
"""What holds where the policy does not name the path itself."""
_KEYS = ("owner", "group", "file_mode", "dir_mode", "acl", "inherit", "optional")
_BITS = {"r": 4, "w": 2, "x": 1, "-": 0, "X": 0}


def parse(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a policy as JSON values: path, and what holds for it and all below it.

    ConfigError names the path and what is wrong.
    """
    rows = []
    for path, row in {**DEFAULT, **table}.items():
        if not isinstance(row, Mapping):
            raise ConfigError(f"permissions.policy.{path!r} is no table", hint=f"write it with {', '.join(_KEYS)}")
        unknown = sorted(set(row) - set(_KEYS))
        if unknown:
            raise ConfigError(f"permissions.policy.{path!r} has {unknown[0]!r}", hint=f"known are {', '.join(_KEYS)}")
        if ".." in Path(path).parts or not path.strip("/."):
            raise ConfigError(f"permissions.policy names {path!r}: a path below OPSKIT_HOME, or an absolute one")
        normal = os.path.normpath(path)
        if not split_glob(normal)[0].strip("/"):
            raise ConfigError(
                f"permissions.policy names {path!r}: a pattern must begin with a fixed folder",
                hint='for example "dags/**/*.sh"',
            )
        rows.append(
            {
                "path": normal,
                "owner": _name(path, "owner", row.get("owner")),
                "group": _name(path, "group", row.get("group")),
                "file_mode": _mode(path, "file_mode", row.get("file_mode"), 0o777),
                "dir_mode": _mode(path, "dir_mode", row.get("dir_mode"), 0o3777),
                "acl": _acl(path, row.get("acl")),
                "inherit": _flag(path, "inherit", row.get("inherit")),
                "optional": bool(_flag(path, "optional", row.get("optional"))),
            }
        )
    return rows


def _name(path: str, key: str, name: object) -> str | int | None:
    if name is None or name == "":
        return None
    if isinstance(name, str) or (isinstance(name, int) and not isinstance(name, bool) and name >= 0):
        return name
    raise ConfigError(f"permissions.policy.{path!r}: {key} is {name!r}, not a name or a number")


def _flag(path: str, key: str, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise ConfigError(f"permissions.policy.{path!r}: {key} is {value!r}, not true or false")


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


def _acl(path: str, text: object) -> list[list[Any]] | None:
    """`user:spark:rX, group:hadoop:r-x` → [[user|group, name, permissions, execute only on directories], …]."""
    if text is None or text == "":
        return None
    wrong = ConfigError(
        f"permissions.policy.{path!r}: acl is {text!r}",
        hint='write named users and groups: acl = "group:hadoop:rX, user:spark:rwx" (X: execute only on directories)',
    )
    if not isinstance(text, str):
        raise wrong
    entries: list[list[Any]] = []
    for part in text.split(","):
        kind, _, rest = part.strip().partition(":")
        name, _, letters = rest.rpartition(":")
        kind = {"u": "user", "g": "group"}.get(kind, kind)
        if kind not in ("user", "group") or not name or not letters or set(letters) - set(_BITS):
            raise wrong
        who: str | int = int(name) if name.isascii() and name.isdigit() else name
        if [kind, who] in [entry[:2] for entry in entries]:
            raise ConfigError(f"permissions.policy.{path!r}: acl names {kind} {name} twice")
        entries.append([kind, who, sum(_BITS[letter] for letter in set(letters)), "X" in letters])
    return entries
