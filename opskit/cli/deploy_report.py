"""What `deploy-dag`, `rollback` and `dags-drift` share on the command line: hosts, progress, the table per host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from opskit.cli.output import plain, show
from opskit.cli.progress import shown
from opskit.errors import PartialFailure
from opskit.ops.deploy_report import DeployFailed, DeployReport
from opskit.ops.deployment import Progress
from opskit.ops.progress import Progress as Step

F = TypeVar("F", bound=Callable[..., Any])


def host_options(function: F) -> F:
    """`--host`, `--group`, `--all`, passed on as `hosts`, `groups`, `everyone`."""
    for option in (
        click.option("--all", "everyone", is_flag=True, help="All hosts of [deploy.groups] (the default)."),
        click.option("--group", "groups", multiple=True, metavar="NAME", help="Of [deploy.groups]. Repeatable."),
        click.option("--host", "hosts", multiple=True, metavar="HOST", help="[user@]host[:port] or local. Repeatable."),
    ):
        function = option(function)
    return function


def quorum_options(function: F) -> F:
    """`--quorum`, and `--best-effort` for `--quorum any`."""
    for option in (
        click.option("--best-effort", is_flag=True, help="The same as --quorum any."),
        click.option(
            "--quorum",
            default="",
            metavar="N|P%|all|any",
            help="So many hosts are enough; exit code 3 when some were left out.  [default: deploy.quorum]",
        ),
    ):
        function = option(function)
    return function


@contextmanager
def phases() -> Iterator[Progress]:
    """Shows on stderr what a deployment is doing."""
    with shown() as on_progress:
        yield lambda phase, done, total: on_progress(Step(phase, done, total, "hosts"))


def finish(run: Callable[[Progress], DeployReport], output: str) -> None:
    """Run it and print its report, also when it failed. PartialFailure when hosts were left out."""
    try:
        with phases() as progress:
            report = run(progress)
    except DeployFailed as failure:
        print_report(failure.report, output)
        raise
    print_report(report, output)
    if report.failed:
        names = ", ".join(host.host for host in report.failed)
        raise PartialFailure(f"not done on {names}", hint="opskit dags-drift --repair, when they are back")


def print_report(report: DeployReport, output: str) -> None:
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
                    click.echo(f"{host.host}: {sign} {one_line(path)}")
        for dag in report.dags:
            tasks = [f"+ {one_line(task)}" for task in dag.added] + [f"- {one_line(task)}" for task in dag.removed]
            words = f"new, {len(dag.added)} tasks" if dag.is_new else ", ".join(tasks)
            click.echo(f"{one_line(dag.path)}: {one_line(dag.dag_id)}: {words}")
    for warning in report.warnings:
        click.echo(f"warning: {one_line(warning)}", err=True)
    for note in [*report.notes, *(f"{host.host}: {note}" for host in report.hosts for note in host.notes)]:
        click.echo(note, err=True)


def one_line(path: str) -> str:
    """A path on one line, whatever its bytes."""
    return path if path.isprintable() else ascii(path)
