"""The configuration tier and partial restores, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import insert, update

from opskit.core.metastore import tables
from opskit.core.metastore.crypto import open_cipher
from opskit.errors import GuardRefused, LockHeld, NotFound, UsageError
from opskit.ops import captures
from opskit.ops import restore_items as items_ops
from opskit.ops.backup_catalog import find
from opskit.ops.backup_keys import rotate
from opskit.ops.capture import CaptureReport, capture
from opskit.ops.restore_history import HistoryReport, restore_history
from opskit.system import encryption
from opskit.system.locks import locked
from tests.backup_site import Site, now
from tests.sample_metastore import everything


def take(site: Site, at: datetime | None = None, **options: Any) -> CaptureReport:
    return capture(site.platform, site.store, at or now(), **options)


def bring_back(site: Site, at: datetime | None = None, **options: Any) -> items_ops.ItemsReport:
    identities = options.pop("identities", ())
    source = items_ops.from_captures(site.store, at, identities, options.get("items"))
    return items_ops.restore_items(site.platform, site.store, source, now(), **options)


def done(report: items_ops.ItemsReport) -> dict[str, int]:
    counts: dict[str, int] = {}
    for change in report.changes:
        name = f"{change.action} {change.kind}"
        counts[name] = counts.get(name, 0) + 1
    return counts


def paused(site: Site) -> list[bool]:
    return [row["is_paused"] for row in everything(site.url)["dag"]]


# --- capturing ---


def test_a_state_is_stored_once_proven_and_seen_again(site: Site) -> None:
    first = take(site)
    assert first.changed and first.proven and first.secrets > 10 and first.warnings == ()
    again = take(site)
    assert (again.id, again.changed) == (first.id, False)
    beat = captures.read_heartbeat(site.store)
    assert beat is not None and beat.captured_at == again.captured_at
    site.write(update(tables.variable).values(description="changed"))
    assert take(site).changed
    assert len(captures.list_captures(site.store)) == 2
    events = [row["event"] for row in everything(site.url)["log"]]
    assert events.count("backup config") == 2  # none for a state that is known


def test_nothing_readable_of_a_secret_is_in_a_capture(small_site: Site) -> None:
    key = (small_site.home / "fernet.key").read_bytes().strip()
    identity, recipient = encryption.new_identity()
    take(small_site)
    take(small_site, recipients=(recipient,))
    plain, hidden = sorted(captures.list_captures(small_site.store), key=lambda one: one.encrypted)
    state = captures.read(small_site.store, plain.key, ())
    text = json.dumps(state.small_set).encode()
    assert b"secret-" not in text and key not in text
    stored = b"".join(small_site.store.get(hidden.key))
    assert b"conn" not in stored and stored.startswith(b"age-encryption.org/v1")
    assert captures.read(small_site.store, hidden.key, [identity]).small_set == state.small_set
    with pytest.raises(GuardRefused, match="no identity was given"):
        captures.read(small_site.store, hidden.key, [])
    with pytest.raises(GuardRefused, match="none of the given identities"):
        captures.read(small_site.store, hidden.key, [encryption.new_identity()[0]])
    beat = b"".join(small_site.store.get(captures.HEARTBEAT))
    assert b"conn" not in beat and key not in beat


def test_a_rotation_of_recipients_takes_captures_along(small_site: Site) -> None:
    (identity, recipient), (new_identity, new_recipient) = encryption.new_identity(), encryption.new_identity()
    take(small_site)
    first = take(small_site, recipients=(recipient,))
    store = small_site.store
    options: dict[str, Any] = {"recipients": [new_recipient], "identities": [identity, new_identity]}
    planned = rotate(small_site.platform, store, now(), **options, dry_run=True)
    assert sorted(one.state for one in planned) == ["not encrypted", "would be replaced"]
    for expected in ("replaced", "as wanted"):
        assert expected in [one.state for one in rotate(small_site.platform, store, now(), **options)]
    [hidden] = [one for one in captures.list_captures(store) if one.encrypted]
    assert captures.read(store, hidden.key, [new_identity]).id == first.id
    with pytest.raises(GuardRefused, match="none of the given identities"):
        captures.read(store, hidden.key, [identity])
    assert not take(small_site, recipients=(new_recipient,)).changed  # the heartbeat knows


def test_a_damaged_or_lost_state_is_noticed_by_the_next_capture_and_stored_anew(small_site: Site) -> None:
    first = take(small_site)
    path = small_site.home / "backups" / captures.list_captures(small_site.store)[0].key
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    second = take(small_site)
    assert second.changed and "is damaged or gone" in second.warnings[0]
    path.unlink()
    assert not take(small_site).changed  # the newer one stands
    with pytest.raises(NotFound):
        captures.read(small_site.store, f"config/{first.id}.json.gz", ())


def test_every_flipped_byte_of_a_capture_is_found(small_site: Site) -> None:
    take(small_site)
    [one] = captures.list_captures(small_site.store)
    content = b"".join(small_site.store.get(one.key))
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        if position in (4, 5, 6, 7, 8, 9):
            continue  # gzip's own header: time and kind of system, which nobody reads
        with pytest.raises(Exception, match="damaged"):
            captures.decode(bytes(damaged), one.key, ())


def test_a_dry_run_and_a_second_capture_at_the_same_time_store_nothing(small_site: Site) -> None:
    assert take(small_site, dry_run=True).changed
    with locked(small_site.config.run_folder, "capture"), pytest.raises(LockHeld):
        take(small_site)
    assert list(small_site.store.objects()) == []


def test_old_states_are_thinned_out_and_the_newest_stays(small_site: Site) -> None:
    start = now() - timedelta(days=3)
    for minutes in (0, 10, 70):
        small_site.write(update(tables.variable).values(description=str(minutes)))
        take(small_site, start + timedelta(minutes=minutes))
    for path in (small_site.home / "backups" / "config").iterdir():
        os.utime(path, (start.timestamp(), start.timestamp()))
    small_site.write(update(tables.variable).values(description="now"))
    removed = take(small_site).removed
    left = [one.captured_at for one in captures.list_captures(small_site.store)]
    same_hour = start.replace(minute=0) == (start + timedelta(minutes=10)).replace(minute=0)
    assert len(removed) == int(same_hour) and len(left) == 4 - len(removed)


# --- bringing back ---


def test_the_configuration_comes_back_as_it_was_at_a_time(site: Site) -> None:
    before = everything(site.url)
    earlier = now() - timedelta(hours=2)
    take(site, earlier)
    site.write(update(tables.connection).values(host="changed"))
    site.write(tables.variable.delete())
    site.write(update(tables.dag).values(is_paused=True))
    site.write(insert(tables.pool).values(pool="new", slots=3, used_slots=0))
    take(site, earlier + timedelta(hours=1))

    report = bring_back(site, earlier + timedelta(minutes=30), dry_run=True)
    assert report.valid_until is not None and report.before == ""
    assert everything(site.url)["variable"] == []
    report = bring_back(site, earlier + timedelta(minutes=30))
    after = everything(site.url)
    assert after["connection"] == before["connection"] and after["variable"] == before["variable"]
    assert paused(site) == [True, True, True]  # a restore unpauses nothing by itself
    assert {row["pool"] for row in after["slot_pool"]} == {"default_pool", "new"}  # and deletes nothing
    assert done(report) == {
        "update connection": 9,
        "create variable": 9,
        "keep pool": 1,
        "keep dag-pause": 2,
    }
    second = bring_back(site, earlier + timedelta(minutes=30))
    assert done(second) == {"keep pool": 1, "keep dag-pause": 2} and second.before == ""

    bring_back(site, earlier + timedelta(minutes=30), unpause=True, exact=True)
    assert paused(site) == [False, True, False]
    assert {row["pool"] for row in everything(site.url)["slot_pool"]} == {"default_pool"}
    assert all(row["revision"] == 4 for row in everything(site.url)["dag"] if not row["is_paused"])


def test_what_was_there_before_a_restore_of_items_is_its_way_back(small_site: Site) -> None:
    take(small_site, now() - timedelta(hours=1))
    small_site.write(tables.variable.delete())
    small_site.write(insert(tables.variable).values(key="own", val="x", is_encrypted=False))
    changed = everything(small_site.url)["variable"]
    report = bring_back(small_site, now() - timedelta(minutes=30))
    assert report.way_back == (f"opskit restore --tier config {report.before} --unpause --exact",)
    source = items_ops.from_captures(small_site.store, None, (), wanted=report.before)
    items_ops.restore_items(small_site.platform, small_site.store, source, now(), unpause=True, exact=True)
    assert everything(small_site.url)["variable"] == changed


def test_single_items_come_back_and_nothing_else(site: Site) -> None:
    take(site, now() - timedelta(hours=1))
    before = everything(site.url)
    site.write(update(tables.connection).values(host="changed"))
    site.write(tables.variable.delete())
    site.write(update(tables.dag).values(is_paused=True))
    named = [("connection", "conn 3"), ("dag-pause", "dag 0 ")]
    report = bring_back(site, items=named)
    assert done(report) == {"update connection": 1, "update dag-pause": 1}
    after = everything(site.url)
    assert [row["conn_id"] for row in after["connection"] if row["host"] != "changed"] == ["conn 3"]
    old = [row for row in before["connection"] if row["conn_id"] == "conn 3"]
    assert [row for row in after["connection"] if row["conn_id"] == "conn 3"] == old
    assert paused(site) == [False, True, True] and after["variable"] == []


def test_an_item_that_is_gone_names_the_capture_that_last_had_it(small_site: Site) -> None:
    take(small_site, now() - timedelta(hours=2))
    small_site.write(tables.connection.delete())
    take(small_site, now() - timedelta(hours=1))
    with pytest.raises(NotFound, match="has no connection 'conn 1'") as missing:
        bring_back(small_site, items=[("connection", "conn 1")])
    assert missing.value.hint is not None and "--at" in missing.value.hint
    when = datetime.fromisoformat(missing.value.hint.partition('"')[2].rstrip('"'))
    assert done(bring_back(small_site, when, items=[("connection", "conn 1")])) == {"create connection": 1}
    with pytest.raises(NotFound, match="no capture of 2020"):
        bring_back(small_site, datetime(2020, 1, 1, tzinfo=UTC))


def test_an_item_comes_out_of_a_backup_too(small_site: Site) -> None:
    small_site.backup()
    small_site.write(tables.connection.delete())
    named = [("connection", "conn 1")]
    source = items_ops.from_backup(small_site.store, find(small_site.store, "latest"), (), named)
    report = items_ops.restore_items(small_site.platform, small_site.store, source, now(), items=named)
    assert done(report) == {"create connection": 1}
    with pytest.raises(UsageError, match="names nothing"):
        items_ops.parse_item("table:x")


def test_a_secret_that_the_present_key_can_not_read_is_refused_and_a_rotated_one_is_no_change(
    small_site: Site,
) -> None:
    take(small_site)
    key_file = small_site.home / "fernet.key"
    old, new = key_file.read_text().strip(), Fernet.generate_key().decode()
    key_file.write_text(f"{new},{old}\n")
    cipher = open_cipher(small_site.config)
    rows = everything(small_site.url)["variable"]
    for row in rows:
        same = tables.variable.c.key == row["key"]
        small_site.write(update(tables.variable).where(same).values(val=cipher.rotate(row["val"])))
    assert done(bring_back(small_site)) == {}

    key_file.write_text(new + "\n")
    with pytest.raises(GuardRefused, match="the present Fernet key can't read") as refused:
        bring_back(small_site)
    assert cipher.fingerprints[1] in refused.value.message
    assert [row["val"] for row in everything(small_site.url)["variable"]] != [row["val"] for row in rows]


# --- the history of one DAG ---

DAG = "dag 0 "


def history(site: Site, **options: Any) -> HistoryReport:
    return restore_history(site.platform, site.store, find(site.store, "latest"), DAG, now(), **options)


def runs_of(site: Site) -> dict[str, Any]:
    """Each run by its run_id, with what belongs to it: without ids, which are new."""
    rows = everything(site.url)
    names = {row["id"]: row["run_id"] for row in rows["dag_run"]}
    found: dict[str, Any] = {}
    for row in rows["dag_run"]:
        found[row["run_id"]] = [{**row, "id": 0}]
    for name in ("task_instance", "task_attempt", "xcom"):
        for row in rows[name]:
            if row["dag_run_id"] in names:
                found[names[row["dag_run_id"]]].append({**row, "dag_run_id": 0})
    return found


def delete_runs(site: Site, ids: list[int]) -> None:
    for table in (tables.task_instance, tables.task_attempt, tables.xcom, tables.task_instance_note, tables.question):
        site.write(table.delete().where(table.c.dag_run_id.in_(ids)))
    site.write(tables.dag_run.delete().where(tables.dag_run.c.id.in_(ids)))


def test_the_lost_history_of_a_dag_comes_back_and_what_is_there_is_not_touched(site: Site) -> None:
    before = runs_of(site)
    site.backup()
    delete_runs(site, [1, 2, 3, 4])
    site.write(update(tables.dag_run).where(tables.dag_run.c.id == 6).values(note="newer"))
    site.write(tables.xcom.delete().where(tables.xcom.c.dag_run_id == 7))
    missing = {"dag_run": 4, "task_instance": 20, "xcom": 25, "task_instance_note": 1, "hitl_detail": 1}
    if site.url.startswith("sqlite"):  # loading a backup takes time elsewhere
        assert history(site, dry_run=True).rows == missing
        assert "run 1" not in runs_of(site)

    report = history(site)
    assert report.rows == missing
    assert report.skipped == {"in the live metastore already": 8}
    after = runs_of(site)
    assert {name: after[name] for name in ("run 1", "run 2", "run 3", "run 6")} == {
        name: before[name] for name in ("run 1", "run 2", "run 3", "run 6")
    }
    assert after["run 5"][0]["note"] == "newer"
    # The run that had not ended when the backup was taken is nobody's now.
    first = after["run 0"]
    assert first[0]["state"] == "failed"
    assert [row["state"] for row in first if "try_number" in row] == [
        "skipped",
        "failed",
        "failed",
        "failed",
        "success",
    ]
    if site.url.startswith("sqlite"):
        assert history(site).rows == {}


def test_the_history_of_a_dag_that_is_gone_comes_back_paused(small_site: Site) -> None:
    small_site.backup()
    delete_runs(small_site, list(range(1, 13)))
    small_site.write(tables.dag.delete().where(tables.dag.c.dag_id == DAG))
    assert history(small_site).rows["dag"] == 1
    [row] = [row for row in everything(small_site.url)["dag"] if row["dag_id"] == DAG]
    assert row["is_paused"] and not row["is_active"] and row["lease_owner"] is None
    with pytest.raises(NotFound, match="has no DAG 'nobody'"):
        latest = find(small_site.store, "latest")
        restore_history(small_site.platform, small_site.store, latest, "nobody", now())


# --- another machine ---


def test_a_bucket_and_an_identity_are_enough_to_restore_on_another_machine(
    home: Path, tmp_path: Path, databases: Any, s3: Any
) -> None:
    from tests.backup_site import make_site

    identity, recipient = encryption.new_identity()
    bucket = f"s3://{s3.make_bucket()}/prefix"
    site = make_site(home, databases.migrated("postgresql"), bucket, s3.endpoint_url)
    site.backup(recipients=[recipient])
    take(site, recipients=(recipient,))
    before = everything(site.url)
    key = (home / "fernet.key").read_text()

    other_home = tmp_path / "another"
    other_home.mkdir()
    other = Site(other_home, databases.empty("postgresql"), {**site.environ})
    other.environ["OPSKIT__DATABASE__SQL_ALCHEMY_CONN"] = other.url
    (other_home / "fernet.key").write_text(key)  # whoever keeps the identity keeps this beside it
    with pytest.raises(GuardRefused, match="is encrypted"):
        other.restore()
    report = other.restore(identities=[identity])
    after = everything(other.url)
    assert after["connection"] == before["connection"] and len(after["xcom"]) == 60 and report.next_backup == ""
    other.write(tables.variable.delete())
    assert done(bring_back(other, identities=[identity]))["create variable"] == 9
    assert other.backup(recipients=[recipient]).verified
