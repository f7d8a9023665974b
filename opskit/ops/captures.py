"""Captures of the configuration tier in a store: each state once, and a heartbeat that says when it was last seen.

`config/<id>.json.gz` (`.age` when encrypted) holds one state; the id begins with the time at which it was first seen.
`config/heartbeat.json` is written again by every capture. A state was valid from its own time to that of the next one.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from opskit.errors import GuardRefused, NotFound, VerificationFailed
from opskit.ops.backup_catalog import read_object
from opskit.platforms.receipts import seal, time_of, unseal
from opskit.system import encryption
from opskit.system.object_store import ObjectMissing, ObjectStore

FORMAT = 1
FOLDER = "config/"
HEARTBEAT = FOLDER + "heartbeat.json"
PLAIN, ENCRYPTED = ".json.gz", ".json.gz.age"
CLOCK_TOLERANCE = timedelta(minutes=10)
_WINDOW_BITS = 31
"""zlib's for gzip's format."""


@dataclass(frozen=True, slots=True)
class Capture:
    """One state as the store lists it."""

    id: str
    key: str
    captured_at: datetime
    """When it was first seen."""
    written_at: datetime
    """As the store says."""
    size_bytes: int
    encrypted: bool


@dataclass(frozen=True, slots=True)
class State:
    """One state, read and proved."""

    id: str
    captured_at: datetime
    revision: str | None
    fernet_key_fingerprints: tuple[str, ...]
    opskit_version: str
    source: str
    """URL of the metastore, without its password."""
    small_set: dict[str, Any]
    recipients: tuple[str, ...] = ()
    """Who can decrypt it; empty: it is not encrypted."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last capture, whether or not it found something new."""

    captured_at: datetime
    key: str
    """Of the object with that state."""
    sha256: str
    """Of its bytes, as they are stored."""
    content: str
    """Keyed hash of the state: equal for equal states, and says nothing of them to who lacks the Fernet key."""
    content_key: str
    """Fingerprint of the Fernet key that the hash was made with; empty: a plain SHA-256."""
    recipients: tuple[str, ...] = ()


def encode(state: State, own: str = "") -> bytes:
    """The bytes of an object, sealed, compressed, and encrypted for its recipients (and `own`) where it has some."""
    document = {
        "format": FORMAT,
        "tier": "config",
        "id": state.id,
        "captured_at": state.captured_at.isoformat(),
        "revision": state.revision,
        "fernet_key_fingerprints": list(state.fernet_key_fingerprints),
        "opskit_version": state.opskit_version,
        "source": state.source,
        "recipients": list(state.recipients),
        "small_set": state.small_set,
    }
    packer = zlib.compressobj(6, zlib.DEFLATED, _WINDOW_BITS)
    packed = packer.compress(seal(document)) + packer.flush()
    recipients = [*([own] if own else []), *state.recipients]
    return encryption.encrypt_bytes(packed, recipients) if state.recipients else packed


def decode(content: bytes, key: str, identities: Sequence[str]) -> State:
    """VerificationFailed when a byte is not as it was written; GuardRefused when no identity decrypts it."""
    if key.endswith(ENCRYPTED):
        if not identities:
            raise GuardRefused(
                f"{key} is encrypted, and no identity was given",
                hint="name the file with the identity of one of its recipients: --identity FILE, or [backup] identity",
            )
        try:
            content = encryption.decrypt_bytes(content, identities)
        except ValueError as error:
            raise VerificationFailed(f"{key} is damaged: {error}") from error
    try:
        content = zlib.decompress(content, _WINDOW_BITS)
    except zlib.error as error:
        raise VerificationFailed(f"{key} is damaged: {error}") from error
    document = unseal(content, key)
    try:
        if document["format"] != FORMAT:
            raise VerificationFailed(f"{key} was written by a newer opskit", hint="use that version")
        return State(
            document["id"],
            datetime.fromisoformat(document["captured_at"]),
            document["revision"],
            tuple(document["fernet_key_fingerprints"]),
            document["opskit_version"],
            document["source"],
            document["small_set"],
            tuple(document["recipients"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise VerificationFailed(f"{key} is no capture: {error}") from error


def read(store: ObjectStore, key: str, identities: Sequence[str]) -> State:
    """One state of the store. See `decode`; NotFound when it is gone."""
    try:
        return decode(read_object(store, key), key, identities)
    except ObjectMissing as error:
        raise NotFound(f"{store.url} has no capture {key}", hint="see: opskit restore --tier config --list") from error


def list_captures(store: ObjectStore) -> list[Capture]:
    """All states, the newest first."""
    found = []
    for info in store.objects(FOLDER):
        name = info.key.removeprefix(FOLDER)
        ending = ENCRYPTED if name.endswith(ENCRYPTED) else PLAIN
        at = time_of(name.removesuffix(ending))
        if at is not None:
            identifier = name.removesuffix(ending)
            found.append(Capture(identifier, info.key, at, info.modified_at, info.size_bytes, ending == ENCRYPTED))
    return sorted(found, key=_age, reverse=True)


def _age(one: Capture) -> tuple[datetime, datetime, str]:
    """Two of one second are told apart by when they were written."""
    return one.captured_at, one.written_at, one.id


def find_at(captures: Sequence[Capture], at: datetime | None, where: str) -> Capture:
    """The state that was valid at a time (None: the newest). NotFound says how far back they go."""
    for capture in captures:
        if at is None or capture.captured_at <= at:
            return capture
    if not captures:
        raise NotFound(f"there is no capture in {where}", hint="take one with: opskit backup --tier config")
    raise NotFound(
        f"there is no capture of {at:%Y-%m-%d %H:%M:%S} UTC in {where}",
        hint=f"the oldest is of {captures[-1].captured_at:%Y-%m-%d %H:%M:%S} UTC; before that a backup tells: "
        "opskit restore BACKUP --tier config",
    )


def find_id(captures: Sequence[Capture], wanted: str, where: str) -> Capture:
    """The state with this id, or its unambiguous beginning. NotFound for any other text."""
    fitting = [one for one in captures if one.id.startswith(wanted)]
    if len(fitting) == 1:
        return fitting[0]
    raise NotFound(
        f"{wanted!r} {'fits several captures' if fitting else 'names no capture'} in {where}",
        hint="see: opskit restore --tier config --list",
    )


def read_heartbeat(store: ObjectStore) -> Heartbeat | None:
    """None when there is none, or it can't be used: then the next capture writes all anew."""
    try:
        document = unseal(read_object(store, HEARTBEAT), HEARTBEAT)
        return Heartbeat(
            datetime.fromisoformat(document["captured_at"]),
            str(document["key"]),
            str(document["sha256"]),
            str(document["content"]),
            str(document["content_key"]),
            tuple(document["recipients"]),
        )
    except (ObjectMissing, VerificationFailed, KeyError, TypeError, ValueError):
        return None


def write_heartbeat(store: ObjectStore, beat: Heartbeat) -> None:
    document = {
        "format": FORMAT,
        "captured_at": beat.captured_at.isoformat(),
        "key": beat.key,
        "sha256": beat.sha256,
        "content": beat.content,
        "content_key": beat.content_key,
        "recipients": list(beat.recipients),
    }
    store.put(HEARTBEAT, [seal(document)])


def replace_recipients(
    store: ObjectStore, one: Capture, recipients: Sequence[str], identities: Sequence[str], *, dry_run: bool
) -> str:
    """Encrypt a state for these recipients and nobody else: "replaced", "would be replaced", "as wanted" or
    "not encrypted". It is written again as a whole; killed before that, it is as it was."""
    if not one.encrypted:
        return "not encrypted"
    state = read(store, one.key, identities)
    if set(state.recipients) == set(recipients):
        return "as wanted"
    if dry_run:
        return "would be replaced"
    content = encode(replace(state, recipients=tuple(recipients)))
    beat = read_heartbeat(store)
    stored = store.put(one.key, [content])
    if read_object(store, one.key) != content:
        raise VerificationFailed(f"{one.key} does not come back as it was written")
    if beat is not None and beat.key == one.key:
        write_heartbeat(store, replace(beat, sha256=stored.sha256, recipients=tuple(recipients)))
    return "replaced"


def id_of(key: str) -> str:
    return key.removeprefix(FOLDER).removesuffix(".age").removesuffix(PLAIN)


def canonical(small_set: Mapping[str, Any]) -> bytes:
    """Equal for equal states."""
    return json.dumps(small_set, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def plain_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class KeepCaptures:
    """Every state for some hours, then the last one of each hour, then of each day."""

    all_hours: int
    hourly_days: int
    daily_days: int


def to_remove(captures: Sequence[Capture], keep: KeepCaptures, now: datetime) -> list[Capture]:
    """States that the policy lets go. Never the newest, and none because of a wrong clock.

    Ages are measured from the newest state as the store dates it, not from our clock: so neither a clock that jumps
    ahead nor a pause removes anything. Nothing goes while a state lies in the future.
    """
    if not captures:
        return []
    if any(max(one.captured_at, one.written_at) > now + CLOCK_TOLERANCE for one in captures):
        return []
    newest_first = sorted(captures, key=_age, reverse=True)
    latest = min(now, max(one.written_at for one in captures))
    seen: set[tuple[str, str]] = set()
    going = []
    for number, capture in enumerate(newest_first):
        age = latest - capture.captured_at
        hour = ("hour", f"{capture.captured_at:%Y%m%d%H}")
        day = ("day", f"{capture.captured_at:%Y%m%d}")
        kept = (
            number == 0
            or age <= timedelta(hours=keep.all_hours)
            or (age <= timedelta(days=keep.hourly_days) and hour not in seen)
            or (age <= timedelta(days=keep.daily_days) and day not in seen)
        )
        seen |= {hour, day}
        if not kept:
            going.append(capture)
    return going
