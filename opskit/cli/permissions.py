"""`opskit permissions`: owners, modes and access lists as [permissions] policy says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from opskit import config as settings
from opskit.cli.output import output_option, plain, show
from opskit.cli.progress import shown
from opskit.errors import DriftFound, PartialFailure
from opskit.telemetry import reports

if TYPE_CHECKING:
    from opskit.config import Config
    from opskit.ops.permissions import PermissionsReport
    from opskit.ops.progress import OnProgress


@click.group()
def permissions() -> None:
    """Check and repair owners, modes and access lists.

    The policy is in opskit.toml, a table for each path or pattern below OPSKIT_HOME (or absolute), for all below it:

    \b
    [permissions.policy.dags]
    owner = "airflow"
    group = "airflow"
    file_mode = "0640"
    dir_mode = "2750"
    inherit = true
    """


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        output_option,
        click.option("--all", "everyone", is_flag=True, help="All hosts of [deploy.groups]."),
        click.option(
            "--group", "groups", multiple=True, metavar="NAME", help="A group of [deploy.groups]. Repeatable."
        ),
        click.option(
            "--host", "hosts", multiple=True, metavar="HOST", help="[user@]host[:port], or local. Repeatable."
        ),
    ):
        function = option(function)
    return function


_diff_option = click.option("--diff", is_flag=True, help="Show each difference as a line before and a line after.")


@permissions.command()
@_diff_option
@_common
def check(diff: bool, hosts: tuple[str, ...], groups: tuple[str, ...], everyone: bool, output: str) -> None:
    """Compare, and write nothing. Without hosts: this machine.

    Exit code 0: all is as the policy says; 5: something differs; 3: something could not be read, or some hosts did not
    answer; 10: the policy makes no sense; 13: no host answered; 16: it names a protected directory.
    """
    from opskit.ops import permissions as verb

    def run(config: Config, chosen: list[str], tell: OnProgress) -> PermissionsReport:
        return verb.check(_platform(config), chosen, on_progress=tell)

    report = _run(run, hosts, groups, everyone, output, diff, "differ")
    _fail_on_obstacles(report)
    if report.differing:
        raise DriftFound(f"{report.differing} of {report.entries} entries differ", hint="opskit permissions fix")


@permissions.command()
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@click.option(
    "--max-changes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop after N changes on each host; exit code 3 then.",
)
@_diff_option
@_common
def fix(
    dry_run: bool,
    max_changes: int | None,
    diff: bool,
    hosts: tuple[str, ...],
    groups: tuple[str, ...],
    everyone: bool,
    output: str,
) -> None:
    """Write what differs, and nothing else. What was is kept in an undo file.

    Programs with setuid or setgid and foreign files that are hard-linked into the tree are never touched.

    Exit code 0: done, or nothing to do; 3: something was refused, could not be changed, or some hosts did not answer;
    10: the policy makes no sense; 13: no host answered; 16: it names a protected directory (nothing was changed).
    """
    from opskit.ops import permissions as verb

    def run(config: Config, chosen: list[str], tell: OnProgress) -> PermissionsReport:
        return verb.fix(
            _platform(config),
            chosen,
            now=datetime.now(UTC),
            dry_run=dry_run,
            max_changes=max_changes or 0,
            on_progress=tell,
        )

    report = _run(run, hosts, groups, everyone, output, diff, "would be changed" if dry_run else "differed")
    if report.changed:
        flags = "".join(f" --host {host.host}" for host in report.hosts if host.changed and host.host != "local")
        click.echo(f"to take it back: opskit permissions undo{flags}", err=True)
    _fail_on_obstacles(report)
    _fail_on_denials(report)
    if report.stopped:
        raise PartialFailure(f"stopped after {max_changes} changes", hint="run it again for the rest")
    if report.refused:
        raise PartialFailure(f"{report.refused} entries were refused", hint="--output json lists them with reasons")


@permissions.command()
@click.argument("undo_file", required=False, metavar="[FILE]")
@click.option("--dry-run", is_flag=True, help="Say what would be given back, and write nothing.")
@_diff_option
@_common
def undo(
    undo_file: str | None,
    dry_run: bool,
    diff: bool,
    hosts: tuple[str, ...],
    groups: tuple[str, ...],
    everyone: bool,
    output: str,
) -> None:
    """Give back what the last repair, or the one of FILE, changed: only what is still as it left it.

    Exit code 0: done, or nothing left to do; 2: there is no such file; 3: something was changed since and was left;
    16: the file is not surely of this user.
    """
    from opskit.ops import permissions as verb

    def run(config: Config, chosen: list[str], tell: OnProgress) -> PermissionsReport:
        return verb.undo(
            _platform(config),
            chosen,
            now=datetime.now(UTC),
            name=undo_file or "",
            dry_run=dry_run,
            on_progress=tell,
        )

    report = _run(run, hosts, groups, everyone, output, diff, "would be given back" if dry_run else "were to give back")
    _fail_on_obstacles(report)
    _fail_on_denials(report)
    if report.refused:
        raise PartialFailure(f"{report.refused} entries were changed since, and left as they are")


def _platform(config: Config) -> Any:
    from opskit import platforms

    return platforms.find(config)


def _run(
    verb: Callable[[Config, list[str], OnProgress], PermissionsReport],
    hosts: tuple[str, ...],
    groups: tuple[str, ...],
    everyone: bool,
    output: str,
    diff: bool,
    what: str,
) -> PermissionsReport:
    from opskit.ops.permissions import PermissionsFailed

    config = settings.load()
    chosen = ["local"]
    if hosts or groups or everyone:
        from opskit.ops.deploy_run import choose_hosts

        chosen = choose_hosts(config, hosts, groups, everyone)
    try:
        with shown() as tell:
            report = verb(config, chosen, tell)
    except PermissionsFailed as failure:
        _show(failure.report, output, diff, what)
        raise
    _show(report, output, diff, what)
    return report


def _show(report: PermissionsReport, output: str, diff: bool, what: str) -> None:
    reports.leave(plain(report))
    if not report.audited:
        click.echo("the audit log has no line of this: the metastore can't be reached", err=True)
    if output != "table":
        show(report, output)
        return
    for host in report.hosts:
        prefix = "" if len(report.hosts) == 1 else f"{host.host}: "
        for difference in host.differences:
            if diff:
                click.echo(f"{prefix}- {_printable(difference.path)} {_line(difference.old)}")
                click.echo(f"{prefix}+ {_printable(difference.path)} {_line(difference.new)}")
            else:
                since = datetime.fromtimestamp(difference.since, UTC)
                click.echo(
                    f"{prefix}{_printable(difference.path)}: {difference.text} (since {since:%Y-%m-%d %H:%M} UTC)"
                )
        for left in (*host.refusals, *host.denials):
            click.echo(f"{prefix}{_printable(left.path)}: not touched, {left.reason}", err=True)
        for left in host.obstacles:
            click.echo(f"{prefix}{_printable(left.path)}: {left.reason}", err=True)
        if host.error:
            click.echo(f"{prefix}{host.error}", err=True)
        elif len(report.hosts) > 1:
            click.echo(f"{prefix}{host.differing} of {host.entries} entries {what}, {host.changed} were changed")
    click.echo(f"{report.differing} of {report.entries} entries {what}, {report.changed} were changed")


def _line(state: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in state.items())


def _printable(path: str) -> str:
    return path if path.isprintable() else ascii(path)


def _fail_on_obstacles(report: PermissionsReport) -> None:
    if report.failed:
        names = ", ".join(host.host for host in report.failed)
        raise PartialFailure(f"no answer from {names}", hint="run it again when they are back")
    if report.obstacle_count:
        raise PartialFailure(
            f"{report.obstacle_count} entries could not be read or changed", hint="run it as root or as their owner"
        )


def _fail_on_denials(report: PermissionsReport) -> None:
    if report.denied:
        raise PartialFailure(
            f"{report.denied} entries differ that this user may not change",
            hint=report.privileged_command or "run it as root there: [permissions] become",
        )
