"""`opskit dags backfill`: runs a DAG for past intervals through the scheduler, and waits for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from opskit.cli.cluster import Cluster, confirm, moment, open_cluster
from opskit.cli.dags_runs import parse_conf
from opskit.cli.output import output_option, show
from opskit.cli.run_progress import refuse_failed, wait_for_runs
from opskit.core.dag import states
from opskit.core.dag.serialized import SerializedDag
from opskit.core.dag.timetables import DataInterval
from opskit.errors import GuardRefused, UsageError

if TYPE_CHECKING:
    from opskit.core.metastore.runs import Run

_MOST_RUNS = 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """What a backfill does for one interval. `action` is create, reset, rerun or keep."""

    logical_date: datetime
    data_interval_start: datetime
    data_interval_end: datetime
    run_id: str
    action: str
    reason: str


def intervals(dag: SerializedDag, start: datetime, end: datetime, now: datetime) -> list[DataInterval]:
    """The intervals of the DAG's schedule whose logical date lies between the two (both included), and that have ended.

    UsageError for a DAG without a schedule, or for more than 10,000 intervals.
    """
    from opskit.core.dag import timetables

    timetable = timetables.deserialize(dag.timetable)
    if not timetable.can_be_scheduled or not timetable.periodic:
        raise UsageError(
            f"{dag.dag_id} has no schedule to take intervals from", hint=f"opskit dags trigger {dag.dag_id}"
        )
    found: list[DataInterval] = []
    last: DataInterval | None = None
    while True:
        info = timetables.next_run(timetable, last, timetables.TimeRestriction(start, end, True, now))
        if info is None or info.run_after > now or info.logical_date > end:
            return found
        if len(found) == _MOST_RUNS:
            raise UsageError(f"these are more than {_MOST_RUNS} runs", hint="choose a shorter time")
        last = info.data_interval
        found.append(last)


def plan(
    wanted: Sequence[DataInterval], existing: Mapping[datetime, Run], *, reset: bool, rerun_failed: bool
) -> list[Step]:
    """Decide for each interval. Pure."""
    steps = []
    for interval in wanted:
        run = existing.get(interval.start)
        run_id = run.run_id if run else f"backfill__{interval.start.isoformat()}"
        if run is None:
            action, reason = "create", "there is no run of it"
        elif run.state not in (states.SUCCESS, states.FAILED):
            action, reason = "keep", f"its run is {run.state}"
        elif reset:
            action, reason = "reset", f"its run was {run.state}, and --reset-dagruns was given"
        elif rerun_failed and run.state == states.FAILED:
            action, reason = "rerun", "its run failed, and --rerun-failed-tasks was given"
        else:
            action, reason = "keep", f"its run is {run.state} already"
        steps.append(Step(interval.start, interval.start, interval.end, run_id, action, reason))
    return steps


@click.command()
@click.argument("dag_id")
@click.option("-s", "--start-date", required=True, help="First logical date.")
@click.option("-e", "--end-date", required=True, help="Last logical date (included).")
@click.option("-c", "--conf", help="JSON object that the tasks see as dag_run.conf.")
@click.option("--reset-dagruns", is_flag=True, help="Run again what has run already.")
@click.option("--rerun-failed-tasks", is_flag=True, help="Run failed tasks of existing runs again.")
@click.option(
    "--max-active-runs", type=click.IntRange(min=1), help="At most so many at once (and what the DAG allows)."
)
@click.option("--run-backwards", is_flag=True, help="The newest interval first.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--no-wait", is_flag=True, help="Create the runs, and leave them to the scheduler.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before runs are reset.")
@output_option
def backfill(
    dag_id: str,
    start_date: str,
    end_date: str,
    conf: str | None,
    reset_dagruns: bool,
    rerun_failed_tasks: bool,
    max_active_runs: int | None,
    run_backwards: bool,
    dry_run: bool,
    no_wait: bool,
    yes: bool,
    output: str,
) -> None:
    """Run a DAG for past intervals of its schedule. Exit code 4 when one of the runs failed."""
    from opskit.core.metastore import dags, runs

    values = parse_conf(conf)
    cluster = open_cluster()
    start, end = moment(start_date, cluster.config), moment(end_date, cluster.config)
    if end < start:
        raise UsageError(f"the end ({end_date}) lies before the start ({start_date})")
    if no_wait and max_active_runs:
        raise UsageError("--max-active-runs needs us to wait", hint="leave out --no-wait")
    with cluster.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        definition = dags.get_serialized(connection, dag_id)
        existing = {run.logical_date: run for run in runs.list_runs(connection, dag_id=dag_id, start=start, end=end)}
    wanted = intervals(definition, start, end, datetime.now(UTC))
    steps = plan(wanted, existing, reset=reset_dagruns, rerun_failed=rerun_failed_tasks)
    if run_backwards:
        steps.reverse()
    if dry_run:
        show(steps, output, columns=["run_id", "action", "data_interval_start", "data_interval_end", "reason"])
        return
    if dag.is_paused and not no_wait:
        raise GuardRefused(
            f"{dag_id} is paused: its runs would wait for ever", hint=f"opskit dags unpause {dag_id}, or --no-wait"
        )
    todo = {step.run_id: step for step in steps if step.action != "keep"}
    again = [step for step in todo.values() if step.action != "create"]
    if again:
        confirm(f"run {len(again)} runs of {dag_id} again?", yes)
    _carry_out(cluster, dag_id, todo, values, max_active_runs, no_wait, output, len(steps) - len(todo))


def _carry_out(
    cluster: Cluster,
    dag_id: str,
    todo: Mapping[str, Step],
    conf: Mapping[str, object] | None,
    at_once: int | None,
    no_wait: bool,
    output: str,
    kept: int,
) -> None:
    from opskit.core.metastore import audit

    now = datetime.now(UTC)
    actions = Counter(step.action for step in todo.values())
    with cluster.changing() as connection:
        audit.write(connection, "dags backfill", now, dag_id=dag_id, extra={**actions, "runs": list(todo)[:50]})

    def start(run_ids: Sequence[str]) -> None:
        _start(cluster, dag_id, [todo[run_id] for run_id in run_ids], conf)

    if no_wait:
        start(list(todo))
        click.echo(f"{dag_id}: {len(todo)} runs are queued, {kept} kept")
        return
    ended = wait_for_runs(cluster, dag_id, list(todo), start=start, at_once=at_once)
    if output == "table":
        failed = sum(run.state == states.FAILED for run in ended)
        click.echo(f"{dag_id}: {len(ended) - failed} runs succeeded, {failed} failed, {kept} kept")
    else:
        show(ended, output)
    refuse_failed(ended)


def _start(cluster: Cluster, dag_id: str, steps: Sequence[Step], conf: Mapping[str, object] | None) -> None:
    from opskit.core.metastore import runs, task_instances

    now = datetime.now(UTC)
    with cluster.changing() as connection:
        for step in steps:
            if step.action == "create":
                runs.trigger(
                    connection,
                    dag_id,
                    now,
                    run_id=step.run_id,
                    logical_date=step.logical_date,
                    conf=conf,
                    run_type="backfill",
                    data_interval=(step.data_interval_start, step.data_interval_end),
                )
                continue
            chosen = task_instances.select_to_clear(
                connection, dag_id, run_ids=[step.run_id], only_failed=step.action == "rerun"
            )
            task_instances.clear(connection, dag_id, chosen, now)
