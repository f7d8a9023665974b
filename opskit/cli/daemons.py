"""`opskit standalone | scheduler | worker | dag-processor | webserver`: in the foreground, until told to stop."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable

import click

from opskit import config as settings
from opskit.config import Config


def _set_up(component: str) -> Config:
    from opskit.telemetry import logs

    config = settings.load()
    logs.setup(
        str(config.get("logging", "logging_level")), json=bool(config.get("logging", "json_logs")), component=component
    )
    return config


def _run(run: Callable[[Config], int], config: Config) -> int:
    try:
        code = run(config)
    except BrokenPipeError as error:
        # Not the reader of our output, as elsewhere on the command line: a daemon that ends says why.
        raise RuntimeError(f"a connection between processes of opskit broke: {error}") from error
    # The stop is complete. One more signal while the interpreter ends must not make it look like a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    return code


@click.command()
def standalone() -> int:
    """Run scheduler, DAG processor, worker and webserver together.

    Makes what is missing of OPSKIT_HOME (folders, opskit.toml, the SQLite metastore, the Fernet key), starts again
    what dies, and stops all in order on Ctrl-C or SIGTERM. A second Ctrl-C kills what has not stopped yet.
    """
    config = _set_up("standalone")
    from opskit.core.scheduler import standalone as room

    return _run(room.run, config)


@click.command()
def scheduler() -> int:
    """Run a scheduler. Several may run on one metastore (PostgreSQL, MariaDB, MySQL)."""
    config = _set_up("scheduler")
    from opskit.core.scheduler import daemon

    return _run(daemon.run, config)


@click.command()
def worker() -> int:
    """Run the worker of this OPSKIT_HOME: it starts attempts for schedulers, and outlives them."""
    config = _set_up("worker")
    from opskit.core.runner import worker as room

    return _run(room.run, config)


@click.command("dag-processor")
def dag_processor() -> int:
    """Run the DAG processor: it loads the DAG folder into the metastore, and sees changes at once."""
    config = _set_up("dag-processor")
    from opskit.core.scheduler import dag_processor as room

    return _run(room.run, config)


@click.command()
@click.option("-p", "--port", type=click.IntRange(min=0, max=65535), help="Port; default: webserver.web_server_port.")
@click.option("-H", "--hostname", help="Address; default: webserver.web_server_host.")
@click.option("-w", "--workers", type=click.IntRange(min=1), help="Processes that answer; default: webserver.workers.")
def webserver(port: int | None, hostname: str | None, workers: int | None) -> int:
    """Run the webserver: pages, Airflow's REST API under /api/v1, opskit's own under /opskit/v1."""
    config = _set_up("webserver")
    given = {
        "webserver.web_server_port": port,
        "webserver.web_server_host": hostname,
        "webserver.workers": workers,
    }
    flags = {name: value for name, value in given.items() if value is not None}
    config = dataclasses.replace(
        config,
        values={**config.values, **flags},
        origins={**config.origins, **dict.fromkeys(flags, "command line")},
    )
    from opskit.web import server

    return _run(server.run, config)
