"""`opskit dags-drift`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from opskit.cli.deploy_report import host_options, one_line, phases
from opskit.cli.output import output_option, plain, show
from opskit.config import load
from opskit.errors import DriftFound, NotFound, PartialFailure, RemoteError
from opskit.telemetry import reports


@click.command("dags-drift")
@host_options
@click.option("--repair", is_flag=True, help="Bring hosts that differ, or were away, to the release they should have.")
@output_option
def dags_drift(hosts: tuple[str, ...], groups: tuple[str, ...], everyone: bool, repair: bool, output: str) -> None:
    """Compare the DAG folder of every host, byte by byte, with the release it should have.

    Exit code 5: a host differs. 13: a host can't be reached. 2: a host has no DAG folder, and none that it should have.
    With --repair, 3: not all could be repaired.
    """
    from opskit.ops.dags_drift import DRIFTED, NO_FOLDER, OTHER_RELEASE, UNREACHABLE, drift
    from opskit.ops.deploy_run import choose_hosts
    from opskit.platforms import find

    config = load()
    chosen = choose_hosts(config, hosts, groups, everyone)
    with phases() as progress:
        report = drift(find(config), chosen, now=datetime.now(UTC), repair=repair, progress=progress)
    reports.leave(plain(report))
    if output != "table":
        show(plain(report), output)
    else:
        kinds = ("missing", "extra", "edited", "modes")
        rows = [
            {
                "host": host.host,
                "state": host.state,
                "release": host.release[:12],
                "expected": host.expected[:12],
                **{kind: len(getattr(host, kind)) for kind in kinds},
                "error": host.error,
            }
            for host in report.hosts
        ]
        show(rows, output)
        for host in report.hosts:
            for kind in kinds:
                for path in getattr(host, kind):
                    click.echo(f"{host.host}: {kind}: {one_line(path)}")
    different, away = report.of(DRIFTED, OTHER_RELEASE), report.of(UNREACHABLE)
    names = ", ".join(host.host for host in [*different, *away])
    if repair and (different or away):
        raise PartialFailure(f"not repaired: {names}", hint="the report has the reasons; run it again then")
    if different:
        raise DriftFound(f"{names}: not what was deployed", hint="opskit dags-drift --repair")
    if away:
        raise RemoteError(f"not compared: {names}")
    if without := report.of(NO_FOLDER):
        hint = "deploy to it with opskit deploy-dag, or see core.dags_folder"
        raise NotFound(f"{', '.join(host.host for host in without)}: there is no DAG folder", hint=hint)
