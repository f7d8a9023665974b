"""Sets up opskit's own log lines: one line per event on stderr, as text for people or as JSON for collectors."""

from __future__ import annotations

import json as json_module
import logging
import sys
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """`2026-11-21 08:00:00.123Z INFO    scheduler | message`; a traceback follows on lines of its own."""

    def __init__(self, component: str | None) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        name = self._component or record.name.removeprefix("opskit.")
        line = (
            f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z {record.levelname:<7} {name} | {record.getMessage()}"
        )
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at, level, component, logger, message, exception, and what `extra=` gave."""

    def __init__(self, component: str | None) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "component": self._component,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        entry.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        return json_module.dumps(entry, default=str, ensure_ascii=False)


def setup(level: str = "INFO", json: bool = False, component: str | None = None) -> None:
    """Send log lines to stderr, replacing what an earlier call set up. `component` names this process in each line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(component) if json else TextFormatter(component))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("alembic").setLevel(max(logging.WARNING, root.level))  # it narrates each step
    # A broken pipe on stderr must not turn each line into a traceback on the same stderr.
    logging.raiseExceptions = False
