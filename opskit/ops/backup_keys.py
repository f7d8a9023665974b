"""Keys of encrypted backups: each has a data identity of its own, and `key.age` is that, encrypted for the recipients.

So recipients come and go without one byte of data being written again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from opskit.config import Config
from opskit.errors import ConfigError, GuardRefused, OpskitError, PartialFailure, UsageError, VerificationFailed
from opskit.ops import backup_catalog as catalog
from opskit.ops.backup_catalog import KEY, KEY_RECORD, Backup
from opskit.ops.backup_objects import data_identity
from opskit.ops.captures import Capture, list_captures, replace_recipients
from opskit.ops.progress import OnProgress, Progress, silent
from opskit.platforms import Platform
from opskit.platforms.receipts import FORMAT, seal, unseal
from opskit.system import encryption
from opskit.system.locks import locked
from opskit.system.object_store import ObjectMissing, ObjectStore


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """Who can open a backup. `key.json`, beside `key.age`."""

    backup_id: str
    key_id: str
    recipients: tuple[str, ...]
    key_sha256: tuple[str, ...]
    """Of `key.age`. While recipients are replaced there are two: that of before, and that of after."""
    wrapped_at: datetime

    def sealed(self) -> bytes:
        return seal({"format": FORMAT, **asdict(self), "wrapped_at": self.wrapped_at.isoformat()})

    @classmethod
    def parse(cls, content: bytes, what: str) -> KeyRecord:
        document = unseal(content, what)
        try:
            document.pop("format")
            document["wrapped_at"] = datetime.fromisoformat(document["wrapped_at"])
            for name in ("recipients", "key_sha256"):
                document[name] = tuple(document[name])
            return cls(**document)
        except (KeyError, TypeError, ValueError) as error:
            raise VerificationFailed(f"{what} is not a record of a key: {error}") from error


@dataclass(frozen=True, slots=True)
class KeyState:
    """The key of one backup, as it is or as a rotation left it."""

    backup_id: str
    state: str
    """not encrypted, as wanted, replaced, would be replaced, listed, failed."""
    key_id: str = ""
    recipients: tuple[str, ...] = ()
    wrapped_at: datetime | None = None
    proved: bool | None = None
    """Whether one of the given identities has opened the key as it is now; None: nobody tried."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class NewKey:
    recipient: str
    identity: str
    """Empty when it went into a file."""
    file: str


class KeysNotReplaced(PartialFailure):
    """Some backups still have their old recipients. `reports` says which, and why."""

    reports: list[KeyState]


def new_key(now: datetime, out: Path | None) -> NewKey:
    """A fresh key pair. The secret half goes into a new file for its owner alone (0600); without one, to the caller."""
    identity, recipient = encryption.new_identity()
    if out is None:
        return NewKey(recipient, identity, "")
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise GuardRefused(f"{out} exists; a key is never overwritten", hint="choose another name") from error
    except OSError as error:
        raise UsageError(f"can't write {out}: {error.strerror}", hint="choose another place") from error
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(f"# created: {now.isoformat(timespec='seconds')}\n# public key: {recipient}\n{identity}\n")
        file.flush()
        os.fsync(file.fileno())
    return NewKey(recipient, "", str(out))


def recipients_of(config: Config, more: Sequence[str] = ()) -> list[str]:
    """Whom new backups are encrypted for: these, else `backup.recipients`. ConfigError for one that is no recipient."""
    chosen = list(dict.fromkeys(text.strip() for text in (more or config.get("backup", "recipients"))))
    if chosen:
        encryption.check_recipients(chosen)
    return chosen


def identities_of(config: Config, store: ObjectStore, files: Sequence[str] = ()) -> list[str]:
    """The identities in these files, else in `backup.identity`; none without either.

    GuardRefused for a file that others can read, or that lies where the backups are: then they would not be encrypted.
    """
    found: list[str] = []
    for name in files or [str(config.get("backup", "identity"))]:
        if not name:
            continue
        path = Path(name).expanduser()
        try:
            status = path.stat()
            if status.st_mode & 0o077:
                raise GuardRefused(f"{path} is a secret, and others can read it", hint=f"chmod 600 {path}")
            refuse_beside(store, path)
            found += encryption.read_identities(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"can't read the identity file {path}: {getattr(error, 'strerror', None) or error}",
                hint="make one with: opskit keys new --out FILE",
            ) from error
    return found


def refuse_beside(store: ObjectStore, secret: Path) -> None:
    """GuardRefused when a secret lies in the folder that backups go to."""
    if "://" in store.url:
        return
    folder = Path(store.url).resolve()
    if folder in secret.resolve().parents:
        raise GuardRefused(
            f"{secret} lies in {folder}, beside the backups that it opens", hint="keep it elsewhere, best offline"
        )


def put_key(
    store: ObjectStore, backup_id: str, key_id: str, identity: str, recipients: Sequence[str], now: datetime
) -> None:
    """Store the key of a new backup."""
    content = _wrapped(backup_id, identity, recipients)
    record = KeyRecord(backup_id, key_id, tuple(recipients), (sha256(content).hexdigest(),), now)
    store.put(catalog.key(backup_id, KEY_RECORD), [record.sealed()])
    store.put(catalog.key(backup_id, KEY), [content])


def record_of(store: ObjectStore, backup_id: str) -> KeyRecord:
    """VerificationFailed when the record is damaged, missing, or of another backup."""
    name = catalog.key(backup_id, KEY_RECORD)
    try:
        record = KeyRecord.parse(catalog.read_object(store, name), name)
    except ObjectMissing as error:
        raise VerificationFailed(f"{name} is missing") from error
    if record.backup_id != backup_id:
        raise VerificationFailed(f"{name} belongs to {record.backup_id}")
    return record


def key_problems(store: ObjectStore, backup_id: str, key_id: str) -> list[str]:
    """What is wrong with the stored key of an encrypted backup, without opening it."""
    name = catalog.key(backup_id, KEY)
    try:
        record = record_of(store, backup_id)
        digest = sha256(catalog.read_object(store, name)).hexdigest()
    except ObjectMissing:
        return [f"{name} is missing"]
    except VerificationFailed as error:
        return [error.message]
    if record.key_id != key_id:
        return [f"{catalog.key(backup_id, KEY_RECORD)} is of another key"]
    return [] if digest in record.key_sha256 else [f"{name} is damaged: its SHA-256 is not the one written down"]


def list_keys(store: ObjectStore) -> list[KeyState]:
    """Who can open which backup, the newest first."""
    found = []
    for backup in catalog.list_backups(store):
        if backup.manifest is None:
            found.append(KeyState(backup.id, "failed", problem=backup.problem))
        elif not backup.manifest.key_id:
            found.append(KeyState(backup.id, "not encrypted"))
        else:
            problems = key_problems(store, backup.id, backup.manifest.key_id)
            if problems:
                found.append(KeyState(backup.id, "failed", backup.manifest.key_id, problem=problems[0]))
            else:
                record = record_of(store, backup.id)
                found.append(KeyState(backup.id, "listed", record.key_id, record.recipients, record.wrapped_at))
    return found


def rotate(
    platform: Platform,
    store: ObjectStore,
    now: datetime,
    *,
    recipients: Sequence[str],
    identities: Sequence[str],
    dry_run: bool = False,
    on_progress: OnProgress = silent,
) -> list[KeyState]:
    """Encrypt the keys of all backups of a store for these recipients, and for nobody else.

    No data is written again. What a killed rotation has not done, the next one does. KeysNotReplaced when a backup
    could not be opened with `identities`, or is damaged; the others are done. It does not take knowledge away: who had
    read a key keeps it.
    """
    if not recipients:
        raise UsageError("no recipient is given", hint="name them with --to, or set [backup] recipients")
    if not identities:
        raise UsageError("no identity is given", hint="name the file of a present recipient with --identity")
    encryption.check_recipients(recipients)
    if dry_run:
        reports = [_replace(store, b, now, recipients, identities, dry_run) for b in catalog.list_backups(store)]
        reports += [_rewrite(store, one, now, recipients, identities, dry_run) for one in list_captures(store)]
    else:
        with locked(platform.config.run_folder, "backup"), locked(platform.config.run_folder, "capture"):
            backups = catalog.list_backups(store)
            reports = []
            for number, backup in enumerate(backups):
                on_progress(Progress("replace keys", number, len(backups), "backups"))
                reports.append(_replace(store, backup, now, recipients, identities, dry_run))
            reports += [_rewrite(store, one, now, recipients, identities, dry_run) for one in list_captures(store)]
        replaced = [report.backup_id for report in reports if report.state == "replaced"]
        if replaced:
            extra: dict[str, Any] = {"store": store.url, "backups": replaced, "recipients": list(recipients)}
            platform.audit.write("keys rotate", now, extra)
    bad = [report for report in reports if report.state == "failed"]
    if bad:
        error = KeysNotReplaced(
            f"{len(bad)} of {len(reports)} backups keep their old recipients: {bad[0].backup_id}: {bad[0].problem}",
            hint="give the identity that opens them, or remove them; then rotate again",
        )
        error.reports = reports
        raise error
    return reports


def _replace(
    store: ObjectStore,
    backup: Backup,
    now: datetime,
    recipients: Sequence[str],
    identities: Sequence[str],
    dry_run: bool,
) -> KeyState:
    """Three writes, so that a kill between any two leaves a key that fits its record: both, the new key, it alone."""
    wanted = tuple(recipients)
    try:
        manifest = backup.usable()
        if not manifest.key_id:
            return KeyState(backup.id, "not encrypted")
        record = record_of(store, backup.id)
        identity = data_identity(store, manifest, identities)
        if set(record.recipients) == set(wanted) and len(record.key_sha256) == 1:
            return KeyState(backup.id, "as wanted", record.key_id, record.recipients, record.wrapped_at, True)
        if dry_run:
            return KeyState(backup.id, "would be replaced", record.key_id, record.recipients, record.wrapped_at, True)
        name = catalog.key(backup.id, KEY)
        present = sha256(catalog.read_object(store, name)).hexdigest()
        content = _wrapped(backup.id, identity, wanted)
        digest = sha256(content).hexdigest()
        proved = _opens(content, identity, identities)
        both = tuple(dict.fromkeys((*record.recipients, *wanted)))
        between = KeyRecord(backup.id, record.key_id, both, (present, digest), now)
        store.put(catalog.key(backup.id, KEY_RECORD), [between.sealed()])
        store.put(name, [content])
        if catalog.read_object(store, name) != content:
            raise VerificationFailed(f"{name} does not come back as it was written")
        after = KeyRecord(backup.id, record.key_id, wanted, (digest,), now)
        store.put(catalog.key(backup.id, KEY_RECORD), [after.sealed()])
    except OpskitError as error:
        return KeyState(backup.id, "failed", problem=error.message)
    return KeyState(backup.id, "replaced", record.key_id, wanted, now, proved)


def _rewrite(
    store: ObjectStore, one: Capture, now: datetime, recipients: Sequence[str], identities: Sequence[str], dry_run: bool
) -> KeyState:
    """A captured configuration is small: it is encrypted again as a whole."""
    try:
        state = replace_recipients(store, one, recipients, identities, dry_run=dry_run)
    except OpskitError as error:
        return KeyState(one.id, "failed", problem=error.message)
    done = state in ("replaced", "as wanted")
    return KeyState(one.id, state, recipients=tuple(recipients) if done else (), wrapped_at=now if done else None)


def _wrapped(backup_id: str, identity: str, recipients: Sequence[str]) -> bytes:
    return encryption.encrypt_bytes(f"# the key of the backup {backup_id}\n{identity}\n".encode(), recipients)


def _opens(content: bytes, identity: str, identities: Sequence[str]) -> bool:
    """Whether one of ours opens it; VerificationFailed when it does and something else comes out."""
    try:
        opened = encryption.decrypt_bytes(content, identities).decode()
    except GuardRefused:
        return False
    if encryption.read_identities(opened) != [identity]:
        raise VerificationFailed("the newly encrypted key does not come back as it was")
    return True
