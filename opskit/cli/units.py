"""`opskit units`: print or install systemd units."""

from __future__ import annotations

from pathlib import Path

import click

from opskit import config as settings
from opskit.cli.output import output_option, show
from opskit.errors import NotFound

_version_option = click.option(
    "--systemd-version",
    type=click.IntRange(min=200),
    help="Leave out what is younger.  [default: that of this machine]",
)
_user_option = click.option("--user", help="User of the services.  [default: the owner of OPSKIT_HOME]")


@click.group()
def units() -> None:
    """systemd units and timers for this installation."""


@units.command("print")
@click.argument("names", nargs=-1)
@click.option("--cron", is_flag=True, help="Print the timers as crontab lines instead.")
@_user_option
@_version_option
def print_units(names: tuple[str, ...], cron: bool, user: str | None, systemd_version: int | None) -> None:
    """Print all units, or those with these NAMES."""
    from opskit.ops import unit_files
    from opskit.ops import units as verb

    installation = verb.this_installation(settings.load(), user, version=systemd_version)
    if cron:
        click.echo(verb.crontab(installation), nl=False)
        return
    rendered = unit_files.render(installation, loose_worker=True)
    for name in names:
        if name not in rendered:
            raise NotFound(f"there is no unit {name}", hint=f"there are {', '.join(rendered)}")
    for name in names or rendered:
        if len(names) != 1:
            click.echo(f"# --- {name}")
        click.echo(rendered[name])


@units.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path("/etc/systemd/system"),
    show_default=True,
    help="Where to write them.",
)
@_user_option
@_version_option
@click.option("--loose-worker", is_flag=True, help="Write the drop-in too that takes the worker's sandbox away.")
@click.option("--shipped", is_flag=True, hidden=True, help="The files of the repository's systemd/.")
@click.option("--dry-run", is_flag=True, help="Say what would be written.")
@click.option("--check", is_flag=True, help="As --dry-run, and end with 5 when something differs.")
@output_option
def install(
    directory: Path,
    user: str | None,
    systemd_version: int | None,
    loose_worker: bool,
    shipped: bool,
    dry_run: bool,
    check: bool,
    output: str,
) -> int:
    """Write the units that differ.

    Changes of your own belong into drop-ins (systemctl edit): those are never touched. Files in
    /etc/opskit/credentials, each with a secret and named as its setting (core.fernet_key), reach the services as
    systemd credentials.
    """
    from opskit.errors import DriftFound
    from opskit.ops import units as verb

    config = settings.load()
    units = verb.shipped() if shipped else verb.made(config, user, version=systemd_version, loose_worker=loose_worker)
    report = verb.install(units, directory, dry_run=dry_run or check)
    show(report.changes if output == "table" else report, output, columns=("name", "action", "reason"))
    for note in report.notes:
        click.echo(note, err=True)
    return DriftFound.exit_code if check and report.drift else 0
