"""`opskit drill`: prove a backup by restoring it, and show what was proven."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from opskit import config as settings
from opskit.cli.backup import ending_cleanly, identity_option, store_option
from opskit.cli.output import output_option, show
from opskit.cli.progress import shown
from opskit.errors import VerificationFailed


@click.command()
@click.argument("backup_id", metavar="[BACKUP|latest]", default="latest")
@identity_option
@store_option
@click.option("--list", "listing", is_flag=True, help="Show the receipts of all drills; 14 when one was forged.")
@click.option("--dry-run", is_flag=True, help="Say which backup would be drilled.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@output_option
def drill(
    backup_id: str, identity_files: tuple[str, ...], url: str, listing: bool, dry_run: bool, quiet: bool, output: str
) -> int:
    """Restore a backup into a throw-away database, compare every table, and leave a signed receipt.

    Ends with 0 when it is what was backed up, 14 when it is not.
    """
    from opskit import platforms
    from opskit.ops import drill as ops
    from opskit.ops.backup import store_of
    from opskit.ops.backup_catalog import find, list_backups
    from opskit.ops.backup_keys import identities_of

    config = settings.load()
    platform, store = platforms.find(config), store_of(config, url)
    if listing:
        return _list(ops.receipts(platform, list_backups(store)), output)
    chosen = find(store, backup_id)
    if dry_run:
        show({"backup_id": chosen.id, "state": chosen.state, "taken_at": chosen.taken_at, "store": store.url}, output)
        return 0
    with ending_cleanly(), shown(quiet) as on_progress:
        try:
            report = ops.drill(
                platform,
                store,
                chosen,
                datetime.now(UTC),
                identities=identities_of(config, store, identity_files),
                on_progress=on_progress,
            )
        except ops.NotProven as failed:
            show(failed.report, output)
            raise
    show(report, output)
    return 0


def _list(found: list[Any], output: str) -> int:
    show(found, output)
    forged = [one.backup_id for one in found if one.genuine is False]
    if forged:
        raise VerificationFailed(
            f"the receipts of {', '.join(forged[:3])} were changed after they were signed",
            hint="look into who writes to the store, and drill them again",
        )
    return 0
