"""`opskit fernet`: rotate the key of secrets, audit and repair them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from opskit import config as settings
from opskit.cli.output import output_option, plain, show
from opskit.cli.progress import shown
from opskit.errors import PartialFailure, UsageError
from opskit.platforms.base import Platform


@click.group()
def fernet() -> None:
    """Rotate the Fernet key, tell which secrets it reads, and repair those that it does not."""


def _platform() -> Platform:
    from opskit import platforms

    return platforms.find(settings.load())


@fernet.command()
@output_option
def audit(output: str) -> int:
    """Tell which key reads which secrets. 5 when the newest key alone does not read them all."""
    from opskit.ops import fernet as ops

    report = ops.audit(_platform())
    if output != "table":
        show(report, output)
    else:
        for number, key in enumerate(report.keys):
            click.echo(f"{key}: {report.counts[key]} secrets" + (" (newest)" if number == 0 else ""))
        for word, names in (
            ("older key", report.outdated),
            ("can't be decrypted", report.unreadable),
            ("not encrypted", report.in_the_clear),
        ):
            for name in names:
                click.echo(f"{name}: {word}")
    return 0 if report.proven else 5


@fernet.command()
@click.option(
    "--stage",
    type=click.Choice(["all", "prepare", "promote", "finish"]),
    default="all",
    show_default=True,
    help="For several hosts; copy fernet.key to each after each stage. prepare adds a key that decrypts only, promote "
    "encrypts with it, finish re-encrypts, proves and retires.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@output_option
def rotate(stage: str, dry_run: bool, quiet: bool, output: str) -> None:
    """Bring all secrets under a new key; the old one is retired when every secret is proven.

    Begun again, it goes on where it was. What runs meanwhile reads both. Ends with 3 when a secret can't be decrypted
    by any key: it is named, and the old keys stay.
    """
    from opskit.ops import fernet as ops

    with shown(quiet) as on_progress:
        report = ops.rotate(_platform(), datetime.now(UTC), stage=stage, dry_run=dry_run, on_progress=on_progress)
    if output != "table":
        show(report, output)
    else:
        for step in report.steps:
            click.echo(f"{'would ' if dry_run else ''}{step}")
        if not dry_run:
            click.echo(f"{report.reencrypted} secrets re-encrypted; the newest key is {report.newest}")
        if report.retired:
            click.echo(f"retired, and kept for old backups in fernet.key.retired: {', '.join(report.retired)}")
        if report.still_needed and not dry_run:
            click.echo(f"still in use: {', '.join(report.still_needed)}")
    if report.unreadable:
        raise PartialFailure(
            f"{len(report.unreadable)} secrets can't be decrypted: {', '.join(report.unreadable[:10])}",
            hint="opskit fernet repair --help",
        )


@fernet.command()
@click.option("--key-file", multiple=True, metavar="FILE", help="File with the keys that are missing here.")
@click.option(
    "--set",
    "set_",
    multiple=True,
    metavar="NAME=FROM",
    help="Give a secret anew: connections/pg/password=file:PATH, env:VARIABLE, command:… or prompt.",
)
@click.option("--empty", multiple=True, metavar="NAME", help="Empty a secret that is lost.")
@click.option("--dry-run", is_flag=True, help="Only list what can't be decrypted.")
@output_option
def repair(
    key_file: tuple[str, ...], set_: tuple[str, ...], empty: tuple[str, ...], dry_run: bool, output: str
) -> None:
    """Bring back secrets that can't be decrypted: with their old key, or with a new value. Ends with 3 when some are
    left."""
    from opskit.ops import env_resolve
    from opskit.ops import fernet as ops

    values: dict[str, str | None] = dict.fromkeys(empty)
    resolve = env_resolve.resolver(Path(), _ask if sys.stdin.isatty() else None)
    for item in set_:
        name, separator, origin = item.rpartition("=") if item.endswith("=prompt") else item.partition("=")
        if not separator or origin.partition(":")[0] not in ("file", "env", "command", "prompt"):
            # What stands there may be the secret itself.
            raise UsageError(
                "--set has the form NAME=FROM", hint="FROM is file:PATH, env:VARIABLE, command:… or prompt"
            )
        values[name] = None if dry_run else resolve(origin, name)
    report = ops.repair(
        _platform(), datetime.now(UTC), key_files=tuple(map(Path, key_file)), values=values, dry_run=dry_run
    )
    if output != "table":
        show(plain(report), output)
    else:
        for word in ("recovered", "set", "emptied", "unreadable"):
            for name in getattr(report, word):
                click.echo(f"{name}: {'can not be decrypted' if word == 'unreadable' else word}")
        if not report.unreadable:
            click.echo("every secret can be decrypted")
    if report.unreadable:
        raise PartialFailure(
            f"{len(report.unreadable)} secrets can't be decrypted", hint="give their old key with --key-file, or --set"
        )


def _ask(question: str) -> str:
    return str(click.prompt(question.rstrip(": "), hide_input=True, err=True))


@fernet.command()
def new() -> None:
    """Print a fresh key, for the setting core.fernet_key."""
    from opskit.ops import fernet as ops

    click.echo(ops.new_key(_platform()))
