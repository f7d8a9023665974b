"""The key of the fingerprints: which it is, and how it comes from one environment to another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from opskit.errors import GuardRefused, UsageError
from opskit.ops import env_document
from opskit.ops.env_secrets import KEY_FILE, Fingerprints, open_fingerprints, write_key
from opskit.ops.env_sources import Access
from opskit.system import encryption


def current(access: Access) -> Fingerprints:
    """The key of this installation, made when there is none."""
    return open_fingerprints(access.platform.config)


def encrypted(access: Access, recipients: Sequence[str]) -> bytes:
    """The key, for others to import."""
    return encryption.encrypt_bytes(current(access).key.encode() + b"\n", recipients)


def take(access: Access, path: Path | None, data: bytes | None, now: datetime, *, force: bool = False) -> Fingerprints:
    """Make the key of a file (or of `data`), encrypted or not, the one of this installation. GuardRefused when there is
    another one, without `force`."""
    config = access.platform.config
    if str(config.get("env", "fingerprint_key")).strip():
        raise UsageError("the key comes from env.fingerprint_key", hint="change it there")
    where = str(path) if path else "standard input"
    if path is not None:
        data, _ = env_document.read_bytes(path, access.secrets() if _is_encrypted(path) else ())
    elif data is not None and data.startswith(b"age-encryption.org/"):
        try:
            data = encryption.decrypt_bytes(data, access.secrets())
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from error
    new = Fingerprints((data or b"").decode("utf-8", "replace").strip(), where)
    target = config.home / KEY_FILE
    if target.exists():
        present = open_fingerprints(config)
        if present.key_id == new.key_id:
            return new
        if not force:
            raise GuardRefused(
                f"this installation has another key ({present.key_id})",
                hint="with --force it is replaced: exports made with it can't be compared any more",
            )
    write_key(target, new.key, replace=True)
    access.platform.audit.write("env key", now, {"from": where, "fingerprint": new.key_id})
    return new


def _is_encrypted(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(19) == b"age-encryption.org/"
    except OSError:
        return False
