"""Which backups stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from opskit.ops.backup_catalog import Backup, Manifest, new_id
from opskit.ops.retention import Keep, decide, too_many
from opskit.platforms.receipts import Receipt

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
NONE = Keep(0, 0, 0)


def backup(age: timedelta, state: str = "verified", tier: str = "full", written: timedelta | None = None) -> Backup:
    taken_at = NOW - age
    identifier = new_id(taken_at)
    receipt = Receipt(identifier, "", taken_at, state == "verified", (), 1.0, 0, 0, 0, "", "", "")
    return Backup(
        id=identifier,
        taken_at=taken_at,
        written_at=taken_at if written is None else NOW - written,
        manifest=None if state == "damaged" else Manifest(identifier, tier, taken_at, {}, (), {}),
        manifest_sha256="",
        receipt=receipt if state in ("verified", "failed") else None,
        problem="bad" if state == "damaged" else "",
    )


def kept(backups: list[Backup], policy: Keep, now: datetime = NOW) -> list[Backup]:
    keep = {decision.backup_id for decision in decide(backups, policy, now) if decision.keep}
    return [backup for backup in backups if backup.id in keep]


def days(*ages: float) -> list[Backup]:
    return [backup(timedelta(days=age)) for age in ages]


def test_the_newest_of_each_of_the_last_days_stays() -> None:
    backups = days(*[age / 2 for age in range(2, 20)])
    assert [f"{b.taken_at:%d %H}" for b in kept(backups, Keep(3, 0, 0))] == ["20 03", "19 15", "18 15"]


def test_weeks_and_months_reach_further_back() -> None:
    backups = days(*range(1, 400))
    stay = kept(backups, Keep(daily=7, weekly=4, monthly=6))
    assert len({(b.taken_at.year, b.taken_at.month) for b in stay}) >= 6
    assert stay[-1].taken_at < NOW - timedelta(days=140)
    assert len(stay) <= 7 + 4 + 6


def test_a_pause_in_backups_removes_nothing_by_age() -> None:
    backups = days(400, 401, 402)
    assert kept(backups, Keep(3, 0, 0)) == backups


def test_a_clock_that_jumps_ahead_removes_nothing_more() -> None:
    backups = days(*range(1, 10))
    policy = Keep(5, 2, 2)
    assert kept(backups, policy, NOW + timedelta(days=4000)) == kept(backups, policy)


def test_a_backup_from_the_future_stays_and_pushes_none_out() -> None:
    future = backup(timedelta(days=-300))
    backups = [future, *days(1, 2, 3)]
    assert kept(backups, Keep(2, 0, 0)) == [future, *backups[1:3]]


def test_a_clock_that_is_behind_removes_nothing() -> None:
    backups = days(1, 2, 3)
    assert kept(backups, NONE, NOW - timedelta(days=30)) == backups


def test_a_backup_whose_time_differs_from_the_stores_stays() -> None:
    odd = backup(timedelta(days=90), written=timedelta(days=3))
    assert odd in kept([*days(1, 2, 3), odd], Keep(1, 0, 0))


def test_the_newest_verified_stays_however_old_it_is() -> None:
    proven = backup(timedelta(days=1000))
    backups = [backup(timedelta(days=age), "unverified") for age in range(2, 30)] + [proven]
    assert kept(backups, NONE) == [backups[0], proven]


def test_within_a_day_the_verified_one_stays_rather_than_a_newer_unproven_one() -> None:
    unproven, proven = backup(timedelta(days=3, hours=1), "unverified"), backup(timedelta(days=3, hours=2))
    others = days(2)
    assert kept([*others, unproven, proven], Keep(2, 0, 0)) == [*others, proven]


def test_a_damaged_backup_waits_for_a_person() -> None:
    damaged = backup(timedelta(days=500), "damaged")
    assert damaged in kept([*days(1, 2), damaged], NONE)


def test_backups_of_the_last_day_all_stay() -> None:
    backups = [backup(timedelta(hours=hour)) for hour in range(23)]
    assert kept(backups, NONE) == backups


def test_the_small_set_and_the_whole_metastore_do_not_push_each_other_out() -> None:
    whole = days(2, 3)
    small = [backup(timedelta(days=2, minutes=minute), tier="config") for minute in range(5)]
    assert kept([*small, *whole], Keep(2, 0, 0)) == [small[0], *whole]


def test_hours_and_years_count_where_there_are_backups() -> None:
    hours = [backup(timedelta(days=2, minutes=20 * number)) for number in range(9)]
    assert len(kept(hours, Keep(0, 0, 0, hourly=3))) == 3
    years = days(*range(30, 1_500, 30))
    assert {b.taken_at.year for b in kept(years, Keep(0, 0, 0, yearly=3))} == {2026, 2025, 2024}


def test_many_at_once_are_too_many_and_a_few_never_are() -> None:
    many = decide(days(*range(2, 42)), NONE, NOW)
    assert too_many(many, 50) == "39 of 40 backups would go at once, more than 50 %"
    assert too_many(many, 100) == ""
    assert too_many(decide(days(*range(2, 12)), NONE, NOW), 0) == ""
    half = decide(days(*range(2, 42)), Keep(30, 0, 0), NOW)
    assert too_many(half, 50) == ""


@given(
    st.lists(
        st.tuples(
            st.integers(min_value=-5_000, max_value=50_000),
            st.sampled_from(["verified", "unverified", "failed", "damaged"]),
            st.sampled_from(["full", "config"]),
        ),
        max_size=40,
    ),
    st.builds(Keep, *[st.integers(min_value=0, max_value=10)] * 5),
)
def test_a_newest_verified_backup_is_never_removed_and_a_second_pass_removes_nothing(
    rows: list[tuple[int, str, str]], policy: Keep
) -> None:
    backups = [backup(timedelta(hours=hours), state, tier) for hours, state, tier in rows]
    stay = kept(backups, policy)
    for tier in ("full", "config"):
        proven = [b for b in backups if b.state == "verified" and b.tier == tier and b.taken_at <= NOW]
        if proven:
            newest = max(b.taken_at for b in proven)
            assert any(b.taken_at == newest and b.state == "verified" for b in stay)
    assert kept(stay, policy) == stay
    assert all(decision.reason for decision in decide(backups, policy, NOW))
