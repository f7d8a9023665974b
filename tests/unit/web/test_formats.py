"""How moments, durations, sizes and states look on a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from opskit.core.dag.states import TASK_STATES
from opskit.web import formats

NOW = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (4, "just now"),
        (59, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (47 * 3600, "47 h ago"),
        (48 * 3600, "2 d ago"),
        (59 * 86400, "59 d ago"),
        (61 * 86400, "2 months ago"),
        (800 * 86400, "2 years ago"),
        (-3, "in a moment"),
        (-90, "in 1 min"),
        (-7200, "in 2 h"),
    ],
)
def test_a_moment_is_told_in_the_largest_unit_that_says_enough(seconds: int, words: str) -> None:
    assert formats.ago(NOW - timedelta(seconds=seconds), NOW) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (86399.6, "1 d"),
        (4 * 86400 + 3 * 3600, "4 d 3 h"),
        (-5, "-5.0 s"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float, words: str) -> None:
    assert formats.duration(seconds) == words
    assert formats.duration(timedelta(seconds=seconds)) == words


def test_what_is_not_there_is_a_dash() -> None:
    dash = "\N{EN DASH}"
    assert formats.ago(None, NOW) == formats.duration(None) == formats.size(None) == formats.stamp(None) == dash
    assert str(formats.moment(None)) == str(formats.relative(None, NOW)) == dash


def test_a_moment_carries_its_exact_time_in_utc_whatever_its_zone() -> None:
    moment = datetime(2026, 3, 29, 14, 30, 5, tzinfo=timezone(timedelta(hours=2)))
    assert str(formats.moment(moment)) == (
        '<time datetime="2026-03-29T12:30:05Z" title="2026-03-29 12:30:05 UTC">2026-03-29 12:30</time>'
    )
    assert "data-relative" in formats.relative(moment, NOW) and "in 30 min" in formats.relative(moment, NOW)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_540, "1.5 kB"), (20_400_000, "20 MB"), (5e15, "5000 TB")],
)
def test_a_size_is_told_by_thousands(value: float, text: str) -> None:
    assert formats.size(value) == text


def test_a_count_has_its_noun() -> None:
    assert formats.plural(1, "run") == "1 run"
    assert formats.plural(1200, "run") == "1,200 runs"
    assert formats.plural(2, "entry", "entries") == "2 entries"


def test_every_state_has_a_sign_of_its_own() -> None:
    signs = [formats.state_sign(state) for state in TASK_STATES]
    assert len(set(signs)) == len(TASK_STATES)
    assert formats.state_class(None) == "state-none"
    assert formats.state_class('x" onload="') == "state-none"


def test_a_badge_escapes_what_it_shows() -> None:
    assert "<b>" not in formats.state_badge("<b>")
    assert "up for retry" in formats.state_badge("up_for_retry")
