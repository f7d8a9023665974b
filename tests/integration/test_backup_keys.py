"""Encrypted backups: who can read them, what is never written, and how their recipients are replaced."""

from __future__ import annotations

import gzip
import os
import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from opskit.core.metastore import tables
from opskit.core.metastore.crypto import open_cipher
from opskit.errors import ConfigError, GuardRefused
from opskit.ops.backup_catalog import find, list_backups
from opskit.ops.backup_keys import KeysNotReplaced, identities_of, list_keys, new_key, recipients_of, rotate
from opskit.ops.drill import drill
from opskit.ops.verify import Damaged, verify
from opskit.system import encryption
from opskit.system.object_store import ObjectStore, StoredObject, StoreError
from tests.backup_site import Site, make_site, now
from tests.sample_metastore import everything


@pytest.fixture(params=["folder", "s3"])
def sqlite_site(home: Path, databases: Any, request: pytest.FixtureRequest) -> Site:
    if request.param == "folder":
        return make_site(home, databases.migrated("sqlite"), "{home}/backups")
    s3 = request.getfixturevalue("s3")
    return make_site(home, databases.migrated("sqlite"), f"s3://{s3.make_bucket()}/x", s3.endpoint_url)


def contents(store: ObjectStore) -> dict[str, bytes]:
    return {info.key: b"".join(store.get(info.key)) for info in store.objects()}


def test_a_backup_is_proven_with_public_keys_alone_and_each_recipient_can_restore_it(small_site: Site) -> None:
    site = small_site
    (first, to_first), (second, to_second), (other, _) = (encryption.new_identity() for _ in range(3))
    before = everything(site.url)
    report = site.backup(recipients=[to_first, to_second])
    assert report.verified and report.recipients == (to_first, to_second)
    assert verify(site.store, list_backups(site.store))[0].ok
    backup = find(site.store, report.backup_id)
    for identities in ([], [other]):
        with pytest.raises(GuardRefused):
            drill(site.platform, site.store, backup, now(), identities=identities)
    assert find(site.store, report.backup_id).state == "verified"  # who can't read it can't judge it
    assert drill(site.platform, site.store, backup, now(), identities=[other, first]).ok
    site.write(update(tables.xcom).values(value="changed"))
    site.restore(identities=[second])
    assert everything(site.url)["xcom"] == before["xcom"]


def test_two_lines_of_age_open_a_backup_without_opskit(small_site: Site) -> None:
    import pyrage

    identity, recipient = encryption.new_identity()
    identifier = small_site.backup(recipients=[recipient]).backup_id
    folder = small_site.home / "backups" / identifier
    opened = pyrage.decrypt((folder / "key.age").read_bytes(), [pyrage.x25519.Identity.from_str(identity)]).decode()
    [data] = [line for line in opened.splitlines() if not line.startswith("#")]
    hidden = (folder / "metastore.sqlite.gz.age").read_bytes()
    plain = gzip.decompress(pyrage.decrypt(hidden, [pyrage.x25519.Identity.from_str(data)]))
    assert plain.startswith(b"SQLite format 3\0")


@pytest.mark.parametrize("encrypted", [True, False])
def test_none_of_a_thousand_planted_secrets_is_in_anything_that_is_written(
    sqlite_site: Site, encrypted: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Encrypted: no value at all. Without recipients: none of those that the metastore itself keeps encrypted."""
    site, encrypt = sqlite_site, open_cipher(sqlite_site.config).encrypt
    planted = [f"planted{number}-{secrets.token_hex(12)}" for number in range(1_000)]
    hidden, plain = planted[:500], planted[500:]
    site.write(
        insert(tables.connection).values(
            [
                {"conn_id": f"c{number}", "conn_type": "http", "password": encrypt(text), "is_encrypted": True}
                for number, text in enumerate(hidden[:250])
            ]
        )
    )
    site.write(
        insert(tables.variable).values(
            [{"key": f"x{n}", "val": encrypt(text), "is_encrypted": True} for n, text in enumerate(hidden[250:])]
        )
    )
    shown = plain if encrypted else []
    site.write(
        insert(tables.log).values([{"at": now(), "owner": "x", "event": "y", "extra": text} for text in shown])
        if shown
        else insert(tables.log).values(at=now(), owner="x", event="y")
    )
    recipients = [encryption.new_identity()[1]] if encrypted else []
    site.backup(recipients=recipients)
    key = (site.home / "fernet.key").read_bytes().strip()
    written = list(contents(site.store).values())
    written += [gzip.decompress(content) for content in written if content[:2] == b"\x1f\x8b"]
    live = Path(site.url.removeprefix("sqlite:///"))
    written += [p.read_bytes() for p in site.home.rglob("*") if p.is_file() and p.parent != live.parent]
    written.append("".join(capfd.readouterr()).encode())
    everything_written = b"\n".join(content for content in written if content.strip() != key)
    assert len(everything_written) > 10_000
    assert [text for text in [*hidden, *shown] if text.encode() in everything_written] == []
    assert key not in everything_written


class Cut:
    """A store whose connection is cut at the n-th write."""

    def __init__(self, store: ObjectStore, writes: int) -> None:
        self._store, self.left = store, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, key: str, chunks: Iterable[bytes], **options: Any) -> StoredObject:
        if self.left == 0:
            raise StoreError("the network is gone")
        self.left -= 1
        return self._store.put(key, chunks, **options)


def test_recipients_are_replaced_without_writing_data_and_a_cut_anywhere_locks_nobody_out(small_site: Site) -> None:
    site, store = small_site, small_site.store
    (old, to_old), (new, to_new) = encryption.new_identity(), encryption.new_identity()
    identifiers = [site.backup(recipients=[to_old], with_drill=False).backup_id for _ in range(2)]
    before = contents(store)
    options: dict[str, Any] = {"recipients": [to_new], "identities": [old, new]}
    assert [report.state for report in rotate(site.platform, store, now(), dry_run=True, **options)] == [
        "would be replaced"
    ] * 2
    assert contents(store) == before
    for writes in range(4):  # what was done stays done: each run gets further
        with pytest.raises(KeysNotReplaced):
            rotate(site.platform, Cut(store, writes), now(), **options)
        assert all(report.ok for report in verify(store, list_backups(store)))
        for identifier in identifiers:
            drill(site.platform, store, find(store, identifier), now(), identities=[old, new])
            store.delete(f"{identifier}/drill.json")
    done = rotate(site.platform, store, now(), **options)
    assert {report.state for report in done} <= {"replaced", "as wanted"} and all(report.proved for report in done)
    after = contents(store)
    assert {name for name in before if before[name] != after[name]} == {
        f"{identifier}/{name}" for identifier in identifiers for name in ("key.age", "key.json")
    }
    assert [state.recipients for state in list_keys(store)] == [(to_new,)] * 2
    assert {report.state for report in rotate(site.platform, store, now(), **options)} == {"as wanted"}
    assert contents(store) == after
    with pytest.raises(GuardRefused):
        drill(site.platform, store, find(store, identifiers[0]), now(), identities=[old])
    assert drill(site.platform, store, find(store, identifiers[0]), now(), identities=[new]).ok


def test_a_rotation_does_what_it_can_and_names_the_rest(small_site: Site) -> None:
    (one, to_one), (_, to_other) = encryption.new_identity(), encryption.new_identity()
    plain = small_site.backup(with_drill=False).backup_id
    readable = small_site.backup(recipients=[to_one], with_drill=False).backup_id
    closed = small_site.backup(recipients=[to_other], with_drill=False).backup_id
    with pytest.raises(KeysNotReplaced, match="1 of 3 backups") as failed:
        rotate(small_site.platform, small_site.store, now(), recipients=[to_one, to_other], identities=[one])
    states = {report.backup_id: report.state for report in failed.value.reports}
    assert states == {plain: "not encrypted", readable: "replaced", closed: "failed"}


def test_a_key_of_another_backup_is_found_without_an_identity(small_site: Site) -> None:
    recipient = encryption.new_identity()[1]
    one, two = (small_site.backup(recipients=[recipient], with_drill=False).backup_id for _ in range(2))
    store = small_site.store
    for name in ("key.age", "key.json"):
        store.put(f"{one}/{name}", store.get(f"{two}/{name}"))
    with pytest.raises(Damaged, match="belongs to"):
        verify(store, list_backups(store))


def test_a_secret_beside_the_backups_is_refused(small_site: Site, tmp_path: Path) -> None:
    config, store = small_site.config, small_site.store
    small_site.backup(with_drill=False)
    inside = small_site.home / "backups" / "identity.txt"
    made = new_key(now(), inside)
    assert inside.stat().st_mode & 0o777 == 0o600
    with pytest.raises(GuardRefused, match="beside the backups"):
        identities_of(config, store, [str(inside)])
    outside = tmp_path / "identity.txt"
    inside.rename(outside)
    assert [encryption.recipient_of(text) for text in identities_of(config, store, [str(outside)])] == [made.recipient]
    outside.chmod(0o640)
    with pytest.raises(GuardRefused, match="others can read it"):
        identities_of(config, store, [str(outside)])
    with pytest.raises(ConfigError, match="can't read the identity file"):
        identities_of(config, store, [str(tmp_path / "nothing")])
    with pytest.raises(GuardRefused, match="exists"):
        new_key(now(), outside)


def test_a_target_that_holds_the_fernet_key_is_refused(home: Path, databases: Any) -> None:
    site = make_site(home, databases.migrated("sqlite"), "{home}")
    with pytest.raises(GuardRefused, match=r"fernet\.key lies in"):
        site.backup()


def test_a_wrong_recipient_is_refused_before_anything_is_written(small_site: Site) -> None:
    with pytest.raises(ConfigError, match="age1nobody"):
        recipients_of(small_site.config, ["age1nobody"])
    assert list(small_site.store.objects()) == []


# --- stores that hold on ---


def test_locked_objects_stay_and_are_reported(home: Path, databases: Any, s3: Any) -> None:
    bucket = s3.make_bucket(ObjectLockEnabledForBucket=True)
    lock = {"OPSKIT__BACKUP__OBJECT_LOCK_MODE": "GOVERNANCE", "OPSKIT__BACKUP__OBJECT_LOCK_DAYS": "30"}
    site = make_site(home, databases.migrated("sqlite"), f"s3://{bucket}/x", s3.endpoint_url, **lock)
    from opskit.ops.backup_prune import prune
    from opskit.ops.retention import Keep

    old, new = (site.backup(at=datetime(2020, 1, day, tzinfo=UTC), with_drill=False).backup_id for day in (1, 2))
    for info in site.store.objects():
        until = site.store.locked_until(info.key)
        assert until is not None and 29 <= (until - now()).days <= 30
    keep = Keep(0, 0, 0)
    from opskit.ops import retention

    with pytest.MonkeyPatch.context() as patch:
        # The store dates what it has by the real clock, and so the age of a backup can't be made up.
        patch.setattr(retention, "_WRITE_TOLERANCE", now() - datetime(2019, 1, 1, tzinfo=UTC))
        held = prune(site.platform, site.store, now(), keep=keep)
        assert (held.removed, held.locked) == ((), (old,))
        assert {backup.id for backup in list_backups(site.store)} == {old, new}
        later = prune(site.platform, site.store, now().replace(year=now().year + 1), keep=keep)
        assert later.locked == ()


def test_an_unlocked_folder_can_not_promise_a_lock(home: Path, databases: Any) -> None:
    from opskit.errors import UsageError

    lock = {"OPSKIT__BACKUP__OBJECT_LOCK_MODE": "GOVERNANCE", "OPSKIT__BACKUP__OBJECT_LOCK_DAYS": "30"}
    site = make_site(home, databases.migrated("sqlite"), "{home}/backups", **lock)
    with pytest.raises(UsageError, match="can't lock"):
        site.backup()
    half = make_site(home, databases.migrated("sqlite"), "{home}/backups", OPSKIT__BACKUP__OBJECT_LOCK_DAYS="30")
    with pytest.raises(ConfigError, match="belong together"):
        half.backup()


def test_credentials_that_may_only_add_take_proven_backups(
    home: Path, databases: Any, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request that would delete or replace an object fails, as a role without those rights sees it."""
    from botocore.exceptions import ClientError

    from opskit.system.s3_store import S3Store

    bucket = s3.make_bucket()
    site = make_site(home, databases.migrated("sqlite"), f"s3://{bucket}/x", s3.endpoint_url)
    begin, client = S3Store.__init__, s3.client()
    refused = []

    def append_only(self: S3Store, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)

        def before(params: dict[str, Any], model: Any, **_: Any) -> None:
            known = {item["Key"] for item in client.list_objects_v2(Bucket=bucket).get("Contents", ())}
            if model.name.startswith("Delete") or (model.name == "PutObject" and params["Key"] in known):
                refused.append(model.name)
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, model.name)

        self._client.meta.events.register("provide-client-params.s3", before)

    monkeypatch.setattr(S3Store, "__init__", append_only)
    for _ in range(2):
        assert site.backup(recipients=[encryption.new_identity()[1]]).verified
    assert refused == []
    assert [backup.state for backup in list_backups(site.store)] == ["verified"] * 2


def test_a_dump_longer_than_a_store_takes_in_constant_memory_becomes_several_objects(
    home: Path, databases: Any, s3: Any
) -> None:
    """A store that allows four parts of 5 MiB an object, and a dump of 13 MB."""
    small = {"OPSKIT__BACKUP__MAX_PARTS": "4", "OPSKIT__BACKUP__COMPRESSION": "0"}
    bucket, (identity, recipient) = s3.make_bucket(), encryption.new_identity()
    site = make_site(home, databases.migrated("sqlite"), f"s3://{bucket}/x", s3.endpoint_url, **small)
    site.write(insert(tables.log).values([{"at": now(), "owner": "x", "event": "y", "extra": "z" * 13_000}] * 1_000))
    before = everything(site.url)
    report = site.backup(recipients=[recipient])
    assert report.verified
    dump = find(site.store, report.backup_id).usable().objects_of("metastore.sqlite.gz")
    assert [item.key for item in dump[:2]] == ["metastore.sqlite.gz.age", "metastore.sqlite.gz.0002.age"]
    assert len(dump) >= 3 and max(item.size_bytes for item in dump) < 6 << 20
    site.write(tables.log.delete())
    site.restore(identities=[identity])
    assert len(everything(site.url)["log"]) >= len(before["log"])
    site.store.put(f"{report.backup_id}/{dump[1].key}", site.store.get(f"{report.backup_id}/{dump[2].key}"))
    with pytest.raises(Damaged):
        verify(site.store, list_backups(site.store))


def test_a_limited_store_passes_everything_on(small_site: Site) -> None:
    site = Site(small_site.home, small_site.url, {**small_site.environ, "OPSKIT__BACKUP__BANDWIDTH_LIMIT": "500"})
    assert site.backup().verified
    assert verify(site.store, list_backups(site.store))[0].ok
    assert type(site.store).__name__ == "LimitedStore"
    assert contents(site.store) == contents(small_site.store)


def test_the_files_of_a_backup_are_for_their_owner_alone(small_site: Site) -> None:
    small_site.backup(recipients=[encryption.new_identity()[1]])
    modes = {os.stat(path).st_mode & 0o777 for path in (small_site.home / "backups").rglob("*") if path.is_file()}
    assert modes == {0o600}


def test_too_many_removals_at_once_are_refused_and_nothing_goes(small_site: Site) -> None:
    from opskit.ops.backup_prune import prune
    from opskit.ops.retention import Keep

    first = small_site.backup(with_drill=False).backup_id
    store, identifiers = small_site.store, [f"202001{day:02}T000000Z-{day:08x}" for day in range(1, 16)]
    manifest = find(store, first).usable()
    for identifier in identifiers:
        at = datetime(2020, 1, int(identifier[6:8]), tzinfo=UTC)
        store.put(f"{identifier}/manifest.json", [replace(manifest, id=identifier, taken_at=at, objects=()).sealed()])
        path = small_site.home / "backups" / identifier / "manifest.json"
        os.utime(path, (at.timestamp(), at.timestamp()))
    options: dict[str, Any] = {"keep": Keep(0, 0, 0), "max_percent": 50}
    planned = prune(small_site.platform, store, now(), dry_run=True, **options)
    assert len(planned.removed) == 15 and planned.refusal == "15 of 16 backups would go at once, more than 50 %"
    with pytest.raises(GuardRefused, match="15 of 16"):
        prune(small_site.platform, store, now(), **options)
    assert len(list_backups(store)) == 16
    assert len(prune(small_site.platform, store, now(), keep=Keep(0, 0, 0)).removed) == 15
    assert [backup.id for backup in list_backups(store)] == [first]
