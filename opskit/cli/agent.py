"""`opskit agent`: the maintenance verbs by themselves, where there is neither systemd nor cron."""

from __future__ import annotations

import click

from opskit import config as settings
from opskit.cli.output import output_option, show
from opskit.errors import UsageError


@click.command()
@click.option("--list", "list_", is_flag=True, help="Show the jobs, when they run, and how they ended.")
@click.option("--check", is_flag=True, help="Say whether an agent runs and is well; exit code 4 when not.")
@output_option
def agent(list_: bool, check: bool, output: str) -> int:
    """Run the maintenance verbs by themselves, each as a process of its own, in the foreground.

    For containers without systemd and cron. A job never meets itself, what was missed is caught up, each has a time
    limit, and one that fails stops no other. SIGTERM ends it in order (0). [agent] changes times and switches jobs off.
    """
    if list_ and check:
        raise UsageError("give --list or --check, not both")
    from opskit.ops import agent as verb

    if list_:
        show(verb.overview(settings.load()), output)
        return 0
    if check:
        from datetime import UTC, datetime

        click.echo(verb.check(settings.load(), datetime.now(UTC)))
        return 0
    from opskit.cli.daemons import _set_up

    return verb.run(_set_up("agent"))
