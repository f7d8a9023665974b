"""`opskit dags`: list, show, pause, trigger, test and backfill DAGs."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import click

from opskit.cli.cluster import Cluster, confirm, open_cluster
from opskit.cli.lazy import LazyCommands
from opskit.cli.output import output_option, show
from opskit.errors import NotFound, UsageError

_MORE = {
    "trigger": ("opskit.cli.dags_runs:trigger", "Start a run."),
    "list-runs": ("opskit.cli.dags_runs:list_runs", "List the runs of a DAG."),
    "state": ("opskit.cli.dags_runs:state", "Print the state of one run."),
    "backfill": ("opskit.cli.dags_backfill:backfill", "Run a DAG for past intervals."),
    "test": ("opskit.cli.dag_tests:test_dag", "Run a DAG in this process, without the scheduler."),
}


@click.group(cls=LazyCommands, commands_elsewhere=_MORE)
def dags() -> None:
    """List, trigger, pause and test DAGs."""


@dags.command("list")
@click.option("--all", "everything", is_flag=True, help="Also DAGs whose file no longer defines them.")
@click.option("--paused/--active", "paused", default=None, help="Only paused DAGs, or only those that are not.")
@click.option("--tag", "tags", multiple=True, help="Only DAGs with this tag; may be repeated.")
@output_option
def list_dags(everything: bool, paused: bool | None, tags: tuple[str, ...], output: str) -> None:
    """List DAGs."""
    from opskit.core.metastore import dag_plans
    from opskit.core.metastore import dags as queries

    with open_cluster().reading() as connection:
        found = queries.list_dags(connection, include_inactive=everything, paused=paused)
        broken = len(queries.import_errors(connection))
        warned = dag_plans.warnings(connection)
    rows = [dag for dag in found if set(tags) <= set(dag.tags)]
    show(rows, output, columns=["dag_id", "schedule", "is_paused", "next_run_after", "owners", "fileloc"])
    if broken and output == "table":
        click.echo(f"{broken} DAG files could not be loaded: opskit dags list-import-errors", err=True)
    if output == "table":
        for dag_id, warning in sorted(warned.items()):
            click.echo(f"warning: {dag_id}: {warning}", err=True)


@dags.command("show")
@click.argument("dag_id")
@output_option
def show_dag(dag_id: str, output: str) -> None:
    """Show a DAG: its settings, and its tasks as a tree."""
    from opskit.cli.task_tree import tree_lines
    from opskit.core.metastore import dag_plans
    from opskit.core.metastore import dags as queries

    with open_cluster().reading() as connection:
        dag = queries.get_dag(connection, dag_id)
        warning = dag_plans.warnings(connection).get(dag_id)
        definition = queries.get_serialized(connection, dag_id)
    if output != "table":
        show({"dag": dag, "definition": definition}, output)
        return
    facts = {
        "dag_id": dag.dag_id,
        "description": dag.description,
        "file": dag.fileloc,
        "schedule": f"{dag.schedule} ({definition.ui.get('schedule_words', '')}, {definition.timezone})",
        "paused": dag.is_paused,
        "active": dag.is_active,
        "owners": ", ".join(dag.owners),
        "tags": ", ".join(dag.tags),
        "catchup": definition.catchup,
        "start date": definition.start_date,
        "next run after": dag.next_run_after,
        "next data interval": f"{dag.next_interval_start} to {dag.next_interval_end}"
        if dag.next_interval_start
        else None,
        "warning": warning,
        "max active runs": definition.max_active_runs,
        "max active tasks": definition.max_active_tasks,
        "version": dag.version_hash,
        "loaded at": dag.last_parsed_at,
    }
    show({key: value for key, value in facts.items() if value is not None}, "table")
    for line in tree_lines(definition):
        click.echo(line)


def _pausing(dag_ids: tuple[str, ...], by_pattern: bool, yes: bool, paused: bool) -> None:
    from opskit.core.metastore import audit
    from opskit.core.metastore import dags as queries

    cluster = open_cluster()
    chosen = _by_pattern(cluster, dag_ids, yes, "pause" if paused else "unpause") if by_pattern else list(dag_ids)
    now = datetime.now(UTC)
    with cluster.changing() as connection:
        changed = queries.set_paused(connection, chosen, paused, now)
        for dag_id in changed:
            audit.write(connection, "dags pause" if paused else "dags unpause", now, dag_id=dag_id)
    word = "paused" if paused else "not paused"
    for dag_id in dict.fromkeys(chosen):
        click.echo(f"{dag_id}: {word}" if dag_id in changed else f"{dag_id}: was {word} already")


def _by_pattern(cluster: Cluster, patterns: tuple[str, ...], yes: bool, verb: str) -> list[str]:
    from opskit.core.metastore import dags as queries

    with cluster.reading() as connection:
        known = [dag.dag_id for dag in queries.list_dags(connection)]
    try:
        found = [dag_id for dag_id in known if any(re.search(pattern, dag_id) for pattern in patterns)]
    except re.error as error:
        raise UsageError(f"no valid regular expression: {error}") from error
    if not found:
        raise NotFound(f"no DAG matches {' or '.join(patterns)}", hint="opskit dags list shows all")
    confirm(f"{verb} {len(found)} DAGs: {', '.join(found)}?", yes)
    return found


@dags.command("pause")
@click.argument("dag_ids", nargs=-1, required=True)
@click.option("--treat-dag-id-as-regex", "by_pattern", is_flag=True, help="Every DAG that matches.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def pause(dag_ids: tuple[str, ...], by_pattern: bool, yes: bool) -> None:
    """Pause DAGs: no new task instance of them starts. Running attempts end as usual."""
    _pausing(dag_ids, by_pattern, yes, True)


@dags.command("unpause")
@click.argument("dag_ids", nargs=-1, required=True)
@click.option("--treat-dag-id-as-regex", "by_pattern", is_flag=True, help="Every DAG that matches.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def unpause(dag_ids: tuple[str, ...], by_pattern: bool, yes: bool) -> None:
    """Let paused DAGs go on."""
    _pausing(dag_ids, by_pattern, yes, False)


@dags.command("list-import-errors")
@output_option
def list_import_errors(output: str) -> None:
    """List DAG files that could not be loaded, and why. Their DAGs go on with the last good version."""
    from opskit.core.metastore import dags as queries

    with open_cluster().reading() as connection:
        errors = queries.import_errors(connection)
    show(errors, output, columns=["path", "at", "error"])


@dags.command("next-execution")
@click.argument("dag_id")
@click.option("-n", "--num-executions", "count", type=click.IntRange(1, 1000), default=1, show_default=True)
@output_option
def next_execution(dag_id: str, count: int, output: str) -> None:
    """Show the next scheduled runs of a DAG."""
    from opskit.core.metastore import dag_loads
    from opskit.core.metastore import dags as queries
    from opskit.core.scheduler.next_runs import next_runs

    cluster = open_cluster()
    with cluster.reading() as connection:
        dag = queries.get_dag(connection, dag_id)
        definition = queries.get_serialized(connection, dag_id)
        last = dag_loads.last_automated(connection, [dag_id]).get(dag_id)
    runs = next_runs(
        definition,
        last,
        bool(cluster.config.get("scheduler", "catchup_by_default")),
        datetime.now(UTC),
        count,
        first_run=str(cluster.config.get("scheduler", "first_run")),
        unpaused_at=dag.unpaused_at,
    )
    if dag.is_paused and output == "table":
        click.echo(f"{dag_id} is paused: these runs wait until it is unpaused", err=True)
    rows: list[dict[str, Any]] = [
        {
            "logical_date": run.logical_date,
            "data_interval_start": run.data_interval.start,
            "data_interval_end": run.data_interval.end,
            "run_after": run.run_after,
        }
        for run in runs
    ]
    show(rows, output)


@dags.command("delete")
@click.argument("dag_id")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def delete(dag_id: str, yes: bool, dry_run: bool) -> None:
    """Forget a DAG with its runs and history. If its file is still there, it comes back as a new one."""
    from opskit.core.metastore import audit, runs
    from opskit.core.metastore import dags as queries

    cluster = open_cluster()
    with cluster.reading() as connection:
        dag = queries.get_dag(connection, dag_id)
        count = runs.count_runs(connection, dag_id)
    if dry_run:
        click.echo(f"would delete {dag_id} and {count} runs")
        return
    confirm(f"delete {dag_id} with {count} runs and their history?", yes)
    now = datetime.now(UTC)
    with cluster.changing() as connection:
        removed = queries.delete_dag(connection, dag.dag_id)
        audit.write(connection, "dags delete", now, dag_id=dag_id, extra={"runs": removed})
    click.echo(f"{dag_id}: deleted with {removed} runs")
