"""`opskit db`: create, check, migrate, reset and look into the metastore."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import click

from opskit import config as settings
from opskit.cli.cluster import confirm, open_cluster
from opskit.cli.lazy import LazyCommands
from opskit.cli.output import output_option, show
from opskit.config import Config
from opskit.errors import GuardRefused, SchemaNotCurrent

_MORE = {"clean": ("opskit.cli.db_clean:clean", "Remove old DagRuns and what belongs to them.")}


@click.group(cls=LazyCommands, commands_elsewhere=_MORE)
def db() -> None:
    """Create, check, migrate and clean the metastore."""


@db.command()
@output_option
def migrate(output: str) -> None:
    """Create the metastore, or bring its schema to this version.

    Safe to run at any time, and from several places at once. Take a backup before an upgrade: opskit backup.
    """
    from opskit.core.metastore import crypto, schema
    from opskit.core.metastore.engine import redacted

    cluster = open_cluster()
    crypto.open_cipher(cluster.config)  # the key is there before the first secret
    done = schema.migrate(cluster.engine, default_pool_slots=int(cluster.config.get("core", "default_pool_slots")))
    if output != "table":
        show({"before": done.before, "after": done.after, "changed": done.changed}, output)
    elif not done.changed:
        click.echo(f"the schema is current: revision {done.after} on {redacted(cluster.config.database_url)}")
    elif done.before is None:
        click.echo(f"created the metastore, revision {done.after}: {redacted(cluster.config.database_url)}")
    else:
        click.echo(f"migrated the metastore from revision {done.before} to {done.after}")


@db.command()
def check() -> None:
    """Check that the metastore can be reached and that its schema is current; exit 12 when not."""
    from opskit.core.metastore import schema
    from opskit.core.metastore.engine import redacted

    cluster = open_cluster()
    schema.check(cluster.engine)
    click.echo(f"the schema is current: revision {schema.HEAD} on {redacted(cluster.config.database_url)}")


@db.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be lost.")
def reset(yes: bool, dry_run: bool) -> None:
    """Drop all tables with everything in them, and create them anew.

    Refused while a scheduler, worker or DAG processor is alive.
    """
    from opskit.core.metastore import audit, schema
    from opskit.core.metastore.engine import reading, redacted, transaction

    cluster = open_cluster()
    where = redacted(cluster.config.database_url)
    _refuse_while_alive(cluster.config)
    counts = {}
    if not _is_new(cluster.config.database_url):
        with reading(cluster.engine) as connection:
            counts = schema.count_rows(connection)
    lost = ", ".join(f"{rows} {table}" for table, rows in counts.items() if rows) or "nothing"
    if dry_run:
        click.echo(f"would reset {where} and lose: {lost}")
        return
    confirm(f"Reset {where}? This loses: {lost}.", yes)
    schema.reset(cluster.engine, default_pool_slots=int(cluster.config.get("core", "default_pool_slots")))
    with transaction(cluster.engine) as connection:
        audit.write(connection, "db reset", datetime.now(UTC), extra={"lost": counts})
    click.echo(f"reset {where}")


def _is_new(url: str) -> bool:
    from opskit.core.metastore.engine import sqlite_path

    path = sqlite_path(url)
    return path is not None and not path.exists()


def _refuse_while_alive(config: Config) -> None:
    """GuardRefused when an instance beat lately, or one of this home is a process that lives."""
    from opskit.core.metastore import instances
    from opskit.core.metastore.engine import open_engine, reading
    from opskit.system.daemon import is_alive, read_pid_files

    alive = [
        f"{file.kind} (pid {file.pid})"
        for _, file in read_pid_files(config.run_folder)
        if is_alive(file.pid, file.pid_started)
    ]
    if not alive and not _is_new(config.database_url):
        since = datetime.now(UTC) - timedelta(
            seconds=float(config.get("scheduler", "scheduler_health_check_threshold"))
        )
        try:
            with reading(open_engine(config, pool_size=1)) as connection:
                found = instances.list_instances(connection, living_only=True, alive_since=since)
        except SchemaNotCurrent:
            found = []  # there are no tables yet, or older ones
        alive = [f"{one.kind} on {one.hostname} (pid {one.pid})" for one in found]
    if alive:
        raise GuardRefused(f"{', '.join(alive)} is alive", hint="stop it first")


@db.command()
def shell() -> None:
    """Open the database's own client on the metastore."""
    from opskit.core.metastore.shell import shell as find_shell

    found = find_shell(settings.load().database_url)
    os.execve(found.arguments[0], found.arguments, {**os.environ, **found.environment})  # noqa: S606 -- no shell is meant
