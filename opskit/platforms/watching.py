"""What the watchdog leaves in the run folder for others: the marker of a pause, and the changes of its verdict."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

_HISTORY = "watchdog-history.jsonl"
_MOST_BYTES = 512 << 10
"""Then the older half goes."""


@dataclass(frozen=True, slots=True)
class Pause:
    by: str
    since: str
    until: str | None
    """ISO 8601 with offset; None: until someone resumes."""
    reason: str

    def active(self, now: datetime) -> bool:
        return self.until is None or now < datetime.fromisoformat(self.until)

    def __str__(self) -> str:
        end = f" until {self.until}" if self.until else ""
        why = f": {self.reason}" if self.reason else ""
        return f"paused by {self.by} since {self.since}{end}{why}"


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """The watchdog came to another verdict than before, or did something."""

    at: datetime
    hostname: str
    verdict: str
    repaired: bool
    evidence: tuple[str, ...]
    deeds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LastLook:
    """The last run of the watchdog on this host."""

    at: datetime
    verdict: str


def read_pause(run_folder: Path) -> Pause | None:
    """The marker, if there is one, also one that has run out. An unreadable marker counts: someone wanted a pause."""
    path = run_folder / "paused"
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        found = Pause(**json.loads(text))
        found.active(datetime.fromisoformat(found.since))
    except (ValueError, TypeError):
        return Pause("someone", "(unknown)", None, f"{path} holds no readable marker")
    return found


def append_change(run_folder: Path, change: VerdictChange) -> None:
    """Add to the history, which stays small. OSError when it can't be written."""
    path = run_folder / _HISTORY
    line = json.dumps({**asdict(change), "at": change.at.isoformat()}) + "\n"
    if path.exists() and path.stat().st_size > _MOST_BYTES:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text("".join(lines[len(lines) // 2 :]), encoding="utf-8")
        fresh.replace(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def read_changes(run_folder: Path, limit: int) -> list[VerdictChange]:
    """The last changes, the newest first."""
    try:
        lines = (run_folder / _HISTORY).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[VerdictChange] = []
    for line in reversed(lines):
        if len(found) == limit:
            break
        try:
            data = json.loads(line)
            found.append(
                VerdictChange(
                    datetime.fromisoformat(data["at"]),
                    str(data["hostname"]),
                    str(data["verdict"]),
                    bool(data["repaired"]),
                    tuple(map(str, data["evidence"])),
                    tuple(map(str, data["deeds"])),
                )
            )
        except (ValueError, KeyError, TypeError):
            continue  # its writer was killed in the middle
    return found


def last_look(run_folder: Path) -> LastLook | None:
    """When the watchdog looked last on this host, and what it thought; None: it never did, or can't be read."""
    path = run_folder / "watchdog.json"
    try:
        verdict = str(json.loads(path.read_text())["verdict"])
        return LastLook(datetime.fromtimestamp(path.stat().st_mtime, UTC), verdict)
    except (OSError, ValueError, KeyError, TypeError):
        return None
