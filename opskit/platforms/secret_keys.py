"""What verbs may ask of the keys that a cluster's secrets are stored under."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from opskit.core.metastore.stored_secrets import StoredSecret

__all__ = ["SecretKeys", "StoredSecret"]


class SecretKeys(Protocol):
    """The keys themselves never leave the platform: they are spoken of by their fingerprints."""

    @property
    def origin(self) -> str:
        """Where the keys come from, for people."""
        ...

    @property
    def are_in_a_file(self) -> bool:
        """Whether `change` can do something; else the keys stand in a setting that only people change."""
        ...

    def fingerprints(self) -> list[str]:
        """Of the keys, the newest first. ConfigError when there is none."""
        ...

    def secrets(self) -> list[StoredSecret]:
        """All stored secrets, and which key reads each."""
        ...

    def new(self) -> str:
        """A fresh key, as people put it into a setting."""
        ...

    def add(self, *, first: bool) -> str:
        """Add a fresh key: first (it encrypts from now on), or last (it only decrypts). Its fingerprint."""
        ...

    def promote(self) -> str:
        """Make the last key the first. Its fingerprint."""
        ...

    def reencrypt(self, batch_size: int, after_batch: Callable[[int, int], None]) -> int:
        """Bring every secret that can be read under the newest key; how many changed. Old keys of `retire` help."""
        ...

    def retire(self) -> list[str]:
        """Take all keys but the newest out of use; their fingerprints. They are kept beside, for old backups."""
        ...

    def adopt(self, key_files: Sequence[Path]) -> list[str]:
        """Bring secrets that only keys of these files, or retired ones, read under the newest key; their names."""
        ...

    def set(self, values: Mapping[str, str | None], now: datetime) -> None:
        """Give secrets anew; None empties one. NotFound for a name that is not there."""
        ...
