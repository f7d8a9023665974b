"""Sealed documents and the list of backups, on a folder."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.errors import ConfigError, NotFound, VerificationFailed
from opskit.ops import backup_catalog as catalog
from opskit.ops.backup_catalog import (
    MANIFEST,
    RECEIPT,
    BackupObject,
    Manifest,
    Receipt,
    find,
    list_backups,
    seal,
    unseal,
)
from opskit.platforms.metastore import TableContent
from opskit.system.object_store import ObjectStore, open_store

AT = datetime(2026, 11, 21, 3, 4, 5, 678, tzinfo=UTC)


def manifest(identifier: str, tier: str = "full") -> Manifest:
    return Manifest(
        identifier,
        tier,
        AT,
        {"kind": "sqlite", "url": "sqlite:///☂.db", "revision": "0001"},
        (BackupObject("metastore.sqlite.gz", "metastore.sqlite.gz", 10, "ab", 10, "ab"),),
        {"dag": TableContent(3, "00ff")},
        fernet_key_fingerprints=("aa", "bb"),
        seconds={"dump": 0.1},
    )


def receipt(identifier: str, digest: str, ok: bool = True) -> Receipt:
    return Receipt(identifier, digest, AT, ok, () if ok else ("bad",), 1.5, 3, 1, 0, "3", "0", "host")


def put(store: ObjectStore, minute: int, *, drilled: bool | None = True, tier: str = "full") -> str:
    import hashlib

    identifier = catalog.new_id(AT.replace(minute=minute))
    content = manifest(identifier, tier).sealed()
    store.put(f"{identifier}/{MANIFEST}", [content])
    if drilled is not None:
        digest = hashlib.sha256(content).hexdigest()
        store.put(f"{identifier}/{RECEIPT}", [receipt(identifier, digest, drilled).sealed()])
    return identifier


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "backups"))


def test_manifest_and_receipt_come_back_as_they_were() -> None:
    one = manifest("20261121T030405Z-00000000")
    assert Manifest.parse(one.sealed(), "m") == one
    two = receipt(one.id, "ff", ok=False)
    assert Receipt.parse(two.sealed(), "r") == two


def test_any_flipped_byte_of_a_sealed_document_is_found() -> None:
    content = manifest("20261121T030405Z-00000000").sealed()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= random.randrange(1, 256)
        with pytest.raises(VerificationFailed):
            unseal(bytes(damaged), "the manifest")


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_cut_document_is_found(cut: int) -> None:
    with pytest.raises(VerificationFailed):
        unseal(manifest("20261121T030405Z-00000000").sealed()[:cut], "the manifest")


def test_a_document_without_a_seal_is_not_believed() -> None:
    with pytest.raises(VerificationFailed):
        unseal(b'{"format": 1}', "the manifest")


def test_a_document_of_a_later_format_says_so() -> None:
    with pytest.raises(VerificationFailed, match="newer opskit"):
        Manifest.parse(seal({"format": 99}), "the manifest")


def test_a_folder_without_a_manifest_is_no_backup(store: ObjectStore) -> None:
    store.put("20261121T030405Z-00000000/metastore.sqlite.gz", [b"half"])
    store.put("something/else", [b"x"])
    assert list_backups(store) == []
    assert list(catalog.incomplete(store)) == ["20261121T030405Z-00000000"]


def test_backups_are_listed_newest_first_with_their_states(store: ObjectStore) -> None:
    old, failed, unproven = put(store, 1), put(store, 2, drilled=False), put(store, 3, drilled=None)
    assert [(b.id, b.state) for b in list_backups(store)] == [
        (unproven, "unverified"),
        (failed, "failed"),
        (old, "verified"),
    ]


def test_latest_is_the_newest_that_is_proven(store: ObjectStore) -> None:
    put(store, 1)
    proven = put(store, 2)
    put(store, 3, drilled=False)
    put(store, 4, drilled=None)
    put(store, 5, tier="config")
    assert find(store, "latest").id == proven


def test_without_a_proven_one_latest_is_the_newest_that_is_not_known_to_be_bad(store: ObjectStore) -> None:
    unproven = put(store, 1, drilled=None)
    put(store, 2, drilled=False)
    assert find(store, "latest").id == unproven


def test_a_backup_is_found_by_the_beginning_of_its_id(store: ObjectStore) -> None:
    one, two = put(store, 1), put(store, 2)
    assert find(store, one[:15]).id == one
    with pytest.raises(NotFound, match="several"):
        find(store, two[:8])
    with pytest.raises(NotFound, match="names no backup"):
        find(store, "2019")


def test_an_empty_store_says_how_to_take_the_first_backup(store: ObjectStore) -> None:
    with pytest.raises(NotFound) as missing:
        find(store, "latest")
    assert missing.value.hint == "take one with: opskit backup"


def test_a_damaged_manifest_or_receipt_does_not_hide_the_others(store: ObjectStore) -> None:
    good, bad, torn = put(store, 1), put(store, 2), put(store, 3)
    store.put(f"{bad}/{MANIFEST}", [b"{}"])
    store.put(f"{torn}/{RECEIPT}", [b""])
    states = {b.id: b.state for b in list_backups(store)}
    assert states == {good: "verified", bad: "damaged", torn: "damaged"}
    with pytest.raises(VerificationFailed):
        find(store, bad).usable()


def test_a_receipt_of_another_backup_proves_nothing(store: ObjectStore) -> None:
    one, two = put(store, 1), put(store, 2)
    store.put(f"{one}/{RECEIPT}", store.get(f"{two}/{RECEIPT}"))
    assert {b.id: b.state for b in list_backups(store)}[one] == "damaged"


def test_a_manifest_moved_to_another_backup_is_found(store: ObjectStore) -> None:
    one, two = put(store, 1), put(store, 2)
    store.put(f"{one}/{MANIFEST}", store.get(f"{two}/{MANIFEST}"))
    assert {b.id: b.state for b in list_backups(store)}[one] == "damaged"


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_target_where_a_file_is_in_the_way_is_no_empty_store(tmp_path: Path, below: str) -> None:
    (tmp_path / "taken").write_text("not a folder")
    with pytest.raises(ConfigError, match="taken is a file, and no folder"):
        open_store(str(tmp_path / "taken" / below))
    assert list(open_store(str(tmp_path / "not there yet" / below)).objects()) == []
