"""`opskit db clean`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from opskit import config as settings
from opskit.cli.output import output_option, show


@click.command()
@click.option(
    "--max-age-days",
    type=click.FloatRange(min=0),
    help="Remove runs that ended earlier.  [default: cleanup.max_age_days]",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="DagRuns per transaction.  [default: cleanup.batch_size]"
)
@click.option("--dry-run", is_flag=True, help="Count what would be removed, and remove nothing.")
@output_option
def clean(max_age_days: float | None, batch_size: int | None, dry_run: bool, output: str) -> None:
    """Remove old DagRuns with their task instances and XComs, and old lines of the audit log.

    Runs that have not ended stay, and of every DAG its newest run, its newest successful one and the newest one of its
    schedule, whatever their age. It works in short transactions, so a scheduler may go on meanwhile.

    Exit code 0: done; 11: another one is at it; 12: the metastore can't be reached (what was removed stays removed).
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
            dry_run=dry_run,
            on_progress=on_progress,
        )
    if output != "table":
        show(report, output)
        return
    if not report.planned:
        click.echo(f"nothing that ended before {report.before:%Y-%m-%d %H:%M} UTC is left to remove")
        return
    for rows in report.planned:
        click.echo(f"{rows.rows:>10,} {rows.table}: {rows.why}")
    if report.dry_run:
        click.echo("nothing was removed: this is a dry run")
    else:
        click.echo("removed " + ", ".join(f"{count:,} {table}" for table, count in report.removed.items()))
