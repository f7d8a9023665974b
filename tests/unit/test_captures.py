"""Which captured configurations stay, which one was valid at a time, and what a restore of items decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.core.metastore.small_set import decide, select_items
from opskit.core.metastore.snapshots import kept_at, kept_name
from opskit.errors import NotFound, VerificationFailed
from opskit.ops.captures import Capture, KeepCaptures, find_at, find_id, to_remove

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEEP = KeepCaptures(all_hours=24, hourly_days=31, daily_days=366)


def capture(age: timedelta, *, written: timedelta | None = None) -> Capture:
    at = NOW - age
    identifier = f"{at:%Y%m%dT%H%M%SZ}-00000000"
    return Capture(
        identifier, f"config/{identifier}.json.gz", at, NOW - (age if written is None else written), 1, False
    )


def test_a_day_is_kept_whole_then_hours_then_days() -> None:
    ages = [timedelta(minutes=minutes) for minutes in range(0, 3 * 24 * 60, 10)]
    ages += [timedelta(days=days, hours=hours) for days in range(40, 43) for hours in range(24)]
    ages += [timedelta(days=400)]
    captures = [capture(age) for age in ages]
    going = {one.id for one in to_remove(captures, KEEP, NOW)}
    left = [NOW - one.captured_at for one in captures if one.id not in going]
    assert sum(age <= timedelta(days=1) for age in left) == 145
    assert sum(timedelta(days=1) < age <= timedelta(days=3) for age in left) == 48
    assert sum(timedelta(days=39) < age < timedelta(days=45) for age in left) in (3, 4)
    assert not any(age > timedelta(days=366) for age in left)


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=40), st.integers(-(10**9), 10**9))
def test_the_newest_is_never_removed_and_a_clock_that_jumps_removes_no_more(seconds: list[int], jump: int) -> None:
    captures = [capture(timedelta(seconds=age)) for age in seconds]
    newest = max(captures, key=lambda one: one.captured_at)
    right = {one.id for one in to_remove(captures, KEEP, NOW)}
    wrong = {one.id for one in to_remove(captures, KEEP, NOW + timedelta(seconds=jump))}
    assert newest.id not in right | wrong
    assert wrong <= right


def test_nothing_goes_while_a_capture_lies_in_the_future() -> None:
    captures = [capture(timedelta(days=500)), capture(timedelta(days=-2), written=timedelta()), capture(timedelta())]
    assert to_remove(captures, KEEP, NOW) == []


def test_the_state_of_a_time_is_the_last_one_before_it() -> None:
    captures = [capture(timedelta(hours=hours)) for hours in (1, 2, 3)]
    assert find_at(captures, NOW - timedelta(hours=2), "s") is captures[1]
    assert find_at(captures, NOW - timedelta(minutes=90), "s") is captures[1]
    assert find_at(captures, None, "s") is captures[0]
    with pytest.raises(NotFound, match="no capture of"):
        find_at(captures, NOW - timedelta(hours=4), "s")
    with pytest.raises(NotFound, match="no capture in s"):
        find_at([], None, "s")
    assert find_id(captures, captures[2].id[:14], "s") is captures[2]
    with pytest.raises(NotFound, match="several"):
        find_id(captures, "2026", "s")


def small(variables: dict[str, str] | None = None, pauses: dict[str, bool] | None = None, **pools: int) -> Any:
    return {
        "format": 1,
        "connections": [],
        "variables": [
            {"key": key, "val": value, "is_encrypted": True, "description": None}
            for key, value in (variables or {}).items()
        ],
        "pools": [{"pool": name, "slots": slots, "description": None} for name, slots in pools.items()],
        "pauses": [{"dag_id": name, "is_paused": paused} for name, paused in (pauses or {}).items()],
    }


def test_only_what_differs_is_written_and_nothing_is_deleted_or_unpaused_unasked() -> None:
    present = small({"same": "1", "other": "1", "newer": "1"}, {"a": True, "b": False}, default_pool=1, own=2)
    wanted = small({"same": "1", "other": "2", "gone": "3"}, {"a": False, "b": True, "nobody": True}, default_pool=1)
    said = [(one.action, one.kind, one.name) for one in decide(present, wanted)]
    assert said == [
        ("update", "variable", "other"),
        ("create", "variable", "gone"),
        ("keep", "variable", "newer"),
        ("keep", "pool", "own"),
        ("keep", "dag-pause", "a"),
        ("update", "dag-pause", "b"),
        ("keep", "dag-pause", "nobody"),
    ]
    told = {(one.kind, one.name): one.action for one in decide(present, wanted, unpause=True, exact=True)}
    assert told["variable", "newer"] == told["pool", "own"] == "delete"
    assert told["dag-pause", "a"] == "update"


def test_default_pool_is_never_deleted() -> None:
    assert [one.action for one in decide(small(default_pool=1), small(), exact=True)] == ["keep"]


def test_equal_secrets_under_different_keys_are_no_change() -> None:
    present, wanted = small({"a": "new:text"}), small({"a": "old:text"})
    assert decide(present, wanted, decrypt=lambda value, _: value.partition(":")[2]) == []
    assert [one.action for one in decide(present, wanted)] == ["update"]


def test_a_selection_holds_the_named_items_only() -> None:
    data = small({"a": "1", "b": "2"}, {"a": True})
    assert select_items(data, [("variable", "a")]) == {**small({"a": "1"})}


def test_a_small_set_of_a_later_format_is_refused() -> None:
    with pytest.raises(VerificationFailed, match="format 2"):
        decide(small(), {**small(), "format": 2})


@pytest.mark.parametrize("live", ["opskit", "a" * 63, "ä" * 40])
def test_the_name_of_a_kept_metastore_tells_whose_and_when(live: str) -> None:
    name = kept_name(live, NOW, set())
    assert len(name) <= 63 and kept_at(live, name) == NOW
    assert kept_at(live, kept_name(live, NOW, {name})) == NOW + timedelta(seconds=1)
    other = live[:-1] + "x"
    assert kept_at(other, name) is None
    assert kept_at(live, name + "x") is None and kept_at(live, "opskit_before_99999999_000000") is None
