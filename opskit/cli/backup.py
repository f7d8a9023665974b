"""`opskit backup`: take, list, verify, drill and prune backups."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

import click

from opskit import config as settings
from opskit.cli.output import output_option, plain, show
from opskit.cli.progress import shown, size
from opskit.telemetry import reports

F = TypeVar("F", bound=Callable[..., Any])


def store_option(function: F) -> F:
    return click.option(
        "--to",
        "--from",
        "url",
        metavar="URL",
        default="",
        help="Where backups lie: s3://bucket/prefix or a folder. [default: backup.to]",
    )(function)


def keep_options(function: F) -> F:
    function = click.option(
        "--max-percent",
        type=click.IntRange(0, 100),
        default=50,
        show_default=True,
        help="Refuse to remove more than this part of all backups at once.",
    )(function)
    for period in ("yearly", "monthly", "weekly", "daily", "hourly"):
        function = click.option(
            f"--keep-{period}",
            type=click.IntRange(min=0),
            help=f"Keep the newest of so many {period} periods. [default: backup.keep_{period}]",
        )(function)
    return function


def identity_option(function: F) -> F:
    return click.option(
        "-i",
        "--identity",
        "identity_files",
        metavar="FILE",
        multiple=True,
        help="File with the secret key of a recipient, for encrypted backups. [default: backup.identity]",
    )(function)


def renice(config: settings.Config) -> None:
    """Give way to others, with all programs that we start."""
    if niceness := int(config.get("backup", "nice")):
        os.nice(niceness)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does: what was begun is taken back. Exit code 143."""

    def end(*_: object) -> NoReturn:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.group(invoke_without_command=True)
@store_option
@keep_options
@click.option(
    "--tier",
    type=click.Choice(["full", "config"]),
    default="full",
    show_default=True,
    help="config: connections, variables, pools and pause states alone; small and quick, for every minute.",
)
@click.option(
    "--recipient",
    "recipients",
    metavar="KEY",
    multiple=True,
    help="Encrypt for this public key (age1…, ssh-ed25519 …). [default: backup.recipients]",
)
@click.option("--no-drill", is_flag=True, help="Do not prove it; it stays unverified, and nothing is pruned.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@output_option
@click.pass_context
def backup(
    context: click.Context,
    /,
    url: str,
    recipients: tuple[str, ...],
    max_percent: int,
    tier: str,
    no_drill: bool,
    dry_run: bool,
    quiet: bool,
    output: str,
    **keep: int | None,
) -> int | None:
    """Back up the metastore, and prove the backup by restoring it into a throw-away database.

    Ends with 0 when the backup is verified, 14 when it was taken but is not proven, another code when it was not taken.
    """
    if context.invoked_subcommand is not None:
        if url:
            context.obj = url
        return None
    from opskit import platforms
    from opskit.ops import backup as ops
    from opskit.ops.backup_keys import recipients_of

    config = settings.load()
    renice(config)
    if tier == "config":
        return _capture(config, url, recipients, dry_run, output)
    with ending_cleanly(), shown(quiet) as on_progress:
        try:
            report = ops.take_backup(
                platforms.find(config),
                ops.store_of(config, url),
                datetime.now(UTC),
                keep=_keep(config, keep),
                recipients=recipients_of(config, recipients),
                max_percent=max_percent,
                with_drill=not no_drill,
                dry_run=dry_run,
                on_progress=on_progress,
            )
        except ops.DrillFailed as failed:
            _show_report(failed.report, output)
            raise
    _show_report(report, output)
    return 0


def _capture(config: settings.Config, url: str, recipients: tuple[str, ...], dry_run: bool, output: str) -> int:
    from opskit import platforms
    from opskit.ops.backup import store_of
    from opskit.ops.backup_keys import recipients_of
    from opskit.ops.capture import capture

    with ending_cleanly():
        report = capture(
            platforms.find(config),
            store_of(config, url),
            datetime.now(UTC),
            recipients=tuple(recipients_of(config, recipients)),
            dry_run=dry_run,
        )
    if output != "table":
        show(report, output)
        return 0
    counts = ", ".join(f"{count} {name}" for name, count in report.items.items())
    would = "would be " if dry_run else ""
    found = f"{would}captured as {report.id or 'a new state'}" if report.changed else f"unchanged since {report.id}"
    click.echo(f"{found}: {counts}; {report.seconds:.2f} s")
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    for name in report.removed:
        click.echo(f"removed {name}, which no period keeps")
    return 0


@backup.command("list")
@store_option
@output_option
@click.pass_context
def list_(context: click.Context, url: str, output: str) -> int:
    """List the backups, the newest first, with their proofs."""
    from opskit.ops import backup as ops
    from opskit.ops.backup_catalog import list_backups

    config = settings.load()
    rows = [
        {
            "id": item.id,
            "taken_at": item.taken_at,
            "tier": item.tier,
            "state": item.state,
            "rows": item.manifest.rows if item.manifest else None,
            "size_bytes": item.manifest.size_bytes if item.manifest else None,
            "encrypted": bool(item.manifest.key_id) if item.manifest else None,
            "drilled_at": item.receipt.drilled_at if item.receipt else None,
            "drill_seconds": item.receipt.seconds if item.receipt else None,
            "problem": item.problem or "; ".join(item.receipt.problems if item.receipt else ()),
        }
        for item in list_backups(ops.store_of(config, url or context.obj or ""))
    ]
    show(rows, output)
    return 0


@backup.command("verify")
@click.argument("backup_id", metavar="[BACKUP|latest]", default="latest")
@click.option("--all", "everything", is_flag=True, help="Verify every backup.")
@store_option
@output_option
@click.pass_context
def verify_(context: click.Context, backup_id: str, everything: bool, url: str, output: str) -> int:
    """Read every stored byte again, and compare it with what was written. Ends with 14 when one differs."""
    from opskit.ops import backup as ops
    from opskit.ops.backup_catalog import find, list_backups
    from opskit.ops.verify import Damaged, verify

    config = settings.load()
    store = ops.store_of(config, url or context.obj or "")
    chosen = list_backups(store) if everything else [find(store, backup_id)]
    with shown(output != "table") as on_progress:
        try:
            reports = verify(store, chosen, on_progress=on_progress)
        except Damaged as damaged:
            show(damaged.reports, output, columns=["backup_id", "state", "ok", "problems"])
            raise
    show(reports, output, columns=["backup_id", "state", "ok", "size_bytes"])
    return 0


@backup.command("drill")
@click.argument("backup_id", metavar="[BACKUP|latest]", default="latest")
@identity_option
@store_option
@output_option
@click.pass_context
def drill_(context: click.Context, backup_id: str, identity_files: tuple[str, ...], url: str, output: str) -> int:
    """Restore a backup into a throw-away database, compare, and leave a receipt. Ends with 14 when it differs."""
    from opskit import platforms
    from opskit.ops import backup as ops
    from opskit.ops.backup_catalog import find
    from opskit.ops.backup_keys import identities_of
    from opskit.ops.drill import NotProven, drill

    config = settings.load()
    store = ops.store_of(config, url or context.obj or "")
    with ending_cleanly(), shown(output != "table") as on_progress:
        try:
            report = drill(
                platforms.find(config),
                store,
                find(store, backup_id),
                datetime.now(UTC),
                identities=identities_of(config, store, identity_files),
                on_progress=on_progress,
            )
        except NotProven as failed:
            show(failed.report, output)
            raise
    show(report, output)
    return 0


@backup.command("prune")
@keep_options
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@store_option
@output_option
@click.pass_context
def prune_(
    context: click.Context, /, max_percent: int, dry_run: bool, url: str, output: str, **keep: int | None
) -> int:
    """Remove backups that no period keeps. The newest verified one always stays."""
    from opskit import platforms
    from opskit.ops import backup as ops
    from opskit.ops.backup_prune import prune

    config = settings.load()
    report = prune(
        platforms.find(config),
        ops.store_of(config, url or context.obj or ""),
        datetime.now(UTC),
        keep=_keep(config, keep),
        max_percent=max_percent,
        dry_run=dry_run,
    )
    if output != "table":
        show(report, output)
        return 0
    show(report.decisions, output)
    if report.refusal:
        click.echo(f"would be refused: {report.refusal}", err=True)
    for name in report.locked:
        click.echo(f"{name} is locked by the store, and stays", err=True)
    for name in report.debris:
        click.echo(f"{'would remove' if dry_run else 'removed'} {name}", err=True)
    return 0


def _keep(config: settings.Config, given: Mapping[str, int | None]) -> Any:
    """The policy of the settings, with what was given on the command line (`keep_daily` …) in its place."""
    from dataclasses import replace

    from opskit.ops.backup import policy_of

    chosen = {name.removeprefix("keep_"): value for name, value in given.items() if value is not None}
    return replace(policy_of(config), **chosen)


def _show_report(report: Any, output: str) -> None:
    reports.leave(plain(report))
    if output != "table":
        show(report, output)
        return
    if report.planned:
        for step in report.planned:
            click.echo(f"would {step}")
        return
    seconds = report.seconds
    state = "verified" if report.verified else "NOT verified"
    click.echo(
        f"{report.backup_id} is {state}: {report.rows:,} rows of {report.tables} tables, {size(report.size_bytes)}, "
        f"taken in {seconds.get('backup', 0):.1f} s"
        + (f", restored and compared in {seconds['drill']:.1f} s" if "drill" in seconds else "")
    )
    keys = len(report.recipients)
    click.echo(f"in {report.store}, " + (f"encrypted for {keys} recipients" if keys else "not encrypted"))
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    for name in report.removed:
        click.echo(f"removed {name}, which no period keeps")
