"""`opskit logs`: cleaning task logs, and reading them wherever they are."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from opskit import config as settings
from opskit.cli.output import output_option, plain, show
from opskit.cli.progress import shown, size
from opskit.errors import PartialFailure, Unhealthy
from opskit.telemetry import reports

if TYPE_CHECKING:
    from opskit.ops.logs import LogsReport, Target


@click.group()
def logs() -> None:
    """Clean task logs, and read them, archived ones too."""


@logs.command()
@click.option(
    "--max-age-days", type=click.FloatRange(min=0), help="Remove older logs of tasks.  [default: logs.max_age_days]"
)
@click.option("--max-size", help="Room that all logs may take: 50GiB, 20%.  [default: logs.max_size]")
@click.option("--min-free", help="Room that must be free on the disk: 10GiB, 10%.  [default: logs.min_free]")
@click.option("--min-free-inodes", help="Inodes that must be free: 100000, 10%.  [default: logs.min_free_inodes]")
@click.option("--keep-days", type=click.FloatRange(min=0), help="Nothing younger goes.  [default: logs.keep_days]")
@click.option(
    "--max-percent",
    type=click.FloatRange(0, 100),
    help="Refuse when more of all logs would go.  [default: logs.max_percent]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option("--yes", is_flag=True, help="Remove also when this folder was never cleaned or looked at before.")
@click.option("--force", is_flag=True, help="Remove also where the clock seems wrong or nearly everything would go.")
@output_option
def clean(
    max_age_days: float | None,
    max_size: str | None,
    min_free: str | None,
    min_free_inodes: str | None,
    keep_days: float | None,
    max_percent: float | None,
    dry_run: bool,
    yes: bool,
    force: bool,
    output: str,
) -> None:
    """Remove old logs, and the directories that are empty then.

    What is past its age goes. While a limit (size, free room, free inodes) is not met, the oldest of the rest go too,
    and no more than needed. A log of a task that is running, queued, or waiting for its retry stays, whatever its age:
    the metastore says which those are, and without it nothing is removed. Links are never followed, other mounts never
    entered, and files that are no logs stay.

    The first clean-up of a folder is a dry run; --yes makes it a real one.

    Exit code 0: done; 3: something could not be read or removed; 4: a limit is still not met; 12: the metastore can't
    be reached; 16: this is no log folder, or the clock seems wrong (nothing was removed).
    """
    from opskit import platforms
    from opskit.ops.logs import clean as run
    from opskit.ops.logs_policy import Wishes

    with shown() as on_progress:
        report = run(
            platforms.find(settings.load()),
            now=datetime.now(UTC),
            wishes=Wishes(max_age_days, max_percent, max_size, min_free, min_free_inodes, keep_days),
            dry_run=True if dry_run else False if yes else None,
            force=force,
            on_progress=on_progress,
        )
    reports.leave(plain(report))
    if output == "table":
        _print(report)
    else:
        show(report, output)
    if report.first_use:
        click.echo(
            "This was a dry run, because this folder has not been cleaned before. Now: opskit logs clean", err=True
        )
    if report.missed:
        raise Unhealthy(
            "; ".join(f"{target.limit}: {_amount(target)}" for target in report.missed),
            hint="what else may go is younger than logs.keep_days, in use, or no log: see what was kept",
        )
    if report.obstacle_count:
        raise PartialFailure(
            f"{report.obstacle_count} entries below {report.folder} could not be read or removed",
            hint="run it as the owner of the logs; --output json lists them",
        )


def _print(report: LogsReport) -> None:
    would = "would remove" if report.dry_run else "removed"
    click.echo(
        f"{would} {report.removed_logs} of {report.logs} logs ({size(report.removed_bytes)} of "
        f"{size(report.size_bytes)}) and {report.removed_directories} empty directories below {report.folder}: "
        f"{size(report.removed_disk_bytes)} on the disk"
    )
    for reason, count in report.removed.items():
        click.echo(f"{would} {count}: {reason}")
    if report.truncated_logs:
        click.echo(f"{'would empty' if report.dry_run else 'emptied'} {report.truncated_logs} that are still open")
    if report.archived_logs:
        click.echo(f"{'would archive' if report.dry_run else 'archived'} {report.archived_logs} of them first")
    for reason, count in report.kept.items():
        click.echo(f"kept {count}: {reason}")
    for target in report.targets:
        click.echo(f"{target.limit}: {_amount(target)}")
    for obstacle in report.obstacles:
        click.echo(f"{obstacle.path}: {obstacle.reason}", err=True)


def _amount(target: Target) -> str:
    form = str if "inodes" in target.limit else size
    verdict = "met" if target.reached else "NOT met"
    return f"{form(target.after)} (before: {form(target.before)}), wanted {form(target.wanted)}: {verdict}"


@logs.command("show")
@click.argument("dag_id")
@click.argument("task_id")
@click.argument("run_id")
@click.option("--try", "attempt", type=click.IntRange(min=1), help="Number of the attempt; default: the newest.")
@click.option("--map-index", type=int, default=-1, help="Which one of a mapped task.")
def show_log(dag_id: str, task_id: str, run_id: str, attempt: int | None, map_index: int) -> None:
    """Print the log of an attempt, from the log folder or from the archive. The metastore is not asked.

    Exit code 0: printed; 2: there is no such log; 13: the archive can't be reached; 14: what it holds is damaged;
    16: it is encrypted, and logs.identity has no key for it.
    """
    from opskit import platforms
    from opskit.ops.logs_show import read

    for piece in read(platforms.find(settings.load()), dag_id, task_id, run_id, attempt, map_index):
        sys.stdout.buffer.write(piece)
    sys.stdout.flush()
