"""`opskit restore`: bring a backup back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from opskit import config as settings
from opskit.cli.backup import ending_cleanly, store_option
from opskit.cli.output import output_option, plain, show
from opskit.cli.progress import shown, size


@click.command()
@click.argument("backup_id", metavar="BACKUP|latest")
@store_option
@click.option(
    "--to-url", "target", metavar="DB", default="", help="Restore into this database instead of the live metastore."
)
@click.option("--plan", "--dry-run", "plan_only", is_flag=True, help="Say what would be done, and what forbids it.")
@click.option("--without-key", is_flag=True, help="Restore although the Fernet key can't read the backup's secrets.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@output_option
def restore(
    backup_id: str, url: str, target: str, plan_only: bool, without_key: bool, yes: bool, quiet: bool, output: str
) -> int:
    """Restore a backup beside the live metastore, compare it, and swap it in as the last step.

    The old metastore is kept. Ends with 16 while a scheduler or another process of opskit uses it.
    """
    from opskit import platforms
    from opskit.cli.cluster import confirm
    from opskit.ops import restore as ops
    from opskit.ops.backup import store_of
    from opskit.ops.backup_catalog import find

    config = settings.load()
    platform, store, now = platforms.find(config), store_of(config, url), datetime.now(UTC)
    chosen = find(store, backup_id)
    plan = ops.plan(platform, store, chosen, now, url=target)
    if plan_only:
        _show_plan(plan, output)
        return 0
    if not plan.refusals:
        if not yes:
            _show_plan(plan, "table", err=True)
        confirm(f"Replace the metastore {plan.target}?", yes)
    with ending_cleanly(), shown(quiet) as on_progress:
        report = ops.restore(platform, store, chosen, now, url=target, without_key=without_key, on_progress=on_progress)
    _show_report(report, output)
    return 0


def _show_plan(plan: Any, output: str, err: bool = False) -> None:
    if output != "table":
        show(plan, output)
        return
    age = plan.age_seconds / 3600
    lines = [
        f"backup {plan.backup_id} ({plan.tier}, {plan.state}), {age:.1f} hours old",
        f"with {plan.rows:,} rows, {size(plan.size_bytes)}, {plan.secrets} secrets",
        f"target {plan.target}: {plan.found}",
        *(f"would {step}" for step in plan.steps),
    ]
    if plan.expected_seconds is not None:
        lines.append(f"its last drill took {plan.expected_seconds:.1f} s")
    lines += [f"REFUSED: {text}" for text in plan.refusals]
    for line in lines:
        click.echo(line, err=err)


def _show_report(report: Any, output: str) -> None:
    if output != "table":
        show(plain(report), output)
        return
    click.echo(f"restored {report.plan.backup_id} into {report.plan.target} in {report.seconds:.1f} s")
    for what, count in report.changes.items():
        if count:
            click.echo(f"  {what.replace('_', ' ')}: {count}")
    if report.way_back:
        click.echo("the old metastore is kept; the way back, while nothing runs:")
        for command in report.way_back:
            click.echo(f"  {command}")
