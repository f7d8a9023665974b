"""When the tasks of a run waited and ran: a bar for each try, by the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from opskit.core.dag import states
from opskit.core.metastore.runs import Run
from opskit.web import formats
from opskit.web.links import task_url
from opskit.web.pages.run_tasks import TaskLine
from opskit.web.pages.time_scale import TimeScale

ROWS = 150
ROW = 24
_TOP = 26
_LEFT = 250
_WIDTH = 850


@dataclass(frozen=True, slots=True)
class Bar:
    """`css` is empty for the time in the queue."""

    x: float
    width: float
    css: str
    title: str
    is_earlier: bool = False


@dataclass(frozen=True, slots=True)
class GanttRow:
    """One task."""

    y: int
    label: str
    url: str
    bars: list[Bar]
    sign: str
    css: str


@dataclass(frozen=True, slots=True)
class Gantt:
    """The drawing of one page of tasks."""

    rows: list[GanttRow]
    ticks: list[tuple[float, str]]
    width: int
    height: int
    page: int
    pages: int
    total: int
    top: int = _TOP
    left: int = _LEFT


def gantt(run: Run, lines: Sequence[TaskLine], now: datetime, page: int) -> Gantt:
    """Tasks by the time at which they began; those that have not begun come last."""
    ordered = sorted(lines, key=_order)
    pages = max(1, -(-len(ordered) // ROWS))
    page = min(page, pages)
    begins = [at for line in lines if (at := _first(line)) is not None]
    ends = [at for line in lines for at in (line.end_date, *(one.end_date for one in line.earlier)) if at is not None]
    is_going = run.state in (states.RUNNING, states.QUEUED)
    start = min(begins, default=run.start_date or run.queued_at)
    end = max([*ends, *([now] if is_going else []), *([run.end_date] if run.end_date else [])], default=start)
    scale = TimeScale(start, max(end, start), _LEFT, _WIDTH)
    shown = ordered[(page - 1) * ROWS :][:ROWS]
    rows = [_row(run, line, scale, now, _TOP + number * ROW) for number, line in enumerate(shown)]
    return Gantt(rows, scale.ticks(), _LEFT + _WIDTH + 20, _TOP + len(shown) * ROW + 8, page, pages, len(ordered))


def _first(line: TaskLine) -> datetime | None:
    """When the first try of a task was queued or began."""
    times = [line.queued_at or line.start_date, *(one.start_date for one in line.earlier)]
    return min((at for at in times if at is not None), default=None)


def _order(line: TaskLine) -> tuple[int, float]:
    first = _first(line)
    return (1, 0.0) if first is None else (0, first.timestamp())


def _row(run: Run, line: TaskLine, scale: TimeScale, now: datetime, y: int) -> GanttRow:
    bars = []
    for one in line.earlier:
        if one.start_date is not None:
            end = one.end_date or one.start_date
            words = f"try {one.try_number}: {formats.state_name(one.state)}, {_took(one.start_date, end)}"
            bars.append(_bar(scale, one.start_date, end, formats.state_class(one.state), words, is_earlier=True))
    latest = max((one.end_date for one in line.earlier if one.end_date is not None), default=None)
    # Of a mapped task the first start may lie in an earlier try: what is drawn then is the time since.
    begun, queued = line.start_date, line.queued_at
    if queued is not None and not (latest and queued < latest):
        until = begun or (now if line.state in states.HELD else queued)
        bars.append(_bar(scale, queued, until, "", f"queued {_took(queued, until)}"))
    if begun is not None:
        over = line.is_over or line.state in (states.UP_FOR_RETRY, states.UP_FOR_RESCHEDULE)
        until = (line.end_date or now) if over else now
        words = line.summary.words() if line.summary.total > 1 else formats.state_name(line.state)
        title = f"try {line.try_number}: {words}, {_took(begun, until)}"
        bars.append(_bar(scale, begun, until, formats.state_class(line.state), title))
    label = line.task_id if len(line.task_id) <= 36 else f"…{line.task_id[-35:]}"
    url = task_url(run.dag_id, run.run_id, line.task_id, number=run.id)
    return GanttRow(y, label, url, bars, formats.state_sign(line.state), formats.state_class(line.state))


def _took(start: datetime, end: datetime) -> str:
    return formats.duration(max(0.0, (end - start).total_seconds()))


def _bar(scale: TimeScale, start: datetime, end: datetime, css: str, title: str, *, is_earlier: bool = False) -> Bar:
    x = scale.x(start)
    return Bar(x, max(2.0 if css else 0.0, round(scale.x(end) - x, 1)), css, title, is_earlier)
