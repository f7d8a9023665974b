"""`opskit env`: export and compare environments, and the key of their fingerprints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opskit import config as settings
from opskit.cli.lazy import LazyCommands
from opskit.cli.output import output_option, show
from opskit.errors import PartialFailure, UsageError

if TYPE_CHECKING:
    from opskit.ops.env import DriftReport
    from opskit.ops.env_sources import Access, Environment

_ELSEWHERE = {
    "plan": ("opskit.cli.env_apply:plan", "Say what would change, and write it to a file."),
    "apply": ("opskit.cli.env_apply:apply", "Bring a plan, a file or an environment to an environment."),
    "undo": ("opskit.cli.env_apply:undo", "Take an apply back."),
}


@click.group(cls=LazyCommands, commands_elsewhere=_ELSEWHERE)
def env() -> None:
    """Promote connections, variables, pools and pause states between environments.

    An environment is . (this installation), a folder (another OPSKIT_HOME), a database URL, env:NAME (what that
    environment variable holds), or a file: an export of this command, or of Airflow's.
    """


def access_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--only`, `--identity` and `--fernet-key-file`."""
    options: tuple[Callable[[Any], Any], ...] = (
        click.option("--only", multiple=True, metavar="GLOB", help="Only these: connections/pg_*, variables/*, name."),
        click.option("--identity", multiple=True, metavar="FILE", help="Identity file for encrypted exports."),
        click.option("--fernet-key-file", metavar="FILE", help="Fernet keys of a database that is named by its URL."),
    )
    for option in options:
        function = option(function)
    return function


def access_of(only: tuple[str, ...], identity: tuple[str, ...], fernet_key_file: str | None) -> Access:
    from opskit import platforms
    from opskit.ops.env_sources import Access

    key_file = Path(fernet_key_file) if fernet_key_file else None
    return Access(platforms.find(settings.load()), only, tuple(map(Path, identity)), key_file)


@env.command("export")
@click.argument("file", default="-")
@click.option("--from", "source", default=".", show_default=True, help="The environment.")
@click.option("--with-secrets", is_flag=True, help="With secrets, encrypted for the recipients.")
@click.option("--recipient", multiple=True, metavar="KEY", help="age1… or an SSH public key. Default: env.recipients.")
@click.option("--force", is_flag=True, help="Replace the file.")
@access_options
def export_(file: str, source: str, with_secrets: bool, recipient: tuple[str, ...], force: bool, **access: Any) -> None:
    """Write an environment to FILE (- for standard output), fingerprints in the place of secrets.

    The same state gives the same bytes: keep the file in git.
    """
    from opskit.ops import env as ops
    from opskit.ops import env_document
    from opskit.system import encryption

    opened = access_of(**access)
    recipients = list(recipient) or list(opened.platform.config.get("env", "recipients"))
    if recipient and not with_secrets:
        raise UsageError("an export without secrets has no recipients", hint="add --with-secrets")
    if with_secrets:
        encryption.check_recipients(recipients)
    if file != "-" and not force and Path(file).exists():
        raise UsageError(f"{file} is there already", hint="choose another name, or --force to replace it")
    report = ops.export(opened, source, recipients=recipients if with_secrets else ())
    if file == "-":
        sys.stdout.buffer.write(report.content)
    else:
        env_document.write_file(Path(file), report.content, force=force)
        counted = ", ".join(f"{count} {kind}" for kind, count in report.counts.items())
        how = f"encrypted for {report.encrypted_for}" if report.encrypted_for else "secrets as fingerprints"
        click.echo(f"wrote {counted} to {file}, {how}", err=True)
    if with_secrets:
        opened.platform.audit.write(
            "env export", datetime.now(UTC), {"from": source, "to": file, **report.counts, "recipients": recipients}
        )
    if report.unreadable:
        raise PartialFailure(
            f"{len(report.unreadable)} values can't be decrypted: {', '.join(report.unreadable[:10])}",
            hint="they are marked in the export; see: opskit fernet repair --help",
        )


def _two(first: str, second: str | None, opened: Access) -> tuple[Environment, Environment]:
    from opskit.ops.env_sources import open_environment

    # One name: what it says against what is here.
    names = (first, second) if second is not None else (first, ".")
    return open_environment(names[0], opened), open_environment(names[1], opened)


def _compare(first: str, second: str | None, mapping: str | None, access: dict[str, Any]) -> DriftReport:
    from opskit.ops import env as ops

    opened = access_of(**access)
    return ops.drift(opened, *_two(first, second, opened), mapping=Path(mapping) if mapping else None)


_MAPPING = click.option("--mapping", metavar="FILE", help="Mapping file (TOML) from the first to the second.")


@env.command()
@click.argument("first")
@click.argument("second", required=False)
@_MAPPING
@access_options
@output_option
def diff(first: str, second: str | None, mapping: str | None, output: str, **access: Any) -> int:
    """Show field by field what differs between two environments (or one and this installation). 5 when they differ."""
    from opskit.ops.env import shown_difference

    report = _compare(first, second, mapping, access)
    if output != "table":
        shown = [shown_difference(item) for item in report.differences]
        show({"first": report.first, "second": report.second, "same": report.same, "differences": shown}, output)
    else:
        click.echo(f"- {report.first}\n+ {report.second}")
        for item in report.differences:
            click.echo(f"{item.object}" + ("" if item.where == "both" else f"  ({item.where})"))
            for path, (left, right) in item.fields.items():
                if item.where != "only second":
                    click.echo(f"  - {path}: {text(left)}")
                if item.where != "only first":
                    click.echo(f"  + {path}: {text(right)}")
    return _ended(report)


@env.command()
@click.argument("first")
@click.argument("second", required=False)
@_MAPPING
@access_options
@output_option
def drift(first: str, second: str | None, mapping: str | None, output: str, **access: Any) -> int:
    """Name what differs between two environments (or one and this installation). 5 when they differ."""
    report = _compare(first, second, mapping, access)
    if output != "table":
        rows = [
            {"object": item.object, "where": item.where, "fields": sorted(item.fields)} for item in report.differences
        ]
        show({"first": report.first, "second": report.second, "same": report.same, "drift": rows}, output)
    else:
        for item in report.differences:
            detail = ", ".join(item.fields) if item.where == "both" else item.where
            click.echo(f"{item.object}: {detail}")
    return _ended(report)


def _ended(report: DriftReport) -> int:
    click.echo(f"{len(report.differences)} differ, {report.same} are the same", err=True)
    if report.unreadable:
        click.echo(f"{len(report.unreadable)} can't be decrypted: {', '.join(report.unreadable[:10])}", err=True)
    if report.differences:
        return 5
    return 3 if report.unreadable else 0


def text(value: Any) -> str:
    """A redacted value on one line."""
    import json

    from opskit.ops.env_secrets import Secret, to_json
    from opskit.platforms.configuration import Unreadable

    if value is None:
        return "(nothing)"
    if isinstance(value, Secret):
        return f"(secret {value.fingerprint[:12]})"
    if isinstance(value, Unreadable):
        return "(can't be decrypted)"
    return json.dumps(to_json(value), ensure_ascii=True, sort_keys=True)


@env.command()
@click.option("--show", "in_clear", is_flag=True, help="Print the key itself.")
@click.option(
    "--recipient", multiple=True, metavar="KEY", help="Print it encrypted, for another environment to import."
)
@click.option("--import", "file", metavar="FILE", help="Take this key (- for standard input), encrypted or not.")
@click.option("--identity", multiple=True, metavar="FILE", help="Identity file for an encrypted key.")
@click.option("--force", is_flag=True, help="Replace another key: old exports can't be compared any more.")
def key(in_clear: bool, recipient: tuple[str, ...], file: str | None, identity: tuple[str, ...], force: bool) -> None:
    """Tell which key the fingerprints of secrets are made with; environments with the same one can be compared.

    From one to the other: opskit env key --recipient age1… > key.age, and there: opskit env key --import key.age
    """
    from opskit.ops import env_key

    opened = access_of((), identity, None)
    if file is not None:
        data = sys.stdin.buffer.read() if file == "-" else None
        found = env_key.take(opened, None if file == "-" else Path(file), data, datetime.now(UTC), force=force)
        click.echo(f"the key of fingerprints is {found.key_id}")
    elif recipient:
        content = env_key.encrypted(opened, recipient)
        if sys.stdout.isatty():
            raise UsageError("the encrypted key is binary", hint="write it to a file: … > key.age")
        sys.stdout.buffer.write(content)
    else:
        found = env_key.current(opened)
        click.echo(found.key if in_clear else found.key_id)
