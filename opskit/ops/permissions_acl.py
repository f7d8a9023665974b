"""Access control lists of POSIX as the kernel keeps them in extended attributes: bytes from modes and names, and back.

The form is `struct posix_acl_xattr_header` of linux/posix_acl_xattr.h: a version of 4 bytes, then 8 bytes per entry
(tag, permissions, id), little-endian, in the order of tags and ids.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
_NO_ID = 0xFFFFFFFF
_VERSION = 2
_LETTERS = {USER_OBJ: "u", USER: "u", GROUP_OBJ: "g", GROUP: "g", MASK: "m", OTHER: "o"}


class Named(NamedTuple):
    """What one named user or group may. `execute_folders`: execute only on directories (the X of setfacl)."""

    tag: int
    id: int
    permissions: int
    execute_folders: bool = False


def for_mode(mode: int, named: Sequence[Named], folder: bool) -> bytes:
    """The list that means `mode` for owner, group and others, and gives the named ones what they may.

    Without named entries it is the plain mode: no mask is needed. The mask never takes anything away.
    """
    entries = [(USER_OBJ, mode >> 6 & 7, _NO_ID), (GROUP_OBJ, mode >> 3 & 7, _NO_ID), (OTHER, mode & 7, _NO_ID)]
    entries += [(item.tag, _given(item, folder), item.id) for item in named]
    if named:
        entries.append((MASK, mode_with_mask(mode, named, folder) >> 3 & 7, _NO_ID))
    return encode(entries)


def mode_with_mask(mode: int, named: Sequence[Named], folder: bool) -> int:
    """What stat shows as the mode of such an entry: the mask stands where the group's bits stood."""
    mask = mode >> 3 & 7
    for item in named:
        mask |= _given(item, folder)
    return mode & ~0o070 | mask << 3


def _given(item: Named, folder: bool) -> int:
    return item.permissions | (1 if item.execute_folders and folder else 0)


def encode(entries: Sequence[tuple[int, int, int]]) -> bytes:
    """The kernel's form of (tag, permissions, id) entries."""
    ordered = sorted(entries, key=lambda entry: (entry[0], entry[2]))
    return struct.pack("<I", _VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in ordered)


def decode(data: bytes) -> list[tuple[int, int, int]]:
    """(tag, permissions, id) entries of the kernel's form; ValueError for anything else."""
    if len(data) < 4 or (len(data) - 4) % 8 or struct.unpack_from("<I", data)[0] != _VERSION:
        raise ValueError("no access control list")
    return [struct.unpack_from("<HHI", data, at) for at in range(4, len(data), 8)]


def effective(data: bytes) -> list[tuple[int, int, int]]:
    """What a list really gives to whom: the kernel leaves bits in it that its mask takes away again."""
    entries = decode(data) if data else []
    mask = next((bits for tag, bits, _ in entries if tag == MASK), 7)
    masked = (USER, GROUP_OBJ, GROUP)
    return [(tag, bits & mask if tag in masked else bits, number) for tag, bits, number in entries if tag != MASK]


def show(data: bytes) -> str:
    """As setfacl writes it, with numbers for names: `u::rwx,u:1000:r-x,g::r-x,m::rwx,o::---`; `none` for no list."""
    if not data:
        return "none"
    return ",".join(
        "{}:{}:{}".format(
            _LETTERS.get(tag, "?"),
            "" if number == _NO_ID else number,
            "".join(letter if bits & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1))),
        )
        for tag, bits, number in decode(data)
    )
