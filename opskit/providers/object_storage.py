"""ObjectStoragePath: a path in an object store or on this host, used like pathlib's.

    ObjectStoragePath("s3://aws_default@bucket/folder") / "file.csv"
    ObjectStoragePath("file://include/reports", conn_id=None)      relative to the working directory

Nothing is asked of a store before a method needs it. What stores have in common is done by fsspec, except for `file://`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, ClassVar

from opskit.providers.object_files import LOCAL, open_files

_SENSITIVE = "://"


class ObjectStoragePath:
    """A path: protocol, connection and the way below. Equal when all of that is equal."""

    __version__: ClassVar[int] = 1

    def __init__(
        self,
        path: Any,
        *more: Any,
        protocol: str | None = None,
        conn_id: str | None = None,
        **storage_options: Any,
    ) -> None:
        if isinstance(path, ObjectStoragePath):
            protocol = path.protocol if protocol is None else protocol
            conn_id = conn_id or path.conn_id
            storage_options = {**path.storage_options, **storage_options}
            rest = path.path
        else:
            text = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
            written, found, rest = text.partition(_SENSITIVE)
            if not found:
                written, rest = "", text
            protocol = written.lower() if protocol is None else protocol
            if protocol not in LOCAL:
                user, at, rest_of_host = rest.partition("/")[0].rpartition("@")
                if at:
                    conn_id = conn_id or user
                    rest = rest_of_host + rest[len(user) + 1 + len(rest_of_host) :]
        self.protocol: str = protocol or ""
        self.conn_id = conn_id
        self.storage_options: dict[str, Any] = storage_options
        self.path: str = _joined(self.protocol, rest, *[_text(part) for part in more])
        self._files: Any = None

    # --- what it is ---

    @property
    def fs(self) -> Any:
        """Its file system: fsspec's, for `file://` our own."""
        if self._files is None:
            self._files = open_files(self.protocol, self.conn_id, self.storage_options)
        return self._files

    @property
    def bucket(self) -> str:
        """The first part of the path in a store; empty for files."""
        return "" if self.protocol in LOCAL else self.path.partition("/")[0]

    container = bucket

    @property
    def key(self) -> str:
        """The path below the bucket, without a leading slash."""
        return self.path.lstrip("/") if self.protocol in LOCAL else self.path.partition("/")[2]

    @property
    def namespace(self) -> str:
        return f"{self.protocol}://{self.bucket}" if self.bucket else self.protocol

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.path if self.protocol in LOCAL else f"/{self.key}")

    @property
    def name(self) -> str:
        return self._pure.name

    @property
    def stem(self) -> str:
        return self._pure.stem

    @property
    def suffix(self) -> str:
        return self._pure.suffix

    @property
    def suffixes(self) -> list[str]:
        return self._pure.suffixes

    @property
    def parts(self) -> tuple[str, ...]:
        if self.protocol in LOCAL:
            return self._pure.parts
        return (f"{self.bucket}/", *self._pure.parts[1:])

    @property
    def parent(self) -> ObjectStoragePath:
        return self._at(self._pure.parent)

    @property
    def parents(self) -> tuple[ObjectStoragePath, ...]:
        return tuple(self._at(one) for one in self._pure.parents)

    def _at(self, pure: PurePosixPath) -> ObjectStoragePath:
        text = str(pure)
        return self._with(text if self.protocol in LOCAL else f"{self.bucket}{text}")

    def _with(self, path: str) -> ObjectStoragePath:
        other = type(self)(path, protocol=self.protocol, conn_id=self.conn_id, **self.storage_options)
        other._files = self._files
        return other

    def as_uri(self) -> str:
        """With the protocol, without the connection."""
        return f"{self.protocol or 'file'}://{self.path}"

    def as_posix(self) -> str:
        return str(self)

    def is_absolute(self) -> bool:
        return self.protocol not in LOCAL or self.path.startswith("/")

    def absolute(self) -> ObjectStoragePath:
        return self if self.is_absolute() else self._with(os.path.abspath(self.path))

    resolve = absolute

    def __str__(self) -> str:
        if not self.protocol:
            return self.path
        user = f"{self.conn_id}@" if self.conn_id and self.protocol not in LOCAL else ""
        return f"{self.protocol}://{user}{self.path}"

    def __fspath__(self) -> str:
        """The path on this host, for `open()` and the like; in a store the URI."""
        return self.path if self.protocol in LOCAL else str(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _identity(self) -> tuple[str, str, str | None]:
        return self.protocol, self.path, self.conn_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectStoragePath) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __lt__(self, other: ObjectStoragePath) -> bool:
        return (self.protocol, self.path) < (other.protocol, other.path)

    def __truediv__(self, part: Any) -> ObjectStoragePath:
        return self.joinpath(part)

    def joinpath(self, *parts: Any) -> ObjectStoragePath:
        return self._with(_joined(self.protocol, self.path, *[_text(part) for part in parts]))

    def with_name(self, name: str) -> ObjectStoragePath:
        return self._at(self._pure.with_name(name))

    def with_suffix(self, suffix: str) -> ObjectStoragePath:
        return self._at(self._pure.with_suffix(suffix))

    def relative_to(self, other: ObjectStoragePath) -> PurePosixPath:
        """The way from `other` to here. ValueError when it does not lie below."""
        if not self.samestore(other):
            raise ValueError(f"{self} does not lie below {other}")
        return self._pure.relative_to(other._pure)

    def samestore(self, other: Any) -> bool:
        """Whether the other path is reached in the same way."""
        return isinstance(other, ObjectStoragePath) and (self.protocol, self.conn_id) == (other.protocol, other.conn_id)

    def samefile(self, other: Any) -> bool:
        other = other if isinstance(other, ObjectStoragePath) else type(self)(other)
        return self.samestore(other) and self.path == other.path

    def ukey(self) -> str:
        """A text that changes with the file."""
        from hashlib import sha256

        return sha256(str(self.fs.info(self.path)).encode()).hexdigest()

    def checksum(self) -> int:
        return int(self.fs.checksum(self.path))

    # --- reading ---

    def exists(self) -> bool:
        return bool(self.fs.exists(self.path))

    def is_file(self) -> bool:
        return bool(self.fs.isfile(self.path))

    def is_dir(self) -> bool:
        return bool(self.fs.isdir(self.path))

    def size(self) -> int:
        return int(self.fs.info(self.path)["size"])

    def stat(self) -> Any:
        """`st_size`, `st_mtime` (seconds, 0 where the store does not say), `st_mode`, and what the store says besides."""
        info = dict(self.fs.info(self.path))
        at = next((info[name] for name in ("mtime", "LastModified", "last_modified", "updated") if info.get(name)), 0)
        seconds = at.timestamp() if hasattr(at, "timestamp") else float(at)
        plain = {key: value for key, value in info.items() if isinstance(key, str) and key.isidentifier()}
        return SimpleNamespace(
            **{**plain, "st_size": info.get("size") or 0, "st_mtime": seconds, "st_mode": info.get("mode", 0)}
        )

    def open(self, mode: str = "r", **arguments: Any) -> Any:
        return self.fs.open(self.path, mode=mode, **arguments)

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        with self.open("r", encoding=encoding or "utf-8", errors=errors) as file:
            return str(file.read())

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            return bytes(file.read())

    def read_block(self, offset: int, length: int | None = None, delimiter: bytes | None = None) -> bytes:
        """`length` bytes from `offset` on; with a delimiter, whole records: from after the first one at or behind the
        offset to that behind the end."""
        whole = self.read_bytes()
        end = len(whole) if length is None else offset + length
        if delimiter:
            offset = 0 if offset == 0 else _behind(whole, delimiter, offset)
            end = _behind(whole, delimiter, end)
        return whole[offset:end]

    def iterdir(self) -> Iterator[ObjectStoragePath]:
        for name in self.fs.ls(self.path, detail=False):
            found = self._with(str(name))
            if found.path.rstrip("/") != self.path.rstrip("/"):
                yield found

    def glob(self, pattern: str) -> Iterator[ObjectStoragePath]:
        for name in self.fs.glob(_joined(self.protocol, self.path, pattern)):
            yield self._with(str(name))

    def rglob(self, pattern: str) -> Iterator[ObjectStoragePath]:
        return self.glob(f"**/{pattern}")

    # --- writing ---

    def write_text(self, data: str, encoding: str | None = None, errors: str | None = None) -> int:
        with self.open("w", encoding=encoding or "utf-8", errors=errors) as file:
            file.write(data)
        return len(data)

    def write_bytes(self, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data)
        return len(data)

    def touch(self, truncate: bool = False, exist_ok: bool = True, **_: Any) -> None:
        if not exist_ok and self.exists():
            raise FileExistsError(str(self))
        if truncate or not self.exists() or self.protocol in LOCAL:
            self.fs.touch(self.path, truncate=truncate)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False, **_: Any) -> None:
        """A folder; in a store, the bucket, where it has no folders."""
        if self.is_dir():
            if not exist_ok:
                raise FileExistsError(str(self))
            return
        self.fs.mkdir(self.path, create_parents=parents)

    def unlink(self, missing_ok: bool = False) -> None:
        if not self.exists():
            if missing_ok:
                return
            raise FileNotFoundError(str(self))
        self.fs.rm(self.path, recursive=False)

    def rmdir(self, recursive: bool = True) -> None:
        """Remove a folder with all that is in it, as Airflow does."""
        if not self.is_dir():
            raise NotADirectoryError(str(self))
        if recursive:
            self.fs.rm(self.path, recursive=True)
        else:
            self.fs.rmdir(self.path)

    def rename(self, target: Any, **arguments: Any) -> ObjectStoragePath:
        """Move it to another path of the same store; the new path."""
        other = self._target(target)
        self.fs.mv(self.path, other.path, **arguments)
        return other

    replace = rename

    def copy(self, dst: Any, recursive: bool = False, **arguments: Any) -> None:
        """Copy a file, or with `recursive` a folder, also from one store to another. Into a folder that exists (or a path
        that ends with a slash) it keeps its name."""
        target = self._target(dst)
        if self.is_dir():
            if not recursive:
                raise IsADirectoryError(f"{self} is a folder: copy it with recursive=True")
            below = target / self.name if target.exists() else target
            for source in self._files_below():
                self._copy_file(source, below / str(source.relative_to(self)), arguments)
            return
        if target.is_dir() or _text(dst).endswith("/"):
            target = target / self.name
        self._copy_file(self, target, arguments)

    def move(self, path: Any, recursive: bool = False, **arguments: Any) -> None:
        """Move a file, or with `recursive` a folder, also from one store to another."""
        target = self._target(path)
        if self.samestore(target):
            self.fs.mv(self.path, target.path, **({"recursive": True} if recursive else {}), **arguments)
            return
        self.copy(target, recursive=recursive, **arguments)
        self.fs.rm(self.path, recursive=recursive)

    def sign(self, expiration: int = 100, **arguments: Any) -> str:
        """A URL for others, where the store has that."""
        return str(self.fs.sign(self.path, expiration=expiration, **arguments))

    def _target(self, path: Any) -> ObjectStoragePath:
        if isinstance(path, ObjectStoragePath):
            return path
        text = _text(path)
        return type(self)(text) if _SENSITIVE in text else self._with(text)

    def _files_below(self) -> Iterator[ObjectStoragePath]:
        for one in self.iterdir():
            if one.is_dir():
                yield from one._files_below()
            else:
                yield one

    @staticmethod
    def _copy_file(source: ObjectStoragePath, target: ObjectStoragePath, arguments: dict[str, Any]) -> None:
        if target.protocol in LOCAL:
            os.makedirs(os.path.dirname(target.path) or ".", exist_ok=True)
        if source.samestore(target):
            source.fs.cp_file(source.path, target.path, **arguments)
            return
        with source.open("rb") as reader, target.open("wb") as writer:
            while block := reader.read(1 << 20):
                writer.write(block)

    # --- as an XCom ---

    def serialize(self) -> dict[str, Any]:
        return {"path": str(self), "conn_id": self.conn_id, "kwargs": dict(self.storage_options)}

    @classmethod
    def deserialize(cls, data: dict[str, Any], version: int) -> ObjectStoragePath:
        if version > cls.__version__:
            raise ValueError(f"an ObjectStoragePath of version {version} can't be read")
        return cls(data["path"], conn_id=data.get("conn_id"), **data.get("kwargs", {}))


def _text(part: Any) -> str:
    if isinstance(part, ObjectStoragePath):
        return str(part)
    return os.fspath(part) if isinstance(part, os.PathLike) else str(part)


def _joined(protocol: str, path: str, *parts: str) -> str:
    """The path below the protocol: no double or trailing slashes, but for a bucket alone (`bucket/`)."""
    if protocol in LOCAL:
        whole = str(PurePosixPath(path, *parts))
        return os.path.abspath(whole) if protocol else whole
    names = [name for part in (path, *parts) for name in part.split("/") if name not in ("", ".")]
    return f"{names[0]}/" if len(names) == 1 else "/".join(names)


def _behind(whole: bytes, delimiter: bytes, at: int) -> int:
    found = whole.find(delimiter, at)
    return len(whole) if found < 0 else found + len(delimiter)
