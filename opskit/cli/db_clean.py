"""`opskit db clean`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from opskit import config as settings
from opskit.cli.output import output_option, plain, show
from opskit.errors import PartialFailure, Unhealthy
from opskit.telemetry import reports

if TYPE_CHECKING:
    from opskit.ops.db_clean import DbCleanReport

_UNITS = {"s": 1, "m": 60, "h": 3600}


def _seconds(_: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is no duration: 90s, 10m or 2h", param=param)
    return float(match[1]) * _UNITS[match[2] or "s"]


@click.command()
@click.option(
    "--max-age-days",
    type=click.FloatRange(min=0),
    help="Remove runs that ended earlier, where no rule says otherwise.  [default: cleanup.max_age_days]",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Rows per transaction at most.  [default: cleanup.batch_size]"
)
@click.option("--deadline", callback=_seconds, help="Stop cleanly after this time: 90s, 10m, 2h.")
@click.option("--dry-run", "--plan", "dry_run", is_flag=True, help="Count what would be removed, and remove nothing.")
@output_option
def clean(
    max_age_days: float | None, batch_size: int | None, deadline: float | None, dry_run: bool, output: str
) -> None:
    """Remove old DagRuns with their task instances and XComs, and old lines of the audit log.

    Never: runs that have not ended, of every DAG its newest run, its newest successful one and the newest one of its
    schedule, runs of paused DAGs (unless [cleanup.dags] names them) and of DAGs with an unfinished backfill. A
    scheduler may go on meanwhile: transactions are short, and it rests while a scheduler falls behind. What goes is
    written to cleanup.archive_to first, when that is set.

    Exit code 0: done; 3: some tables failed; 4: the deadline came first, call again; 11: another one is at it; 12: the
    metastore can't be reached (what was removed stays removed); 13, 14: the archive could not be written or proven.
    """
    from opskit import platforms
    from opskit.cli.progress import shown
    from opskit.ops.db_clean import clean as run

    with shown() as on_progress:
        report = run(
            platforms.find(settings.load()),
            now=datetime.now(UTC),
            max_age_days=max_age_days,
            batch_size=batch_size,
            deadline_seconds=deadline,
            dry_run=dry_run,
            on_progress=on_progress,
        )
    reports.leave(plain(report))
    if output == "table":
        _tell(report)
    else:
        show(report, output)
    done = report.done
    if done is not None and done.failed:
        said = "; ".join(f"{table}: {error}" for table, error in done.failed.items())
        raise PartialFailure(f"{len(done.failed)} tables failed: {said}", hint="the others were cleaned; run it again")
    if done is not None and done.left:
        raise Unhealthy(f"not all was removed: {'; '.join(done.left)}", hint="run it again: it goes on from there")


def _tell(report: DbCleanReport) -> None:
    if report.plan is not None:
        if not report.plan.rows:
            click.echo(f"nothing that ended before {report.before:%Y-%m-%d %H:%M} UTC is left to remove")
        for one in report.plan.rows:
            cost = f"{_size(one.size_bytes)}, {max(one.seconds, 0.01):.2f} s"
            click.echo(f"{one.rows:>12,} {one.table}: {one.why} (about {cost})")
        for why, count in report.plan.kept.items():
            click.echo(f"{count:>12,} old DagRuns stay: {why}")
        for line in report.plan.advice:
            click.echo(f"advice: {line}")
        click.echo("nothing was removed: this is a dry run")
        return
    done = report.done
    assert done is not None
    if not done.rows:
        click.echo(f"nothing that ended before {report.before:%Y-%m-%d %H:%M} UTC is left to remove")
        return
    removed = [f"{'about ' if table in done.about else ''}{count:,} {table}" for table, count in done.rows.items()]
    click.echo("removed " + ", ".join(removed))
    if done.partitions:
        click.echo(f"{len(done.partitions)} partitions went whole: {', '.join(done.partitions)}")
    for chunk in report.archived:
        rows = sum(one.rows for one in chunk.tables.values())
        click.echo(f"archived {rows:,} rows as {report.archive.rstrip('/')}/{chunk.key}")
    for space in done.space:
        click.echo(
            f"{space.table}: {_size(space.before_bytes)} → {_size(space.after_bytes)}, "
            f"of which {_size(space.reusable_bytes)} hold nothing"
        )
    for line in (*done.notes, *(f"advice: {line}" for line in done.advice)):
        click.echo(line)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1048576:,.1f} MiB" if size_bytes >= 1 << 20 else f"{size_bytes / 1024:,.0f} KiB"
