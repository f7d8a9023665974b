"""`opskit variables`: list, get, set, delete, export and import variables."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click

from opskit.cli.cluster import open_cluster
from opskit.cli.output import output_option, show
from opskit.cli.transfer import kind_of, read_text, require_readable, secret, show_import, write_text
from opskit.errors import UsageError

_FORMAT = click.option(
    "--file-format", type=click.Choice(["json", "yaml"]), help="Format, when the name of the file does not tell."
)


@click.group()
def variables() -> None:
    """Manage variables."""


@variables.command("list")
@click.option("--show-values", is_flag=True, help="Also values; those of secret names are masked.")
@click.option("--show-secrets", is_flag=True, help="Also values, all in the clear.")
@output_option
def list_variables(show_values: bool, show_secrets: bool, output: str) -> None:
    """List variables."""
    from opskit.core.dag.secret_names import is_secret_name
    from opskit.core.metastore import crypto
    from opskit.core.metastore import variables as queries

    cluster = open_cluster()
    if not show_values and not show_secrets:
        with cluster.reading() as database:
            keys = queries.variable_keys(database)
        show([{"key": key, "description": description} for key, description in keys], output)
        return
    cipher = crypto.open_cipher(cluster.config)
    unreadable: list[str] = []
    with cluster.reading() as database:
        found = queries.list_variables(database, cipher, None, unreadable)
    rows = [
        {
            "key": item.key,
            "value": "***" if is_secret_name(item.key) and not show_secrets else item.value,
            "description": item.description,
        }
        for item in found
    ]
    show(rows, output)
    require_readable(unreadable, "variables")


@variables.command()
@click.argument("key")
@click.option("-j", "--json", "as_json", is_flag=True, help="The value is JSON: print it indented.")
@click.option("-d", "--default", help="Printed when there is no such variable.")
@click.option("--show-secrets", is_flag=True, help="Print it even when its name says that it is secret.")
def get(key: str, as_json: bool, default: str | None, show_secrets: bool) -> None:
    """Print the value of a variable."""
    from opskit.core.dag.secret_names import is_secret_name
    from opskit.core.metastore import crypto
    from opskit.core.metastore import variables as queries

    cluster = open_cluster()
    cipher = crypto.open_cipher(cluster.config)
    with cluster.reading() as database:
        if default is None:
            value = queries.get_variable(database, cipher, key).value
        else:
            found = queries.find_variable(database, cipher, key)
            value = default if found is None else found.value
    if is_secret_name(key) and not show_secrets:
        raise UsageError(f"variable {key!r} is secret by its name", hint="add --show-secrets to print it")
    if as_json:
        try:
            value = json.dumps(json.loads(value), indent=2, ensure_ascii=False)
        except ValueError as error:
            raise UsageError(f"variable {key!r} is no JSON: {error}") from error
    click.echo(value)


@variables.command("set")
@click.argument("key")
@click.argument("value")
@click.option("-j", "--json", "as_json", is_flag=True, help="The value is JSON: refuse other text.")
@click.option("--description", help="A line for people.")
def set_variable(key: str, value: str, as_json: bool, description: str | None) -> None:
    """Set a variable to VALUE (- reads standard input)."""
    from opskit.core.metastore import audit, crypto
    from opskit.core.metastore import variables as queries

    text = str(secret(value))
    if as_json:
        try:
            text = json.dumps(json.loads(text), indent=2)
        except ValueError as error:
            raise UsageError(f"variable {key!r}: the value is no JSON: {error}") from error
    cluster = open_cluster()
    cipher = crypto.open_cipher(cluster.config)
    with cluster.changing() as database:
        is_new = queries.set_variable(database, cipher, key, text, description)
        audit.write(database, "variables set", datetime.now(UTC), extra={"key": key, "new": is_new})
    click.echo(f"{'added' if is_new else 'changed'} variable {key}")


@variables.command()
@click.argument("key")
def delete(key: str) -> None:
    """Delete a variable."""
    from opskit.core.metastore import audit
    from opskit.core.metastore import variables as queries

    with open_cluster().changing() as database:
        queries.require_deleted(database, key)
        audit.write(database, "variables delete", datetime.now(UTC), extra={"key": key})
    click.echo(f"deleted variable {key}")


@variables.command("export")
@click.argument("file")
@_FORMAT
def export_variables(file: str, file_format: str | None) -> None:
    """Write all variables, in the clear, to FILE (- for standard output).

    The file is Airflow's format, and only its owner can read it.
    """
    from opskit.core.metastore import audit, crypto, interchange
    from opskit.core.metastore import variables as queries

    kind = kind_of(file, file_format)
    cluster = open_cluster()
    cipher = crypto.open_cipher(cluster.config)
    unreadable: list[str] = []
    with cluster.changing() as database:
        found = queries.list_variables(database, cipher, None, unreadable)
        audit.write(database, "variables export", datetime.now(UTC), extra={"to": file, "count": len(found)})
    write_text(file, interchange.dump_variables(found, kind), f"{len(found)} variables, in the clear,")
    require_readable(unreadable, "variables")


@variables.command("import")
@click.argument("file")
@_FORMAT
@click.option(
    "-a",
    "--action-on-existing-key",
    type=click.Choice(["overwrite", "skip", "fail"]),
    default="overwrite",
    show_default=True,
    help="What to do with keys that exist with another value.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@output_option
def import_variables(
    file: str, file_format: str | None, action_on_existing_key: str, dry_run: bool, output: str
) -> None:
    """Read variables from FILE (- for standard input), as Airflow or this command exports them."""
    from opskit.core.metastore import audit, crypto, imports, interchange

    items = interchange.load_variables(read_text(file), kind_of(file, file_format), file)
    cluster = open_cluster()
    cipher = crypto.open_cipher(cluster.config)
    with cluster.reading() if dry_run else cluster.changing() as database:
        done = imports.import_variables(database, cipher, items, overwrite=action_on_existing_key == "overwrite")
        if done.kept and action_on_existing_key == "fail":
            raise UsageError(
                f"{len(done.kept)} variables exist with another value: {', '.join(done.kept)}",
                hint="nothing was imported; see --action-on-existing-key",
            )
        if not dry_run:
            extra = {"from": file, "added": done.added, "replaced": done.replaced}
            audit.write(database, "variables import", datetime.now(UTC), extra=extra)
    if action_on_existing_key == "skip":
        for key in done.kept:
            click.echo(f"skipped: {key}", err=True)
        done.kept.clear()
    show_import(done, output, "see --action-on-existing-key")
