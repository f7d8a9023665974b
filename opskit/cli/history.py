"""`opskit history`: read what `opskit db clean` has archived."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from opskit import config as settings
from opskit.cli.output import output_option, show

_COLUMNS = {
    "dag_run": ("dag_id", "run_id", "run_type", "state", "logical_date", "start_date", "end_date"),
    "task_instance": ("dag_id", "run_id", "task_id", "map_index", "state", "try_number", "start_date", "end_date"),
    "task_attempt": ("dag_id", "run_id", "task_id", "map_index", "try_number", "state", "start_date", "end_date"),
    "xcom": ("dag_id", "run_id", "task_id", "map_index", "key", "value"),
    "log": ("at", "owner", "event", "dag_id", "run_id", "task_id", "extra"),
}


def _time(_: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no time: 2026-03-01 or 2026-03-01T12:00:00+00:00", param=param
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


@click.group()
def history() -> None:
    """Read the archive of history that `opskit db clean` writes."""


@history.command()
@click.option("--table", default="dag_run", show_default=True, help="dag_run, task_instance, xcom, log …")
@click.option("--dag", default="*", help="Pattern of dag_ids.")
@click.option("--run", "run_id", help="run_id.")
@click.option("--since", callback=_time, help="Logical date (or time) at or after this; UTC where it does not say.")
@click.option("--until", callback=_time, help="Logical date (or time) before this.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--archive", help="Folder or s3://bucket/prefix.  [default: cleanup.archive_to]")
@click.option(
    "--identity",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a secret key of one of the recipients, for an encrypted archive.  [default: backup.identity]",
)
@output_option
def query(
    table: str,
    dag: str,
    run_id: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    archive: str | None,
    identity: Path | None,
    output: str,
) -> None:
    """Show archived rows.

    Exit code 2: there is no archive, or no such table in it; 13: it can't be reached; 14: an object was changed; 16: it
    is encrypted, and the identity does not fit.
    """
    from opskit.ops.db_clean_archive import Wanted
    from opskit.ops.db_clean_archive import query as run
    from opskit.system.encryption import read_identities

    config = settings.load()
    file = identity or (Path(name) if (name := str(config.get("backup", "identity"))) else None)
    keys = tuple(read_identities(file.read_text())) if file is not None and file.is_file() else ()
    rows = run(config, Wanted(table, dag, run_id, since, until, limit), url=archive, identities=keys)
    show(rows, output, columns=_COLUMNS.get(table))
