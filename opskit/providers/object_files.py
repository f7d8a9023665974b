"""File systems of `ObjectStoragePath`: the local one, which is always there, and those of fsspec, made from a connection.

A file system has the methods of fsspec's `AbstractFileSystem` that are used here; paths are texts without the protocol.
"""

from __future__ import annotations

import glob as globbing
import os
import shutil
from collections.abc import Callable
from typing import IO, Any

from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException
from opskit.providers.optional import library

LOCAL = ("file", "local", "")
_LIBRARIES = {
    "s3": "s3fs", "s3a": "s3fs", "s3n": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs",
    "adl": "adlfs", "az": "adlfs", "wasb": "adlfs", "wasbs": "adlfs",
}  # fmt: skip
"""What fsspec needs beside itself for a protocol."""


class LocalFiles:
    """Files of this host."""

    protocol = "file"

    def open(self, path: str, mode: str = "r", **arguments: Any) -> IO[Any]:
        return open(path, mode, **arguments)  # noqa: SIM115 - the caller closes it

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def isfile(self, path: str) -> bool:
        return os.path.isfile(path)

    def isdir(self, path: str) -> bool:
        return os.path.isdir(path)

    def ls(self, path: str, detail: bool = False) -> list[Any]:
        names = [os.path.join(path, name) for name in sorted(os.listdir(path))]
        return [self.info(name) for name in names] if detail else names

    def glob(self, pattern: str) -> list[str]:
        return sorted(globbing.glob(pattern, recursive=True))

    def info(self, path: str) -> dict[str, Any]:
        found = os.stat(path)
        kind = "directory" if os.path.isdir(path) else "file"
        return {
            "name": path,
            "size": found.st_size,
            "type": kind,
            "created": found.st_ctime,
            "mtime": found.st_mtime,
            "ino": found.st_ino,
            "mode": found.st_mode,
        }

    def mkdir(self, path: str, create_parents: bool = True) -> None:
        if create_parents:
            os.makedirs(path)
        else:
            os.mkdir(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        os.makedirs(path, exist_ok=exist_ok)

    def touch(self, path: str, truncate: bool = True) -> None:
        with open(path, "wb" if truncate else "ab"):
            os.utime(path)

    def rm(self, path: str, recursive: bool = False) -> None:
        if recursive and os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def mv(self, source: str, target: str, **_: Any) -> None:
        shutil.move(source, target)

    def cp_file(self, source: str, target: str) -> None:
        shutil.copyfile(source, target)

    def checksum(self, path: str) -> int:
        info = self.info(path)
        return hash((info["name"], info["size"], info["mtime"], info["ino"]))


_attached: dict[tuple[str, str | None], Any] = {}


def attach(protocol: str | None = None, conn_id: str | None = None, fs: Any = None, alias: str | None = None) -> str:
    """Use `fs` (of fsspec; default: made from the connection) for paths of this protocol and connection; the name under
    which paths reach it, `alias` or the protocol."""
    if protocol is None and fs is None:
        raise ValueError("attach() needs a protocol or a file system")
    name = alias or protocol or str(fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0])
    _attached[name, conn_id] = fs if fs is not None else open_files(str(protocol), conn_id, {})
    return name


def open_files(protocol: str, conn_id: str | None, options: dict[str, Any]) -> Any:
    """The file system of a protocol with the credentials of a connection.

    AirflowOptionalProviderFeatureException when fsspec, or what it needs for this protocol, is not installed;
    AirflowNotFoundException for a connection that does not exist."""
    known = _attached.get((protocol, conn_id)) or _attached.get((protocol, None))
    if known is not None:
        return known
    if protocol in LOCAL:
        return LocalFiles()
    what = f"ObjectStoragePath with {protocol}://"
    fsspec = library("fsspec", extra=None, needed_by=what)
    if protocol in _LIBRARIES:
        library(_LIBRARIES[protocol], extra=None, needed_by=what)
    given: dict[str, Any] = {}
    if conn_id is not None:
        make = _OPTIONS.get(protocol, _plain_options)
        given = make(Connection.get_connection_from_secrets(conn_id))
    try:
        return fsspec.filesystem(protocol, **{**given, **options})
    except ValueError as error:
        raise AirflowException(f"there is no file system for {protocol}://: {error}") from error


def _plain_options(connection: Connection) -> dict[str, Any]:
    named = {
        "host": connection.host,
        "username": connection.login,
        "password": connection.password,
        "port": connection.port,
    }
    return {**{key: value for key, value in named.items() if value}, **connection.extra_dejson}


def _s3_options(connection: Connection) -> dict[str, Any]:
    extra = dict(connection.extra_dejson)
    client = {key: extra[key] for key in ("endpoint_url", "region_name", "verify") if extra.get(key) is not None}
    options: dict[str, Any] = {
        "key": connection.login or extra.get("aws_access_key_id"),
        "secret": connection.password or extra.get("aws_secret_access_key"),
        "token": extra.get("aws_session_token"),
        "profile": extra.get("profile_name"),
        "client_kwargs": client or None,
        "config_kwargs": extra.get("config_kwargs"),
    }
    return {key: value for key, value in options.items() if value}


def _gs_options(connection: Connection) -> dict[str, Any]:
    extra = connection.extra_dejson
    options = {
        "project": extra.get("project"),
        "token": extra.get("key_path") or extra.get("keyfile_dict"),
        "access": extra.get("gcs.access"),
    }
    return {key: value for key, value in options.items() if value}


def _azure_options(connection: Connection) -> dict[str, Any]:
    extra = dict(connection.extra_dejson)
    options = {"account_name": connection.login, "account_key": connection.password, "account_host": connection.host}
    return {**{key: value for key, value in options.items() if value}, **extra}


_OPTIONS: dict[str, Callable[[Connection], dict[str, Any]]] = {
    **dict.fromkeys(("s3", "s3a", "s3n"), _s3_options),
    **dict.fromkeys(("gs", "gcs"), _gs_options),
    **dict.fromkeys(("abfs", "abfss", "adl", "az", "wasb", "wasbs"), _azure_options),
}
