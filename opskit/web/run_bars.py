"""Runs as bars: the state is the colour, the duration the height."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from html import escape

from markupsafe import Markup

from opskit.core.metastore.browsing.dag_list import RecentRun
from opskit.web.formats import duration, state_class

_STEP, _WIDTH, _HEIGHT, _LOWEST = 9, 7, 26, 4


def run_bars(dag_id: str, runs: Sequence[RecentRun], places: int, now: datetime) -> Markup:
    """An SVG image: the newest run on the right, whatever the number of runs; each leads to its page, the newest is the
    tab stop of all. Empty without runs.

    The links are short, `/runs/<dag_run.id>`: a page has hundreds of them. Durations are compared among these runs
    only; their roots, so that one long run does not make all others invisible.
    """
    if not runs:
        return Markup()
    seconds = [run.seconds(now) or 0.0 for run in runs]
    longest = max(seconds)
    label = f"Recent runs of {escape(dag_id)}"
    parts = [
        f'<svg class="bars" width="{places * _STEP}" height="{_HEIGHT}" role="group" aria-label="{label}" data-bars>'
    ]
    x = (places - len(runs)) * _STEP
    for run, length in zip(runs, seconds, strict=True):
        height = _LOWEST + round((_HEIGHT - _LOWEST) * math.sqrt(length / longest)) if longest > 0 else _LOWEST
        title = f"{run.state}, {run.logical_date.isoformat(' ', 'minutes')[:16]}"
        if run.start_date is not None:
            title += f", {duration(length)}"
        tab = "" if run is runs[-1] else ' tabindex="-1"'
        parts.append(
            f'<a href="/runs/{run.number}"{tab}><title>{escape(title)}</title><rect class="{state_class(run.state)}" '
            f'x="{x}" y="{_HEIGHT - height}" width="{_WIDTH}" height="{height}"/></a>'
        )
        x += _STEP
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - what comes from outside is escaped above
