"""Receipts of drills: sealed documents that say which backup was restored, when, and whether it was what it should be.

They lie beside their backups in the store, and in `OPSKIT_HOME/receipts` of the installation that drilled.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.errors import VerificationFailed

FORMAT = 1
_ID = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The outcome of one drill."""

    backup_id: str
    manifest_sha256: str
    drilled_at: datetime
    ok: bool
    problems: tuple[str, ...]
    seconds: float
    rows: int
    tables: int
    secrets_read: int
    server_version: str
    opskit_version: str
    hostname: str
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of each."""
    key_fingerprint: str = ""
    """Of the Fernet key that the signature was made with."""
    signature: str = ""

    def signed_text(self) -> bytes:
        """What the signature is for: all but itself."""
        return replace(self, key_fingerprint="", signature="").sealed()

    def sealed(self) -> bytes:
        return seal({"format": FORMAT, **asdict(self), "drilled_at": self.drilled_at.isoformat()})

    @classmethod
    def parse(cls, content: bytes, what: str) -> Receipt:
        document = unseal(content, what)
        try:
            document.pop("format")
            document["drilled_at"] = datetime.fromisoformat(document["drilled_at"])
            document["problems"] = tuple(document["problems"])
            return cls(**document)
        except (KeyError, TypeError, ValueError) as error:
            raise VerificationFailed(f"{what} is not a receipt: {error}") from error


def folder_of(home: Path) -> Path:
    """Where an installation keeps the receipts of its own drills."""
    return home / "receipts"


def kept_in(home: Path) -> list[Receipt]:
    """The receipts of this installation's own drills. A damaged one is left out: it proves nothing."""
    folder = folder_of(home)
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            found.append(Receipt.parse(path.read_bytes(), str(path)))
        except (VerificationFailed, OSError):
            continue
    return found


def time_of(identifier: str) -> datetime | None:
    """The time in a backup's id; None for what is no id."""
    match = _ID.fullmatch(identifier)
    if not match:
        return None
    try:
        return datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def seal(document: Mapping[str, Any]) -> bytes:
    """A JSON document that proves itself: its last field is the SHA-256 of the text without it."""
    body = {name: value for name, value in document.items() if name != "seal"}
    return _text({**body, "seal": hashlib.sha256(_text(body)).hexdigest()})


def unseal(content: bytes, what: str) -> dict[str, Any]:
    """The document without its seal. VerificationFailed when any byte is not as it was written."""
    try:
        document = json.loads(content.decode("utf-8"))
        if not isinstance(document, dict) or seal(document) != content:
            raise ValueError("its seal does not fit")
    except (ValueError, RecursionError) as error:
        raise VerificationFailed(f"{what} is damaged: {error}") from error
    del document["seal"]
    return document


def _text(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
