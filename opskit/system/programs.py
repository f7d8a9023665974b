"""Finds the programs of other projects that opskit drives, reads their versions, and streams through them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from opskit.errors import ConfigError, OpskitError

_PIECE_BYTES = 256 << 10
_ELSEWHERE = {
    "pg_dump": ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin"),
    "pg_restore": ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin"),
}
"""Where distributions keep several versions beside each other."""


class ProgramFailed(OpskitError):
    """A program ended with an error; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Program:
    path: str
    version: tuple[int, ...]
    text: str
    """What it says about itself with --version."""

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def find_program(names: Sequence[str], *, package: str, contains: str = "", without: str = "") -> Program:
    """The newest program of one of these names whose `--version` contains (or does not contain) a text.

    ConfigError, naming the package to install, when there is none.
    """
    found = [program for path in _candidates(names) if (program := _ask(path)) is not None]
    fitting = [p for p in found if contains in p.text and not (without and without in p.text)]
    if not fitting:
        raise ConfigError(
            f"the program {names[0]} is not installed" if not found else f"{found[0].path} is of another database",
            hint=f"install it, on Debian and Ubuntu with: apt-get install {package}",
        )
    return max(fitting, key=lambda program: program.version)


def require_not_older(program: Program, server: tuple[int, ...], what: str, *, package: str) -> None:
    """ConfigError when the program is older than the server: it would fail, or leave out what it does not know."""
    if program.version[: len(server)] < server:
        wanted = ".".join(map(str, server))
        raise ConfigError(
            f"{program.path} has version {program.version_text}, older than the {what} server ({wanted})",
            hint=f"install the client programs of version {wanted} or newer, on Debian and Ubuntu: {package}",
        )


def _candidates(names: Sequence[str]) -> Iterator[str]:
    seen = set()
    for name in names:
        on_path = shutil.which(name)
        elsewhere = [
            str(path)
            for pattern in _ELSEWHERE.get(name, ())
            for path in Path("/").glob(f"{pattern.lstrip('/')}/{name}")
            if os.access(path, os.X_OK)
        ]
        for path in ([on_path] if on_path else []) + elsewhere:
            if path not in seen:
                seen.add(path)
                yield path


def _ask(path: str) -> Program | None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    text = done.stdout.strip()
    # "pg_dump (PostgreSQL) 15.18", "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, …",
    # "mariadb from 11.4.2-MariaDB, …", "mysqldump  Ver 8.0.36 for Linux …"
    match = (
        re.search(r"(?:Distrib|from|\(PostgreSQL\))\s+(\d+(?:\.\d+)*)", text)
        or re.search(r"Ver\s+(\d+(?:\.\d+)*)", text)
        or re.search(r"(\d+(?:\.\d+)+)", text)
    )
    return Program(path, tuple(map(int, match[1].split("."))), text) if match else None


@contextmanager
def output_of(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
    """Run a program and give its output in pieces. It is killed when the block ends before it does.

    ProgramFailed, raised by the iterator, when the program ends with an error: half an output never looks whole.
    """
    with tempfile.TemporaryFile() as errors, _started(arguments, environment, errors, gives=True) as process:
        output = process.stdout
        assert output is not None

        def pieces() -> Iterator[bytes]:
            while chunk := output.read1(_PIECE_BYTES):  # type: ignore[attr-defined]
                yield chunk
            _end(process, arguments, errors)

        yield pieces()


def feed(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    chunks: Iterable[bytes],
    on_line: Callable[[bytes], None] | None = None,
) -> None:
    """Run a program with this input, to its end. ProgramFailed when it ends with an error.

    An error that `chunks` raises kills the program before it sees the end of its input. `on_line` is called, in a
    thread of its own, with each line that the program writes.
    """
    with (
        tempfile.TemporaryFile() as errors,
        _started(arguments, environment, errors, takes=True, gives=on_line is not None) as process,
        _listening(process.stdout, on_line),
    ):
        assert process.stdin is not None
        try:
            for chunk in chunks:
                process.stdin.write(chunk)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended early: its exit code and its words say why
        except BaseException:
            process.kill()  # and so ends what it writes
            raise
        _end(process, arguments, errors)


@contextmanager
def _listening(output: IO[bytes] | None, on_line: Callable[[bytes], None] | None) -> Iterator[None]:
    if output is None or on_line is None:
        yield
        return

    def listen() -> None:
        for line in output:
            on_line(line)

    listener = threading.Thread(target=listen, name="output", daemon=True)
    listener.start()
    try:
        yield
    finally:
        listener.join()


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a program to its end. ProgramFailed when it ends with an error."""
    feed(arguments, environment, ())


@contextmanager
def _started(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    errors: IO[bytes],
    *,
    takes: bool = False,
    gives: bool = False,
) -> Iterator[subprocess.Popen[bytes]]:
    # When we are killed it must not work on alone (util-linux has setpriv; elsewhere the broken pipe ends it).
    setpriv = shutil.which("setpriv")
    command = [setpriv, "--pdeathsig", "KILL", "--", *arguments] if setpriv else list(arguments)
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE if takes else subprocess.DEVNULL,
        stdout=subprocess.PIPE if gives else subprocess.DEVNULL,
        stderr=errors,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass


def _end(process: subprocess.Popen[bytes], arguments: Sequence[str], errors: IO[bytes]) -> None:
    code = process.wait()
    if code == 0:
        return
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4000))
    words = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
    raise ProgramFailed(f"{os.path.basename(arguments[0])} {ended}: {' / '.join(words[-4:]) or 'no message'}")
