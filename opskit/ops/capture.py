"""Captures the configuration tier: connections, variables, pools and pause states, small enough for every minute."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from datetime import datetime

from opskit import __version__
from opskit.config import Config
from opskit.errors import MetastoreUnavailable, VerificationFailed
from opskit.ops import captures
from opskit.ops.backup_catalog import new_id, read_object
from opskit.ops.captures import ENCRYPTED, FOLDER, PLAIN, Heartbeat, KeepCaptures, State
from opskit.platforms import Platform
from opskit.system import encryption
from opskit.system.locks import locked
from opskit.system.object_store import ObjectMissing, ObjectStore, StoredObject, StoreError
from opskit.telemetry import metrics

_PURPOSE = "captured configuration"


@dataclass(frozen=True, slots=True)
class CaptureReport:
    """What one capture did."""

    id: str
    """Of the state that was found; empty: a dry run that found a new one."""
    store: str
    captured_at: datetime
    changed: bool
    """Whether this state is new."""
    proven: bool
    items: dict[str, int]
    secrets: int
    size_bytes: int
    seconds: float
    removed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    dry_run: bool = False


def policy_of(config: Config) -> KeepCaptures:
    names = ("capture_keep_hours", "capture_keep_hourly_days", "capture_keep_daily_days")
    return KeepCaptures(*(int(config.get("backup", name)) for name in names))


def capture(
    platform: Platform, store: ObjectStore, now: datetime, *, recipients: tuple[str, ...] = (), dry_run: bool = False
) -> CaptureReport:
    """Store the present state when it is not the last one stored, prove it, and say when it was seen.

    A new state is read back, decrypted, decoded and compared before anything refers to it. VerificationFailed when it
    came back different. What of it the Fernet key can't read is a warning: it is as broken in the metastore.
    """
    started = time.monotonic()
    if recipients:
        encryption.check_recipients(recipients)
    if dry_run:
        return _capture(platform, store, now, recipients, started, dry_run=True)
    with locked(platform.config.run_folder, "capture"):
        return _capture(platform, store, now, recipients, started, dry_run=False)


def _capture(
    platform: Platform, store: ObjectStore, now: datetime, recipients: tuple[str, ...], started: float, *, dry_run: bool
) -> CaptureReport:
    metastore = platform.metastore
    small = metastore.live_small_set()
    content = captures.canonical(small)
    key_fingerprint, digest = metastore.sign(_PURPOSE, content)
    digest = digest or captures.plain_hash(content)
    secrets = metastore.secrets(small)
    warnings = [f"{what} can't be decrypted with the present key" for what in secrets.unreadable[:20]]
    removed: tuple[str, ...] = ()
    size = 0
    last = captures.read_heartbeat(store)
    known = (
        last is not None
        and (last.content, last.content_key, last.recipients) == (digest, key_fingerprint, recipients)
        and _is_whole(store, last, warnings)
    )
    if last is not None and known:
        beat = replace(last, captured_at=now)
    else:
        identifier = new_id(now)
        key = f"{FOLDER}{identifier}{ENCRYPTED if recipients else PLAIN}"
        state = State(
            identifier,
            now,
            metastore.needed_revision(),
            tuple(metastore.key_fingerprints()),
            __version__,
            metastore.redacted(),
            small,
            recipients,
        )
        sha256 = ""
        if not dry_run:
            stored = _store(store, key, state)
            sha256, size = stored.sha256, stored.size_bytes
            removed = _prune(platform, store, now, warnings)
        beat = Heartbeat(now, key, sha256, digest, key_fingerprint, recipients)
    if not dry_run:
        captures.write_heartbeat(store, beat)
        if not known:
            _audit(platform, now, beat.key, store, warnings)
        metrics.gauge("opskit_backup_config_captured_timestamp_seconds", now.timestamp())
        metrics.gauge("opskit_backup_config_changed", 0 if known else 1)
    return CaptureReport(
        id="" if dry_run and not known else captures.id_of(beat.key),
        store=store.url,
        captured_at=now,
        changed=not known,
        proven=not dry_run,
        items={name: len(rows) for name, rows in small.items() if isinstance(rows, list)},
        secrets=secrets.total,
        size_bytes=size,
        seconds=round(time.monotonic() - started, 3),
        removed=removed,
        warnings=tuple(warnings),
        dry_run=dry_run,
    )


def _is_whole(store: ObjectStore, last: Heartbeat, warnings: list[str]) -> bool:
    """Whether the object of the last state is in the store as it was written."""
    try:
        whole = hashlib.sha256(read_object(store, last.key)).hexdigest() == last.sha256
    except ObjectMissing:
        whole = False
    if not whole:
        warnings.append(f"{last.key} is damaged or gone: the state is stored anew")
    return whole


def _store(store: ObjectStore, key: str, state: State) -> StoredObject:
    """Write a state and prove what was stored."""
    # This host may know public keys only: a key that lives as long as this function lets it read what it wrote.
    identity, own = encryption.new_identity() if state.recipients else ("", "")
    stored = store.put(key, [captures.encode(state, own)], new=True)
    try:
        back = captures.decode(read_object(store, key), key, [identity] if identity else [])
        if back != state:
            raise VerificationFailed(f"{key} came back different", hint="look into the store; nothing refers to it")
    except VerificationFailed:
        _take_back(store, key)
        raise
    return stored


def _take_back(store: ObjectStore, key: str) -> None:
    try:
        store.delete(key)
    except StoreError:
        pass  # the damage is what must be told


def _prune(platform: Platform, store: ObjectStore, now: datetime, warnings: list[str]) -> tuple[str, ...]:
    going = captures.to_remove(captures.list_captures(store), policy_of(platform.config), now)
    removed = []
    try:
        for one in going:
            store.delete(one.key)
            removed.append(one.id)
    except StoreError as error:
        # The capture stands; a credential without the right to delete is even a wise choice.
        warnings.append(f"old captures were not removed: {error.message}")
    return tuple(removed)


def _audit(platform: Platform, now: datetime, key: str, store: ObjectStore, warnings: list[str]) -> None:
    try:
        platform.audit.write("backup config", now, {"capture": captures.id_of(key), "store": store.url})
    except MetastoreUnavailable as error:
        warnings.append(f"the audit line was not written: {error.message}")
