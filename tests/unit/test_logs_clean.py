"""The decisions of `opskit logs clean`: what its settings mean, what goes, and where a cut lies."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config import load
from opskit.errors import ConfigError
from opskit.ops import logs_decide
from opskit.ops.logs_decide import (
    AGE,
    BUCKETS,
    GOES,
    MAX_SIZE,
    MIN_FREE,
    MIN_FREE_INODES,
    STAYS,
    Chooser,
    Cut,
    Histogram,
    Need,
    Room,
    bucket,
    cut,
    needs,
    why_not,
)
from opskit.ops.logs_policy import Amount, Keep, Policy, Wishes, read_amount, read_policy

NOW = 1_800_000_000.0
MONTH = 30 * 86400.0
KEEP = Keep(timedelta(days=30), timedelta(days=90), 1)


def settings(**values: str) -> Policy:
    environment = {f"OPSKIT__LOGS__{key.upper()}": value for key, value in values.items()}
    return read_policy(load(Path("/nowhere"), environment), Wishes())


@given(age=st.floats(min_value=0, max_value=10 * MONTH))
def test_what_is_older_than_its_age_goes_and_what_is_younger_never(age: float) -> None:
    step = bucket(NOW - age, NOW, MONTH)
    assert (step == GOES) == (NOW - age < NOW - MONTH)


@given(age=st.floats(min_value=0, max_value=MONTH), more=st.floats(min_value=0, max_value=MONTH))
def test_the_older_of_two_logs_never_has_the_lower_step(age: float, more: float) -> None:
    assert bucket(NOW - age, NOW, MONTH) <= bucket(NOW - age - more, NOW, MONTH)


def test_a_log_of_the_future_is_the_youngest_of_all() -> None:
    assert bucket(NOW + 1e9, NOW, MONTH) == 0
    assert bucket(NOW, NOW, 0) == 0


def test_a_failure_ages_as_much_slower_as_it_may_stay_longer() -> None:
    assert bucket(NOW - 45 * 86400, NOW, 90 * 86400) == bucket(NOW - 15 * 86400, NOW, 30 * 86400)


def filled(*amounts: tuple[int, int]) -> Histogram:
    histogram = Histogram()
    for step, disk_bytes in amounts:
        histogram.add(step, disk_bytes, 1)
    return histogram


def test_a_cut_takes_the_oldest_and_no_more_than_needed() -> None:
    histogram = filled((10, 100), (20, 100), (30, 100))
    assert cut(histogram, Need("x", 100)) == Cut("x", 30, 1.0)
    assert cut(histogram, Need("x", 150)) == Cut("x", 20, 0.5)
    assert cut(histogram, Need("x", inodes=2)) == Cut("x", 20, 1.0)
    assert cut(histogram, Need("x", 1000)) == Cut("x", STAYS, 0.0)


@given(
    sizes=st.lists(st.integers(min_value=1, max_value=5000), min_size=1, max_size=60),
    wanted=st.integers(min_value=1, max_value=200_000),
    seed=st.integers(min_value=1, max_value=BUCKETS - 1),
)
def test_what_is_chosen_meets_the_need_and_is_at_most_one_log_too_much(
    sizes: list[int], wanted: int, seed: int
) -> None:
    logs = [((seed * index * 7919) % 5 * 1000, size) for index, size in enumerate(sizes)]
    histogram = filled(*logs)
    chooser = Chooser([cut(histogram, Need(MAX_SIZE, wanted))])
    taken = [size for step, size in logs if chooser.why(step, size)]
    assert sum(taken) >= min(wanted, sum(sizes)) - 1
    assert sum(taken) - max(sizes) <= wanted


def test_the_last_step_is_spread_over_the_tree() -> None:
    chooser = Chooser([Cut(MAX_SIZE, 5, 0.25)])
    chosen = [bool(chooser.why(5, 100)) for _ in range(400)]
    assert sum(chosen) == 100
    assert all(sum(chosen[start : start + 40]) == 10 for start in range(0, 400, 40))


def test_limits_count_what_goes_by_age_first() -> None:
    histogram = filled((GOES, 600), (100, 1000))
    room = Room(logs_disk_bytes=1600, free_bytes=100, size_bytes=10_000, free_inodes=5, inodes=100)
    policy = Policy(KEEP, max_size=Amount(1000), min_free=Amount(10, True), min_free_inodes=Amount(7))
    found = {need.why: (need.disk_bytes, need.inodes) for need in needs(histogram, room, policy)}
    assert found == {MIN_FREE: (300, 0), MIN_FREE_INODES: (0, 1)}
    assert needs(histogram, room, Policy(KEEP)) == []


def test_a_limit_that_is_met_takes_no_more() -> None:
    chooser = Chooser([Cut(MIN_FREE, 5, 0.0)])
    assert chooser.why(6, 1) == MIN_FREE
    chooser.enough(MIN_FREE)
    assert chooser.why(6, 1) == ""
    assert chooser.why(GOES, 1) == AGE


def test_logs_of_the_future_stop_a_clean_up() -> None:
    assert "in the future" in why_not(100, 5, 1, 95)
    assert why_not(100, 5, 0, 95) == ""


def test_a_clean_up_that_would_take_nearly_everything_stops() -> None:
    assert "96 of 100 logs would go" in why_not(100, 96, 0, 95)
    assert why_not(100, 95, 0, 95) == ""
    assert why_not(0, 0, 0, 95) == ""
    assert logs_decide.going(filled((GOES, 1), (7, 1), (3, 1)), [Cut("x", 7, 1.0)]) == 2


@pytest.mark.parametrize(
    ("text", "amount"),
    [("", None), ("10%", Amount(10, True)), ("20GiB", Amount(20 << 30)), ("1.5k", Amount(1536)), ("7", Amount(7))],
)
def test_an_amount_is_bytes_or_a_share(text: str, amount: Amount | None) -> None:
    assert read_amount(text, "min_free") == amount


@pytest.mark.parametrize("text", ["lots", "120%", "-5", "5 XB"])
def test_an_amount_that_makes_no_sense_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError, match="min_free"):
        read_amount(text, "min_free")


def test_the_first_policy_that_fits_a_dag_counts() -> None:
    policy = settings(policies='"etl_*" = {max_age_days = 120}\n"etl_b" = {keep_runs = 5}\n"x" = {keep_runs = 0}')
    assert policy.of("etl_b") == Keep(timedelta(days=120), timedelta(days=120), 1)
    assert policy.of("x") == Keep(timedelta(days=30), timedelta(days=90), 0)
    assert policy.of("y") == policy.default == KEEP


@pytest.mark.parametrize(
    "policies",
    ['"a" = {max_age_day = 1}', '"a" = 5', '"a" = {max_age_days = "x"}', '"a" = {keep_runs = -1}'],
)
def test_a_policy_that_makes_no_sense_is_a_configuration_error(policies: str) -> None:
    with pytest.raises(ConfigError, match=r"logs\.policies"):
        settings(policies=policies)


def test_an_age_that_is_given_holds_for_failures_too_and_leaves_what_a_dag_was_granted() -> None:
    config = load(Path("/nowhere"), {"OPSKIT__LOGS__POLICIES": '"a" = {max_age_days = 365}'})
    policy = read_policy(config, Wishes(max_age_days=7))
    assert policy.of("b") == Keep(timedelta(days=7), timedelta(days=7), 1)
    assert policy.of("a").max_age == timedelta(days=365)
