"""What the export and import commands share: standard input and output as files, and the report of an import."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opskit.cli.output import show
from opskit.errors import PartialFailure, UsageError

if TYPE_CHECKING:
    from opskit.core.metastore.imports import Imported


def read_text(file: str) -> str:
    """A file, or standard input for `-`."""
    from opskit.core.metastore import interchange

    return sys.stdin.read() if file == "-" else interchange.read_file(Path(file))


def write_text(file: str, text: str, what: str) -> None:
    """A file of its own owner only, or standard output for `-`."""
    from opskit.core.metastore import interchange

    if file == "-":
        click.echo(text, nl=False)
        return
    interchange.write_secret_file(Path(file), text)
    click.echo(f"wrote {what} to {file}")


def kind_of(file: str, given: str | None) -> str:
    """The format that is meant; `-` is JSON unless said otherwise."""
    from opskit.core.metastore import interchange

    return interchange.format_of(Path(file), given or ("json" if file == "-" else None))


def secret(value: str | None) -> str | None:
    """The value of an option; `-` reads it from standard input, where no process list shows it."""
    if value != "-":
        return value
    text = sys.stdin.read().strip("\n")
    if not text:
        raise UsageError("nothing came on standard input")
    return text


def show_import(done: Imported, output: str, hint: str) -> None:
    """Print what became of each item. PartialFailure when some exist with another content and were kept."""
    if output != "table":
        show(done, output)
    else:
        for word in ("added", "replaced", "unchanged", "kept"):
            names = getattr(done, word)
            if names:
                click.echo(f"{word}: {', '.join(names)}")
    if done.kept:
        raise PartialFailure(
            f"{len(done.kept)} exist with another content and were kept: {', '.join(done.kept)}", hint=hint
        )


def require_readable(names: list[str], what: str) -> None:
    """PartialFailure naming what was left out because it can't be decrypted."""
    if names:
        raise PartialFailure(
            f"{len(names)} {what} can't be decrypted and were left out: {', '.join(names)}",
            hint="opskit fernet repair --help",
        )
