"""Retry times: the back-off formula and its bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from opskit.core.dag.retries import LONGEST_BACKOFF, next_retry_at, retry_delay

AT = datetime(2026, 1, 1, tzinfo=UTC)


def delay(**changes: Any) -> float:
    arguments: dict[str, Any] = {
        "delay": 300.0, "exponential": True, "max_delay": None, "dag_id": "d", "task_id": "t", "logical_date": AT,
        "try_number": 1,
    }  # fmt: skip
    return retry_delay(**{**arguments, **changes})


def test_without_backoff_every_delay_is_the_same() -> None:
    assert [delay(exponential=False, try_number=number) for number in (1, 2, 9)] == [300.0] * 3


@given(seconds=st.floats(0, 600), number=st.integers(1, 8), task_id=st.text(max_size=5))
def test_a_backoff_lies_between_the_doubled_delay_and_twice_that(seconds: float, number: int, task_id: str) -> None:
    found = delay(delay=seconds, try_number=number, task_id=task_id)
    least = seconds * 2 ** (number - 1)
    assert min(least, LONGEST_BACKOFF) <= found <= min(2 * least + 2, LONGEST_BACKOFF)
    assert found >= 1


def test_equal_attempts_wait_equally_and_siblings_do_not() -> None:
    assert delay(task_id="a") == delay(task_id="a")
    assert len({delay(task_id=f"t{number}") for number in range(50)}) > 25
    assert len({delay(map_index=number) for number in range(50)}) > 25


def test_the_jitter_is_airflows() -> None:
    """SHA-1 of dag#task#date#try modulo the least delay, on top of it."""
    from hashlib import sha1

    digest = int(sha1(f"d#t#{AT}#2".encode()).hexdigest(), 16)
    assert delay(try_number=2) == 600 + digest % 600


def test_max_retry_delay_bounds_the_backoff() -> None:
    assert delay(try_number=6, max_delay=900.0) == 900.0


@given(number=st.integers(20, 5000))
def test_a_huge_try_number_waits_for_a_day_at_most(number: int) -> None:
    assert delay(try_number=number) == LONGEST_BACKOFF


def test_the_next_try_counts_from_the_end_of_the_last() -> None:
    at = next_retry_at(
        AT, delay=30.0, exponential=False, max_delay=None, dag_id="d", task_id="t", logical_date=AT, try_number=1
    )
    assert at == AT + timedelta(seconds=30)
