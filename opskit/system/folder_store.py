"""An object store in a folder: an object is a file that appears by a link once it is complete and on the disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from opskit.system.object_store import (
    CHUNK_BYTES,
    LARGEST_OBJECT_BYTES,
    ObjectExists,
    ObjectInfo,
    ObjectMissing,
    StaleUpload,
    StoredObject,
    StoreError,
    check_key,
)

_PART = ".part-"


class FolderStore:
    """Files below `root`, which is made (mode 0700) at the first write. Names that start with a dot are no objects."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def url(self) -> str:
        return str(self._root)

    @property
    def object_bytes(self) -> int:
        return LARGEST_OBJECT_BYTES

    def put(self, key: str, chunks: Iterable[bytes], *, expected_bytes: int = 0, new: bool = False) -> StoredObject:
        path = self._path(key)
        with self._explained(f"write {key}"):
            _make_private(path.parent)
            if expected_bytes:
                self._check_space(path.parent, expected_bytes)
            temporary = path.with_name(f"{_PART}{secrets.token_hex(6)}-{path.name}")
            digest, size = hashlib.sha256(), 0
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with open(descriptor, "wb", buffering=CHUNK_BYTES) as file:
                    for chunk in chunks:
                        file.write(chunk)
                        digest.update(chunk)
                        size += len(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                if new:
                    self._appear_as_new(temporary, path, key)
                else:
                    temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folders(path.parent, self._root)
        return StoredObject(key, size, digest.hexdigest())

    def _appear_as_new(self, temporary: Path, path: Path, key: str) -> None:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise ObjectExists(f"{self.url} has an object {key} already") from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK):
                raise
            # A file system without hard links: the name is claimed by an empty file first, that holds nothing yet.
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            except FileExistsError:
                raise ObjectExists(f"{self.url} has an object {key} already") from None
            temporary.replace(path)

    def get(self, key: str) -> Iterator[bytes]:
        with self._explained(f"read {key}"):
            try:
                file = open(self._path(key), "rb", buffering=0)  # noqa: SIM115 -- the iterator closes it
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise ObjectMissing(f"{self.url} has no object {key}") from None

        def pieces() -> Iterator[bytes]:
            with file, self._explained(f"read {key}"):
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

        return pieces()

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        with self._explained(f"read {key}"):
            try:
                with open(self._path(key), "rb", buffering=0) as file:
                    file.seek(offset)
                    return file.read(length)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise ObjectMissing(f"{self.url} has no object {key}") from None

    def head(self, key: str) -> ObjectInfo | None:
        with self._explained(f"look at {key}"):
            try:
                status = os.lstat(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _info(key, status)

    def objects(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for path in self._files():
            key = path.relative_to(self._root).as_posix()
            if path.name.startswith(".") or not key.startswith(prefix):
                continue
            try:
                yield _info(key, path.lstat())
            except FileNotFoundError:
                continue  # deleted meanwhile

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._explained(f"delete {key}"):
            path.unlink(missing_ok=True)
            # Folders are an accident of this store: an empty one goes with its last object.
            for folder in path.parents:
                if folder == self._root:
                    break
                try:
                    folder.rmdir()
                except OSError:
                    break

    def locked_until(self, key: str) -> datetime | None:
        check_key(key)
        return None

    def stale_uploads(self, prefix: str = "") -> list[StaleUpload]:
        found = []
        for path in self._files():
            if not path.name.startswith(_PART):
                continue
            name = path.name[len(_PART) :].partition("-")[2]
            key = path.with_name(name).relative_to(self._root).as_posix()
            if not key.startswith(prefix):
                continue
            with contextlib.suppress(FileNotFoundError):
                found.append(StaleUpload(key, path.name, datetime.fromtimestamp(path.lstat().st_mtime, UTC)))
        return found

    def abort_upload(self, upload: StaleUpload) -> None:
        if not upload.upload_id.startswith(_PART) or "/" in upload.upload_id:
            raise ValueError(f"{upload.upload_id!r} is no upload of this store")
        path = self._path(upload.key).with_name(upload.upload_id)
        with self._explained(f"remove an unended write of {upload.key}"):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                if path.parent != self._root:
                    path.parent.rmdir()

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _files(self) -> Iterator[Path]:
        with self._explained("list"):
            if not self._root.is_dir():
                return
            found = []
            for folder, names, files in os.walk(self._root, onerror=_raise):
                names[:] = [name for name in names if not name.startswith(".")]
                found += [Path(folder, name) for name in files]
        yield from sorted(found, key=lambda path: path.relative_to(self._root).as_posix())

    def _check_space(self, folder: Path, needed: int) -> None:
        status = os.statvfs(folder)
        free = status.f_bavail * status.f_frsize
        if free < needed:
            raise StoreError(
                f"{folder} has {free >> 20} MiB free, about {needed >> 20} MiB are needed",
                hint="free space there, or choose another target with --to",
            )

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = {
                errno.ENOSPC: "the disk is full: free space, or choose another target with --to",
                errno.EDQUOT: "the quota is used up: free space, or choose another target with --to",
                errno.EACCES: "give this user the right to it, or choose another target with --to",
                errno.EROFS: "the file system is read-only; choose another target with --to",
            }.get(error.errno or 0)
            raise StoreError(f"{self._root}: can't {what}: {error.strerror or error}", hint=hint) from error


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _make_private(folder: Path) -> None:
    """Make a folder and its missing parents, for their owner alone."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _sync_folders(folder: Path, root: Path) -> None:
    """Names are on the disk only when their folders are."""
    while True:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if folder == root or folder == folder.parent:
            return
        folder = folder.parent
