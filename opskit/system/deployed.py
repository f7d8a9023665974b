"""Reads what this machine remembers of its deployments, in `OPSKIT_HOME/deploy`: see `ops/deploy_records.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.errors import VerificationFailed


@dataclass(frozen=True, slots=True)
class Released:
    """What one host should have."""

    release: str
    """Hash of the manifest."""
    deployment: str
    at: str
    source: str


def folder_of(home: Path) -> Path:
    """Where an installation keeps its records."""
    return home / "deploy"


def released(folder: Path) -> dict[str, Released]:
    """By host. VerificationFailed when the record is damaged."""
    found = read(folder / "released.json")
    return {} if found is None else {host: Released(**entry) for host, entry in found.items()}


def history(folder: Path, limit: int) -> list[dict[str, Any]]:
    """The last deployments, newest first."""
    try:
        lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found: list[dict[str, Any]] = []
    for line in reversed(lines[-limit:]):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # the last line may be cut short: its writer was killed
    return found


def read(path: Path) -> Any:
    """A record; None when there is none. VerificationFailed when it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise VerificationFailed(
            f"{path} is damaged: {error}", hint="move it away: the next deployment writes it anew"
        ) from error
