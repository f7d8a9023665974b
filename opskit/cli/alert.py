"""`opskit alert`: a test, or the door for systemd's OnFailure."""

from __future__ import annotations

import click

from opskit import config as settings
from opskit.errors import UsageError


@click.command()
@click.option("--test", "is_test", is_flag=True, help="Send an alert that says it is a test.")
@click.option("--unit", help="Tell that this systemd unit has failed, with its last log lines.")
def alert(is_test: bool, unit: str | None) -> None:
    """Send an alert to everybody in alerts.email_to."""
    if is_test == bool(unit):
        raise UsageError("give either --test or --unit UNIT")
    from opskit.ops import alert as verb

    config = settings.load()
    sent = verb.unit_failed(config, unit) if unit else verb.test(config)
    click.echo(f"sent {sent.subject!r} by {', '.join(sent.channels)}")
