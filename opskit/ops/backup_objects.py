"""Reads and writes the objects of a backup: encrypted on their way, and proved by size and hash before and after."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager

from opskit.errors import ConfigError, GuardRefused, VerificationFailed
from opskit.ops import backup_catalog as catalog
from opskit.ops.backup_catalog import KEY, BackupObject, Manifest
from opskit.system import encryption
from opskit.system.object_store import ObjectMissing, ObjectStore
from opskit.system.streams import Measured, checked

ENDING = ".age"
"""Of the keys of encrypted objects."""


@contextmanager
def open_object(
    store: ObjectStore, manifest: Manifest, name: str, identities: Sequence[str] = ()
) -> Iterator[Iterator[bytes]]:
    """The bytes of what was stored under this name, as a stream: decrypted, and compared with the manifest.

    `identities` (see encryption.read_identities) open an encrypted backup: one of a recipient, or the data identity
    itself. GuardRefused when none of them fits. The stream raises VerificationFailed when a byte is not as it was
    written, at the latest at its end: what was read counts only then. ObjectMissing when an object is gone.
    """
    objects = manifest.objects_of(name)
    identity = data_identity(store, manifest, identities)
    with closing(_plain(store, manifest, objects, identity)) as chunks:
        yield chunks


def read_object(store: ObjectStore, manifest: Manifest, name: str, identities: Sequence[str] = ()) -> bytes:
    """For what is small. See `open_object`."""
    with open_object(store, manifest, name, identities) as chunks:
        return b"".join(chunks)


def put_object(
    store: ObjectStore, identifier: str, name: str, chunks: Iterable[bytes], key_id: str, expected_bytes: int = 0
) -> list[BackupObject]:
    """Store a stream in a backup, encrypted for `key_id` (a recipient; empty: not encrypted).

    In several objects when it is longer than one that the store takes in constant memory.
    """
    source = _Source(chunks)
    stored: list[BackupObject] = []
    while not stored or not source.ended:
        key = name if not stored else f"{name}.{len(stored) + 1:04}"
        piece, size = source.next(store.object_bytes), min(expected_bytes, store.object_bytes)
        stored.append(_put_piece(store, identifier, key, name, piece, key_id, size))
        expected_bytes = max(0, expected_bytes - size)
    return stored


def _put_piece(
    store: ObjectStore, identifier: str, key: str, name: str, chunks: Iterable[bytes], key_id: str, expected_bytes: int
) -> BackupObject:
    if not key_id:
        one = store.put(catalog.key(identifier, key), chunks, expected_bytes=expected_bytes)
        return BackupObject(key, name, one.size_bytes, one.sha256, one.size_bytes, one.sha256)
    plain = Measured()
    with encryption.encrypted(plain.through(chunks), [key_id]) as hidden:
        one = store.put(catalog.key(identifier, key + ENDING), hidden, expected_bytes=expected_bytes)
    return BackupObject(key + ENDING, name, one.size_bytes, one.sha256, plain.size_bytes, plain.sha256)


class _Source:
    """A stream that is read in several pieces."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._waiting: bytes | None = b""
        self._fetch()

    @property
    def ended(self) -> bool:
        return self._waiting is None

    def next(self, size: int) -> Iterator[bytes]:
        """About so many bytes of it: a piece ends between two chunks."""
        given = 0
        while self._waiting is not None and (given == 0 or given + len(self._waiting) <= size):
            chunk = self._waiting
            given += len(chunk)
            self._fetch()
            yield chunk

    def _fetch(self) -> None:
        self._waiting = next(self._chunks, None)


def data_identity(store: ObjectStore, manifest: Manifest, identities: Sequence[str]) -> str:
    """The identity that opens the objects of a backup; empty when they are not encrypted.

    GuardRefused without one that fits, VerificationFailed when `key.age` is damaged or belongs to another backup.
    """
    if not manifest.key_id:
        return ""
    for identity in identities:
        if _is(identity, manifest.key_id):
            return identity
    if not identities:
        raise GuardRefused(
            f"backup {manifest.id} is encrypted, and no identity was given",
            hint="name the file with the identity of one of its recipients: --identity FILE, or [backup] identity",
        )
    name = catalog.key(manifest.id, KEY)
    try:
        opened = encryption.decrypt_bytes(catalog.read_object(store, name), identities).decode()
    except ObjectMissing as error:
        raise VerificationFailed(f"{name} is missing: without it the backup can't be decrypted") from error
    except ValueError as error:
        raise VerificationFailed(f"{name} is damaged: {error}") from error
    for identity in encryption.read_identities(opened):
        if _is(identity, manifest.key_id):
            return identity
    raise VerificationFailed(f"{name} is not the key of backup {manifest.id}")


def _is(identity: str, recipient: str) -> bool:
    try:
        return encryption.recipient_of(identity) == recipient
    except ConfigError:
        return False  # an SSH key, which is no data identity


def _plain(
    store: ObjectStore, manifest: Manifest, objects: Sequence[BackupObject], identity: str
) -> Generator[bytes, None, None]:
    for item in objects:
        full = catalog.key(manifest.id, item.key)
        stored = checked(store.get(full), full, size_bytes=item.size_bytes, sha256=item.sha256)
        if not identity:
            yield from stored
            continue
        with encryption.decrypted(stored, identity, full) as plain:
            yield from checked(plain, full, size_bytes=item.plain_size_bytes, sha256=item.plain_sha256)
