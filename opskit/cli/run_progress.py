"""Waits for DagRuns and shows how they get on: a progress bar on a terminal, one line per step elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from opskit.cli.cluster import Cluster
from opskit.core.dag import states
from opskit.errors import MetastoreUnavailable, NotFound, Unhealthy

if TYPE_CHECKING:
    from opskit.core.metastore.runs import Run

ENDED = (states.SUCCESS, states.FAILED)
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


@dataclass(slots=True)
class Steps:
    """How many of how many; `step` tells that one more has been done."""

    step: Callable[[str], None]


@contextmanager
def progress(title: str, total: int) -> Iterator[Steps]:
    """Everything goes to stderr: stdout is for the result."""
    if not sys.stderr.isatty():
        done = 0

        def say(text: str) -> None:
            nonlocal done
            done += 1
            click.echo(f"{done}/{total} {text}", err=True)

        yield Steps(say)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)

        def advance(text: str) -> None:
            bar.console.print(text, markup=False, highlight=False)
            bar.advance(task)

        yield Steps(advance)


def wait_for_runs(
    cluster: Cluster,
    dag_id: str,
    run_ids: Sequence[str],
    timeout_seconds: float | None = None,
    *,
    start: Callable[[Sequence[str]], None] | None = None,
    at_once: int | None = None,
) -> list[Run]:
    """The runs when all have ended, in the order of `run_ids`. A metastore that is down meanwhile is waited for.

    With `start`, they are started by it first, at most `at_once` of them under way at a time. Unhealthy after
    `timeout_seconds`; the runs go on. NotFound when someone deletes one.
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    waiting = deque(run_ids if start else ())
    active = [] if start else list(run_ids)
    ended: dict[str, Run] = {}
    pause = _FIRST_PAUSE_SECONDS
    with progress(dag_id, len(run_ids)) as steps:
        while len(ended) < len(run_ids):
            if start and waiting and (more := min(len(waiting), (at_once or len(waiting)) - len(active))) > 0:
                chosen = [waiting.popleft() for _ in range(more)]
                start(chosen)
                active += chosen
            try:
                found = _ended(cluster, dag_id, active)
            except MetastoreUnavailable as error:
                click.echo(f"{error}; waiting for it", err=True)
                found, pause = [], _LONGEST_PAUSE_SECONDS
            for run in found:
                ended[run.run_id] = run
                active.remove(run.run_id)
                steps.step(f"{run.run_id}: {run.state}{_duration(run)}")
            if deadline is not None and time.monotonic() >= deadline and len(ended) < len(run_ids):
                left = len(run_ids) - len(ended)
                raise Unhealthy(
                    f"{left} of {len(run_ids)} runs of {dag_id} have not ended in {timeout_seconds:g} s",
                    hint=f"they go on: opskit dags list-runs {dag_id}",
                )
            pause = _FIRST_PAUSE_SECONDS if found else min(_LONGEST_PAUSE_SECONDS, pause * 1.3)
            if len(ended) < len(run_ids):
                time.sleep(pause)
    return [ended[run_id] for run_id in run_ids]


def _ended(cluster: Cluster, dag_id: str, run_ids: Sequence[str]) -> list[Run]:
    """Those of the runs that have ended."""
    from opskit.core.metastore import runs

    found = []
    with cluster.reading() as connection:
        for run_id in run_ids:
            run = runs.find_run(connection, dag_id, run_id)
            if run is None:
                raise NotFound(f"run {run_id} of DAG {dag_id} was deleted while we waited for it")
            if run.state in ENDED:
                found.append(run)
    return found


def refuse_failed(ended: Sequence[Run]) -> None:
    """Unhealthy (exit code 4) when a run failed."""
    failed = [run for run in ended if run.state == states.FAILED]
    if failed:
        first = failed[0]
        raise Unhealthy(
            f"{len(failed)} of {len(ended)} runs of {first.dag_id} failed"
            if len(ended) > 1
            else f"run {first.run_id} of {first.dag_id} failed",
            hint=f"opskit tasks states-for-dag-run {first.dag_id} {first.run_id}",
        )


def _duration(run: Run) -> str:
    if run.start_date is None or run.end_date is None:
        return ""
    return f" after {(run.end_date - run.start_date).total_seconds():.1f} s"
