"""`opskit doctor`: what is wrong with this cluster, with evidence and fix."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from opskit import config as settings
from opskit.cli.output import output_option, plain, show
from opskit.telemetry import reports

if TYPE_CHECKING:
    from opskit.ops.doctor import Report

_COLOURS = {"ok": "green", "advice": "cyan", "warning": "yellow", "critical": "red", "unknown": "magenta"}


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Show also what is in order.")
@output_option
def doctor(everything: bool, output: str) -> int:
    """Check everything that hurts operators, in ten seconds at most, and change nothing.

    Twenty checks, each with a verdict (ok, advice, warning, critical, or unknown where it could not look), the
    evidence, and the command that helps.

    Exit code 0: nothing is wrong (advice does not count); 4: a warning, something critical, or something unknown.
    """
    from opskit import platforms
    from opskit.ops.doctor import examine

    report = examine(platforms.find(settings.load()), datetime.now(UTC))
    reports.leave(plain(report))
    if output == "table":
        _print(report, everything)
    else:
        show(report, output)
    return report.exit_code


def _print(report: Report, everything: bool) -> None:
    for finding in report.findings:
        if finding.verdict == "ok" and not everything:
            continue
        mark = click.style(f"{finding.verdict:>8}", fg=_COLOURS[finding.verdict], bold=finding.verdict == "critical")
        click.echo(f"{mark}  {finding.number:2} {finding.name}: {finding.evidence[0]}")
        for line in finding.evidence[1:]:
            click.echo(f"{'':14}{line}")
        if finding.fix:
            click.echo(f"{'':14}→ {finding.fix}")
    count = report.verdicts
    bad = [
        f"{count[verdict]} {verdict}" for verdict in ("critical", "warning", "unknown", "advice") if count.get(verdict)
    ]
    total = f"{len(report.findings)} checks in {report.seconds:.1f} s"
    click.echo(f"{total}: {', '.join(bad) if bad else 'nothing is wrong'}, {count.get('ok', 0)} ok")
