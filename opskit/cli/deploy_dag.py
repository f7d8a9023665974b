"""`opskit deploy-dag`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from opskit.cli.deploy_report import finish, host_options, quorum_options
from opskit.cli.output import output_option, show
from opskit.cli.rollback import run_rollback
from opskit.config import Config, load
from opskit.errors import UsageError


@click.command("deploy-dag")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True), metavar="FILE… | FOLDER")
@host_options
@click.option("--into", default="", metavar="DIR", help="Folder below the DAG folder where FILEs go.")
@click.option("--from-git", "from_git", is_flag=False, flag_value="", metavar="[URL]", help="Deploy from a repository.")
@click.option("--ref", metavar="REF", help="With --from-git: branch, tag or commit; default [deploy] git_ref.")
@click.option(
    "--subdir", metavar="DIR", help="With --from-git: folder with the DAG files; default [deploy] git_subdir."
)
@click.option("--from-s3", metavar="s3://BUCKET/PREFIX", help="Deploy the objects of a bucket.")
@click.option("--pull", is_flag=True, help="Deploy from where [deploy] source_url or git_url says.")
@quorum_options
@click.option("--rolling", default="", metavar="N|P%|groups", help="Hosts switch so many at a time, or group by group.")
@click.option(
    "--gate",
    metavar="scheduler|COMMAND",
    help="Asked after each group has switched; a failure switches it back and stops.  [default: deploy.gate]",
)
@click.option("--strict/--no-strict", default=None, help="A warning is an error.  [default: deploy.strict]")
@click.option("--history", type=click.IntRange(min=1), is_flag=False, flag_value=20, help="Show the last deployments.")
@click.option("--rollback", is_flag=True, help="The same as `opskit rollback`.")
@click.option("--to", metavar="HASH", help="With --rollback: to this release.")
@click.option("--dry-run", is_flag=True, help="Check and show per host what would change; change nothing.")
@output_option
def deploy_dag(
    paths: tuple[Path, ...],
    hosts: tuple[str, ...],
    groups: tuple[str, ...],
    everyone: bool,
    into: str,
    from_git: str | None,
    ref: str | None,
    subdir: str | None,
    from_s3: str | None,
    pull: bool,
    quorum: str,
    best_effort: bool,
    rolling: str,
    gate: str | None,
    strict: bool | None,
    history: int | None,
    rollback: bool,
    to: str | None,
    dry_run: bool,
    output: str,
) -> None:
    """Deploy DAG files to worker nodes as one transaction: to all hosts or to none.

    FILEs are added to what each host has; a FOLDER becomes the whole DAG folder. The files are checked here and in each
    environment of the hosts before any host switches, by the rename of one symbolic link. Without hosts in the
    configuration or on the command line they go into the DAG folder of this machine.
    """
    if to is not None and not rollback:
        raise UsageError("--to goes with --rollback")
    if from_git is None and (ref is not None or subdir is not None):
        raise UsageError("--ref and --subdir go with --from-git")
    given = (bool(paths), rollback, from_git is not None, from_s3 is not None, pull, history is not None)
    if sum(given) != 1:
        raise UsageError("give DAG files, one folder, --from-git, --from-s3, --pull, --rollback or --history")
    if rollback:
        run_rollback(hosts, groups, everyone, to, "any" if best_effort else quorum, dry_run, output)
        return
    config = load()
    if history is not None:
        _show_history(config, history, output)
        return
    from opskit.ops import dag_distribution
    from opskit.ops.deploy_dag import deploy
    from opskit.ops.deploy_run import choose_hosts
    from opskit.platforms import find

    if pull:
        from_s3 = str(config.get("deploy", "source_url")) or None
        from_git = "" if from_s3 is None else None
    platform, chosen = find(config), choose_hosts(config, hosts, groups, everyone)
    options: dict[str, Any] = {
        "now": datetime.now(UTC),
        "dry_run": dry_run,
        "quorum": "any" if best_effort else quorum,
        "rolling": rolling,
        "gate": gate,
        "strict": strict,
    }
    if from_s3 is not None:
        url = from_s3
        finish(
            lambda progress: dag_distribution.deploy_from_bucket(
                platform, chosen, url=url, progress=progress, **options
            ),
            output,
        )
    elif from_git is not None:
        repository = from_git
        finish(
            lambda progress: dag_distribution.deploy_from_git(
                platform, chosen, url=repository, ref=ref, subdir=subdir, progress=progress, **options
            ),
            output,
        )
    else:
        finish(lambda progress: deploy(platform, paths, chosen, into=into, progress=progress, **options), output)


def _show_history(config: Config, limit: int, output: str) -> None:
    from opskit.ops.deploy_records import Records

    lines = Records(config).history(limit)
    if output == "table":
        for line in lines:
            line["hosts"] = ", ".join(f"{host}: {state[:40]}" for host, state in line["hosts"].items())
    show(lines, output, columns=("at", "by", "action", "source", "hosts", "failed"))
