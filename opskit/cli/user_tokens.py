"""`opskit users token`: tokens with which programs use the REST API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from opskit.cli.cluster import open_cluster
from opskit.cli.output import output_option, show

_COLUMNS = ["id", "username", "name", "scopes", "created_at", "expires_at", "used_at", "revoked_at"]


@click.group()
def token() -> None:
    """Manage tokens for programs."""


@token.command()
@click.option("-u", "--username", required=True, help="In whose name the program acts.")
@click.option("-n", "--name", required=True, help="What the token is for.")
@click.option(
    "-s",
    "--scope",
    "scopes",
    multiple=True,
    default=("all",),
    show_default=True,
    help='all that the user may, read, or an action on a resource as "can_read:DAGs". Repeatable.',
)
@click.option("--expires-days", type=click.IntRange(1, 36_500), default=90, show_default=True, help="It holds so long.")
@click.option("--never-expires", is_flag=True, help="It holds until it is revoked.")
@output_option
def create(
    username: str, name: str, scopes: tuple[str, ...], expires_days: int, never_expires: bool, output: str
) -> None:
    """Make a token; it is printed once."""
    from opskit.core.metastore import api_tokens, audit
    from opskit.core.metastore import users as queries

    now = datetime.now(UTC)
    expires = None if never_expires else now + timedelta(days=expires_days)
    with open_cluster().changing() as database:
        user = queries.get_user(database, username)
        text, made = api_tokens.create_token(database, user, name, now, scopes=scopes, expires_at=expires)
        extra = {"user": username, "name": made.name, "scopes": made.scopes}
        audit.write(database, "users token create", now, extra=extra)
    if output == "table":
        click.echo(text)
    else:
        show({"id": made.id, "token": text, "expires_at": made.expires_at}, output)


@token.command("list")
@click.option("-u", "--username", help="Of this user only.")
@output_option
def list_tokens(username: str | None, output: str) -> None:
    """List tokens; their texts are nowhere."""
    from opskit.core.metastore import api_tokens
    from opskit.core.metastore import users as queries

    with open_cluster().reading() as database:
        if username is not None:
            queries.get_user(database, username)
        found = api_tokens.list_tokens(database, username)
    show([{name: getattr(one, name) for name in _COLUMNS} for one in found], output)


@token.command()
@click.argument("id", type=int)
def revoke(id: int) -> None:
    """Let a token hold no more."""
    from opskit.core.metastore import api_tokens, audit

    now = datetime.now(UTC)
    with open_cluster().changing() as database:
        one = api_tokens.revoke_token(database, id, now)
        audit.write(database, "users token revoke", now, extra={"user": one.username, "name": one.name})
    click.echo(f"revoked token {id} ({one.name}) of {one.username}")
