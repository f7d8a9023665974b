"""Task logs: where the log of an attempt lies, how it is opened, written and read.

`dag_id=…/run_id=…/task_id=…/attempt=N.log`, mapped tasks with `map_index=…/` before the file. Characters that a file
name can't hold are percent-quoted, so `parse_path` gives the ids back.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from opskit.errors import NotFound
from opskit.telemetry.masking import Masker, masker

DIRECTORY_MODE = 0o770
FILE_MODE = 0o660
_LONGEST = 220
_UNSAFE = re.compile(r"[/%\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class LogName:
    """Whose log a file is."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    attempt: int


def log_path(dag_id: str, run_id: str, task_id: str, map_index: int, attempt: int) -> str:
    """Path of an attempt's log below the log folder. `task_id` is empty for callbacks of the DAG itself."""
    mapped = f"map_index={map_index}/" if map_index >= 0 else ""
    return f"dag_id={_quote(dag_id)}/run_id={_quote(run_id)}/task_id={_quote(task_id)}/{mapped}attempt={attempt}.log"


def parse_path(path: str) -> LogName | None:
    """Whose log lies at this path below the log folder; None when no attempt's. An id that was too long for a file name
    comes back in its shortened form."""
    parts = path.split("/")
    names = ["dag_id=", "run_id=", "task_id=", *(["map_index="] if len(parts) == 5 else []), "attempt="]
    if len(parts) != len(names) or not all(map(str.startswith, parts, names)) or not parts[-1].endswith(".log"):
        return None
    values = [part[len(name) :] for part, name in zip(parts, names, strict=True)]
    try:
        attempt = int(values[-1].removesuffix(".log"))
        map_index = int(values[3]) if len(parts) == 5 else -1
    except ValueError:
        return None
    return LogName(unquote(values[0]), unquote(values[1]), unquote(values[2]), map_index, attempt)


def _quote(name: str) -> str:
    quoted = _UNSAFE.sub(lambda match: f"%{ord(match.group()):02X}", name)
    encoded = quoted.encode()
    if len(encoded) <= _LONGEST:
        return quoted
    import hashlib  # it brings OpenSSL along, which every forked process would pay for

    # A file name has at most 255 bytes. `%~` never comes out of the quoting above.
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"{encoded[: _LONGEST - 40].decode(errors='ignore')}%~{digest}"


def open_log(folder: str | Path, path: str) -> int:
    """Descriptor of a log for appending; directories are made on the way. The caller closes it."""
    full = f"{folder}/{path}"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(10):
        try:
            return os.open(full, flags, FILE_MODE)
        except FileNotFoundError:
            _make_directories(os.path.dirname(full))
            # The clean-up of logs may remove a directory that is still empty: then again.
    return os.open(full, flags, FILE_MODE)


def _make_directories(path: str) -> None:
    try:
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_directories(os.path.dirname(path))
        try:
            os.mkdir(path, DIRECTORY_MODE)
        except (FileExistsError, FileNotFoundError):
            return


def format_line(text: str, level: str = "INFO", source: str = "opskit", at: float | None = None) -> str:
    """One line as all lines of a task log look, with its newline. `at` is in seconds since the epoch."""
    at = time.time() if at is None else at
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return f"[{moment}.{int(at % 1 * 1000):03d}+0000] {{{source}}} {level} - {text}\n"


def append_line(folder: str | Path, path: str, text: str, level: str = "ERROR", source: str = "worker") -> None:
    """Add a line to a log from outside of the attempt."""
    descriptor = open_log(folder, path)
    try:
        os.write(descriptor, format_line(text, level, source).encode(errors="backslashreplace"))
    finally:
        os.close(descriptor)


class TaskLogFormatter(logging.Formatter):
    """`[2026-11-21T08:00:00.123+0000] {file.py:12} INFO - message`, tracebacks below it, secrets masked."""

    def __init__(self, owner: Masker = masker) -> None:
        super().__init__()
        self._masker = owner

    def format(self, record: logging.LogRecord) -> str:
        source = f"{record.filename}:{record.lineno}"
        line = format_line(record.getMessage(), record.levelname, source, record.created)[:-1]
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line = f"{line}\n{record.exc_text}"
        if record.stack_info:
            line = f"{line}\n{self.formatStack(record.stack_info)}"
        return self._masker.line(line)


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a log: its bytes from `start` to `end`, of the `size` that the file has now."""

    text: str
    start: int
    end: int
    size: int


def read(folder: str | Path, path: str, *, offset: int = 0, limit: int | None = None) -> tuple[str, int]:
    """Text of a log from a byte offset on, and the offset to continue at (to follow a log that grows).

    NotFound when there is none. Bytes that are no UTF-8 are shown as escapes. With a `limit` (of at least 4) no
    character is cut in two.
    """
    with _opened(folder, path) as file:
        file.seek(offset)
        data = file.read() if limit is None else file.read(limit)
    if limit is not None and len(data) == limit:
        data = data[: len(data) - _cut_off(data)]
    return data.decode(errors="backslashreplace"), offset + len(data)


def _cut_off(data: bytes) -> int:
    """So many bytes at the end begin a character that goes on behind them."""
    for length in range(1, min(4, len(data))):
        byte = data[-length]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return length if length < needed else 0
        if byte < 0x80:
            return 0
    return 0


def read_piece(folder: str | Path, path: str, *, start: int, limit: int, grows: bool = False) -> Piece:
    """Lines of a log from `start` on, at most `limit` bytes; a negative `start` counts from the end.

    It ends with a whole line, unless the line is longer than `limit`, or the log ends without a newline; of a log that
    `grows`, such an end is left for later. NotFound when there is none.
    """
    with _opened(folder, path) as file:
        size = os.fstat(file.fileno()).st_size
        begin = max(0, size + start) if start < 0 else min(start, size)
        file.seek(begin)
        data = file.read(limit)
    if start < 0 and begin > 0:
        first = data.find(b"\n") + 1  # what was cut through at the front is left out
        begin, data = begin + first, data[first:]
    last = data.rfind(b"\n") + 1
    if last and (grows or begin + len(data) < size):
        data = data[:last]
    elif grows and len(data) < limit:
        data = b""
    return Piece(data.decode(errors="backslashreplace"), begin, begin + len(data), size)


def _opened(folder: str | Path, path: str) -> BinaryIO:
    try:
        descriptor = os.open(f"{folder}/{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"there is no log {path}", hint="has the task started, and was the log cleaned?") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotFound(f"{path} is no log")
    return os.fdopen(descriptor, "rb")


def list_attempts(folder: str | Path, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[int]:
    """Numbers of the attempts that have a log, rising."""
    directory = os.path.dirname(f"{folder}/{log_path(dag_id, run_id, task_id, map_index, 1)}")
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (re.fullmatch(r"attempt=(\d+)\.log", name) for name in names)
    return sorted(int(match[1]) for match in found if match)
