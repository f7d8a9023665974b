"""What lies in a store of backups: identifiers, sealed documents, and the list of backups with their proofs.

A backup is a folder `<id>/` of objects. It exists when `<id>/manifest.json` exists, which is written last.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from opskit.errors import NotFound, VerificationFailed
from opskit.platforms.metastore import TableContent
from opskit.platforms.receipts import FORMAT, Receipt, seal, time_of, unseal
from opskit.system.object_store import ObjectInfo, ObjectMissing, ObjectStore

MANIFEST = "manifest.json"
RECEIPT = "drill.json"
SMALL_SET = "config.json"
KEY, KEY_RECORD = "key.age", "key.json"
"""The data identity of an encrypted backup, encrypted for its recipients; and who they are."""
DOCUMENTS = frozenset({MANIFEST, RECEIPT, KEY, KEY_RECORD})
"""What belongs to a backup beside the objects that its manifest lists."""
FULL, CONFIG = "full", "config"
"""Tiers: the whole metastore, and the small set alone."""
_LARGEST_DOCUMENT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class BackupObject:
    """One stored object. Objects of the same `name` follow each other: their plain bytes together are one stream."""

    key: str
    """Relative to the backup."""
    name: str
    size_bytes: int
    sha256: str
    """As it is stored."""
    plain_size_bytes: int
    plain_sha256: str
    """Before encryption; without encryption the same as stored."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds, as it was measured inside the snapshot."""

    id: str
    tier: str
    taken_at: datetime
    source: dict[str, Any]
    """DatabaseInfo of the database it was taken from."""
    objects: tuple[BackupObject, ...]
    tables: dict[str, TableContent]
    hash_algorithm: str = ""
    hash_text: str = ""
    fernet_key_fingerprints: tuple[str, ...] = ()
    secrets: int = 0
    key_id: str = ""
    """The recipient that the objects are encrypted for (age): the public half of the identity in `key.age`. Empty: they
    are not encrypted."""
    opskit_version: str = ""
    platform: str = ""
    hostname: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def revision(self) -> str | None:
        revision = self.source.get("revision")
        return None if revision is None else str(revision)

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.objects)

    @property
    def rows(self) -> int:
        return sum(content.rows for content in self.tables.values())

    def objects_of(self, name: str) -> list[BackupObject]:
        """Never empty."""
        found = [item for item in self.objects if item.name == name]
        if not found:
            raise VerificationFailed(f"backup {self.id} has no object {name}")
        return found

    def plain_size_of(self, name: str) -> int:
        return sum(item.plain_size_bytes for item in self.objects_of(name))

    def sealed(self) -> bytes:
        return seal({"format": FORMAT, **asdict(self), "taken_at": self.taken_at.isoformat()})

    @classmethod
    def parse(cls, content: bytes, what: str) -> Manifest:
        """VerificationFailed when a byte is not as it was written, or the format is a later one."""
        document = unseal(content, what)
        try:
            if document.pop("format") != FORMAT:
                raise VerificationFailed(f"{what} was written by a newer opskit", hint="use that version")
            document["taken_at"] = datetime.fromisoformat(document["taken_at"])
            document["objects"] = tuple(BackupObject(**item) for item in document["objects"])
            document["tables"] = {name: TableContent(**item) for name, item in document["tables"].items()}
            document["fernet_key_fingerprints"] = tuple(document["fernet_key_fingerprints"])
            return cls(**document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise VerificationFailed(f"{what} is not a manifest: {error}") from error


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup as the store shows it."""

    id: str
    taken_at: datetime
    written_at: datetime
    """When the store says that its manifest was written."""
    manifest: Manifest | None
    manifest_sha256: str
    receipt: Receipt | None
    problem: str = ""
    """Why manifest or receipt can't be used."""

    @property
    def tier(self) -> str:
        return self.manifest.tier if self.manifest else FULL

    @property
    def state(self) -> str:
        """verified (a drill restored it), unverified (none did yet), failed (the drill found it wrong), damaged."""
        if self.problem or self.manifest is None:
            return "damaged"
        if self.receipt is None:
            return "unverified"
        return "verified" if self.receipt.ok else "failed"

    def usable(self) -> Manifest:
        """The manifest. VerificationFailed for a damaged one."""
        if self.manifest is None:
            raise VerificationFailed(f"backup {self.id} is damaged: {self.problem}", hint="choose another one")
        return self.manifest


def new_id(now: datetime) -> str:
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def key(identifier: str, name: str) -> str:
    return f"{identifier}/{name}"


def contents_of(store: ObjectStore) -> dict[str, list[ObjectInfo]]:
    """All objects of all backups, whole or not, by id. Other things that lie there are left out."""
    found: dict[str, list[ObjectInfo]] = {}
    for info in store.objects():
        identifier, _, name = info.key.partition("/")
        if name and time_of(identifier):
            found.setdefault(identifier, []).append(info)
    return found


def list_backups(store: ObjectStore) -> list[Backup]:
    """Every backup, the newest first. A damaged one is in the list, with its problem."""
    backups = []
    for identifier, objects in contents_of(store).items():
        infos = {info.key.partition("/")[2]: info for info in objects}
        if MANIFEST in infos:
            backups.append(_read(store, identifier, infos))
    return sorted(backups, key=lambda backup: backup.id, reverse=True)


def incomplete(store: ObjectStore) -> dict[str, list[ObjectInfo]]:
    """Objects of backups that have no manifest: never finished, or half pruned, by id."""
    return {
        identifier: objects
        for identifier, objects in contents_of(store).items()
        if key(identifier, MANIFEST) not in {info.key for info in objects}
    }


def find(store: ObjectStore, wanted: str) -> Backup:
    """The backup with this id (or its unambiguous beginning); `latest`: the newest verified one of the whole metastore,
    else the newest that is not known to be bad. NotFound says which there are."""
    backups = list_backups(store)
    if wanted == "latest":
        whole = [backup for backup in backups if backup.tier == FULL]
        for states in (("verified",), ("unverified",)):
            for backup in whole:
                if backup.state in states:
                    return backup
        raise NotFound(
            f"there is no usable backup in {store.url}",
            hint="take one with: opskit backup" if not backups else "see: opskit backup list",
        )
    fitting = [backup for backup in backups if backup.id == wanted] or [
        backup for backup in backups if wanted and backup.id.startswith(wanted)
    ]
    if len(fitting) == 1:
        return fitting[0]
    what = "fits several backups" if fitting else "names no backup"
    some = ", ".join(backup.id for backup in (fitting or backups)[:3])
    raise NotFound(f"{wanted!r} {what} in {store.url}", hint=f"for example {some}" if some else "it is empty")


def read_object(store: ObjectStore, name: str) -> bytes:
    """A document whole; VerificationFailed when it is larger than any that we write."""
    content = bytearray()
    for chunk in store.get(name):
        content += chunk
        if len(content) > _LARGEST_DOCUMENT_BYTES:
            raise VerificationFailed(f"{name} is too large to be what it should be")
    return bytes(content)


def _read(store: ObjectStore, identifier: str, infos: Mapping[str, ObjectInfo]) -> Backup:
    taken_at = time_of(identifier)
    assert taken_at is not None
    manifest, receipt, problem, digest = None, None, "", ""
    try:
        content = read_object(store, key(identifier, MANIFEST))
        digest = hashlib.sha256(content).hexdigest()
        manifest = Manifest.parse(content, f"the manifest of {identifier}")
        if manifest.id != identifier:
            raise VerificationFailed(f"the manifest of {identifier} belongs to {manifest.id}")
        taken_at = manifest.taken_at
        if RECEIPT in infos:
            receipt = Receipt.parse(
                read_object(store, key(identifier, RECEIPT)), f"the receipt of the drill of {identifier}"
            )
            if receipt.manifest_sha256 != digest or receipt.backup_id != identifier:
                receipt = None
                raise VerificationFailed(f"the receipt of the drill of {identifier} is for another backup")
    except VerificationFailed as error:
        problem = error.message
    except ObjectMissing:
        problem = "it was removed just now"
    return Backup(identifier, taken_at, infos[MANIFEST].modified_at, manifest, digest, receipt, problem)
