"""SFTP: SFTPHook, SFTPOperator, SFTPSensor, over the library paramiko (`opskit[ssh]`)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatch
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.operators.python import call_with_context
from opskit.core.dag.sensors.base import BaseSensorOperator, PokeReturnValue
from opskit.providers.ssh import SSHHook


class SFTPOperation(StrEnum):
    PUT = "put"
    GET = "get"
    DELETE = "delete"


class SFTPHook(SSHHook):
    """Files of a host. Connections are those of SSHHook; one is opened when it is needed, and kept until
    `close_conn()`. Errors are those of OSError."""

    conn_name_attr: ClassVar[str] = "ssh_conn_id"
    default_conn_name: ClassVar[str] = "sftp_default"
    conn_type: ClassVar[str] = "sftp"
    hook_name: ClassVar[str] = "SFTP"

    def __init__(
        self,
        ssh_conn_id: str | None = "sftp_default",
        ssh_hook: SSHHook | None = None,
        host_proxy_cmd: str | None = None,
        use_managed_conn: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(ssh_conn_id, host_proxy_cmd=host_proxy_cmd, **kwargs)
        if ssh_hook is not None:
            self.__dict__.update(ssh_hook.__dict__)
        self.conn: Any = None
        self.use_managed_conn = use_managed_conn

    def get_conn(self) -> Any:
        """The open `paramiko.SFTPClient`."""
        if self.conn is None:
            client = super().get_conn()
            try:
                self.conn = client.open_sftp()
            except BaseException:
                client.close()
                raise
        return self.conn

    def close_conn(self) -> None:
        if self.conn is not None:
            self.conn.close()
            self.client.close()
            self.conn = None

    @contextmanager
    def get_managed_conn(self) -> Iterator[Any]:
        """The open client, closed at the end of the block unless it was open before."""
        opened_here = self.conn is None
        try:
            yield self.get_conn()
        finally:
            if opened_here:
                self.close_conn()

    def describe_directory(self, path: str) -> dict[str, dict[str, Any]]:
        """Name → size (bytes), type (`dir` or `file`) and modify (`YYYYMMDDHHMMSS`, UTC) of each entry."""
        return {
            entry.filename: {
                "size": entry.st_size,
                "type": "dir" if stat.S_ISDIR(entry.st_mode or 0) else "file",
                "modify": _stamp(entry.st_mtime),
            }
            for entry in self.list_directory_with_attr(path)
        }

    def list_directory(self, path: str) -> list[str]:
        """Sorted names of the entries."""
        with self.get_managed_conn() as conn:
            return sorted(conn.listdir(path))

    def list_directory_with_attr(self, path: str) -> list[Any]:
        with self.get_managed_conn() as conn:
            return sorted(conn.listdir_attr(path), key=lambda entry: entry.filename)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        with self.get_managed_conn() as conn:
            conn.mkdir(path, mode=mode)

    def isdir(self, path: str) -> bool:
        mode = self._mode(path)
        return mode is not None and stat.S_ISDIR(mode)

    def isfile(self, path: str) -> bool:
        mode = self._mode(path)
        return mode is not None and stat.S_ISREG(mode)

    def path_exists(self, path: str) -> bool:
        return self._mode(path) is not None

    def _mode(self, path: str) -> int | None:
        with self.get_managed_conn() as conn:
            try:
                return int(conn.stat(path).st_mode or 0)
            except FileNotFoundError:
                return None

    def create_directory(self, path: str, mode: int = 0o777) -> None:
        """With the folders above it; nothing when it is there. AirflowException when a file is in its place."""
        with self.get_managed_conn() as conn:
            if self.isdir(path):
                return
            if self.path_exists(path):
                raise AirflowException(f"{path} already exists and is a file")
            parent, name = os.path.split(path.rstrip("/"))
            if parent and not self.isdir(parent):
                self.create_directory(parent, mode)
            if name:
                conn.mkdir(path, mode=mode)

    def delete_directory(self, path: str, include_files: bool = False) -> None:
        """Remove a folder that is empty, or with `include_files` all that is in it."""
        with self.get_managed_conn() as conn:
            if include_files:
                for entry in self.list_directory_with_attr(path):
                    inner = os.path.join(path, entry.filename)
                    # A link to a folder is a file here: what it points to stays.
                    if stat.S_ISDIR(entry.st_mode or 0):
                        self.delete_directory(inner, include_files=True)
                    else:
                        conn.remove(inner)
            conn.rmdir(path)

    def retrieve_file(self, remote_full_path: str, local_full_path: Any, prefetch: bool = True) -> None:
        """Copy a remote file into a local one, or into an open binary file."""
        with self.get_managed_conn() as conn:
            if hasattr(local_full_path, "write"):
                conn.getfo(remote_full_path, local_full_path, prefetch=prefetch)
            else:
                conn.get(remote_full_path, os.fspath(local_full_path), prefetch=prefetch)

    def store_file(self, remote_full_path: str, local_full_path: Any, confirm: bool = True) -> None:
        """Copy a local file, or an open binary file, into a remote one; `confirm`: compare the sizes."""
        with self.get_managed_conn() as conn:
            if hasattr(local_full_path, "read"):
                conn.putfo(local_full_path, remote_full_path, confirm=confirm)
            else:
                conn.put(os.fspath(local_full_path), remote_full_path, confirm=confirm)

    def delete_file(self, path: str) -> None:
        with self.get_managed_conn() as conn:
            conn.remove(path)

    def retrieve_directory(self, remote_full_path: str, local_full_path: str, prefetch: bool = True) -> None:
        """Copy a remote folder into a local one that does not exist."""
        if os.path.exists(local_full_path):
            raise AirflowException(f"{local_full_path} already exists")
        with self.get_managed_conn():
            os.makedirs(local_full_path)
            for entry in self.list_directory_with_attr(remote_full_path):
                remote = os.path.join(remote_full_path, entry.filename)
                local = os.path.join(local_full_path, entry.filename)
                if self.isdir(remote):
                    self.retrieve_directory(remote, local, prefetch)
                else:
                    self.retrieve_file(remote, local, prefetch)

    def store_directory(self, remote_full_path: str, local_full_path: str, confirm: bool = True) -> None:
        """Copy a local folder into a remote one that does not exist."""
        with self.get_managed_conn():
            if self.path_exists(remote_full_path):
                raise AirflowException(f"{remote_full_path} already exists")
            self.create_directory(remote_full_path)
            for root, folders, files in os.walk(local_full_path):
                below = os.path.relpath(root, local_full_path)
                target = remote_full_path if below == "." else os.path.join(remote_full_path, below)
                for name in folders:
                    self.create_directory(os.path.join(target, name))
                for name in files:
                    self.store_file(os.path.join(target, name), os.path.join(root, name), confirm)

    def get_mod_time(self, path: str) -> str:
        """When it was changed last, `YYYYMMDDHHMMSS` in UTC."""
        with self.get_managed_conn() as conn:
            return _stamp(conn.stat(path).st_mtime)

    def walktree(
        self,
        path: str,
        fcallback: Callable[[str], Any],
        dcallback: Callable[[str], Any],
        ucallback: Callable[[str], Any],
        recurse: bool = True,
    ) -> None:
        """Call one function for each file, one for each folder (before what is in it), one for anything else."""
        with self.get_managed_conn():
            for entry in self.list_directory_with_attr(path):
                inner, mode = os.path.join(path, entry.filename), entry.st_mode or 0
                if stat.S_ISDIR(mode):
                    dcallback(inner)
                    if recurse:
                        self.walktree(inner, fcallback, dcallback, ucallback, recurse)
                elif stat.S_ISREG(mode):
                    fcallback(inner)
                else:
                    ucallback(inner)

    def get_tree_map(
        self, path: str, prefix: str | None = None, delimiter: str | None = None
    ) -> tuple[list[str], list[str], list[str]]:
        """(files, folders, others) below a folder whose paths start with `prefix` and end with `delimiter`."""
        found: tuple[list[str], list[str], list[str]] = ([], [], [])

        def keep(into: list[str]) -> Callable[[str], None]:
            def add(name: str) -> None:
                if name.startswith(prefix or "") and name.endswith(delimiter or ""):
                    into.append(name)

            return add

        self.walktree(path, keep(found[0]), keep(found[1]), keep(found[2]))
        return found

    def get_files_by_pattern(self, path: str, fnmatch_pattern: str) -> list[str]:
        """Sorted names in a folder that fit a shell pattern."""
        return [name for name in self.list_directory(path) if fnmatch(name, fnmatch_pattern)]

    def get_file_by_pattern(self, path: str, fnmatch_pattern: str) -> str:
        """The first of them, or an empty text."""
        return next(iter(self.get_files_by_pattern(path, fnmatch_pattern)), "")

    def test_connection(self) -> tuple[bool, str]:
        try:
            with self.get_managed_conn() as conn:
                conn.normalize(".")
            return True, "Connection successfully tested"
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong is the answer
            return False, str(error)


class SFTPOperator(BaseOperator):
    """Copy files or folders to a host (`put`), from it (`get`), or delete them there. Paths are texts, or lists of the
    same length. `create_intermediate_dirs` makes the folders that the target needs. The local paths are pushed."""

    template_fields: Sequence[str] = ("local_filepath", "remote_filepath", "remote_host", "ssh_conn_id")

    def __init__(
        self,
        *,
        ssh_hook: SSHHook | None = None,
        sftp_hook: SFTPHook | None = None,
        ssh_conn_id: str | None = None,
        remote_host: str | None = None,
        local_filepath: str | list[str] | None = None,
        remote_filepath: str | list[str],
        operation: str = SFTPOperation.PUT,
        confirm: bool = True,
        create_intermediate_dirs: bool = False,
        concurrency: int = 1,
        prefetch: bool = True,
        deferrable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ssh_hook = ssh_hook
        self.sftp_hook = sftp_hook
        self.ssh_conn_id = ssh_conn_id
        self.remote_host = remote_host
        self.local_filepath = local_filepath
        self.remote_filepath = remote_filepath
        self.operation = operation
        self.confirm = confirm
        self.create_intermediate_dirs = create_intermediate_dirs
        self.concurrency = concurrency
        self.prefetch = prefetch
        self.deferrable = deferrable

    def execute(self, context: Any) -> Any:
        operation = str(self.operation).lower()
        if operation not in tuple(SFTPOperation):
            raise TypeError(f"Unsupported operation value {self.operation}, expected one of {[*SFTPOperation]}")
        remote = _list(self.remote_filepath)
        local = _list(self.local_filepath)
        if operation == SFTPOperation.DELETE:
            if local:
                raise ValueError("local_filepath should not be provided for delete operation")
        elif len(local) != len(remote):
            raise ValueError(f"{len(local)} paths in local_filepath != {len(remote)} paths in remote_filepath")
        hook = self._hook()
        doing = f"{operation} of {remote}"
        try:
            with hook.get_managed_conn():
                for index, there in enumerate(remote):
                    doing = f"{operation} of {there}"
                    self.log.info("SFTP %s: %s", operation, there)
                    self._transfer(hook, operation, there, local[index] if local else "")
        except AirflowException:
            raise
        except Exception as error:
            raise AirflowException(f"Error while transferring {doing}, error: {error}") from error
        return self.local_filepath

    def _transfer(self, hook: SFTPHook, operation: str, there: str, here: str) -> None:
        if operation == SFTPOperation.GET:
            if self.create_intermediate_dirs:
                os.makedirs(os.path.dirname(os.path.abspath(here)), exist_ok=True)
            if hook.isdir(there):
                hook.retrieve_directory(there, here, prefetch=self.prefetch)
            else:
                hook.retrieve_file(there, here, prefetch=self.prefetch)
        elif operation == SFTPOperation.PUT:
            if self.create_intermediate_dirs:
                hook.create_directory(os.path.dirname(there))
            if os.path.isdir(here):
                hook.store_directory(there, here, confirm=self.confirm)
            else:
                hook.store_file(there, here, confirm=self.confirm)
        elif hook.isdir(there):
            hook.delete_directory(there, include_files=True)
        else:
            hook.delete_file(there)

    def _hook(self) -> SFTPHook:
        hook = self.sftp_hook
        if hook is None and self.ssh_hook is not None:
            hook = SFTPHook(ssh_hook=self.ssh_hook)
        if hook is None:
            if not self.ssh_conn_id:
                raise AirflowException("Cannot operate without sftp_hook or ssh_conn_id.")
            hook = SFTPHook(ssh_conn_id=self.ssh_conn_id)
        if self.remote_host:
            self.log.info("remote_host is provided explicitly. It will replace the remote_host of the connection.")
            hook.remote_host = self.remote_host
        return hook


class SFTPSensor(BaseSensorOperator):
    """Waits for a path, or for a file in that folder that fits `file_pattern`; with `newer_than` (a datetime or its
    text) for one that was changed later. With `python_callable` it is called then, and its result pushed with the
    files as `{"files_found": …, "decorator_return_value": …}`; with op_kwargs it gets them as `files_found`, too."""

    template_fields: Sequence[str] = ("path", "file_pattern", "newer_than", "sftp_conn_id")

    def __init__(
        self,
        *,
        path: str,
        file_pattern: str = "",
        newer_than: datetime | str | None = None,
        sftp_conn_id: str = "sftp_default",
        python_callable: Callable[..., Any] | None = None,
        op_args: Sequence[Any] | None = None,
        op_kwargs: dict[str, Any] | None = None,
        use_managed_conn: bool = True,
        deferrable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.file_pattern = file_pattern
        self.newer_than = newer_than
        self.sftp_conn_id = sftp_conn_id
        self.python_callable = python_callable
        self.op_args = list(op_args or ())
        self.op_kwargs = op_kwargs or {}
        self.use_managed_conn = use_managed_conn
        self.deferrable = deferrable

    def poke(self, context: Any) -> bool | PokeReturnValue:
        found: list[str] = []
        hook = SFTPHook(self.sftp_conn_id)
        with hook.get_managed_conn():
            try:
                paths = [self.path]
                if self.file_pattern:
                    names = hook.get_files_by_pattern(self.path, self.file_pattern)
                    paths = [os.path.join(self.path, name) for name in names]
                for path in paths:
                    stamp = hook.get_mod_time(path)
                    self.log.info("Found file %s, last modified: %s", path, stamp)
                    if self.newer_than is None or _moment(self.newer_than) < _moment(stamp):
                        found.append(path)
            except FileNotFoundError:
                found = []
        if not found:
            return False
        if self.python_callable is None:
            return True
        kwargs = {**self.op_kwargs, "files_found": found} if self.op_kwargs else {}
        result = call_with_context(self.python_callable, self.op_args, kwargs, context)
        return PokeReturnValue(True, {"files_found": found, "decorator_return_value": result})


def _stamp(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds or 0, UTC).strftime("%Y%m%d%H%M%S")


def _moment(value: Any) -> datetime:
    if isinstance(value, str):
        if value.isdigit():
            value = datetime.strptime(value + "+0000", "%Y%m%d%H%M%S%z")
        else:
            import pendulum

            value = pendulum.parse(value)
    moment: datetime = value
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _list(value: str | Sequence[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
