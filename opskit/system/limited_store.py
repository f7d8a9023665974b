"""An object store behind a limit: what goes in and what comes out takes its time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from opskit.system.object_store import ObjectInfo, ObjectStore, StaleUpload, StoredObject
from opskit.system.streams import limited


class LimitedStore:
    """Another store, with at most so many bytes a second in each stream."""

    def __init__(self, store: ObjectStore, bytes_per_second: float) -> None:
        self._store, self._rate = store, bytes_per_second

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def object_bytes(self) -> int:
        return self._store.object_bytes

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int = 0, new: bool = False) -> StoredObject:
        return self._store.put(key, limited(chunks, self._rate), expected_bytes=expected_bytes, new=new)

    def get(self, key: str) -> Iterator[bytes]:
        return limited(self._store.get(key), self._rate)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return b"".join(limited([self._store.get_range(key, offset, length)], self._rate))

    def head(self, key: str) -> ObjectInfo | None:
        return self._store.head(key)

    def objects(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._store.objects(prefix)

    def delete(self, key: str) -> None:
        self._store.delete(key)

    def locked_until(self, key: str) -> datetime | None:
        return self._store.locked_until(key)

    def stale_uploads(self, prefix: str = "") -> list[StaleUpload]:
        return self._store.stale_uploads(prefix)

    def abort_upload(self, upload: StaleUpload) -> None:
        self._store.abort_upload(upload)
