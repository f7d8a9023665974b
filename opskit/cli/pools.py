"""`opskit pools`: list, get, set, delete, export and import pools."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from opskit.cli.cluster import open_cluster
from opskit.cli.output import output_option, show
from opskit.cli.transfer import kind_of, read_text, show_import, write_text

_COLUMNS = ["pool", "slots", "used_slots", "open_slots", "description"]
_FORMAT = click.option(
    "--file-format", type=click.Choice(["json", "yaml"]), help="Format, when the name of the file does not tell."
)


@click.group()
def pools() -> None:
    """Manage pools."""


@pools.command("list")
@output_option
def list_pools(output: str) -> None:
    """List pools with the slots that are used now."""
    from opskit.core.metastore import pools as queries

    with open_cluster().reading() as database:
        found = queries.list_pools(database)
    show([{name: getattr(item, name) for name in _COLUMNS} for item in found], output)


@pools.command()
@click.argument("pool")
@output_option
def get(pool: str, output: str) -> None:
    """Show one pool."""
    from opskit.core.metastore import pools as queries

    with open_cluster().reading() as database:
        found = queries.get_pool(database, pool)
    show({name: getattr(found, name) for name in _COLUMNS}, output)


@pools.command("set")
@click.argument("pool")
@click.argument("slots", type=int)
@click.argument("description", default="")
def set_pool(pool: str, slots: int, description: str) -> None:
    """Make a pool, or change its slots."""
    from opskit.core.metastore import audit
    from opskit.core.metastore import pools as queries

    with open_cluster().changing() as database:
        is_new = queries.set_pool(database, pool, slots, description or None)
        audit.write(database, "pools set", datetime.now(UTC), extra={"pool": pool, "slots": slots, "new": is_new})
    click.echo(f"{'added' if is_new else 'changed'} pool {pool}: {slots} slots")


@pools.command()
@click.argument("pool")
def delete(pool: str) -> None:
    """Delete a pool."""
    from opskit.core.metastore import audit
    from opskit.core.metastore import pools as queries

    with open_cluster().changing() as database:
        queries.delete_pool(database, pool)
        audit.write(database, "pools delete", datetime.now(UTC), extra={"pool": pool})
    click.echo(f"deleted pool {pool}")


@pools.command("export")
@click.argument("file")
@_FORMAT
def export_pools(file: str, file_format: str | None) -> None:
    """Write all pools to FILE (- for standard output), in Airflow's format."""
    from opskit.core.metastore import interchange
    from opskit.core.metastore import pools as queries

    kind = kind_of(file, file_format)
    with open_cluster().reading() as database:
        found = queries.list_pools(database)
    fields = [interchange.PoolFields(item.pool, item.slots, item.description or "") for item in found]
    write_text(file, interchange.dump_pools(fields, kind), f"{len(found)} pools")


@pools.command("import")
@click.argument("file")
@_FORMAT
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@output_option
def import_pools(file: str, file_format: str | None, dry_run: bool, output: str) -> None:
    """Read pools from FILE (- for standard input), as Airflow or this command exports them; existing ones change."""
    from opskit.core.metastore import audit, imports, interchange

    items = interchange.load_pools(read_text(file), kind_of(file, file_format), file)
    cluster = open_cluster()
    with cluster.reading() if dry_run else cluster.changing() as database:
        done = imports.import_pools(database, items)
        if not dry_run:
            extra = {"from": file, "added": done.added, "replaced": done.replaced}
            audit.write(database, "pools import", datetime.now(UTC), extra=extra)
    show_import(done, output, "")
