"""`opskit info`: versions, paths and what runs here, for a person in a hurry and for bug reports. No secrets."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from opskit import __version__
from opskit import config as settings
from opskit.cli.output import output_option, show
from opskit.config import Config
from opskit.errors import MetastoreUnavailable


@click.command()
@output_option
def info(output: str) -> int:
    """Show versions, paths and the state of this installation.

    Ends with 12 when the metastore can't be reached or its schema is not current; what is known is shown all the same.
    """
    config = settings.load()
    facts: dict[str, Any] = {
        "opskit": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "home": config.home,
        "config file": config.path if config.path.exists() else f"{config.path} (absent: defaults hold)",
        "dags folder": config.dags_folder,
        "logs folder": config.logs_folder,
        "executor": config.get("core", "executor"),
    }
    problem = _look(config, facts)
    if output == "table":
        facts = {key: _text(value) for key, value in facts.items()}
    show(facts, output)
    if problem is not None:
        raise problem
    return 0


def _look(config: Config, facts: dict[str, Any]) -> MetastoreUnavailable | None:
    """Add what the metastore tells."""
    from opskit.core.metastore import dags, instances, schema
    from opskit.core.metastore.engine import open_engine, reading, redacted

    facts["database"] = redacted(config.database_url)
    engine = open_engine(config, pool_size=1)
    try:
        with reading(engine) as connection:
            facts["schema revision"] = schema.current_revision(connection) or "none"
        schema.check(engine)
        since = datetime.now(UTC) - timedelta(
            seconds=float(config.get("scheduler", "scheduler_health_check_threshold"))
        )
        with reading(engine) as connection:
            known = dags.list_dags(connection, include_inactive=True)
            errors = len(dags.import_errors(connection))
            living = instances.list_instances(connection, living_only=True, alive_since=since)
    except MetastoreUnavailable as error:
        return error
    finally:
        engine.dispose()
    active = [dag for dag in known if dag.is_active]
    facts["dags"] = {
        "active": len(active),
        "paused": sum(dag.is_paused for dag in active),
        "inactive": len(known) - len(active),
        "import errors": errors,
    }
    facts["instances"] = [
        {"kind": one.kind, "host": one.hostname, "pid": one.pid, "since": one.started_at, "version": one.version}
        for one in living
    ]
    return None


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{number} {name}" for name, number in value.items())
    if isinstance(value, list):
        lines = [
            f"{one['kind']} (pid {one['pid']} on {one['host']}, since {one['since']:%Y-%m-%d %H:%M})" for one in value
        ]
        return "\n".join(lines) or "none alive"
    return value
