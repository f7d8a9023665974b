"""FTP and FTPS over Python's own ftplib: hooks, an operator, a sensor."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.hooks.base import BaseHook
from opskit.core.dag.sensors.base import BaseSensorOperator


class FTPOperation:
    PUT = "put"
    GET = "get"


class FTPHook(BaseHook):
    """Files of an FTP server. The connection is opened when it is needed, and kept until `close_conn()` or the end of a
    `with` block. Extras: `passive` (true), `encoding`. Errors are ftplib's."""

    conn_name_attr: ClassVar[str] = "ftp_conn_id"
    default_conn_name: ClassVar[str] = "ftp_default"
    conn_type: ClassVar[str] = "ftp"
    hook_name: ClassVar[str] = "FTP"

    def __init__(self, ftp_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.ftp_conn_id = ftp_conn_id
        self.conn: Any = None

    def __enter__(self) -> FTPHook:
        return self

    def __exit__(self, *_: object) -> None:
        if self.conn is not None:
            self.close_conn()

    def get_conn(self) -> Any:
        """The open `ftplib.FTP`."""
        if self.conn is None:
            params = self.get_connection(self.ftp_conn_id)
            extra = params.extra_dejson
            conn = self._make(str(extra.get("encoding", "utf-8")))
            try:
                conn.connect(params.host or "localhost", params.port or 21)
                if params.login:
                    conn.login(params.login, params.password or "")
                self._protect(conn)
                conn.set_pasv(str(extra.get("passive", True)).lower() != "false")
            except BaseException:
                conn.close()
                raise
            self.conn = conn
        return self.conn

    def _make(self, encoding: str) -> Any:
        from ftplib import FTP

        return FTP(encoding=encoding)  # noqa: S321 -- the protocol that was asked for

    def _protect(self, conn: Any) -> None:
        pass

    def close_conn(self) -> None:
        conn, self.conn = self.conn, None
        if conn is not None:
            try:
                conn.quit()
            finally:
                conn.close()

    def describe_directory(self, path: str) -> dict[str, dict[str, str]]:
        """Name → facts (size, type, modify …) of each entry, as the server tells them."""
        return dict(self.get_conn().mlsd(path))

    def list_directory(self, path: str) -> list[str]:
        return list(self.get_conn().nlst(path))

    def create_directory(self, path: str) -> None:
        self.get_conn().mkd(path)

    def delete_directory(self, path: str) -> None:
        self.get_conn().rmd(path)

    def retrieve_file(
        self,
        remote_full_path: str,
        local_full_path_or_buffer: Any,
        callback: Callable[[bytes], Any] | None = None,
        block_size: int = 8192,
    ) -> None:
        """Copy a remote file into a local one or into an open binary file; or hand each block to `callback`."""
        conn = self.get_conn()
        if callback is not None:
            conn.retrbinary(f"RETR {remote_full_path}", callback, block_size)
        elif isinstance(local_full_path_or_buffer, (str, os.PathLike)):
            with open(local_full_path_or_buffer, "wb") as file:
                conn.retrbinary(f"RETR {remote_full_path}", file.write, block_size)
        else:
            conn.retrbinary(f"RETR {remote_full_path}", local_full_path_or_buffer.write, block_size)

    def store_file(self, remote_full_path: str, local_full_path_or_buffer: Any, block_size: int = 8192) -> None:
        """Copy a local file, or an open binary file, into a remote one."""
        conn = self.get_conn()
        if isinstance(local_full_path_or_buffer, (str, os.PathLike)):
            with open(local_full_path_or_buffer, "rb") as file:
                conn.storbinary(f"STOR {remote_full_path}", file, block_size)
        else:
            conn.storbinary(f"STOR {remote_full_path}", local_full_path_or_buffer, block_size)

    def delete_file(self, path: str) -> None:
        self.get_conn().delete(path)

    def rename(self, from_name: str, to_name: str) -> str:
        return str(self.get_conn().rename(from_name, to_name))

    def get_mod_time(self, path: str) -> datetime:
        """When it was changed last; naive, in UTC."""
        text = self.get_conn().sendcmd(f"MDTM {path}")[4:].strip()
        return datetime.strptime(text, "%Y%m%d%H%M%S.%f" if "." in text else "%Y%m%d%H%M%S")  # noqa: DTZ007

    def get_size(self, path: str) -> int | None:
        """Bytes; None when the server does not tell."""
        size = self.get_conn().size(path)
        return None if size is None else int(size)

    def test_connection(self) -> tuple[bool, str]:
        """Whether the server lets us in, and the error when it does not."""
        try:
            self.get_conn().pwd()
            return True, "Connection successfully tested"
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong is the answer
            return False, str(error)


class FTPSHook(FTPHook):
    """The same over TLS, data included."""

    def _make(self, encoding: str) -> Any:
        from ftplib import FTP_TLS

        return FTP_TLS(encoding=encoding)  # noqa: S321 -- over TLS

    def _protect(self, conn: Any) -> None:
        conn.prot_p()


class FTPFileTransmitOperator(BaseOperator):
    """Copy files to a server (`put`) or from it (`get`). Paths are texts, or lists of the same length.
    `create_intermediate_dirs` makes the folder of the target. The local paths are pushed."""

    template_fields: Sequence[str] = ("local_filepath", "remote_filepath", "ftp_conn_id")
    hook_class: ClassVar[type[FTPHook]] = FTPHook

    def __init__(
        self,
        *,
        ftp_conn_id: str = "ftp_default",
        local_filepath: str | list[str],
        remote_filepath: str | list[str],
        operation: str = FTPOperation.PUT,
        create_intermediate_dirs: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ftp_conn_id = ftp_conn_id
        self.local_filepath = local_filepath
        self.remote_filepath = remote_filepath
        self.operation = operation
        self.create_intermediate_dirs = create_intermediate_dirs

    @property
    def hook(self) -> FTPHook:
        return self.hook_class(ftp_conn_id=self.ftp_conn_id)

    def execute(self, context: Any) -> Any:
        operation = self.operation.lower()
        if operation not in (FTPOperation.PUT, FTPOperation.GET):
            raise TypeError(f"Unsupported operation value {self.operation}, expected put or get")
        local = [self.local_filepath] if isinstance(self.local_filepath, str) else self.local_filepath
        remote = [self.remote_filepath] if isinstance(self.remote_filepath, str) else self.remote_filepath
        if len(local) != len(remote):
            raise ValueError(f"{len(local)} paths in local_filepath != {len(remote)} paths in remote_filepath")
        with self.hook as hook:
            for here, there in zip(local, remote, strict=True):
                self.log.info("FTP %s: here %s, there %s", operation, here, there)
                if operation == FTPOperation.GET:
                    if self.create_intermediate_dirs:
                        os.makedirs(os.path.dirname(os.path.abspath(here)), exist_ok=True)
                    hook.retrieve_file(there, here)
                else:
                    if self.create_intermediate_dirs:
                        _make_folders(hook, os.path.dirname(there))
                    hook.store_file(there, here)
        return self.local_filepath


class FTPSFileTransmitOperator(FTPFileTransmitOperator):
    """The same over TLS."""

    hook_class: ClassVar[type[FTPHook]] = FTPSHook


class FTPSensor(BaseSensorOperator):
    """Waits for a file or folder. Errors that are no permanent ones (codes 4xx) fail it, unless
    fail_on_transient_errors=False: then they mean, not yet."""

    template_fields: Sequence[str] = ("path", "ftp_conn_id")
    transient_errors: ClassVar[tuple[int, ...]] = (421, 425, 426, 434, 450, 451, 452)
    hook_class: ClassVar[type[FTPHook]] = FTPHook

    def __init__(
        self, *, path: str, ftp_conn_id: str = "ftp_default", fail_on_transient_errors: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.ftp_conn_id = ftp_conn_id
        self.fail_on_transient_errors = fail_on_transient_errors

    def poke(self, context: Any) -> bool:
        import ftplib

        with self.hook_class(self.ftp_conn_id) as hook:
            self.log.info("Poking for %s", self.path)
            try:
                self.log.info("Last modified: %s", hook.get_mod_time(self.path))
            except ftplib.Error as error:
                code = _code(error)
                if code == 550 or (code in self.transient_errors and not self.fail_on_transient_errors):
                    self.log.info("Ftp error encountered: %s", error)
                    return False
                raise
        return True


class FTPSSensor(FTPSensor):
    """The same over TLS."""

    hook_class: ClassVar[type[FTPHook]] = FTPSHook


def _code(error: Exception) -> int:
    text = str(error)[:3]
    return int(text) if text.isdigit() else 0


def _make_folders(hook: FTPHook, path: str) -> None:
    import ftplib

    made = "/" if path.startswith("/") else ""
    for part in path.strip("/").split("/"):
        made = os.path.join(made, part)
        try:
            hook.create_directory(made)
        except ftplib.error_perm:
            continue  # it is there already; if it can't be made, the transfer tells
