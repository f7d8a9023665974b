"""`ObjectStoragePath`: paths of objects, used like pathlib's. Files of this host need nothing; other stores (s3://,
gs:// …) are reached through the package fsspec and what it needs for that store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

_LOCAL = ("file", "local", "")


@dataclass
class ObjectStore:
    """One store: its protocol, and how it is reached."""

    protocol: str
    conn_id: str | None = None
    fs_: Any = None
    storage_options: dict[str, Any] = field(default_factory=dict)

    @property
    def fs(self) -> Any:
        """The file system of fsspec. AirflowOptionalProviderFeatureException where fsspec, or its part for this
        protocol, is not installed."""
        if self.fs_ is None:
            self.fs_ = _file_system(self.protocol, self.conn_id, self.storage_options)
        return self.fs_

    @property
    def fsid(self) -> str:
        return f"{self.protocol}-{self.conn_id or 'env'}"


_STORES: dict[str, ObjectStore] = {}


def attach(
    protocol: str | None = None,
    conn_id: str | None = None,
    alias: str | None = None,
    fs: Any = None,
    **kwargs: Any,
) -> ObjectStore:
    """Make a store known, under its protocol (with the connection) or an alias; `fs` is an fsspec file system.
    ValueError without any of these."""
    if alias and alias in _STORES:
        return _STORES[alias]
    if protocol is None:
        if fs is None:
            raise ValueError("a protocol, an alias of a known store or a file system is needed")
        protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    name = alias or (f"{protocol}-{conn_id}" if conn_id else protocol)
    if fs is not None or name not in _STORES:
        _STORES[name] = ObjectStore(protocol, conn_id, fs, kwargs)
    return _STORES[name]


def _file_system(protocol: str, conn_id: str | None, options: dict[str, Any]) -> Any:
    from opskit.providers.optional import AirflowOptionalProviderFeatureException

    try:
        import fsspec  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise AirflowOptionalProviderFeatureException(
            f"paths of {protocol}:// need the package fsspec (and for s3:// s3fs, for gs:// gcsfs, for abfs:// adlfs)"
        ) from error
    given = dict(options)
    if conn_id is not None:
        given = {**_options_of(protocol, conn_id), **given}
    try:
        return fsspec.filesystem(protocol, **given)
    except ImportError as error:
        raise AirflowOptionalProviderFeatureException(f"paths of {protocol}://: {error}") from error


def _options_of(protocol: str, conn_id: str) -> dict[str, Any]:
    """What fsspec is to be told of a connection."""
    from opskit.core.dag.connection import Connection

    connection = Connection.get_connection_from_secrets(conn_id)
    extra = connection.extra_dejson
    if protocol in ("s3", "s3a"):
        client = {key: extra[key] for key in ("endpoint_url", "region_name") if extra.get(key)}
        found = {"key": connection.login, "secret": connection.password, "token": extra.get("aws_session_token")}
        return {
            **{key: value for key, value in found.items() if value},
            **({"client_kwargs": client} if client else {}),
            **({"anon": True} if extra.get("anonymous") else {}),
        }
    found = {"host": connection.host, "port": connection.port, "username": connection.login}
    return {
        **{key: value for key, value in {**found, "password": connection.password}.items() if value},
        **{key: value for key, value in extra.items() if not key.startswith("extra__")},
    }


class ObjectStoragePath(os.PathLike[str]):
    """`ObjectStoragePath("s3://connection@bucket/folder/key")`, or `conn_id=` beside the path."""

    __version__ = 1
    root_marker = "/"
    sep = "/"

    def __init__(self, *args: Any, protocol: str | None = None, conn_id: str | None = None, **options: Any) -> None:
        first, *rest = args or ("",)
        self.protocol: str
        self.conn_id: str | None
        self.storage_options: dict[str, Any]
        self.path: str
        if isinstance(first, ObjectStoragePath):
            protocol, conn_id = protocol or first.protocol, conn_id or first.conn_id
            options = {**first.storage_options, **options}
            text = first.path
        else:
            text = os.fspath(first)
            scheme, separator, below = text.partition("://")
            if separator:
                protocol, text = protocol or scheme, below
        self.protocol = protocol or ""
        if not self.is_local:
            user, at, below = text.partition("@")
            if at and "/" not in user:
                conn_id, text = conn_id or user, below
        self.conn_id = conn_id
        self.storage_options = options
        self.path = self._joined(text, *[os.fspath(part) for part in rest])

    # what it is called

    def _joined(self, text: str, *parts: str) -> str:
        """No double and trailing slashes, but for a bucket alone: `bucket/`. Without a protocol it may be relative."""
        if self.is_local:
            whole = str(PurePosixPath(text, *[part.lstrip("/") for part in parts]))
            return os.path.abspath(whole) if self.protocol else whole
        names = [name for part in (text, *parts) for name in part.split("/") if name not in ("", ".")]
        return f"{names[0]}/" if len(names) == 1 else "/".join(names)

    @property
    def is_local(self) -> bool:
        return self.protocol in _LOCAL

    @property
    def _pure(self) -> PurePosixPath:
        """In a store: below the bucket."""
        return PurePosixPath(self.path if self.is_local else f"/{self.key}")

    def _at(self, pure: PurePosixPath) -> ObjectStoragePath:
        return self._other(str(pure) if self.is_local else f"{self.bucket}{pure}")

    @property
    def bucket(self) -> str:
        return "" if self.is_local else self.path.partition("/")[0]

    @property
    def container(self) -> str:
        return self.bucket

    @property
    def key(self) -> str:
        return self.path.lstrip("/") if self.is_local else self.path.partition("/")[2]

    @property
    def namespace(self) -> str:
        return f"{self.protocol}://{self.bucket}" if self.bucket else self.protocol

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
        return self._pure.parts if self.is_local else (f"{self.bucket}/", *self._pure.parts[1:])

    @property
    def parent(self) -> ObjectStoragePath:
        return self._at(self._pure.parent)

    @property
    def parents(self) -> list[ObjectStoragePath]:
        return [self._at(path) for path in self._pure.parents]

    def joinpath(self, *parts: Any) -> ObjectStoragePath:
        return ObjectStoragePath(self, *parts)

    def __truediv__(self, part: Any) -> ObjectStoragePath:
        return self.joinpath(part)

    def with_name(self, name: str) -> ObjectStoragePath:
        return self._at(self._pure.with_name(name))

    def with_suffix(self, suffix: str) -> ObjectStoragePath:
        return self._at(self._pure.with_suffix(suffix))

    def relative_to(self, other: Any) -> PurePosixPath:
        """ValueError when this path does not lie below the other, or in another store."""
        base = other if isinstance(other, ObjectStoragePath) else self._other(str(other))
        if (base.protocol, base.conn_id) != (self.protocol, self.conn_id):
            raise ValueError(f"{self} and {other} lie in different stores")
        return self._pure.relative_to(base._pure)

    def as_uri(self) -> str:
        return f"{self.protocol or 'file'}://{self.path}"

    def __str__(self) -> str:
        if not self.protocol:
            return self.path
        user = f"{self.conn_id}@" if self.conn_id else ""
        return f"{self.protocol}://{user}{self.path}"

    def __repr__(self) -> str:
        return f"ObjectStoragePath({str(self)!r})"

    def __fspath__(self) -> str:
        return self.path if self.is_local else str(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectStoragePath) and str(self) == str(other)

    def __lt__(self, other: ObjectStoragePath) -> bool:
        return str(self) < str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def samestore(self, other: Any) -> bool:
        return isinstance(other, ObjectStoragePath) and (other.protocol, other.conn_id) == (self.protocol, self.conn_id)

    # where it lies

    @property
    def store(self) -> ObjectStore:
        return attach(self.protocol, self.conn_id, **self.storage_options)

    @property
    def fs(self) -> Any:
        """The file system of fsspec."""
        return self.store.fs

    @property
    def _file(self) -> Path:
        return Path(self.path)

    def exists(self) -> bool:
        return self._file.exists() if self.is_local else bool(self.fs.exists(self.path))

    def is_file(self) -> bool:
        return self._file.is_file() if self.is_local else bool(self.fs.isfile(self.path))

    def is_dir(self) -> bool:
        return self._file.is_dir() if self.is_local else bool(self.fs.isdir(self.path))

    def iterdir(self) -> Iterator[ObjectStoragePath]:
        """What lies directly below. FileNotFoundError when there is no such folder."""
        if self.is_local:
            names = sorted(str(path) for path in self._file.iterdir())
        else:
            names = sorted(self.fs.ls(self.path, detail=False))
        for name in names:
            if name.rstrip("/") != self.path.rstrip("/"):
                yield self._other(name)

    def glob(self, pattern: str) -> Iterator[ObjectStoragePath]:
        if self.is_local:
            found = sorted(str(path) for path in self._file.glob(pattern))
        else:
            found = sorted(self.fs.glob(f"{self.path.rstrip('/')}/{pattern}"))
        for name in found:
            yield self._other(name)

    def stat(self) -> Any:
        """As os.stat; of other stores what fsspec says, with `st_size`."""
        return self._file.stat() if self.is_local else _Status(self.fs.info(self.path))

    def size(self) -> int:
        return int(self.stat().st_size)

    def open(self, mode: str = "r", **options: Any) -> Any:
        return self._file.open(mode, **options) if self.is_local else self.fs.open(self.path, mode, **options)

    def read_text(self, encoding: str | None = None, **_: Any) -> str:
        with self.open("r", encoding=encoding or "utf-8") as file:
            return str(file.read())

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            return bytes(file.read())

    def write_text(self, data: str, encoding: str | None = None, **_: Any) -> int:
        with self.open("w", encoding=encoding or "utf-8") as file:
            return int(file.write(data))

    def write_bytes(self, data: bytes) -> int:
        with self.open("wb") as file:
            return int(file.write(data))

    def read_block(self, offset: int, length: int | None, delimiter: bytes | None = None) -> bytes:
        """Bytes from an offset on; with a delimiter from the one after the offset to the one after the end."""
        if not self.is_local:
            return bytes(self.fs.read_block(self.path, offset, length, delimiter=delimiter))
        data = self.read_bytes()
        start = offset
        if delimiter and offset:
            start = data.find(delimiter, offset) + len(delimiter) if delimiter in data[offset:] else len(data)
        if length is None:
            return data[start:]
        end = offset + length
        if delimiter and end < len(data):
            end = data.find(delimiter, end) + len(delimiter) if delimiter in data[end:] else len(data)
        return data[start:end]

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False, **_: Any) -> None:
        if self.is_local:
            self._file.mkdir(mode, parents, exist_ok)
            return
        if not exist_ok and self.exists():
            raise FileExistsError(str(self))
        self.fs.makedirs(self.path, exist_ok=True)

    def touch(self, exist_ok: bool = True, **_: Any) -> None:
        if self.is_local:
            self._file.touch(exist_ok=exist_ok)
        else:
            self.fs.touch(self.path, truncate=False)

    def unlink(self, missing_ok: bool = False) -> None:
        if self.is_local:
            self._file.unlink(missing_ok)
        elif not missing_ok or self.exists():
            self.fs.rm_file(self.path)

    def rmdir(self, recursive: bool = True) -> None:
        """With all that is in it, as in Airflow, unless it is told otherwise."""
        if not self.is_local:
            self.fs.rm(self.path, recursive=recursive)
        elif recursive:
            shutil.rmtree(self.path)
        else:
            self._file.rmdir()

    def copy(self, dst: Any, recursive: bool = False, **_: Any) -> None:
        """To another path, in whatever store; into it where that is a folder."""
        target = dst if isinstance(dst, ObjectStoragePath) else ObjectStoragePath(dst)
        if recursive and self.is_dir():
            for path in self.iterdir():
                path.copy(target / path.name, recursive=True)
            return
        if target.is_dir() or str(dst).endswith("/"):
            target = target / self.name
        if target.is_local:
            target._file.parent.mkdir(parents=True, exist_ok=True)
        with self.open("rb") as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)

    def move(self, path: Any, recursive: bool = False, **_: Any) -> None:
        self.copy(path, recursive)
        if self.is_dir():
            self.rmdir(recursive=True)
        else:
            self.unlink()

    def rename(self, target: Any) -> ObjectStoragePath:
        to = target if isinstance(target, ObjectStoragePath) else self._other(os.fspath(target))
        self.move(to)
        return to

    replace = rename

    def checksum(self) -> int:
        if not self.is_local:
            return int(self.fs.checksum(self.path))
        status = self._file.stat()
        return hash((self.path, status.st_mtime_ns, status.st_size))

    def ukey(self) -> str:
        """A text that is another one when the file has changed."""
        from hashlib import sha256

        if not self.is_local:
            return str(self.fs.ukey(self.path))
        status = self._file.stat()
        return sha256(f"{self.path} {status.st_mtime_ns} {status.st_size}".encode()).hexdigest()

    def sign_url(self, expiration: int = 100, **options: Any) -> str:
        return str(self.fs.sign(self.path, expiration, **options))

    # as an XCom

    def serialize(self) -> dict[str, Any]:
        return {"path": str(self), "conn_id": self.conn_id, "kwargs": self.storage_options}

    @classmethod
    def deserialize(cls, data: dict[str, Any], version: int) -> ObjectStoragePath:
        if version > cls.__version__:
            raise ValueError(f"the path was written by a later version: {version}")
        return cls(data["path"], conn_id=data.get("conn_id"), **data.get("kwargs", {}))

    def _other(self, path: str) -> ObjectStoragePath:
        text = path.partition("://")[2] if "://" in path else path
        return ObjectStoragePath(text, protocol=self.protocol, conn_id=self.conn_id, **self.storage_options)


class _Status(dict[str, Any]):
    """What fsspec says of an object, with the names of os.stat."""

    @property
    def st_size(self) -> int:
        return int(self.get("size") or 0)

    @property
    def st_mtime(self) -> float:
        moment: Any = self.get("LastModified") or self.get("mtime") or self.get("updated") or 0
        return float(moment.timestamp() if hasattr(moment, "timestamp") else moment)
