"""`opskit chaos`: a game day. Breaks one thing on purpose and measures who notices."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import click

from opskit import config as settings
from opskit.cli.output import output_option, show


@click.command()
@click.argument("experiment", default="list")
@click.option("--dry-run", is_flag=True, help="Say what would be broken, and break nothing.")
@click.option(
    "--yes-really", default="", metavar="ENVIRONMENT", help="On production: its name, to show that you mean it."
)
@click.option(
    "--within",
    "within",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    help="Seconds until all must be well.",
)
@click.option(
    "--hold",
    type=click.FloatRange(min=1, max=600),
    default=20.0,
    show_default=True,
    help="Seconds that block-database lasts.",
)
@click.option("--repair", is_flag=True, help="Be the watchdog as well, where none runs.")
@output_option
def chaos(
    experiment: str, dry_run: bool, yes_really: str, within: float, hold: float, repair: bool, output: str
) -> int:
    """Break one thing on purpose, and measure detection, recovery and lost work.

    `opskit chaos list` shows the experiments. Refused (16) on production and on a cluster that is not healthy. What was
    frozen or locked is released again, also on Ctrl-C.

    Exit code 0: all was well again in time and nothing was lost; 4: it was not.
    """
    from opskit import platforms
    from opskit.ops import chaos as verb

    if experiment == "list":
        rows = [{"experiment": one.name, "does": one.what, "expects": one.expects} for one in verb.EXPERIMENTS.values()]
        show(rows, output)
        return 0
    signal.signal(signal.SIGTERM, _leave)
    report = verb.run(
        platforms.find(settings.load()),
        experiment,
        dry_run=dry_run,
        yes_really=yes_really,
        within_seconds=within,
        hold_seconds=hold,
        repair=repair,
        on_progress=lambda line: click.echo(line, err=True),
    )
    show(report, output)
    return report.exit_code


def _leave(number: int, _frame: FrameType | None) -> None:
    # As an exception, so that what was frozen is resumed on the way out.
    sys.exit(128 + number)
