"""The reports that a verb's last runs left, for whoever looks later: the page of clean-ups, the home page.

A verb's command calls `leave`; when the run has ended, the command line keeps what was left, with the time and the exit
code, as `OPSKIT_HOME/reports/<verb>/<time>.json`. The newest stay.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_KEPT = 20
_LARGEST_BYTES = 1 << 20
_LONGEST_LIST = 100
"""Of a report that is larger, lists are cut to so many items."""
_NAME = "%Y%m%dT%H%M%S.%fZ"

_left: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class KeptReport:
    """What one run of a verb left."""

    verb: str
    at: datetime
    """When it ended."""
    seconds: float
    exit_code: int
    error: str
    """What the run said when it ended with an error; else empty."""
    hostname: str
    by: str
    """Who ran it."""
    report: Any
    """As `--output json` prints it; None: the run came to no report."""


def leave(report: Any) -> None:
    """Remember the report of the run under way, in JSON values. The last one counts."""
    _left["report"] = report


def take() -> Any:
    """What was left since the last call; None when nothing was."""
    return _left.pop("report", None)


def keep(home: Path, run: KeptReport) -> None:
    """Write a run's report, and forget all but the newest of its verb. OSError when it can't be written."""
    folder = _folder(home, run.verb)
    for made in (folder.parent, folder):
        if not made.is_dir():
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
            _give_to_owner(made, home)
    path = folder / f"{run.at.astimezone(UTC).strftime(_NAME)}.json"
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(_text(run), encoding="utf-8")
        _give_to_owner(fresh, home)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    for old in sorted(folder.glob("*.json"))[:-_KEPT]:
        old.unlink(missing_ok=True)


def kept(home: Path, verb: str, limit: int = _KEPT) -> list[KeptReport]:
    """The newest reports of a verb, the newest first. A file that is no report is left out."""
    try:
        paths = sorted(_folder(home, verb).glob("*.json"), reverse=True)
    except OSError:
        return []
    found: list[KeptReport] = []
    for path in paths:
        if len(found) == limit:
            break
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            found.append(KeptReport(**{**data, "at": datetime.fromisoformat(data["at"])}))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a newer opskit's, or somebody else's
    return found


def _folder(home: Path, verb: str) -> Path:
    return home / "reports" / verb


def _text(run: KeptReport) -> str:
    values = {name: getattr(run, name) for name in KeptReport.__slots__}
    text = json.dumps({**values, "at": run.at.isoformat()})
    if len(text) > _LARGEST_BYTES:
        text = json.dumps({**values, "at": run.at.isoformat(), "report": _cut(run.report)})
    return text if len(text) <= _LARGEST_BYTES else json.dumps({**values, "at": run.at.isoformat(), "report": None})


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    if isinstance(value, list):
        rest = len(value) - _LONGEST_LIST
        return [_cut(item) for item in value[:_LONGEST_LIST]] + ([f"and {rest} more"] if rest > 0 else [])
    return value


def _give_to_owner(path: Path, home: Path) -> None:
    """Root runs some verbs; what it leaves must not lock the cluster's own user out."""
    if os.geteuid() == 0:
        owner = home.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
