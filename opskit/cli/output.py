"""How results are shown: a table for people, JSON or YAML on stdout alone for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def output_option(function: F) -> F:
    """`--output table|json|yaml`, passed on as `output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="How to print the result.",
    )(function)


def plain(value: Any) -> Any:
    """JSON values of dataclasses, times, paths and enums."""
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(item) for key, item in asdict(value).items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    return value


def show(data: Any, output: str, *, columns: Sequence[str] | None = None) -> None:
    """Print rows (mappings or dataclasses) or one mapping. `columns` chooses and orders the table's columns."""
    value = plain(data)
    if output == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    elif output == "yaml":
        click.echo(_yaml(value), nl=False)
    else:
        _table(value, columns)


def _yaml(value: Any) -> str:
    try:
        import yaml
    except ImportError:
        # JSON is YAML 1.2: without the `yaml` extra the form is plainer, the content the same.
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text


def _table(value: Any, columns: Sequence[str] | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = [{"key": key, "value": item} for key, item in value.items()] if isinstance(value, dict) else value
    if not rows:
        click.echo("nothing found", err=True)
        return
    names = list(columns or rows[0])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*[_cell(row.get(name)) for name in names])
    # Off a terminal a line is as long as it must be: cut columns would be lost in a pipe.
    console = Console(width=None if sys.stdout.isatty() else 400, markup=False, highlight=False, emoji=False)
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
