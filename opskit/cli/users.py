"""`opskit users`: who may use the web UI and the REST API."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from opskit.cli.cluster import confirm, open_cluster
from opskit.cli.lazy import LazyCommands
from opskit.cli.output import output_option, show
from opskit.cli.transfer import read_text, secret, write_text
from opskit.errors import UsageError

if TYPE_CHECKING:
    from opskit.core.metastore.engine import Connection

F = TypeVar("F", bound=Callable[..., Any])
_COLUMNS = ["id", "username", "email", "first_name", "last_name", "roles", "is_active", "last_sign_in_at"]
_PASSWORD = click.option("-p", "--password", help="The password; - reads it from standard input.")
_RANDOM = click.option("--use-random-password", is_flag=True, help="A random password; it is printed once.")


def _which(function: F) -> F:
    """`--username` or `--email`, of which one must be given."""
    by_email = click.option("-e", "--email", help="The user's e-mail address.")
    return click.option("-u", "--username", help="The user's name.")(by_email(function))


@click.group(cls=LazyCommands, commands_elsewhere={"token": ("opskit.cli.user_tokens:token", "Tokens for programs.")})
def users() -> None:
    """Manage the users of the web UI and the REST API."""


@users.command("list")
@output_option
def list_users(output: str) -> None:
    """List users."""
    from opskit.core.metastore import users as queries

    with open_cluster().reading() as database:
        found = queries.list_users(database)
    show([{name: getattr(user, name) for name in _COLUMNS} for user in found], output)


@users.command()
@click.option("-u", "--username", required=True, help="What the person types to sign in.")
@click.option("-f", "--firstname", default="", help="First name.")
@click.option("-l", "--lastname", default="", help="Last name.")
@click.option("-e", "--email", default="", help="E-mail address.")
@click.option("-r", "--role", "roles", multiple=True, required=True, help="Role: Admin, Op, User, Viewer … Repeatable.")
@_PASSWORD
@_RANDOM
@click.option("--external", is_flag=True, help="No password: signs in by OpenID Connect or through a proxy.")
def create(
    username: str,
    firstname: str,
    lastname: str,
    email: str,
    roles: tuple[str, ...],
    password: str | None,
    use_random_password: bool,
    external: bool,
) -> None:
    """Add a user. Without --password, --use-random-password or --external it is asked for."""
    from opskit.core.metastore import audit, passwords
    from opskit.core.metastore import users as queries

    if external and (password or use_random_password):
        raise UsageError("--external and a password exclude each other")
    cluster = open_cluster()
    with cluster.reading() as database:
        if queries.find_user(database, username) is not None:
            raise UsageError(f"there is a user {username!r} already")
    chosen = None if external else _password(username, password, use_random_password)
    hashed, now = (passwords.hashed(chosen) if chosen is not None else None), datetime.now(UTC)
    with cluster.changing() as database:
        queries.create_user(
            database,
            username,
            now,
            roles=roles,
            password_hash=hashed,
            first_name=firstname,
            last_name=lastname,
            email=email,
        )
        audit.write(database, "users create", now, extra={"user": username, "roles": roles})
    click.echo(f"added user {username} ({', '.join(roles)})")
    if use_random_password:
        click.echo(f"password: {chosen}")


@users.command()
@_which
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(username: str | None, email: str | None, yes: bool) -> None:
    """Delete a user, with all sessions and tokens."""
    from opskit.core.metastore import audit
    from opskit.core.metastore import users as queries

    cluster = open_cluster()
    with cluster.reading() as database:
        name = _name(database, username, email)
    confirm(f"Delete user {name}?", yes or not sys.stdin.isatty())
    with cluster.changing() as database:
        queries.delete_user(database, name)
        audit.write(database, "users delete", datetime.now(UTC), extra={"user": name})
    click.echo(f"deleted user {name}")


@users.command("reset-password")
@_which
@_PASSWORD
@_RANDOM
def reset_password(username: str | None, email: str | None, password: str | None, use_random_password: bool) -> None:
    """Give a user another password. All sessions of the user end; whoever was locked out may try again at once."""
    from opskit.core.metastore import audit, passwords, sign_in_limits
    from opskit.core.metastore import users as queries

    cluster = open_cluster()
    with cluster.reading() as database:
        name = _name(database, username, email)
    chosen = _password(name, password, use_random_password)
    hashed, now = passwords.hashed(chosen), datetime.now(UTC)
    with cluster.changing() as database:
        queries.update_user(database, name, now, {"password_hash": hashed})
        sign_in_limits.forget(database, name)
        audit.write(database, "users reset-password", now, extra={"user": name})
    click.echo(f"user {name} has another password")
    if use_random_password:
        click.echo(f"password: {chosen}")


@users.command("add-role")
@_which
@click.option("-r", "--role", required=True, help="The role.")
def add_role(username: str | None, email: str | None, role: str) -> None:
    """Give a user a role."""
    _change_roles("users add-role", username, email, role, lambda roles: [*roles, role])


@users.command("remove-role")
@_which
@click.option("-r", "--role", required=True, help="The role.")
def remove_role(username: str | None, email: str | None, role: str) -> None:
    """Take a role from a user."""
    _change_roles("users remove-role", username, email, role, lambda roles: [one for one in roles if one != role])


@users.command()
@_which
def activate(username: str | None, email: str | None) -> None:
    """Let a user sign in (again)."""
    _set_active("users activate", username, email, True)


@users.command()
@_which
def deactivate(username: str | None, email: str | None) -> None:
    """Let a user no longer sign in; all sessions end, and tokens don't hold."""
    _set_active("users deactivate", username, email, False)


@users.command("export")
@click.argument("file")
@click.option("--with-password-hashes", "hashes", is_flag=True, help="Also the hashes of passwords: keep FILE secret.")
def export_users(file: str, hashes: bool) -> None:
    """Write all users to FILE (- for standard output), in Airflow's format."""
    from opskit.core.metastore import access_files, audit

    with open_cluster().changing() as database:
        text = access_files.dump_users(database, hashes=hashes)
        if hashes:
            audit.write(database, "users export", datetime.now(UTC), extra={"to": file, "hashes": True})
    write_text(file, text, "all users")


@users.command("import")
@click.argument("file")
@output_option
def import_users(file: str, output: str) -> None:
    """Add and change users by FILE (- for standard input), as Airflow or this command exports them."""
    from opskit.core.metastore import access_files, audit

    text, now = read_text(file), datetime.now(UTC)
    with open_cluster().changing() as database:
        done = access_files.import_users(database, text, file, now)
        extra = {"from": file, "added": done.added, "changed": done.changed}
        audit.write(database, "users import", now, extra=extra)
    show_access_import(done, output)
    if done.without_password and output == "table":
        click.echo(f"have no password yet: {', '.join(done.without_password)} (opskit users reset-password)")


def show_access_import(done: Any, output: str) -> None:
    if output != "table":
        show(done, output)
        return
    for word in ("added", "changed", "unchanged", "skipped"):
        if names := getattr(done, word):
            click.echo(f"{word}: {', '.join(names)}")


def _name(database: Connection, username: str | None, email: str | None) -> str:
    from opskit.core.metastore import users as queries

    if (username is None) == (email is None):
        raise UsageError("name the user by --username or by --email")
    user = queries.get_user(database, username) if username else queries.user_by_email(database, email or "")
    return user.username


def _password(username: str, given: str | None, random: bool) -> str:
    from opskit.core.metastore import passwords

    if given is not None and random:
        raise UsageError("--password and --use-random-password exclude each other")
    if random:
        return passwords.random_password()
    if given is None and not sys.stdin.isatty():
        raise UsageError(
            "a password is needed", hint="--password - reads it from standard input; --use-random-password"
        )
    chosen = secret(given) or click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    passwords.check(chosen, username)
    return str(chosen)


def _change_roles(
    event: str,
    username: str | None,
    email: str | None,
    role: str,
    change: Callable[[tuple[str, ...]], list[str]],
) -> None:
    from opskit.core.metastore import audit
    from opskit.core.metastore import roles as role_queries
    from opskit.core.metastore import users as queries

    now = datetime.now(UTC)
    with open_cluster().changing() as database:
        name = _name(database, username, email)
        role_queries.require_roles(database, [role])
        before = queries.get_user(database, name).roles
        roles = change(before)
        after = queries.update_user(database, name, now, {"roles": roles}).roles
        if after != before:
            audit.write(database, event, now, extra={"user": name, "role": role})
    click.echo(f"user {name} has {', '.join(after) or 'no role'}" + ("" if after != before else ", as before"))


def _set_active(event: str, username: str | None, email: str | None, active: bool) -> None:
    from opskit.core.metastore import audit
    from opskit.core.metastore import users as queries

    now = datetime.now(UTC)
    with open_cluster().changing() as database:
        name = _name(database, username, email)
        queries.update_user(database, name, now, {"is_active": active})
        audit.write(database, event, now, extra={"user": name})
    click.echo(f"user {name} is {'active' if active else 'deactivated'}")
