"""`opskit permissions`: owners and modes as [permissions] policy says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from opskit import config as settings
from opskit.cli.output import output_option, show
from opskit.errors import DriftFound, PartialFailure

if TYPE_CHECKING:
    from opskit.ops.permissions import PermissionsReport


@click.group()
def permissions() -> None:
    """Check and repair owners and modes.

    The policy is in opskit.toml, a table for each path below OPSKIT_HOME (or absolute), for all below it:

    \b
    [permissions.policy.dags]
    owner = "airflow"
    group = "airflow"
    file_mode = "0640"
    dir_mode = "2750"
    """


@permissions.command()
@output_option
def check(output: str) -> None:
    """Compare, and write nothing.

    Exit code 0: all is as the policy says; 5: something differs; 3: something could not be read;
    10: the policy makes no sense; 16: it names a protected directory.
    """
    from opskit import platforms
    from opskit.ops.permissions import check as run

    report = run(platforms.find(settings.load()))
    _show(report, output, "differ")
    _fail_on_obstacles(report)
    if report.differing:
        raise DriftFound(f"{report.differing} of {report.entries} entries differ", hint="opskit permissions fix")


@permissions.command()
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@output_option
def fix(dry_run: bool, output: str) -> None:
    """Write what differs, and nothing else.

    Programs with setuid or setgid and foreign files that are hard-linked into the tree are never touched.

    Exit code 0: done, or nothing to do; 3: something was refused or could not be changed; 10: the policy makes no
    sense; 16: it names a protected directory (nothing was changed).
    """
    from opskit import platforms
    from opskit.ops.permissions import fix as run

    report = run(platforms.find(settings.load()), now=datetime.now(UTC), dry_run=dry_run)
    _show(report, output, "would be changed" if dry_run else "differed")
    if not report.audited:
        click.echo("the audit log has no line of this: the metastore can't be reached", err=True)
    _fail_on_obstacles(report)
    if report.refused:
        raise PartialFailure(f"{report.refused} entries were refused", hint="--output json lists them with reasons")


def _show(report: PermissionsReport, output: str, what: str) -> None:
    if output != "table":
        show(report, output)
        return
    for difference in report.differences:
        click.echo(f"{difference.path}: {difference.text}")
    for refusal in report.refusals:
        click.echo(f"{refusal.path}: not touched, {refusal.reason}", err=True)
    for obstacle in report.obstacles:
        click.echo(f"{obstacle.path}: {obstacle.reason}", err=True)
    click.echo(f"{report.differing} of {report.entries} entries {what}, {report.changed} were changed")


def _fail_on_obstacles(report: PermissionsReport) -> None:
    if report.obstacle_count:
        raise PartialFailure(
            f"{report.obstacle_count} entries could not be read or changed", hint="run it as root or as their owner"
        )
