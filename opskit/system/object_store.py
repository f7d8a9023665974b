"""Object stores: the contract, and how a URL names one. `tests/contracts/test_object_store.py` is its suite."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from opskit.errors import ConfigError, RemoteError, UsageError

CHUNK_BYTES = 1 << 20
"""Streams come in pieces of about this size."""
LARGEST_OBJECT_BYTES = 1 << 40
"""What a stream of unknown length may grow to, in any store."""
_LARGEST_PART_BYTES = 5 << 30


class StoreError(RemoteError):
    """The store can't be reached, or refused."""


class ObjectMissing(StoreError):
    """There is no object with this key."""


class ObjectExists(StoreError):
    """A conditional write found an object with this key; nothing was written."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size_bytes: int
    modified_at: datetime
    """As the store says, aware UTC."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    key: str
    size_bytes: int
    sha256: str
    """Of the bytes that were sent, hexadecimal."""


@dataclass(frozen=True, slots=True)
class StaleUpload:
    """A write that never ended: its process died."""

    key: str
    upload_id: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """What every object that is written is locked with."""

    mode: str
    """GOVERNANCE or COMPLIANCE."""
    days: int


class ObjectStore(Protocol):
    """Keys are relative, separated by `/`. Every method raises StoreError when the store refuses or is out of reach."""

    @property
    def url(self) -> str:
        """Where it is, without secrets."""
        ...

    @property
    def object_bytes(self) -> int:
        """Up to this size the memory that `put` needs does not grow; longer streams should become several objects."""
        ...

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int = 0, new: bool = False) -> StoredObject:
        """Store a stream in constant memory.

        The object appears under its key complete or not at all. An error, also one that `chunks` raises, leaves nothing
        behind; a kill leaves at most what `stale_uploads` shows. `expected_bytes` is a guess that may be wrong. With
        `new`, ObjectExists when the key is taken, also by a write at the same moment.
        """
        ...

    def get(self, key: str) -> Iterator[bytes]:
        """The bytes of an object, in pieces. Raises ObjectMissing at once, not at the first piece."""
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """So many bytes of an object from `offset` on; fewer where it ends before. Raises ObjectMissing."""
        ...

    def head(self, key: str) -> ObjectInfo | None: ...

    def objects(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Complete objects whose key starts with `prefix`, ordered by key."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none. On a store that keeps versions the old ones stay."""
        ...

    def locked_until(self, key: str) -> datetime | None:
        """Until when the store itself refuses to let an object go (Object Lock); None: it does not."""
        ...

    def stale_uploads(self, prefix: str = "") -> list[StaleUpload]:
        """Writes that have begun and not ended: of dead processes, and of those at work now."""
        ...

    def abort_upload(self, upload: StaleUpload) -> None:
        """Remove what an unended write has left."""
        ...


def open_store(
    url: str,
    *,
    endpoint_url: str = "",
    part_size_bytes: int = 8 << 20,
    max_parts: int = 10_000,
    lock: ObjectLock | None = None,
    patience_seconds: float = 0.0,
) -> ObjectStore:
    """The store that a URL names: `s3://bucket/prefix`, `file:///folder` or a folder (which need not be there yet).
    UsageError for anything else, ConfigError where a file is in the way.

    The others concern S3 only: `endpoint_url`, `part_size_bytes` (the smallest part of a multipart upload),
    `max_parts`, `lock`, and for how long a stream waits in its middle for a store out of reach. UsageError for a `lock`
    elsewhere: nothing would be locked.
    """
    if url.startswith("s3://"):
        parts = urlsplit(url)
        if not parts.netloc or parts.query or parts.fragment:
            raise UsageError(f"{url!r} names no bucket", hint="for example s3://bucket/prefix")
        from opskit.system.s3_store import S3Store

        return S3Store(
            parts.netloc,
            unquote(parts.path).strip("/"),
            endpoint_url=endpoint_url,
            part_size_bytes=part_size_bytes,
            max_parts=max_parts,
            lock=lock,
            patience_seconds=patience_seconds,
        )
    if lock is not None:
        raise UsageError(f"{url!r} can't lock objects", hint="only S3 can; set [backup] object_lock_mode to nothing")
    if url.startswith("file://"):
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise UsageError(f"{url!r} names a folder of another host", hint="for example file:///srv/backups")
        url = unquote(parts.path)
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        raise UsageError(f"{url!r} is no place for backups", hint="use s3://bucket/prefix or a folder")
    if not url:
        raise UsageError("the target of the backup is empty", hint="use s3://bucket/prefix or a folder")
    from opskit.system.folder_store import FolderStore

    root = Path(os.path.abspath(os.path.expanduser(url)))
    there = next((place for place in (root, *root.parents) if place.exists()), root)
    if there.exists() and not there.is_dir():
        # Else it would look like a store with nothing in it.
        raise ConfigError(
            f"{url!r} can't hold objects: {there} is a file, and no folder", hint="use s3://bucket/prefix or a folder"
        )
    return FolderStore(root)


def check_key(key: str) -> str:
    """The key, when it can be an object's. ValueError for one that would leave the store."""
    parts = key.split("/")
    if not key or len(key) > 900 or any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        raise ValueError(f"{key!r} can't be the key of an object")
    if any(ord(character) < 32 for character in key):
        raise ValueError(f"{key!r} can't be the key of an object")
    return key


def part_size(number: int, smallest: int, max_parts: int) -> int:
    """Bytes of the part with this number (from 1) of an upload whose length nobody knows.

    The first half of the parts is small, for memory; then they grow by a constant factor, so that `max_parts` parts
    always hold LARGEST_OBJECT_BYTES. (Stores allow 10,000 parts, some only 1,000.)
    """
    half = max(1, max_parts // 2)
    if number <= half:
        return smallest
    # The growing half is a geometric row. 24 steps of equal length are enough, and keep parts equal for long.
    steps = 24
    step = (number - half - 1) * steps // max(1, max_parts - half) + 1
    per_step = max(1, (max_parts - half) // steps)
    ratio = _growth(smallest, per_step, steps)
    return min(int(smallest * ratio**step), _LARGEST_PART_BYTES)


def _growth(smallest: int, per_step: int, steps: int) -> float:
    """The factor with which `per_step` parts of each of the `steps` sizes hold the largest object."""
    low, high = 1.0, 4.0
    for _ in range(40):
        middle = (low + high) / 2
        total = sum(per_step * min(smallest * middle**step, float(_LARGEST_PART_BYTES)) for step in range(1, steps + 1))
        low, high = (middle, high) if total < LARGEST_OBJECT_BYTES else (low, middle)
    return high


def first_part_size(smallest: int, max_parts: int, expected_bytes: int) -> int:
    """The smallest part size of an upload that is expected to have so many bytes: half of the parts hold it all."""
    return max(smallest, -(-expected_bytes // max(1, max_parts // 2)))
