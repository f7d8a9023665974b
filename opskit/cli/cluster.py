"""What a command needs of this installation: settings, metastore, and a way to tell the schedulers of a change."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from opskit import config as settings
from opskit.config import Config
from opskit.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from opskit.core.metastore.engine import Connection, Engine


@dataclass(frozen=True, slots=True)
class Cluster:
    config: Config
    engine: Engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        from opskit.core.metastore.engine import reading

        with reading(self.engine) as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """A transaction; after its commit the schedulers and the DAG processor are woken."""
        from opskit.core.metastore.engine import transaction
        from opskit.system.wake import wake

        with transaction(self.engine) as connection:
            yield connection
        wake(self.config.run_folder)


def open_cluster() -> Cluster:
    from opskit.core.metastore.engine import open_engine
    from opskit.core.runner import asking

    config = settings.load()
    asking.install(config)
    return Cluster(config, open_engine(config, pool_size=1))


def default_zone(config: Config) -> tzinfo:
    """The zone of naive dates. ConfigError for one that does not exist."""
    name = str(config.get("core", "default_timezone"))
    try:
        return UTC if name.lower() == "utc" else ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError(f"core.default_timezone names {name!r}, which is no time zone") from error


def moment(text: str, config: Config) -> datetime:
    """A date or time in ISO 8601; without an offset it is meant in core.default_timezone. UsageError for other text."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no date or time", hint="write it as 2026-01-31 or 2026-01-31T08:00:00+00:00"
        ) from error
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=default_zone(config))).astimezone(UTC)


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal; elsewhere `--yes` must have been given. UsageError without it, Abort on a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this changes things and needs a confirmation", hint="add --yes, or --dry-run to only look")
    click.confirm(question, abort=True, err=True)
