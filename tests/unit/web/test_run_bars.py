"""Runs as bars."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from opskit.core.metastore.browsing.dag_list import RecentRun
from opskit.web.run_bars import run_bars

NOW = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)


def run(number: int, state: str, seconds: float | None, run_id: str = "r") -> RecentRun:
    start = None if seconds is None else NOW - timedelta(hours=1)
    end = None if start is None or state == "running" else start + timedelta(seconds=seconds or 0)
    return RecentRun(number, run_id, state, NOW - timedelta(hours=2), NOW - timedelta(hours=2), start, end)


def numbers(name: str, image: str) -> list[int]:
    return [int(found) for found in re.findall(rf'<rect [^>]*\b{name}="(\d+)"', image)]


def test_a_longer_run_is_a_higher_bar_and_the_newest_is_on_the_right() -> None:
    image = run_bars("d", [run(1, "success", 10), run(2, "failed", 40), run(3, "queued", None)], 14, NOW)
    heights, places = numbers("height", image), numbers("x", image)
    assert heights[1] == 26 and heights[2] < heights[0] < heights[1]
    assert places == sorted(places) and places[-1] == 13 * 9
    assert re.findall(r'class="(state-\w+)"', image) == ["state-success", "state-failed", "state-queued"]


def test_the_newest_bar_is_the_tab_stop_of_all() -> None:
    image = run_bars("d", [run(1, "success", 1), run(2, "success", 1), run(3, "success", 1)], 14, NOW)
    assert image.count("<a ") == 3 and image.count('tabindex="-1"') == 2
    assert 'tabindex="-1"' not in image[image.rindex("<a ") :]


def test_nothing_that_comes_from_outside_leaves_its_place() -> None:
    image = run_bars('"><b>', [run(7, '"><script>', 1)], 14, NOW)
    assert "<b>" not in image and "<script>" not in image


def test_a_dag_without_runs_has_no_image() -> None:
    assert run_bars("d", [], 14, NOW) == ""
