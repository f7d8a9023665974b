"""Runs as bars: the state is the colour, the duration the height."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from opskit.core.metastore.browsing.dag_list import RecentRun
from opskit.web.formats import duration

STEP, WIDTH, HEIGHT, LOWEST = 9, 7, 26, 4


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle in an image of HEIGHT, with what it says and where it leads."""

    x: int
    y: int
    height: int
    state: str
    title: str
    url: str


def bars(runs: Sequence[RecentRun], places: int, url: Callable[[RecentRun], str]) -> list[Bar]:
    """The newest on the right, whatever the number of runs. Durations are compared among these runs only; their roots,
    so that one long run does not make all others invisible."""
    now = datetime.now(UTC)
    seconds = [run.seconds(now) or 0.0 for run in runs]
    longest = max(seconds, default=0.0)
    made = []
    for index, (run, length) in enumerate(zip(runs, seconds, strict=True)):
        share = math.sqrt(length / longest) if longest > 0 else 0.0
        height = LOWEST + round((HEIGHT - LOWEST) * share)
        at = run.logical_date.strftime("%Y-%m-%d %H:%M")
        title = f"{run.state}, {at}" + (f", {duration(length)}" if run.start_date else "")
        made.append(Bar((places - len(runs) + index) * STEP, HEIGHT - height, height, run.state, title, url(run)))
    return made
