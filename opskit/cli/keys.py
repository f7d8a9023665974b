"""`opskit keys`: make key pairs, and say who can open which backup."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from opskit import config as settings
from opskit.cli.backup import identity_option, store_option
from opskit.cli.output import output_option, show
from opskit.cli.progress import shown


@click.group()
def keys() -> None:
    """Make and replace the keys of encrypted backups."""


@keys.command("new")
@click.option("--out", type=click.Path(path_type=Path), help="Write the secret key into this new file (mode 0600).")
@output_option
def new_(out: Path | None, output: str) -> int:
    """Make a key pair. Keep the secret half away from the machine that takes the backups.

    The public half is for backup.recipients. Without --out the secret half is printed too, as age-keygen does.
    """
    from opskit.ops.backup_keys import new_key

    made = new_key(datetime.now(UTC), out)
    if output != "table":
        show(made, output)
    elif out is None:
        click.echo(f"# public key: {made.recipient}\n{made.identity}")
    else:
        click.echo(made.recipient)
        click.echo(f"the secret key is in {made.file}: without it no backup can be read", err=True)
    return 0


@keys.command("list")
@store_option
@output_option
def list_(url: str, output: str) -> int:
    """List the backups with the recipients that can open each."""
    from opskit.ops.backup import store_of
    from opskit.ops.backup_keys import list_keys

    columns = ["backup_id", "state", "recipients", "wrapped_at", "problem"]
    show(list_keys(store_of(settings.load(), url)), output, columns=columns)
    return 0


@keys.command("rotate")
@identity_option
@click.option("--to", "recipients", metavar="KEY", multiple=True, help="The recipients. [default: backup.recipients]")
@click.option("--from", "url", metavar="URL", default="", help="Where backups lie. [default: backup.to]")
@click.option("--dry-run", is_flag=True, help="Say what would be replaced.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@output_option
def rotate_(
    identity_files: tuple[str, ...], recipients: tuple[str, ...], url: str, dry_run: bool, quiet: bool, output: str
) -> int:
    """Encrypt the keys of all backups for other recipients. No data is written again.

    Ends with 3 when some backups could not be opened; the others are done.
    """
    from opskit import platforms
    from opskit.ops import backup_keys as ops
    from opskit.ops.backup import store_of

    config = settings.load()
    store = store_of(config, url)
    columns = ["backup_id", "state", "recipients", "proved", "problem"]
    with shown(quiet) as on_progress:
        try:
            reports = ops.rotate(
                platforms.find(config),
                store,
                datetime.now(UTC),
                recipients=ops.recipients_of(config, recipients),
                identities=ops.identities_of(config, store, identity_files),
                dry_run=dry_run,
                on_progress=on_progress,
            )
        except ops.KeysNotReplaced as failed:
            show(failed.reports, output, columns=columns)
            raise
    show(reports, output, columns=columns)
    return 0
