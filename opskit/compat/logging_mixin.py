"""What `airflow.utils.log.logging_mixin` and `airflow.utils.log.secrets_masker` offer."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

__all__ = [
    "ExternalLoggingMixin",
    "LoggingMixin",
    "RedirectStdHandler",
    "StreamLogWriter",
    "mask_secret",
    "redact",
    "remove_escape_codes",
    "set_context",
    "should_hide_value_for_key",
]

_ESCAPES = re.compile(r"\x1B[@-_][0-?]*[ -/]*[@-~]")


def remove_escape_codes(text: str) -> str:
    """The text without the codes that colour a terminal."""
    return _ESCAPES.sub("", text)


class LoggingMixin:
    """Gives a class `self.log`."""

    _log: logging.Logger | None = None
    _logger_name: str | None = None

    def __init__(self, context: Any = None) -> None:
        set_context(self.log, context)

    @classmethod
    def _get_log(cls, obj: Any, clazz: type) -> logging.Logger:
        if obj._log is None:
            name = getattr(obj, "_logger_name", None) or f"{clazz.__module__}.{clazz.__name__}"
            obj._log = logging.getLogger(name)
        found: logging.Logger = obj._log
        return found

    @classmethod
    def logger(cls) -> logging.Logger:
        """The same for class methods."""
        return LoggingMixin._get_log(cls, cls)

    @property
    def log(self) -> logging.Logger:
        return LoggingMixin._get_log(self, type(self))

    def _set_context(self, context: Any) -> None:
        set_context(self.log, context)


class ExternalLoggingMixin:
    """A handler whose logs are read elsewhere."""

    @property
    def log_name(self) -> str:
        raise NotImplementedError

    def get_external_log_url(self, task_instance: Any, try_number: int) -> str:
        raise NotImplementedError

    @property
    def supports_external_link(self) -> bool:
        raise NotImplementedError


class StreamLogWriter(io.TextIOBase):
    """A stream whose lines go to a logger."""

    def __init__(self, logger: logging.Logger, level: int) -> None:
        self.logger = logger
        self.level = level
        self._buffer = ""

    def writable(self) -> bool:
        return True

    def write(self, message: str) -> int:
        *lines, self._buffer = (self._buffer + message).split("\n")
        for line in lines:
            self.logger.log(self.level, remove_escape_codes(line))
        return len(message)

    def flush(self) -> None:
        if self._buffer:
            self.logger.log(self.level, remove_escape_codes(self._buffer))
            self._buffer = ""

    def isatty(self) -> bool:
        return False


class RedirectStdHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """A handler that writes to what sys.stdout (or sys.stderr) is at the moment."""

    def __init__(self, stream: Any) -> None:
        logging.Handler.__init__(self)
        self._use_stderr = "stdout" not in str(stream)

    @property
    def stream(self) -> Any:
        return sys.stderr if self._use_stderr else sys.stdout

    @stream.setter
    def stream(self, value: Any) -> None:
        pass  # it follows the process


def set_context(logger: logging.Logger, value: Any) -> None:
    """Give each handler of this logger, and of those above it, the context that it asks for."""
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            give = getattr(handler, "set_context", None)
            if give is not None:
                give(value)
        current = current.parent if current.propagate else None


def should_hide_value_for_key(name: Any) -> bool:
    """Whether what has this name is a secret."""
    from opskit.core.dag.secret_names import is_secret_name

    return is_secret_name(name)


def mask_secret(secret: Any, name: str | None = None) -> None:
    """From now on `***` stands for this text in the logs of this task; of a dict: for the values of its secret names
    (all of them where `name` is a secret name)."""
    from opskit.telemetry.masking import masker

    masker.add(_texts(secret, name))


def _texts(secret: Any, name: str | None) -> list[str]:
    if not secret:
        return []
    if isinstance(secret, str):
        return [secret] if not name or should_hide_value_for_key(name) else []
    if isinstance(secret, Mapping):
        return [text for key, value in secret.items() for text in _texts(value, str(key))]
    if isinstance(secret, (list, tuple, set, frozenset)):
        return [text for value in secret for text in _texts(value, name)]
    return []


def redact(value: Any, name: str | None = None, max_depth: int | None = None) -> Any:
    """The value with `***` for what is secret: by its name, or because it was told to `mask_secret`."""
    from opskit.telemetry.masking import MASK, masker

    if value and name and should_hide_value_for_key(name) and not isinstance(value, (Mapping, list, tuple, set)):
        return MASK
    depth = 5 if max_depth is None else max_depth
    if isinstance(value, str):
        return masker.text(value)
    if depth <= 0:
        return value
    if isinstance(value, Mapping):
        return {key: redact(item, str(key), depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        redacted = [redact(item, name, depth - 1) for item in value]
        return type(value)(redacted) if type(value) in (list, tuple, set) else redacted
    return value
