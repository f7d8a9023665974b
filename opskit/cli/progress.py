"""Shows on stderr how far long work is: a bar on a terminal, a line per step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from opskit.ops.progress import OnProgress, Progress, silent

_REDRAW_SECONDS = 0.1


@contextmanager
def shown(quiet: bool = False) -> Iterator[OnProgress]:
    """What a verb is given as its `on_progress`."""
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bar() as on_progress:
            yield on_progress
    else:
        lines = _Lines()
        yield lines
        lines.close()


class _Lines:
    def __init__(self) -> None:
        self._last: Progress | None = None
        self._since = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if self._last is None or progress.step != self._last.step:
            self.close()
            self._since = time.monotonic()
        self._last = progress

    def close(self) -> None:
        if self._last is not None:
            amount = f", {_amount(self._last)}" if self._last.done else ""
            click.echo(f"{self._last.step}: {time.monotonic() - self._since:.1f} s{amount}", err=True)
            self._last = None


@contextmanager
def _bar() -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=False) as bars:
        tasks: dict[str, Any] = {}
        drawn = 0.0

        def on_progress(progress: Progress) -> None:
            nonlocal drawn
            fresh = progress.step not in tasks
            at_end = bool(progress.total) and progress.done >= progress.total
            if not fresh and not at_end and time.monotonic() - drawn < _REDRAW_SECONDS:
                return
            drawn = time.monotonic()
            if fresh:
                for task in tasks.values():
                    bars.stop_task(task)
                tasks[progress.step] = bars.add_task(progress.step, total=None, amount="")
            total = progress.total or None
            bars.update(tasks[progress.step], completed=progress.done, total=total, amount=_amount(progress))

        yield on_progress
        for task in tasks.values():
            bars.update(task, total=1, completed=1)


def _amount(progress: Progress) -> str:
    if not progress.done:
        return ""
    if progress.unit == "bytes":
        return size(progress.done)
    return f"{progress.done:,} {progress.unit}".rstrip()


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
