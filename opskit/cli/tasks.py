"""`opskit tasks`: list, test and clear task instances, read their logs, tell why they wait."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from opskit.cli.cluster import Cluster, confirm, moment, open_cluster
from opskit.cli.lazy import LazyCommands
from opskit.cli.output import output_option, show
from opskit.errors import NotFound, UsageError

if TYPE_CHECKING:
    from opskit.core.metastore.runs import Run

_MORE = {
    "test": ("opskit.cli.dag_tests:test_task", "Run one task in this process, without the scheduler."),
    "logs": ("opskit.cli.tasks_logs:logs", "Print the log of an attempt."),
}


@click.group(cls=LazyCommands, commands_elsewhere=_MORE)
def tasks() -> None:
    """List, test and clear task instances, read their logs."""


@tasks.command("list")
@click.argument("dag_id")
@click.option("-t", "--tree", is_flag=True, help="As a tree, in the order of the dependencies.")
@output_option
def list_tasks(dag_id: str, tree: bool, output: str) -> None:
    """List the tasks of a DAG, in the order of the dependencies."""
    from opskit.cli.task_tree import tree_lines
    from opskit.core.metastore import dags

    with open_cluster().reading() as connection:
        definition = dags.get_serialized(connection, dag_id)
    if tree:
        for line in tree_lines(definition):
            click.echo(line)
        return
    rows = [
        {
            "task_id": task.task_id,
            "operator": task.operator,
            "trigger_rule": task.trigger_rule,
            "retries": task.retries,
            "pool": task.pool,
            "owner": task.owner,
            "upstream": list(task.upstream),
            "downstream": list(task.downstream),
        }
        for task in definition.tasks
    ]
    show(rows, output, columns=["task_id", "operator", "trigger_rule", "retries", "pool", "upstream"])


def find_run(cluster: Cluster, dag_id: str, run: str) -> Run:
    """A run by its run_id, or by its logical date. NotFound, naming the nearest one."""
    from opskit.core.metastore import runs

    with cluster.reading() as connection:
        found = runs.find_run(connection, dag_id, run)
        if found is not None:
            return found
        try:
            at = moment(run, cluster.config)
        except UsageError:
            return runs.get_run(connection, dag_id, run)
        return runs.get_run(connection, dag_id, logical_date=at)


@tasks.command("states-for-dag-run")
@click.argument("dag_id")
@click.argument("run")
@output_option
def states_for_dag_run(dag_id: str, run: str, output: str) -> None:
    """Show the state of every task instance of a run, given by its run_id or its logical date."""
    from opskit.core.metastore import task_instances

    cluster = open_cluster()
    run_id = find_run(cluster, dag_id, run).run_id
    with cluster.reading() as connection:
        found = task_instances.list_task_instances(connection, dag_id, run_ids=[run_id])
    columns = ["task_id", "map_index", "state", "try_number", "start_date", "end_date", "reason"]
    show(found, output, columns=columns)


@tasks.command("state")
@click.argument("dag_id")
@click.argument("task_id")
@click.argument("run")
@click.option("--map-index", type=int, default=-1, help="Which one of a mapped task.")
def state(dag_id: str, task_id: str, run: str, map_index: int) -> None:
    """Print the state of one task instance (None: it waits)."""
    from opskit.core.metastore import task_instances

    cluster = open_cluster()
    run_id = find_run(cluster, dag_id, run).run_id
    with cluster.reading() as connection:
        found = task_instances.get_task_instance(connection, dag_id, run_id, task_id, map_index)
    click.echo(found.state)


@tasks.command("clear")
@click.argument("dag_id")
@click.option("-r", "--run-id", "run_ids", multiple=True, help="Only this run; may be repeated.")
@click.option("-s", "--start-date", help="Logical dates from here on.")
@click.option("-e", "--end-date", help="Logical dates up to here.")
@click.option("-t", "--task-regex", help="Only tasks whose id matches.")
@click.option("-u", "--upstream", is_flag=True, help="And all that they depend on.")
@click.option("-d", "--downstream", is_flag=True, help="And all that depends on them.")
@click.option("-f", "--only-failed", is_flag=True, help="Only failed ones.")
@click.option("--only-running", is_flag=True, help="Only running ones.")
@click.option("--map-index", "map_indexes", type=int, multiple=True, help="Only these of the tasks; may be repeated.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be cleared.")
@output_option
def clear(
    dag_id: str,
    run_ids: tuple[str, ...],
    start_date: str | None,
    end_date: str | None,
    task_regex: str | None,
    upstream: bool,
    downstream: bool,
    only_failed: bool,
    only_running: bool,
    map_indexes: tuple[int, ...],
    yes: bool,
    dry_run: bool,
    output: str,
) -> None:
    """Let task instances run again, as if they had never run. Their runs go on."""
    from opskit.core.metastore import audit, task_instances

    if only_failed and only_running:
        raise UsageError("--only-failed and --only-running exclude each other")
    cluster = open_cluster()
    with cluster.reading() as connection:
        chosen = task_instances.select_to_clear(
            connection,
            dag_id,
            run_ids=list(run_ids) or None,
            start=moment(start_date, cluster.config) if start_date else None,
            end=moment(end_date, cluster.config) if end_date else None,
            task_regex=task_regex,
            upstream=upstream,
            downstream=downstream,
            only_failed=only_failed,
            only_running=only_running,
        )
    if map_indexes:
        chosen = [instance for instance in chosen if instance.map_index in map_indexes]
    columns = ["run_id", "task_id", "map_index", "state", "try_number"]
    if dry_run:
        show(chosen, output, columns=columns)
        return
    if not chosen:
        click.echo(f"{dag_id}: nothing to clear", err=True)
    else:
        confirm(f"clear {len(chosen)} task instances of {dag_id}?", yes)
        now = datetime.now(UTC)
        with cluster.changing() as connection:
            cleared = task_instances.clear(connection, dag_id, chosen, now)
            audit.write(
                connection,
                "tasks clear",
                now,
                dag_id=dag_id,
                extra={
                    "cleared": cleared,
                    "runs": sorted({instance.run_id for instance in chosen})[:50],
                    "tasks": sorted({instance.task_id for instance in chosen})[:50],
                },
            )
        click.echo(f"{dag_id}: {cleared} task instances cleared", err=output != "table")
    if output != "table":
        show(chosen, output)


@tasks.command("failed-deps")
@click.argument("dag_id")
@click.argument("run")
@click.argument("task_id")
@click.option("--map-index", type=int, default=-1, help="Which one of a mapped task.")
@output_option
def failed_deps(dag_id: str, run: str, task_id: str, map_index: int, output: str) -> None:
    """Say why a task instance is not running: each condition that is not met."""
    from opskit.core.scheduler import explain

    cluster = open_cluster()
    run_id = find_run(cluster, dag_id, run).run_id
    now = datetime.now(UTC)
    with cluster.reading() as connection:
        seen = explain.observe(connection, cluster.config, dag_id, run_id, task_id, map_index, now)
    found = explain.unmet(seen)
    if output != "table":
        show(found, output)
    elif not found:
        click.echo("nothing keeps it from running: it is about to be started, or has been given to a worker")
    else:
        for one in found:
            click.echo(f"{one.name}: {one.reason}")


@tasks.command("attempts")
@click.argument("dag_id")
@click.argument("run")
@click.argument("task_id")
@click.option("--map-index", type=int, default=-1, help="Which one of a mapped task.")
@output_option
def attempts(dag_id: str, run: str, task_id: str, map_index: int, output: str) -> None:
    """List all tries of a task instance, the oldest first."""
    from opskit.core.metastore import task_instances

    cluster = open_cluster()
    run_id = find_run(cluster, dag_id, run).run_id
    with cluster.reading() as connection:
        found = task_instances.attempts(connection, dag_id, run_id, task_id, map_index)
    if not found:
        raise NotFound(f"{task_id} of run {run_id} has not been tried yet")
    show(found, output)
