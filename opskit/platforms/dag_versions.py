"""What a verb may ask about the DAG files that the scheduler has loaded. Part of the contract in `base`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """The version of a DAG file that the scheduler's side has loaded last."""

    content_hash: str
    """SHA-256 of the file."""
    error: str
    """Why it could not be loaded; empty: it was."""


class DagVersions(Protocol):
    def loaded(self, paths: Collection[str]) -> Mapping[str, LoadedVersion]:
        """Of those paths below the DAG folder, what was loaded last; those that never were are missing.
        MetastoreUnavailable when nobody can say."""
        ...
