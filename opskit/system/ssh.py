"""Programs on other hosts and on this one: a contract, and the choice of its implementation.

`tests/contracts/test_remote_host.py` is the suite that every implementation passes: `LocalHost` and
`OpenSshHost` in `ssh_programs`, `ParamikoHost` in `ssh_paramiko`.

Host keys are always verified against the known_hosts files. Nobody is ever asked for a password.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from opskit.errors import ConfigError, GuardRefused, OpskitError, RemoteError, UsageError

LOCAL = "local"
"""The name of this machine among hosts."""

SSH_FAILED = 255
"""The exit code by which SSH reports its own failure. Programs that are run through it must not use it."""

_HOST = re.compile(r"[A-Za-z0-9_.%:][A-Za-z0-9_.%:-]*")
_USER = re.compile(r"[A-Za-z0-9_.+@\\][A-Za-z0-9_.+@\\-]*")


@dataclass(frozen=True, slots=True)
class Result:
    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class HostAddress:
    """`[user@]host[:port]`, an IPv6 address with a port in brackets. SSH's configuration adds what is left out."""

    host: str
    user: str = ""
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


class RemoteProcess(Protocol):
    """A program that runs on a host. Every method that waits raises RemoteError when its time is over."""

    def send(self, data: bytes, *, timeout: float) -> None:
        """Write all of it to the program's input. Raises `failure()` when it no longer reads."""
        ...

    def end_input(self) -> None: ...

    def receive(self, size: int, *, timeout: float) -> bytes:
        """At least one and at most `size` bytes of its output; empty at the end."""
        ...

    def finish(self, *, timeout: float) -> Result:
        """Wait for its end. `stdout` holds what was not received, `stderr` all of it."""
        ...

    def failure(self) -> OpskitError:
        """Why it ended early, or why it never started: GuardRefused for a host key, else RemoteError."""
        ...

    def kill(self) -> None:
        """Give it up at once; harmless when it has ended. Frees what it holds here."""
        ...


class RemoteHost(Protocol):
    """A host that runs programs. Connects at the first one; all of them share the connection."""

    @property
    def name(self) -> str: ...

    @property
    def was_connected(self) -> bool:
        """Whether the program that was started last uses a connection that an earlier command has left. Such a one may
        be dead without anybody knowing: then `abandon` it and start again."""
        ...

    def abandon(self) -> None:
        """Close a connection that was left by an earlier command, and leave none."""
        ...

    def start(self, argv: Sequence[str]) -> RemoteProcess:
        """Start a program. That the host can't be reached may only show in the first `receive`."""
        ...

    def run(self, argv: Sequence[str], *, stdin: Iterable[bytes] = (), timeout: float = 60.0) -> Result:
        """Run a program to its end. RemoteError when the host can't be reached or time is over, GuardRefused for an
        unknown or changed host key. A program that fails is a Result like any other."""
        ...

    def close(self) -> None: ...


def parse_address(text: str) -> HostAddress:
    """Read `[user@]host[:port]`. UsageError for what can't be a host, such as a word that SSH takes for an option."""
    user, at, rest = text.rpartition("@")
    host, port = rest, ""
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise UsageError(f"{text!r} is not a host", hint="write an IPv6 address with a port as [::1]:22")
        port = tail[1:]
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    ok = _HOST.fullmatch(host) is not None and (not at or _USER.fullmatch(user) is not None)
    if port or rest.endswith(":"):
        ok = ok and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not ok:
        raise UsageError(f"{text!r} is not a host", hint="hosts are written [user@]host[:port]")
    return HostAddress(host, user, int(port or 0))


def connect(
    name: str,
    *,
    transport: str = "auto",
    connect_timeout: float = 10.0,
    ssh_config: str = "",
    shared: bool = True,
    kept_in: Path | None = None,
    kept_seconds: float = 0.0,
) -> RemoteHost:
    """The host of this name; `local` is this machine. `ssh_config` is the client configuration, empty: the user's own.
    `shared` False is for a single program: it saves the work of letting others use the connection.
    With `kept_seconds` the OpenSSH client leaves the connection open for so long for the next command of this user,
    which finds it in the folder `kept_in`; where that can't be the user's own, or its path is too long, none is kept.

    ConfigError when the transport is not installed.
    """
    from opskit.system.ssh_programs import LocalHost, OpenSshHost

    if name == LOCAL:
        return LocalHost()
    address = parse_address(name)
    config_path = Path(ssh_config).expanduser() if ssh_config else None
    if config_path is not None and not config_path.is_file():
        raise ConfigError(f"the SSH configuration {config_path} does not exist", hint="see [deploy] ssh_config")
    if transport == "auto":
        transport = "openssh" if shutil.which("ssh") else "paramiko"
    if transport == "openssh":
        if shutil.which("ssh") is None:
            raise ConfigError("the program ssh is not installed", hint="install openssh-client, or use paramiko")
        return OpenSshHost(
            name,
            address,
            connect_timeout=connect_timeout,
            config_path=config_path,
            shared=shared,
            kept_in=kept_in,
            kept_seconds=kept_seconds,
        )
    try:
        from opskit.system.ssh_paramiko import ParamikoHost
    except ImportError as error:
        raise ConfigError(
            f"the transport paramiko is not installed: {error}",
            hint="pip install 'opskit[ssh]', or install openssh-client",
        ) from error
    return ParamikoHost(name, address, connect_timeout=connect_timeout, config_path=config_path)


def run_to_end(process: RemoteProcess, stdin: Iterable[bytes], timeout: float) -> Result:
    """Feed a program while its output is read; its Result."""
    trouble: list[OpskitError] = []

    def feed() -> None:
        try:
            for chunk in stdin:
                process.send(chunk, timeout=timeout)
        except OpskitError as error:
            # A program need not read all of its input; its exit code tells whether that was wrong.
            trouble.append(error)
        finally:
            process.end_input()

    feeder = threading.Thread(target=feed, name="ssh-stdin", daemon=True)
    feeder.start()
    try:
        result = process.finish(timeout=timeout)
        if result.exit_code == SSH_FAILED:
            raise process.failure()
        return result
    finally:
        process.kill()
        feeder.join()


def unknown_host_key(name: str, host: str, key_type: str, fingerprint: str) -> GuardRefused:
    return GuardRefused(
        f"{name}: the host key of {host} is not known: {key_type} {fingerprint}",
        hint="compare the fingerprint with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there), "
        f"then add the key to known_hosts, for example by one `ssh {host}`",
    )


def changed_host_key(name: str, host: str, key_type: str, fingerprint: str) -> GuardRefused:
    return GuardRefused(
        f"{name}: the host key of {host} has changed: it is now {key_type} {fingerprint}. Someone may be in between",
        hint="find out why. Only if the host was set up anew: compare the fingerprint with the host's own, "
        f"then `ssh-keygen -R {host}` and add the new key",
    )


def unreachable(name: str, reason: str) -> RemoteError:
    return RemoteError(f"{name}: {reason}", hint=f"`ssh {name} true` shows the same trouble" if name != LOCAL else None)
