"""Remote programs through the OpenSSH client, and local ones, as child processes of ours."""

from __future__ import annotations

import hashlib
import os
import re
import select
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from opskit.errors import OpskitError, RemoteError
from opskit.system.ssh import (
    LOCAL,
    SSH_FAILED,
    HostAddress,
    Result,
    changed_host_key,
    run_to_end,
    unknown_host_key,
    unreachable,
)

_CHUNK = 256 * 1024


class ChildProcess:
    """A RemoteProcess that is a child of ours: the program itself, or the SSH client that carries it."""

    def __init__(self, name: str, argv: Sequence[str], explain: Callable[[int, str], OpskitError]) -> None:
        self._name = name
        self._explain = explain
        # A file: a pipe that nobody drains could stop the child. Never seen by name.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            # A session of its own: no terminal to ask on, and Ctrl-C is ours to handle.
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
                bufsize=0,
                env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
            )
        except OSError as error:
            self._stderr.close()
            raise RemoteError(f"{name}: {argv[0]} can't be started: {error.strerror}") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin = self._process.stdin
        self._stdout = self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)

    def send(self, data: bytes, *, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        rest = memoryview(data)
        while rest:
            try:
                self._wait(self._stdin.fileno(), select.POLLOUT, deadline, timeout)
                rest = rest[os.write(self._stdin.fileno(), rest[:_CHUNK]) :]
            except BlockingIOError:
                continue
            except (BrokenPipeError, ValueError) as error:
                raise self.failure() from error

    def end_input(self) -> None:
        try:
            self._stdin.close()
        except BrokenPipeError:
            pass

    def receive(self, size: int, *, timeout: float) -> bytes:
        self._wait(self._stdout.fileno(), select.POLLIN, time.monotonic() + timeout, timeout)
        return os.read(self._stdout.fileno(), size)

    def finish(self, *, timeout: float) -> Result:
        deadline = time.monotonic() + timeout
        parts = []
        while True:
            self._wait(self._stdout.fileno(), select.POLLIN, deadline, timeout)
            part = os.read(self._stdout.fileno(), _CHUNK)
            if not part:
                break
            parts.append(part)
        try:
            code = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._late(timeout) from None
        return Result(code, b"".join(parts), self._read_stderr())

    def failure(self) -> OpskitError:
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return self._explain(code, self._read_stderr().decode(errors="replace"))

    def kill(self) -> None:
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait()
        self.end_input()
        self._stdout.close()
        if not self._stderr.closed:
            self._stderr.close()

    def _read_stderr(self) -> bytes:
        if self._stderr.closed:
            return b""
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), 1 << 20, max(0, size - (1 << 20)))

    def _wait(self, descriptor: int, event: int, deadline: float, timeout: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise self._late(timeout)

    def _late(self, timeout: float) -> RemoteError:
        return RemoteError(f"{self._name}: no answer within {timeout:g} s")


class LocalHost:
    """This machine as a RemoteHost."""

    name = LOCAL
    was_connected = False

    def abandon(self) -> None:
        pass

    def start(self, argv: Sequence[str]) -> ChildProcess:
        # Through a shell, as on any other host: a program that is missing is exit code 127 everywhere.
        return ChildProcess(self.name, ["sh", "-c", 'exec "$@"', "sh", *argv], self._explain)

    def run(self, argv: Sequence[str], *, stdin: Iterable[bytes] = (), timeout: float = 60.0) -> Result:
        return run_to_end(self.start(argv), stdin, timeout)

    def close(self) -> None:
        pass

    def _explain(self, code: int, stderr: str) -> OpskitError:
        return RemoteError(f"{self.name}: the program ended with code {code}: {_last_line(stderr)}")


class OpenSshHost:
    """A host reached by the `ssh` program, with the user's own configuration, agent, bastions and certificates."""

    def __init__(
        self,
        name: str,
        address: HostAddress,
        *,
        connect_timeout: float = 10.0,
        config_path: Path | None = None,
        shared: bool = True,
        kept_in: Path | None = None,
        kept_seconds: float = 0.0,
    ) -> None:
        self.name = name
        self.was_connected = False
        self._address = address
        self._connect_timeout = connect_timeout
        self._config_path = config_path
        self._shared = shared
        self._folder: str | None = None
        self._persists = False
        self._kept_seconds = max(1, round(kept_seconds)) if kept_seconds else 0
        self._kept = _own_socket(kept_in, self._identity()) if kept_in is not None and kept_seconds else ""

    def start(self, argv: Sequence[str]) -> ChildProcess:
        self.was_connected = bool(self._kept) and os.path.exists(self._kept)
        return ChildProcess(self.name, [*self._command(), shlex.join(argv)], self._explain)

    def run(self, argv: Sequence[str], *, stdin: Iterable[bytes] = (), timeout: float = 60.0) -> Result:
        # Short programs come in series: the connection stays for the next one.
        command = self._command(persist="10")
        self._persists = True
        return run_to_end(ChildProcess(self.name, [*command, shlex.join(argv)], self._explain), stdin, timeout)

    def close(self) -> None:
        if self._folder is None:
            return
        if self._persists and os.path.exists(self._control_path()):
            command = ["ssh", "-o", f"ControlPath={self._control_path()}", "-O", "exit", "--", self._address.host]
            subprocess.run(command, capture_output=True, timeout=30, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def abandon(self) -> None:
        if self._kept:
            command = ["ssh", "-F", "none", "-o", f"ControlPath={self._kept}", "-O", "exit", "--", self._address.host]
            subprocess.run(command, capture_output=True, timeout=30, check=False)
            Path(self._kept).unlink(missing_ok=True)
        self._kept = ""

    def _identity(self) -> str:
        """What decides as whom and where a connection is made: with another one it must be another connection."""
        configuration = self._config_path or Path("~/.ssh/config").expanduser()
        try:
            seen = configuration.stat()
            facts = [configuration.resolve(), seen.st_mtime_ns, seen.st_ino, seen.st_size]
        except OSError:
            facts = []
        return repr([self._address, os.environ.get("SSH_AUTH_SOCK"), *map(str, facts)])

    def _control_path(self) -> str:
        # Its length is limited to some 90 bytes: not below TMPDIR, which may be deep.
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="opskit-ssh-", dir="/tmp")
        return f"{self._folder}/control"

    def _command(self, persist: str = "no") -> list[str]:
        control = ("no", "none", "no")
        if self._kept:
            control = ("auto", self._kept, str(self._kept_seconds))
        elif self._shared:
            control = ("auto", self._control_path(), persist)
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "VerifyHostKeyDNS": "no",
            "NoHostAuthenticationForLocalhost": "no",
            "ConnectTimeout": str(max(1, round(self._connect_timeout))),
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "3",
            "LogLevel": "ERROR",
            "RequestTTY": "no",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "EscapeChar": "none",
            # The first program opens the connection, others share it. It outlives us by the time that was asked for.
            **dict(zip(("ControlMaster", "ControlPath", "ControlPersist"), control, strict=True)),
        }
        command = ["ssh"]
        if self._config_path is not None:
            command += ["-F", str(self._config_path)]
        for key, value in options.items():
            command += ["-o", f"{key}={value}"]
        if self._address.user:
            command += ["-l", self._address.user]
        if self._address.port:
            command += ["-p", str(self._address.port)]
        return [*command, "--", self._address.host]

    def _explain(self, code: int, stderr: str) -> OpskitError:
        if code != SSH_FAILED:
            hint = "python3 is needed on every node; see [deploy] python" if code in (126, 127) else None
            return RemoteError(f"{self.name}: the program ended with code {code}: {_last_line(stderr)}", hint=hint)
        reason = _last_line(stderr)
        if "ost key" not in stderr and "kex_exchange_identification" not in stderr:
            return unreachable(self.name, reason or "SSH failed without a word")
        # Once more, talkatively: else SSH hides what a bastion said, and the fingerprint of an unknown key.
        told = self._ask_verbosely()
        keys = re.findall(r"Server host key: (\S+) (\S+)", told)
        # The last one is of the host that was refused; those before it are of bastions.
        key_type, fingerprint = keys[-1] if keys else ("(type unknown)", "(fingerprint unknown)")
        if "HOST IDENTIFICATION HAS CHANGED" in told or "REVOKED HOST KEY" in told:
            which = re.search(r"Host key for (\S+) has changed", told)
            return changed_host_key(self.name, which[1] if which else str(self._address), key_type, fingerprint)
        if "Host key verification failed" in told:
            which = re.search(r"No \S+ host key is known for (\S+)", told)
            return unknown_host_key(self.name, which[1] if which else str(self._address), key_type, fingerprint)
        return unreachable(self.name, reason)

    def _ask_verbosely(self) -> str:
        command = self._command()
        command[1:1] = ["-o", "LogLevel=DEBUG1", "-v", "-o", "ControlMaster=no", "-o", "ControlPath=none"]
        try:
            done = subprocess.run(
                [*command, "exit 0"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._connect_timeout + 10,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return ""
        return done.stderr.decode(errors="replace")


def _own_socket(folder: Path, identity: str) -> str:
    """The path of a socket in a folder that is ours alone; empty where that can't be."""
    path = str(folder / hashlib.sha256(identity.encode()).hexdigest()[:16])
    # A socket's path is short, ssh adds 17 characters while it makes one, and expands what looks like a variable.
    if len(path) > 80 or re.fullmatch(r"[A-Za-z0-9_./-]+", path) is None:
        return ""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.lstat()
    except OSError:
        return ""
    ours = stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o077
    return path if ours else ""


def _last_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else ""
