"""`opskit deploy-dag`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from opskit.cli.output import output_option, plain, show
from opskit.config import load
from opskit.errors import PartialFailure, UsageError
from opskit.ops.deploy_dag import deploy
from opskit.ops.deploy_report import DeployFailed, DeployReport
from opskit.ops.deploy_run import choose_hosts
from opskit.ops.deployment import Progress
from opskit.ops.rollback import roll_back


@click.command("deploy-dag")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True), metavar="FILE… | FOLDER")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="[user@]host[:port], or local. Repeatable.")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="A group of [deploy.groups]. Repeatable.")
@click.option("--all", "everyone", is_flag=True, help="All hosts of [deploy.groups] (the default where there are any).")
@click.option("--into", default="", metavar="DIR", help="Folder below the DAG folder where FILEs go.")
@click.option("--rollback", is_flag=True, help="Go back to the release before.")
@click.option("--to", metavar="HASH", help="With --rollback: to this release.")
@click.option("--from-git", "from_git", is_flag=False, flag_value="", metavar="[URL]", help="Deploy from a repository.")
@click.option("--ref", metavar="REF", help="With --from-git: branch, tag or commit; default [deploy] git_ref.")
@click.option(
    "--subdir", metavar="DIR", help="With --from-git: folder with the DAG files; default [deploy] git_subdir."
)
@click.option("--dry-run", is_flag=True, help="Check and show per host what would change; change nothing.")
@click.option("--best-effort", is_flag=True, help="Leave out hosts that fail instead of stopping; exit code 3 then.")
@output_option
def deploy_dag(
    paths: tuple[Path, ...],
    hosts: tuple[str, ...],
    groups: tuple[str, ...],
    everyone: bool,
    into: str,
    rollback: bool,
    to: str | None,
    from_git: str | None,
    ref: str | None,
    subdir: str | None,
    dry_run: bool,
    best_effort: bool,
    output: str,
) -> None:
    """Deploy DAG files to worker nodes as one transaction: to all hosts or to none.

    FILEs are added to what each host has; a FOLDER becomes the whole DAG folder. The files are checked here and on each
    host before any host switches, by the rename of one symbolic link. Without hosts in the configuration or on the
    command line they go into the DAG folder of this machine.
    """
    if to is not None and not rollback:
        raise UsageError("--to goes with --rollback")
    if from_git is None and (ref is not None or subdir is not None):
        raise UsageError("--ref and --subdir go with --from-git")
    if sum((bool(paths), rollback, from_git is not None)) != 1:
        raise UsageError("give DAG files, or one folder, or --from-git, or --rollback")
    from opskit.platforms import find

    config = load()
    platform = find(config)
    chosen = choose_hosts(config, hosts, groups, everyone)
    now = datetime.now(UTC)
    try:
        with _Progress() as progress:
            if rollback:
                report = roll_back(
                    platform,
                    chosen,
                    now=now,
                    to=to,
                    dry_run=dry_run,
                    quorum="any" if best_effort else "",
                    progress=progress,
                )
            elif from_git is not None:
                from opskit.ops.dag_distribution import deploy_from_git

                report = deploy_from_git(
                    platform,
                    chosen,
                    now=now,
                    url=from_git,
                    ref=ref,
                    subdir=subdir,
                    dry_run=dry_run,
                    quorum="any" if best_effort else "",
                    progress=progress,
                )
            else:
                report = deploy(
                    platform,
                    paths,
                    chosen,
                    now=now,
                    into=into,
                    dry_run=dry_run,
                    quorum="any" if best_effort else "",
                    progress=progress,
                )
    except DeployFailed as failure:
        _print(failure.report, output)
        raise
    _print(report, output)
    if report.failed:
        names = ", ".join(host.host for host in report.failed)
        raise PartialFailure(f"not deployed to {names}", hint="run it again when they are back")


def _print(report: DeployReport, output: str) -> None:
    if output != "table":
        show(plain(report), output)
        return
    rows = [
        {
            "host": host.host,
            "state": host.state,
            "release": host.release[:12],
            "before": host.previous[:12],
            "added": len(host.added),
            "changed": len(host.changed),
            "removed": len(host.removed),
            "check": host.check,
            "error": host.error,
        }
        for host in report.hosts
    ]
    show(rows, output)
    if report.dry_run:
        for host in report.hosts:
            for sign, paths in (("+", host.added), ("~", host.changed), ("-", host.removed)):
                for path in paths:
                    click.echo(f"{host.host}: {sign} {_shown(path)}")
    for note in [*report.notes, *(f"{host.host}: {note}" for host in report.hosts for note in host.notes)]:
        click.echo(note, err=True)


def _shown(path: str) -> str:
    """A path on one line, whatever its bytes."""
    return path if path.isprintable() else ascii(path)


class _Progress:
    """A bar per phase on a terminal, a line per phase elsewhere; on stderr."""

    def __enter__(self) -> Progress:
        self._phase = ""
        self._bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bars

            self._bar = Bars(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=None)
        return self._step

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _step(self, phase: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=phase, completed=done, total=total)
        elif phase != self._phase:
            click.echo(f"{phase} …", err=True)
        self._phase = phase
