"""`opskit logs`: cleaning task logs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from opskit import config as settings
from opskit.cli.output import output_option, show
from opskit.cli.progress import size
from opskit.errors import PartialFailure

if TYPE_CHECKING:
    from opskit.ops.logs import LogsReport


@click.group()
def logs() -> None:
    """Clean task logs."""


@logs.command()
@click.option("--max-age-days", type=click.FloatRange(min=0), help="Remove older logs.  [default: logs.max_age_days]")
@click.option(
    "--max-percent",
    type=click.FloatRange(0, 100),
    help="Refuse when more of all logs would go.  [default: logs.max_percent]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option("--force", is_flag=True, help="Remove also where the clock seems wrong or nearly everything would go.")
@output_option
def clean(max_age_days: float | None, max_percent: float | None, dry_run: bool, force: bool, output: str) -> None:
    """Remove old logs of attempts, and the directories that are empty then.

    A log of a task that is running, queued, or waiting for its retry stays, whatever its age: the metastore says which
    those are, and without it nothing is removed. Links are never followed, other file systems never entered, and files
    that are no task logs stay.

    Exit code 0: done; 3: something could not be read or removed; 12: the metastore can't be reached;
    16: this is no log folder, or the clock seems wrong (nothing was removed).
    """
    from opskit import platforms
    from opskit.ops.logs import clean as run

    report = run(
        platforms.find(settings.load()),
        now=datetime.now(UTC),
        max_age_days=max_age_days,
        max_percent=max_percent,
        dry_run=dry_run,
        force=force,
    )
    if output == "table":
        _print(report)
    else:
        show(report, output)
    if report.obstacle_count:
        raise PartialFailure(
            f"{report.obstacle_count} entries below {report.folder} could not be read or removed",
            hint="run it as the owner of the logs; --output json lists them",
        )


def _print(report: LogsReport) -> None:
    would = "would remove" if report.dry_run else "removed"
    click.echo(
        f"{would} {report.removed_logs} of {report.logs} logs ({size(report.removed_bytes)} of "
        f"{size(report.size_bytes)}) written before {report.cutoff:%Y-%m-%d %H:%M} UTC, and "
        f"{report.removed_directories} empty directories, below {report.folder}"
    )
    for reason, count in report.kept.items():
        click.echo(f"kept {count}: {reason}")
    for obstacle in report.obstacles:
        click.echo(f"{obstacle.path}: {obstacle.reason}", err=True)
