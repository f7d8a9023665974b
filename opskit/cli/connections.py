"""`opskit connections`: list, get, add, delete, export and import connections."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from opskit.cli.cluster import open_cluster
from opskit.cli.output import output_option, show
from opskit.cli.transfer import kind_of, read_text, require_readable, secret, show_import, write_text
from opskit.errors import UsageError

_COLUMNS = ["conn_id", "conn_type", "host", "port", "schema", "login", "description", "has_password", "has_extra"]
_FORMAT = click.option(
    "--file-format", type=click.Choice(["json", "yaml", "env"]), help="Format, when the name of the file does not tell."
)


@click.group()
def connections() -> None:
    """Manage connections."""


@connections.command("list")
@click.option("--conn-id", help="Only this one.")
@click.option("--show-secrets", is_flag=True, help="Also passwords, extras and URIs, in the clear.")
@output_option
def list_connections(conn_id: str | None, show_secrets: bool, output: str) -> None:
    """List connections, without their secrets."""
    from opskit.core.metastore import connections as queries
    from opskit.core.metastore import crypto

    cluster = open_cluster()
    if show_secrets:
        cipher = crypto.open_cipher(cluster.config)
        unreadable: list[str] = []
        with cluster.reading() as database:
            found = queries.list_connections(database, cipher, None if conn_id is None else [conn_id], unreadable)
        rows = [{"conn_id": item.conn_id, **item.to_dict(), "uri": item.get_uri()} for item in found]
        show(rows, output)
        require_readable(unreadable, "connections")
        return
    with cluster.reading() as database:
        shown = queries.show_connections(database)
    show([item for item in shown if conn_id in (None, item.conn_id)], output, columns=_COLUMNS)


@connections.command()
@click.argument("conn_id")
@click.option("--show-secrets", is_flag=True, help="Also secrets, in the clear.")
@output_option
def get(conn_id: str, show_secrets: bool, output: str) -> None:
    """Show one connection; secrets are masked."""
    from opskit.core.dag.secret_names import is_secret_name
    from opskit.core.metastore import connections as queries
    from opskit.core.metastore import crypto

    cluster = open_cluster()
    cipher = crypto.open_cipher(cluster.config)
    with cluster.reading() as database:
        found = queries.get_connection(database, cipher, conn_id)
    fields: dict[str, Any] = {"conn_id": conn_id, **found.to_dict(), "extra": found.extra_dejson}
    if show_secrets:
        fields["uri"] = found.get_uri()
    else:
        fields["password"] = "***" if found.password else found.password
        if found.host and "@" in found.host:
            fields["host"] = "***"
        fields["extra"] = _masked(found.extra_dejson, is_secret_name)
    show(fields, output)


def _masked(value: Any, is_secret_name: Any) -> Any:
    if isinstance(value, dict):
        return {name: "***" if is_secret_name(name) else _masked(item, is_secret_name) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, is_secret_name) for item in value]
    return value


@connections.command()
@click.argument("conn_id")
@click.option("--conn-uri", help="The connection as a URI. For this and the next ones: - reads standard input.")
@click.option("--conn-json", help="The connection as a JSON object.")
@click.option("--conn-type", help="Type: postgres, http, ssh …")
@click.option("--conn-description", help="A line for people.")
@click.option("--conn-host", help="Host.")
@click.option("--conn-login", help="Login.")
@click.option("--conn-password", help="Password.")
@click.option("--conn-schema", help="Schema.")
@click.option("--conn-port", help="Port.")
@click.option("--conn-extra", help="Extras as a JSON object.")
@click.option("--overwrite", is_flag=True, help="Replace an existing one.")
def add(
    conn_id: str,
    conn_uri: str | None,
    conn_json: str | None,
    conn_description: str | None,
    overwrite: bool,
    **fields: str | None,
) -> None:
    """Add a connection."""
    from opskit.core.dag.connection import Connection
    from opskit.core.metastore import audit, crypto
    from opskit.core.metastore import connections as queries

    given = {name.removeprefix("conn_"): secret(value) for name, value in fields.items() if value is not None}
    conn_type = fields["conn_type"]
    if sum((conn_uri is not None, conn_json is not None, bool(given))) != 1:
        raise UsageError(
            f"connection {conn_id}: give exactly one of --conn-uri, --conn-json and --conn-type with its fields"
        )
    if conn_json is not None:
        new = Connection.from_json(str(secret(conn_json)), conn_id)
    elif conn_uri is not None:
        new = Connection(conn_id=conn_id, uri=secret(conn_uri))
    else:
        if not conn_type:
            raise UsageError(f"connection {conn_id}: --conn-type is missing")
        extra = given.pop("extra", None)
        given.pop("type")
        new = Connection(conn_id=conn_id, conn_type=conn_type, extra=extra, **given)
    if conn_description is not None:
        new.description = conn_description
    cluster = open_cluster()
    cipher = crypto.open_cipher(cluster.config)
    with cluster.changing() as database:
        is_new = queries.put_connection(database, cipher, new, overwrite=overwrite)
        audit.write(database, "connections add", datetime.now(UTC), extra={"conn_id": conn_id, "new": is_new})
    click.echo(f"{'added' if is_new else 'replaced'} connection {conn_id}")


@connections.command()
@click.argument("conn_id")
def delete(conn_id: str) -> None:
    """Delete a connection."""
    from opskit.core.metastore import audit
    from opskit.core.metastore import connections as queries

    with open_cluster().changing() as database:
        queries.delete_connection(database, conn_id)
        audit.write(database, "connections delete", datetime.now(UTC), extra={"conn_id": conn_id})
    click.echo(f"deleted connection {conn_id}")


@connections.command("export")
@click.argument("file")
@_FORMAT
@click.option(
    "--serialization-format",
    type=click.Choice(["uri", "json"]),
    default="uri",
    show_default=True,
    help="How an .env file holds each connection. A URI holds no description.",
)
def export_connections(file: str, file_format: str | None, serialization_format: str) -> None:
    """Write all connections, secrets in the clear, to FILE (- for standard output).

    The file is Airflow's format, and only its owner can read it.
    """
    from opskit.core.metastore import audit, crypto, interchange
    from opskit.core.metastore import connections as queries

    kind = kind_of(file, file_format)
    cluster = open_cluster()
    cipher = crypto.open_cipher(cluster.config)
    unreadable: list[str] = []
    with cluster.changing() as database:
        found = queries.list_connections(database, cipher, None, unreadable)
        audit.write(database, "connections export", datetime.now(UTC), extra={"to": file, "count": len(found)})
    text = interchange.dump_connections(found, kind, serialization_format)
    write_text(file, text, f"{len(found)} connections, secrets in the clear,")
    require_readable(unreadable, "connections")


@connections.command("import")
@click.argument("file")
@_FORMAT
@click.option("--overwrite", is_flag=True, help="Replace existing ones.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@output_option
def import_connections(file: str, file_format: str | None, overwrite: bool, dry_run: bool, output: str) -> None:
    """Read connections from FILE (- for standard input), as Airflow or this command exports them.

    All of them or, when one can't be read, none.
    """
    from opskit.core.metastore import audit, crypto, imports, interchange

    items = interchange.load_connections(read_text(file), kind_of(file, file_format), file)
    cluster = open_cluster()
    cipher = crypto.open_cipher(cluster.config)
    with cluster.reading() if dry_run else cluster.changing() as database:
        done = imports.import_connections(database, cipher, items, overwrite=overwrite)
        if not dry_run:
            extra = {"from": file, "added": done.added, "replaced": done.replaced}
            audit.write(database, "connections import", datetime.now(UTC), extra=extra)
    show_import(done, output, "add --overwrite to replace them")
