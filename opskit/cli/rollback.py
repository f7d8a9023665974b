"""`opskit rollback`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from opskit.cli.deploy_report import finish, host_options, quorum_options
from opskit.cli.output import output_option
from opskit.config import load


@click.command("rollback")
@host_options
@click.option("--to", metavar="HASH", help="The release to go to.  [default: the one before]")
@quorum_options
@click.option("--dry-run", is_flag=True, help="Show per host where it would go; change nothing.")
@output_option
def rollback(
    hosts: tuple[str, ...],
    groups: tuple[str, ...],
    everyone: bool,
    to: str | None,
    quorum: str,
    best_effort: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Switch the DAG folders of all hosts back to the release before; all or none.

    The release is verified on each host before any host switches.
    """
    run_rollback(hosts, groups, everyone, to, "any" if best_effort else quorum, dry_run, output)


def run_rollback(
    hosts: tuple[str, ...],
    groups: tuple[str, ...],
    everyone: bool,
    to: str | None,
    quorum: str,
    dry_run: bool,
    output: str,
) -> None:
    from opskit.ops.deploy_run import choose_hosts
    from opskit.ops.rollback import roll_back
    from opskit.platforms import find

    config = load()
    platform, chosen = find(config), choose_hosts(config, hosts, groups, everyone)
    now = datetime.now(UTC)
    finish(
        lambda progress: roll_back(platform, chosen, now=now, to=to, dry_run=dry_run, quorum=quorum, progress=progress),
        output,
    )
