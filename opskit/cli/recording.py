"""Records each run of a verb: its report, its numbers for Prometheus, and the ping of its dead man's switch."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import click

from opskit.config import Config
from opskit.errors import OpskitError

VERBS: dict[tuple[str, ...], str] = {
    ("backup",): "backup",
    ("drill",): "drill",
    ("restore",): "restore",
    ("env", "apply"): "env_apply",
    ("env", "drift"): "env_drift",
    ("fernet", "rotate"): "fernet_rotate",
    ("fernet", "audit"): "fernet_audit",
    ("logs", "clean"): "logs_clean",
    ("db", "clean"): "db_clean",
    ("watchdog",): "watchdog",
    ("chaos",): "chaos",
    ("deploy-dag",): "deploy_dag",
    ("dags-drift",): "dags_drift",
    ("rollback",): "rollback",
    ("permissions", "check"): "permissions_check",
    ("permissions", "fix"): "permissions_fix",
    ("doctor",): "doctor",
}
"""Command → the verb's name in metrics (`opskit_<verb>_…`) and in `alerts.ping_urls`."""

_NOT_A_RUN = ("dry_run", "plan", "plan_only", "list_", "listing", "pause", "resume", "resident", "history")
"""Options with which a command does not do what the verb is for."""
CAPTURE = "capture"
"""`opskit backup --tier config`: each minute, and no proof that the metastore is backed up."""
_DRIFT = 5
"""The verb did its work, and found something to do. Prometheus shows the code; the switch must not ring."""
_TOO_SHORT_FOR_A_START = ("watchdog",)
_WITHOUT_REPORT = ("watchdog", CAPTURE)
"""Run each minute, and keep their history in places of their own."""


def record(command: click.Command, *path: str) -> click.Command:
    """The same command, with every run of its verb, or of the verbs below it, recorded."""
    # A command is loaded once and may be asked for several times.
    if path in VERBS and command.callback is not None and not hasattr(command.callback, "records"):
        command.callback = _recorded(VERBS[path], command.callback)
    below = any(len(verb) > len(path) and verb[: len(path)] == path for verb in VERBS)
    if below and isinstance(command, click.Group) and not hasattr(command.get_command, "records"):
        setattr(command, "get_command", _recording(command, path))  # noqa: B010 -- a method of one object
    return command


def _recording(group: click.Group, path: tuple[str, ...]) -> Callable[[click.Context, str], click.Command | None]:
    find = group.get_command

    def get_command(context: click.Context, name: str) -> click.Command | None:
        found = find(context, name)
        return None if found is None else record(found, *path, name)

    get_command.records = path  # type: ignore[attr-defined]
    return get_command


def _recorded(path_verb: str, callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def run(*arguments: Any, **options: Any) -> Any:
        context = click.get_current_context(silent=True)
        if (context is not None and context.invoked_subcommand) or any(options.get(name) for name in _NOT_A_RUN):
            return callback(*arguments, **options)
        config = _config()
        if config is None:
            return callback(*arguments, **options)
        verb = CAPTURE if path_verb == "backup" and options.get("tier") == "config" else path_verb
        url = _switch(config, verb)
        if url and verb not in _TOO_SHORT_FOR_A_START:
            _ping(url, verb, "start")
        began = time.monotonic()
        code, text = 1, "ended with an unexpected error"
        try:
            result = callback(*arguments, **options)
            code, text = (result if isinstance(result, int) else 0), ""
            return result
        except OpskitError as error:
            code, text = error.exit_code, error.message
            raise
        except click.exceptions.Exit as done:
            code, text = done.exit_code, ""
            raise
        except SystemExit as done:
            code, text = (done.code if isinstance(done.code, int) else 1), "ended by a signal"
            raise
        except KeyboardInterrupt:
            code, text = 130, "interrupted"
            raise
        finally:
            seconds = time.monotonic() - began
            _leave(config, verb, code, seconds)
            if verb not in _WITHOUT_REPORT:
                _keep(config, verb, code, text, seconds)
            good = code in (0, _DRIFT)
            if url:
                _ping(url, verb, "success" if good else "fail", text or f"exit code {code}")

    run.records = path_verb  # type: ignore[attr-defined]
    return run


def _config() -> Config | None:
    from opskit import config as settings

    try:
        return settings.load()
    except OpskitError:
        return None  # the verb says it, and better


def _leave(config: Config, verb: str, code: int, seconds: float) -> None:
    """Write the verb's file. What this run did not say stays as the last one said it."""
    folder = str(config.get("metrics", "textfile_directory"))
    if not folder:
        return
    from pathlib import Path

    from opskit.telemetry import metrics

    path = Path(folder).expanduser() / f"opskit_{verb}.prom"
    now = time.time()
    metrics.gauge(f"opskit_{verb}_last_run_timestamp_seconds", now)
    metrics.gauge(f"opskit_{verb}_duration_seconds", seconds)
    metrics.gauge(f"opskit_{verb}_exit_code", code)
    if code in (0, _DRIFT):
        metrics.gauge(f"opskit_{verb}_last_success_timestamp_seconds", now)
    try:
        metrics.write(path, metrics.read(path) | metrics.take())
    except OSError as error:
        click.echo(f"opskit: the metrics can't be written to {path}: {error.strerror}", err=True)


def _keep(config: Config, verb: str, code: int, text: str, seconds: float) -> None:
    """Keep the run's report for those who look later. Its time is that of its end."""
    if not config.home.is_dir():
        return  # a verb that was told there is no installation does not make one
    import socket
    from datetime import UTC, datetime

    from opskit.core.metastore.audit_line import whoami
    from opskit.telemetry import reports

    run = reports.KeptReport(
        verb, datetime.now(UTC), round(seconds, 3), code, text, socket.gethostname(), whoami(), reports.take()
    )
    try:
        reports.keep(config.home, run)
    except OSError as error:
        click.echo(f"opskit: the report can't be kept below {config.home}/reports: {error.strerror}", err=True)


def _switch(config: Config, verb: str) -> str:
    """The URL of the verb's dead man's switch, or an empty text. ConfigError for a wrong one."""
    url = str(config.get("alerts", "ping_urls").get(verb) or "")
    if url:
        from opskit.telemetry.pings import check_url

        check_url(url)
    return url


def _ping(url: str, verb: str, what: str, text: str = "") -> None:
    from opskit.telemetry.pings import ping

    problem = ping(url, what, f"opskit {verb}: {text}" if text else "")
    if problem:
        click.echo(f"opskit: {problem}", err=True)
