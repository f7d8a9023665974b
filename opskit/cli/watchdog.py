"""`opskit watchdog`: for cron, every minute. A healthy run loads next to nothing."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from opskit import config as settings
from opskit.cli.output import output_option
from opskit.errors import UsageError

if TYPE_CHECKING:
    from opskit.ops.watchdog import Report
    from opskit.platforms import Platform


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--explain", is_flag=True, help="Show every rule with its values and its outcome.")
@click.option("--no-start", is_flag=True, help="Start no scheduler where none was left by a crash.")
@click.option("--pause", is_flag=True, help="Make the watchdog do nothing, before planned work on the cluster.")
@click.option("--for-minutes", type=click.FloatRange(min=0.1), help="With --pause: the pause ends by itself.")
@click.option("--reason", default="", help="With --pause: why.")
@click.option("--resume", is_flag=True, help="End a pause.")
@click.option("--cluster", is_flag=True, help="Judge the components of all hosts, and only look.")
@click.option("--resident", is_flag=True, help="Stay: see the end of a process at once, a hang within 5 seconds.")
@click.option("--strict", is_flag=True, help="Give each verdict an exit code of its own.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing while the cluster is healthy: for cron.")
@output_option
def watchdog(
    dry_run: bool,
    explain: bool,
    no_start: bool,
    pause: bool,
    for_minutes: float | None,
    reason: str,
    resume: bool,
    cluster: bool,
    resident: bool,
    strict: bool,
    quiet: bool,
    output: str,
) -> int:
    """Check the scheduler, and restart it when that helps.

    The verdict is healthy, slow, stuck, dead, blind (the database is away: nothing is ever restarted), paused or
    upgrading. Before anything is killed, all stacks and the last log lines are saved below logs/watchdog. Running
    attempts survive.

    Exit code 0: healthy, slow, paused, upgrading, or repaired; 4: stuck or dead, and not repaired; 12: blind;
    11: another watchdog is at it. With --strict: 20 slow, 21 stuck, 22 dead, 23 paused, 24 upgrading, 25 repaired.

    From cron:  * * * * *  opskit watchdog --quiet
    """
    if (pause and (resume or dry_run)) or ((for_minutes is not None or reason) and not pause):
        raise UsageError("--pause excludes --resume and --dry-run; --for-minutes and --reason need --pause")
    if resident and (dry_run or cluster or pause or resume):
        raise UsageError("--resident excludes --dry-run, --cluster, --pause and --resume")
    config = settings.load()
    if pause or resume:
        return _switch(config, pause, for_minutes, reason)
    from opskit import platforms

    if resident:
        return _stay(platforms.find(config), start_missing=not no_start, output=output)
    from opskit.ops.watchdog import check

    report = check(platforms.find(config), dry_run=dry_run, start_missing=not no_start, cluster=cluster)
    if output != "table":
        from opskit.cli.output import show

        show(_as_data(report, explain), output)
    elif not quiet or report.verdict != "healthy" or report.alert:
        _print(report, explain)
        if cluster:
            from opskit.cli.output import show

            show(report.components, "table")
    return report.strict_exit_code if strict else report.exit_code


def _stay(platform: Platform, *, start_missing: bool, output: str) -> int:
    from opskit.ops import watchdog_resident

    def tell(report: Report) -> None:
        if output == "json":
            import json

            click.echo(json.dumps(_as_data(report, explain=False)))
        else:
            click.echo(f"{report.checked_at:%Y-%m-%dT%H:%M:%SZ}  ", nl=False)
            _print(report, explain=False)
        sys.stdout.flush()

    return watchdog_resident.watch(platform, tell, start_missing=start_missing)


def _switch(config: settings.Config, pause: bool, for_minutes: float | None, reason: str) -> int:
    from opskit.ops import watchdog_memory

    if pause:
        seconds = None if for_minutes is None else for_minutes * 60
        click.echo(f"the watchdog is {watchdog_memory.pause(config.run_folder, datetime.now(UTC), seconds, reason)}")
    elif watchdog_memory.resume(config.run_folder):
        click.echo("the watchdog watches again")
    else:
        click.echo("the watchdog was not paused")
    return 0


def _print(report: Report, explain: bool) -> None:
    state = f"{report.verdict}, repaired" if report.repaired else report.verdict
    click.echo(f"{state}: {report.evidence[0]}")
    for sentence in report.evidence[1:]:
        click.echo(f"  {sentence}")
    if explain:
        for rule in report.rules:
            click.echo(f"  rule: {rule.rule}\n        {rule.values} -> {rule.outcome}")
    if report.dry_run or not report.deeds:
        for line in report.planned:
            click.echo(f"  plan: {line}")
    for deed in report.deeds:
        click.echo(f"  done: {deed.outcome}: {'it moves' if deed.helped else 'it does not move'}")
    for path in report.evidence_files:
        click.echo(f"  evidence: {path}")
    if report.alert:
        click.echo(f"  alert: {report.alert}")


def _as_data(report: Report, explain: bool) -> dict[str, object]:
    from opskit.cli.output import plain

    data: dict[str, object] = plain(report)
    if not explain:
        del data["rules"]
    return {**data, "exit_code": report.exit_code, "strict_exit_code": report.strict_exit_code}
