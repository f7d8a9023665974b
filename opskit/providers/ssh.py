"""SSH: SSHHook and SSHOperator, over the library paramiko (`opskit[ssh]`)."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Container, Sequence
from io import StringIO
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException, AirflowSkipException
from opskit.core.dag.hooks.base import BaseHook
from opskit.providers.optional import library

COMMAND_SECONDS = 10
CONNECT_SECONDS = 10
PAUSE_SECONDS = 3.0
"""Between two attempts to connect."""


_HOW_TO_TRUST = (
    ': add it to ~/.ssh/known_hosts (ssh-keyscan), put it into the extra "host_key" of the connection, '
    'or take whatever answers: "no_host_key_check": true'
)


class NotGiven:
    """The type of NOTSET: an argument that was not given, where None has a meaning of its own."""

    def __repr__(self) -> str:
        return "NOTSET"


NOTSET = NotGiven()


class SSHHook(BaseHook):
    """A host that is reached by `ssh_conn_id`, by arguments, or by both (arguments win). The connection is read when it
    is first needed.

    Extras: key_file, private_key (its text), private_key_passphrase, conn_timeout, cmd_timeout (seconds), compress,
    look_for_keys, no_host_key_check, allow_host_key_change, host_key (`type base64`), host_proxy_cmd,
    disabled_algorithms, ciphers. `~/.ssh/config` is looked up for ProxyCommand and IdentityFile. The key of the host
    must be in known_hosts or in host_key, unless no_host_key_check is true."""

    conn_name_attr: ClassVar[str] = "ssh_conn_id"
    default_conn_name: ClassVar[str] = "ssh_default"
    conn_type: ClassVar[str] = "ssh"
    hook_name: ClassVar[str] = "SSH"

    def __init__(
        self,
        ssh_conn_id: str | None = None,
        remote_host: str | None = "",
        username: str | None = None,
        password: str | None = None,
        key_file: str | None = None,
        port: int | None = None,
        timeout: int | None = None,
        conn_timeout: int | None = None,
        cmd_timeout: float | NotGiven | None = NOTSET,
        keepalive_interval: int = 30,
        banner_timeout: float = 30.0,
        disabled_algorithms: dict[str, Any] | None = None,
        ciphers: list[str] | None = None,
        auth_timeout: int | None = None,
        host_proxy_cmd: str | None = None,
        conn_retry_attempts: int = 3,
        no_host_key_check: bool | None = None,
    ) -> None:
        super().__init__()
        self.ssh_conn_id = ssh_conn_id
        self.remote_host = remote_host or ""
        self.username = username
        self.password = password
        self.key_file = key_file
        self.pkey: Any = None
        self.port = port
        self.conn_timeout = conn_timeout if conn_timeout is not None else timeout
        self.cmd_timeout = cmd_timeout
        self.keepalive_interval = keepalive_interval
        self.banner_timeout = banner_timeout
        self.disabled_algorithms = disabled_algorithms
        self.ciphers = ciphers
        self.auth_timeout = auth_timeout
        self.host_proxy_cmd = host_proxy_cmd
        self.conn_retry_attempts = conn_retry_attempts
        self.no_host_key_check = no_host_key_check
        self.compress = True
        self.allow_host_key_change = False
        self.look_for_keys = True
        self.host_key: Any = None
        self.client: Any = None
        self._resolved = False

    def _resolve(self) -> None:
        """Fill in what was not given: from the connection, then from the user's SSH configuration."""
        if self._resolved:
            return
        paramiko = _paramiko(type(self).__name__)
        if self.ssh_conn_id is not None:
            conn = self.get_connection(self.ssh_conn_id)
            self.username = self.username or conn.login
            self.password = self.password or conn.password
            self.remote_host = self.remote_host or conn.host or ""
            self.port = self.port or conn.port
            self._take_extras(paramiko, conn.extra_dejson)
        if not self.remote_host:
            raise AirflowException("Missing required param: remote_host")
        if isinstance(self.cmd_timeout, NotGiven):
            self.cmd_timeout = COMMAND_SECONDS
        if self.conn_timeout is None:
            self.conn_timeout = CONNECT_SECONDS
        self.no_host_key_check = bool(self.no_host_key_check)
        if self.host_key is not None and self.no_host_key_check:
            raise ValueError("a host key is given, and it is not to be checked: set no_host_key_check to false")
        self._read_user_configuration(paramiko)
        self.port = self.port or 22
        if not self.username:
            import getpass

            self.username = getpass.getuser()
        self._resolved = True

    def _take_extras(self, paramiko: Any, extra: dict[str, Any]) -> None:
        self.key_file = self.key_file or extra.get("key_file")
        if extra.get("private_key"):
            self.pkey = _private_key(paramiko, extra["private_key"], extra.get("private_key_passphrase"))
        if self.conn_timeout is None:
            seconds = extra.get("conn_timeout", extra.get("timeout"))
            self.conn_timeout = None if seconds is None else int(seconds)
        if isinstance(self.cmd_timeout, NotGiven) and "cmd_timeout" in extra:
            seconds = extra["cmd_timeout"]
            self.cmd_timeout = float(seconds) if seconds not in (None, "") else None
        self.compress = _true(extra, "compress", self.compress)
        self.allow_host_key_change = _true(extra, "allow_host_key_change", self.allow_host_key_change)
        self.look_for_keys = _true(extra, "look_for_keys", self.look_for_keys)
        for name in ("no_host_key_check", "ignore_hostkey_verification"):
            if self.no_host_key_check is None and name in extra:
                self.no_host_key_check = _true(extra, name, False)
        if extra.get("host_key"):
            self.host_key = _host_key(paramiko, str(extra["host_key"]))
        self.host_proxy_cmd = self.host_proxy_cmd or extra.get("host_proxy_cmd")
        self.disabled_algorithms = self.disabled_algorithms or extra.get("disabled_algorithms")
        self.ciphers = self.ciphers or extra.get("ciphers")

    def _read_user_configuration(self, paramiko: Any) -> None:
        path = os.path.expanduser("~/.ssh/config")
        if not os.path.isfile(path):
            return
        found = paramiko.SSHConfig.from_path(path).lookup(self.remote_host)
        self.host_proxy_cmd = self.host_proxy_cmd or found.get("proxycommand")
        if not (self.password or self.key_file or self.pkey) and found.get("identityfile"):
            self.key_file = found["identityfile"][0]

    @property
    def host_proxy(self) -> Any:
        """The program that connects, where one is named."""
        return _paramiko("SSHHook").ProxyCommand(self.host_proxy_cmd) if self.host_proxy_cmd else None

    def get_conn(self) -> Any:
        """A connected `paramiko.SSHClient`, which a `with` block closes. It is tried `conn_retry_attempts` times,
        unless the host refuses the login or its key is not the one that is known."""
        import time

        self._resolve()
        paramiko = _paramiko(type(self).__name__)
        self.log.debug("Creating SSH client for conn_id: %s", self.ssh_conn_id)
        for attempt in range(1, max(1, self.conn_retry_attempts) + 1):
            client = self._client(paramiko)
            try:
                client.connect(**self._connect_arguments())
                break
            except (paramiko.AuthenticationException, paramiko.BadHostKeyException):
                client.close()
                raise
            except (paramiko.SSHException, OSError, EOFError) as error:
                client.close()
                text = str(error)
                if "not found in known_hosts" in text:
                    raise AirflowException(f"the key of host {self.remote_host} is not known{_HOW_TO_TRUST}") from error
                if "No authentication methods" in text:
                    raise
                if attempt >= self.conn_retry_attempts:
                    raise
                self.log.warning("Failed to connect (attempt %s): %s. It is tried again", attempt, error)
                time.sleep(PAUSE_SECONDS)
        transport = client.get_transport()
        if self.keepalive_interval:
            transport.set_keepalive(self.keepalive_interval)
        if self.ciphers:
            transport.get_security_options().ciphers = self.ciphers
        self.client = client
        return client

    def _client(self, paramiko: Any) -> Any:
        client = paramiko.SSHClient()
        if self.allow_host_key_change:
            self.log.warning("Remote Identification Change is not verified.")
        else:
            client.load_system_host_keys()
        if self.no_host_key_check:
            self.log.warning("No Host Key Verification: a host that takes the place of another is not noticed")
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        elif self.host_key is not None:
            name = self.remote_host if self.port == 22 else f"[{self.remote_host}]:{self.port}"
            client.get_host_keys().add(name, self.host_key.get_name(), self.host_key)
        return client

    def _connect_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "hostname": self.remote_host,
            "username": self.username,
            "timeout": self.conn_timeout,
            "compress": self.compress,
            "port": self.port,
            "sock": self.host_proxy,
            "look_for_keys": self.look_for_keys,
            "banner_timeout": self.banner_timeout,
            "auth_timeout": self.auth_timeout,
        }
        if self.password:
            arguments["password"] = self.password.strip()
        if self.pkey is not None:
            arguments["pkey"] = self.pkey
        if self.key_file:
            arguments["key_filename"] = os.path.expanduser(self.key_file)
        if self.disabled_algorithms:
            arguments["disabled_algorithms"] = self.disabled_algorithms
        return arguments

    def get_tunnel(self, remote_port: int, remote_host: str = "localhost", local_port: int | None = None) -> Any:
        """A tunnel from a port of this host (a free one without `local_port`) to one that the remote host reaches. It
        is open from `start()` to `stop()`, or in a `with` block; `local_bind_port` is its end here."""
        from opskit.providers.ssh_tunnel import Tunnel

        return Tunnel(self, remote_host, remote_port, local_port or 0)

    def exec_ssh_client_command(
        self,
        ssh_client: Any,
        command: str,
        get_pty: bool,
        environment: dict[str, str] | None,
        timeout: float | NotGiven | None = NOTSET,
    ) -> tuple[int, bytes, bytes]:
        """(exit status, stdout, stderr) of a command, each line logged as it comes. `timeout`: how many seconds it may
        say nothing (None: any number); the hook's where it is not given. AirflowException when they are over."""
        from opskit.providers.ssh_command import run_command

        seconds = self.cmd_timeout if isinstance(timeout, NotGiven) else timeout
        if isinstance(seconds, NotGiven):
            seconds = COMMAND_SECONDS
        self.log.info("Running command: %s", command)
        return run_command(ssh_client, command, get_pty, environment, seconds, self.log)

    def test_connection(self) -> tuple[bool, str]:
        """Whether the host lets us in, and the error when it does not."""
        try:
            with SSHHook.get_conn(self):
                return True, "Connection successfully tested"
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong is the answer
            return False, str(error)


class SSHOperator(BaseOperator):
    """Run a command on a host. Its output is pushed, base64-encoded as in Airflow, and its exit status as `ssh_exit`; a
    status other than 0 fails, one of `skip_on_exit_code` skips. `environment` reaches the command only where the server
    accepts it. With `get_pty` the command ends when the task is killed."""

    template_fields: Sequence[str] = ("command", "environment", "remote_host", "ssh_conn_id")
    template_ext: Sequence[str] = (".sh", ".bash", ".csh", ".zsh", ".dash", ".ksh")
    template_fields_renderers: ClassVar[dict[str, str]] = {"command": "bash", "environment": "python"}

    def __init__(
        self,
        *,
        ssh_hook: SSHHook | None = None,
        ssh_conn_id: str | None = None,
        remote_host: str | None = None,
        command: str | None = None,
        timeout: int | None = None,
        conn_timeout: int | None = None,
        cmd_timeout: float | NotGiven | None = NOTSET,
        environment: dict[str, str] | None = None,
        get_pty: bool = False,
        banner_timeout: float = 30.0,
        skip_on_exit_code: int | Container[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._given_hook = ssh_hook if isinstance(ssh_hook, SSHHook) else None
        self.ssh_conn_id = ssh_conn_id
        self.remote_host = remote_host
        self.command = command
        self.conn_timeout = conn_timeout if conn_timeout is not None else timeout
        self.cmd_timeout = cmd_timeout
        self.environment = environment
        self.get_pty = get_pty
        self.banner_timeout = banner_timeout
        self.skip_on_exit_code: Container[int] = (
            [] if skip_on_exit_code is None else [skip_on_exit_code] if isinstance(skip_on_exit_code, int)
            else skip_on_exit_code
        )  # fmt: skip
        self._client: Any = None

    @property
    def ssh_hook(self) -> SSHHook:
        """The hook that was given, or one of the connection; `remote_host` in the place of its host."""
        hook = self._given_hook
        if hook is None:
            if not self.ssh_conn_id:
                raise AirflowException("Cannot operate without ssh_hook or ssh_conn_id.")
            hook = SSHHook(
                ssh_conn_id=self.ssh_conn_id,
                remote_host=self.remote_host or "",
                conn_timeout=self.conn_timeout,
                cmd_timeout=self.cmd_timeout,
                banner_timeout=self.banner_timeout,
            )
        elif self.remote_host:
            self.log.info("remote_host is provided explicitly. It will replace the remote_host of the hook.")
            hook.remote_host = self.remote_host
        return hook

    hook = ssh_hook

    def get_ssh_client(self) -> Any:
        return self.ssh_hook.get_conn()

    def run_ssh_client_command(self, ssh_client: Any, command: str, context: Any = None) -> bytes:
        """The output of a command that ended well."""
        hook = self._given_hook or SSHHook(cmd_timeout=self.cmd_timeout)
        status, output, errors = hook.exec_ssh_client_command(
            ssh_client, command, timeout=self.cmd_timeout, environment=self.environment, get_pty=self.get_pty
        )
        self.raise_for_status(status, errors, context=context)
        return output

    def raise_for_status(self, exit_status: int, stderr: bytes, context: Any = None) -> None:
        if context and self.do_xcom_push and "ti" in context:
            context["ti"].xcom_push(key="ssh_exit", value=exit_status)
        if exit_status in self.skip_on_exit_code:
            raise AirflowSkipException(f"SSH command returned exit code {exit_status}. Skipping.")
        if exit_status != 0:
            raise AirflowException(f"SSH operator error: exit status = {exit_status}")

    def execute(self, context: Any = None) -> str:
        if self.command is None:
            raise AirflowException("SSH operator error: SSH command not specified. Aborting.")
        self.get_pty = self.command.startswith("sudo") or self.get_pty
        hook = self.ssh_hook
        with hook.get_conn() as client:
            self._client = client
            if isinstance(self.cmd_timeout, NotGiven):
                self.cmd_timeout = hook.cmd_timeout
            output = self.run_ssh_client_command(client, self.command, context=context)
        return b64encode(output).decode("ascii")

    def on_kill(self) -> None:
        if self._client is not None:
            self._client.close()


def _paramiko(needed_by: str) -> Any:
    return library("paramiko", extra="ssh", needed_by=needed_by)


def _true(extra: dict[str, Any], name: str, default: bool) -> bool:
    """A flag among the extras, which may be a text."""
    return default if name not in extra else str(extra[name]).lower() == "true"


def _private_key(paramiko: Any, text: str, passphrase: str | None) -> Any:
    errors: list[str] = []
    for name in ("Ed25519Key", "ECDSAKey", "RSAKey"):
        try:
            return getattr(paramiko, name).from_private_key(StringIO(text), password=passphrase)
        except (paramiko.SSHException, ValueError) as error:
            errors.append(f"{name}: {error}")
    raise AirflowException(f"the private_key of the connection can't be read ({'; '.join(errors)})")


def _host_key(paramiko: Any, text: str) -> Any:
    """`type base64`, as in known_hosts without the host; a base64 text alone is an RSA key."""
    words = text.split()
    kind, data = (words[0], words[1]) if len(words) > 1 else ("ssh-rsa", words[0])
    return paramiko.PKey.from_type_string(kind, b64decode(data))
