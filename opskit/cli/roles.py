"""`opskit roles`: what users may do."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from opskit.cli.cluster import open_cluster
from opskit.cli.output import output_option, show
from opskit.cli.transfer import read_text, write_text

_ACTION = click.option("-a", "--action", "actions", multiple=True, required=True, help="can_read … Repeatable.")
_RESOURCE = click.option(
    "-r", "--resource", "resources", multiple=True, required=True, help='DAGs, "DAG:my_dag" … Repeatable.'
)


@click.group()
def roles() -> None:
    """Manage roles and what they allow."""


@roles.command("list")
@click.option("-p", "--permission", is_flag=True, help="Also what each allows: a line per role and resource.")
@output_option
def list_roles(permission: bool, output: str) -> None:
    """List roles."""
    from opskit.core.metastore import roles as queries

    with open_cluster().reading() as database:
        found = queries.list_roles(database)
    if not permission:
        show(
            [{"name": role.name, "builtin": role.is_builtin, "permissions": len(role.permissions)} for role in found],
            output,
        )
        return
    rows = []
    for role in found:
        for resource in sorted({resource for _, resource in role.permissions}):
            actions = sorted(action for action, on in role.permissions if on == resource)
            rows.append({"name": role.name, "resource": resource, "action": actions})
    show(rows, output)


@roles.command()
@click.argument("role", nargs=-1, required=True)
def create(role: tuple[str, ...]) -> None:
    """Make roles that allow nothing yet."""
    from opskit.core.metastore import audit
    from opskit.core.metastore import roles as queries

    now = datetime.now(UTC)
    with open_cluster().changing() as database:
        for name in role:
            queries.create_role(database, name)
            audit.write(database, "roles create", now, extra={"role": name})
    click.echo(f"added {', '.join(role)}")


@roles.command()
@click.argument("role", nargs=-1, required=True)
def delete(role: tuple[str, ...]) -> None:
    """Delete roles; users who have them lose them."""
    from opskit.core.metastore import audit
    from opskit.core.metastore import roles as queries

    now = datetime.now(UTC)
    with open_cluster().changing() as database:
        for name in role:
            had = queries.delete_role(database, name)
            audit.write(database, "roles delete", now, extra={"role": name, "users": had})
    click.echo(f"deleted {', '.join(role)}")


@roles.command("add-perms")
@click.argument("role", nargs=-1, required=True)
@_RESOURCE
@_ACTION
def add_perms(role: tuple[str, ...], resources: tuple[str, ...], actions: tuple[str, ...]) -> None:
    """Let roles allow each action on each resource."""
    _change(role, resources, actions, add=True)


@roles.command("del-perms")
@click.argument("role", nargs=-1, required=True)
@_RESOURCE
@_ACTION
def del_perms(role: tuple[str, ...], resources: tuple[str, ...], actions: tuple[str, ...]) -> None:
    """Let roles no longer allow each action on each resource."""
    _change(role, resources, actions, add=False)


@roles.command("export")
@click.argument("file")
@click.option("-p", "--pretty", is_flag=True, help="For people; it always is.", hidden=True)
def export_roles(file: str, pretty: bool) -> None:
    """Write what people made or added to FILE (- for standard output), in Airflow's format."""
    from opskit.core.metastore import access_files

    with open_cluster().reading() as database:
        found = access_files.own_roles(database)
    write_text(file, access_files.dump_roles(found), f"{len(found)} roles")


@roles.command("import")
@click.argument("file")
@output_option
def import_roles(file: str, output: str) -> None:
    """Add roles, and to roles, by FILE (- for standard input), as Airflow or this command exports them."""
    from opskit.cli.users import show_access_import
    from opskit.core.metastore import access_files, audit

    text, now = read_text(file), datetime.now(UTC)
    with open_cluster().changing() as database:
        done = access_files.import_roles(database, text, file)
        extra = {"from": file, "added": done.added, "changed": done.changed}
        audit.write(database, "roles import", now, extra=extra)
    show_access_import(done, output)


def _change(names: tuple[str, ...], resources: tuple[str, ...], actions: tuple[str, ...], *, add: bool) -> None:
    from opskit.core.metastore import audit
    from opskit.core.metastore import roles as queries
    from opskit.core.metastore.permissions import checked

    now = datetime.now(UTC)
    permissions = [checked(action, resource) for resource in resources for action in actions]
    change, event = (
        (queries.add_permissions, "roles add-perms") if add else (queries.remove_permissions, "roles del-perms")
    )
    with open_cluster().changing() as database:
        for name in names:
            change(database, name, permissions)
            audit.write(database, event, now, extra={"role": name, "permissions": permissions})
    click.echo(f"{', '.join(names)}: {len(permissions)} {'added' if add else 'removed'}")
