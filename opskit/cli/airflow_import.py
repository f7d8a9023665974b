"""`opskit airflow import`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opskit.cli.cluster import confirm
from opskit.cli.output import output_option, show
from opskit.config import load
from opskit.errors import PartialFailure

if TYPE_CHECKING:
    from opskit.ops.airflow_import import Done, Plan

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("import")
@click.option("--airflow-cfg", "cfg", type=_FILE, help="Its airflow.cfg: settings, and where its metastore is.")
@click.option("--from-db", "url", default="", metavar="URL", help="Its metastore, as database.sql_alchemy_conn there.")
@click.option("--fernet-key-file", type=_FILE, help="Its Fernet keys; default: those of airflow.cfg.")
@click.option(
    "--export-file",
    "files",
    type=_FILE,
    multiple=True,
    help="What airflow connections, variables, pools, roles or users export has written; the name tells which.",
)
@click.option("--history", is_flag=True, help="Also ended DagRuns, with their task instances and XComs.")
@click.option("--overwrite", is_flag=True, help="Also what is here already and differs.")
@click.option("--unpause", is_flag=True, help="Also unpause DAGs that are unpaused there.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@output_option
def import_airflow(
    cfg: Path | None,
    url: str,
    fernet_key_file: Path | None,
    files: tuple[Path, ...],
    history: bool,
    overwrite: bool,
    unpause: bool,
    dry_run: bool,
    yes: bool,
    output: str,
) -> None:
    """Take over settings, connections, variables, pools, users, roles, pause states and (--history) runs of an Airflow.

    That Airflow is only read. What is here already stays as it is, without --overwrite. What is not taken is listed
    with the reason. Ends with 3 when something could not be written.
    """
    from opskit.ops.airflow_import import Sources, carry_out, planned
    from opskit.platforms import find

    platform = find(load())
    keys = tuple(fernet_key_file.read_text().replace(",", " ").split()) if fernet_key_file else ()
    sources = Sources(cfg, url, keys, files, history, overwrite, unpause)
    with planned(platform, sources) as (plan, source):
        _show_plan(plan, output, dry_run)
        if dry_run or plan.is_empty:
            return
        confirm("Take this over?", yes)
        done = carry_out(platform, plan, source, datetime.now(UTC))
    _show_done(done, plan, output)
    if done.failed:
        raise PartialFailure(f"{len(done.failed)} things could not be written")


def _as_data(plan: Plan) -> dict[str, Any]:
    return {
        "from": plan.origins,
        "settings": plan.settings,
        "objects": [
            {
                "kind": write.kind,
                "name": write.name,
                "action": "replace" if (write.kind, write.name) in plan.replaced else "create",
            }
            for write in plan.writes
        ],
        "runs": len(plan.runs),
        "runs_here_already": plan.runs_here,
        "unchanged": plan.unchanged,
        "not_taken": [{"what": what, "why": why} for what, why in plan.left],
    }


def _show_plan(plan: Plan, output: str, dry_run: bool) -> None:
    data = _as_data(plan)
    if output != "table":
        if dry_run or plan.is_empty:
            show(data, output)
        return
    for name, value in plan.settings.items():
        click.echo(f"setting  {name} = {value}")
    for item in data["objects"]:
        click.echo(f"{item['action']:8} {item['kind']}/{item['name']}")
    if plan.runs:
        click.echo(f"take     {len(plan.runs)} DagRuns with their task instances and XComs")
    for what, why in plan.left:
        click.echo(f"left     {what}: {why}")
    click.echo(
        f"{len(plan.settings)} settings, {len(plan.writes)} objects and {len(plan.runs)} DagRuns to take; "
        f"{plan.unchanged} objects and {plan.runs_here} DagRuns are here already; {len(plan.left)} things are left"
    )


def _show_done(done: Done, plan: Plan, output: str) -> None:
    if output != "table":
        show(
            {
                **_as_data(plan),
                "done": {
                    "settings": done.settings,
                    "objects": done.objects,
                    "runs": done.runs,
                    "task_instances": done.instances,
                    "xcoms": done.xcoms,
                },
                "failed": [{"what": what, "why": why} for what, why in done.failed],
            },
            output,
        )
        return
    for what, why in done.failed:
        click.echo(f"failed   {what}: {why}", err=True)
    click.echo(
        f"took {done.settings} settings, {done.objects} objects, {done.runs} DagRuns, "
        f"{done.instances} task instances and {done.xcoms} XComs"
    )
