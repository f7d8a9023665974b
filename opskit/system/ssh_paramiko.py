"""Remote programs through fabric and paramiko: the transport for machines without the OpenSSH client."""

from __future__ import annotations

import shlex
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import fabric
import paramiko
from paramiko.ssh_exception import NoValidConnectionsError

from opskit.errors import GuardRefused, OpskitError, RemoteError
from opskit.system.ssh import (
    SSH_FAILED,
    HostAddress,
    Result,
    changed_host_key,
    run_to_end,
    unknown_host_key,
    unreachable,
)

_CHUNK = 256 * 1024
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


class _Refuse(paramiko.MissingHostKeyPolicy):
    def __init__(self, name: str) -> None:
        self._name = name

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise unknown_host_key(self._name, hostname, key.get_name(), key.fingerprint)


class ParamikoProcess:
    """A RemoteProcess on a channel of its own."""

    def __init__(self, name: str, channel: paramiko.Channel) -> None:
        self._name = name
        self._channel = channel

    def send(self, data: bytes, *, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        rest = memoryview(data)
        while rest:
            self._channel.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                sent = self._channel.send(bytes(rest[:_CHUNK]))
            except TimeoutError:
                raise self._late(timeout) from None
            except OSError as error:
                raise self.failure() from error
            if not sent:
                raise self.failure()
            rest = rest[sent:]

    def end_input(self) -> None:
        try:
            self._channel.shutdown_write()
        except (OSError, EOFError, paramiko.SSHException):
            pass  # it is gone already

    def receive(self, size: int, *, timeout: float) -> bytes:
        return self._receive(size, time.monotonic() + timeout, timeout)

    def finish(self, *, timeout: float) -> Result:
        deadline = time.monotonic() + timeout
        errors: list[bytes] = []
        # Both streams share the connection: each is read by someone, or one could hold up the other.
        reader = threading.Thread(target=self._collect_stderr, args=(errors, deadline), daemon=True)
        reader.start()
        parts = []
        while True:
            part = self._receive(_CHUNK, deadline, timeout)
            if not part:
                break
            parts.append(part)
        reader.join(max(0.0, deadline - time.monotonic()))
        if not self._channel.status_event.wait(max(0.001, deadline - time.monotonic())):
            raise self._late(timeout)
        return Result(self._exit_code(), b"".join(parts), b"".join(errors))

    def failure(self) -> OpskitError:
        if not self._channel.status_event.wait(5.0) or self._exit_code() == SSH_FAILED:
            return unreachable(self._name, "the connection was lost")
        errors: list[bytes] = []
        self._collect_stderr(errors, time.monotonic() + 1.0)
        lines = b"".join(errors).decode(errors="replace").strip().splitlines()
        code = self._exit_code()
        hint = "python3 is needed on every node; see [deploy] python" if code in (126, 127) else None
        last = lines[-1] if lines else ""
        return RemoteError(f"{self._name}: the program ended with code {code}: {last}", hint=hint)

    def kill(self) -> None:
        self._channel.close()

    def _receive(self, size: int, deadline: float, timeout: float) -> bytes:
        self._channel.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data: bytes = self._channel.recv(size)
        except TimeoutError:
            raise self._late(timeout) from None
        return data

    def _exit_code(self) -> int:
        # paramiko says -1 both for a lost connection and for a program that a signal ended.
        code: int = self._channel.recv_exit_status()
        return code if code >= 0 else SSH_FAILED

    def _collect_stderr(self, into: list[bytes], deadline: float) -> None:
        while time.monotonic() < deadline:
            self._channel.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                part = self._channel.recv_stderr(_CHUNK)
            except TimeoutError:
                return
            if not part:
                return
            into.append(part)

    def _late(self, timeout: float) -> RemoteError:
        return RemoteError(f"{self._name}: no answer within {timeout:g} s")


class ParamikoHost:
    """A host reached by fabric, which reads the SSH configuration: user, port, identity, ProxyJump, ProxyCommand."""

    was_connected = False

    def __init__(
        self, name: str, address: HostAddress, *, connect_timeout: float = 10.0, config_path: Path | None = None
    ) -> None:
        self.name = name
        self._address = address
        self._connect_timeout = connect_timeout
        self._config_path = config_path
        self._connection: fabric.Connection | None = None

    def start(self, argv: Sequence[str]) -> ParamikoProcess:
        connection = self._connect()
        try:
            channel = connection.transport.open_session(timeout=self._connect_timeout)
            channel.exec_command(shlex.join(argv).encode())
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise unreachable(self.name, f"no channel: {_text(error)}") from error
        return ParamikoProcess(self.name, channel)

    def run(self, argv: Sequence[str], *, stdin: Iterable[bytes] = (), timeout: float = 60.0) -> Result:
        return run_to_end(self.start(argv), stdin, timeout)

    def abandon(self) -> None:
        pass

    def close(self) -> None:
        connection, self._connection = self._connection, None
        while connection is not None:
            connection.client.close()
            gateway = connection.gateway
            connection = gateway if isinstance(gateway, fabric.Connection) else None

    def _connect(self) -> fabric.Connection:
        if self._connection is not None:
            return self._connection
        settings = fabric.Config(runtime_ssh_path=str(self._config_path) if self._config_path else None)
        try:
            connection = fabric.Connection(
                self._address.host,
                user=self._address.user or None,
                port=self._address.port or None,
                config=settings,
                connect_timeout=max(1, round(self._connect_timeout)),
                connect_kwargs={"banner_timeout": self._connect_timeout, "auth_timeout": self._connect_timeout},
                forward_agent=False,
            )
            hop: object = connection
            while isinstance(hop, fabric.Connection):
                self._insist_on_host_keys(hop)
                hop = hop.gateway
            connection.open()
        except OpskitError:
            raise
        except paramiko.BadHostKeyException as error:
            raise changed_host_key(self.name, error.hostname, error.key.get_name(), error.key.fingerprint) from error
        except paramiko.AuthenticationException as error:
            raise unreachable(self.name, f"permission denied: {_text(error)}") from error
        except (paramiko.SSHException, socket.gaierror, OSError, EOFError) as error:
            raise unreachable(self.name, _text(error)) from error
        self._connection = connection
        return connection

    def _insist_on_host_keys(self, connection: fabric.Connection) -> None:
        """fabric accepts unknown keys by itself: load what is known, refuse the rest."""
        client = connection.client
        client.set_missing_host_key_policy(_Refuse(self.name))
        settings = connection.ssh_config
        named = [*settings.get("userknownhostsfile", "").split(), *settings.get("globalknownhostsfile", "").split()]
        for text in named or _KNOWN_HOSTS:
            path = Path(text).expanduser()
            if path.is_file():
                self._refuse_revocations(path)
                client.load_system_host_keys(str(path))

    def _refuse_revocations(self, path: Path) -> None:
        # paramiko skips such lines, so a revoked key could still be accepted by another line.
        if any(line.startswith(b"@revoked") for line in path.read_bytes().splitlines()):
            raise GuardRefused(
                f"{self.name}: {path} revokes host keys, which the paramiko transport can't check",
                hint='install openssh-client and set [deploy] transport = "openssh"',
            )


def _text(error: BaseException) -> str:
    if isinstance(error, NoValidConnectionsError):
        error = next(iter(error.errors.values()))  # one per address of the host
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
