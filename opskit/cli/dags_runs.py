"""`opskit dags trigger | list-runs | state`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from opskit.cli.cluster import moment, open_cluster
from opskit.cli.output import output_option, show
from opskit.cli.run_progress import refuse_failed, wait_for_runs
from opskit.errors import UsageError

RUN_COLUMNS = ["dag_id", "run_id", "state", "run_type", "logical_date", "start_date", "end_date"]


def parse_conf(text: str | None) -> dict[str, Any] | None:
    """The JSON object of `--conf`. UsageError for anything else."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--conf is no JSON: {error}", hint="""write it as '{"key": "value"}'""") from error
    if not isinstance(value, dict):
        raise UsageError("--conf is no JSON object", hint="""write it as '{"key": "value"}'""")
    return value


@click.command()
@click.argument("dag_id")
@click.option("-c", "--conf", help="JSON object that the tasks see as dag_run.conf.")
@click.option("-r", "--run-id", help="Name of the run; default: manual__ and its logical date.")
@click.option("-l", "-e", "--logical-date", "--exec-date", "logical_date", help="Logical date; default: now.")
@click.option("--partition-key", help="The partition of assets that the run is for.")
@click.option("--note", help="A line for people.")
@click.option("--wait", is_flag=True, help="Wait until the run has ended; exit code 4 when it failed.")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait; then exit code 4.")
@output_option
def trigger(
    dag_id: str,
    conf: str | None,
    run_id: str | None,
    logical_date: str | None,
    partition_key: str | None,
    note: str | None,
    wait: bool,
    timeout: float | None,
    output: str,
) -> None:
    """Start a run of a DAG."""
    from opskit.core.metastore import audit, dags, runs

    values = parse_conf(conf)
    cluster = open_cluster()
    at = None if logical_date is None else moment(logical_date, cluster.config)
    now = datetime.now(UTC)
    with cluster.changing() as connection:
        run = runs.trigger(
            connection,
            dag_id,
            now,
            run_id=run_id,
            logical_date=at,
            conf=values,
            note=note,
            partition_key=partition_key,
        )
        # What conf holds may be secret: its names tell enough.
        audit.write(
            connection, "dags trigger", now, dag_id=dag_id, run_id=run.run_id, extra={"conf_keys": sorted(values or {})}
        )
        paused = dags.get_dag(connection, dag_id).is_paused
    if paused:
        click.echo(f"{dag_id} is paused: the run waits until `opskit dags unpause {dag_id}`", err=True)
    if wait:
        run = wait_for_runs(cluster, dag_id, [run.run_id], timeout)[0]
    if output == "table":
        click.echo(f"{dag_id}: run {run.run_id} is {run.state}")
    else:
        show(run, output)
    if wait:
        refuse_failed([run])


@click.command("list-runs")
@click.argument("dag_id", required=False)
@click.option("-d", "--dag-id", "dag_option", help="The DAG, as an option.")
@click.option("--state", type=click.Choice(["queued", "running", "success", "failed"]), help="Only in this state.")
@click.option(
    "--run-type",
    type=click.Choice(["scheduled", "manual", "backfill", "asset_triggered", "dataset_triggered"]),
    help="Only of this type.",
)
@click.option("--no-backfill", is_flag=True, help="Without runs of backfills.")
@click.option("-s", "--start-date", help="Logical dates from here on.")
@click.option("-e", "--end-date", help="Logical dates up to here.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@output_option
def list_runs(
    dag_id: str | None,
    dag_option: str | None,
    state: str | None,
    run_type: str | None,
    no_backfill: bool,
    start_date: str | None,
    end_date: str | None,
    limit: int,
    output: str,
) -> None:
    """List the runs of a DAG, or of all DAGs, the newest first."""
    from opskit.core.metastore import dags, runs

    if dag_id and dag_option and dag_id != dag_option:
        raise UsageError(f"two DAGs are named: {dag_id} and {dag_option}")
    cluster = open_cluster()
    wanted = dag_id or dag_option
    with cluster.reading() as connection:
        if wanted:
            dags.get_dag(connection, wanted)
        found = runs.list_runs(
            connection,
            dag_id=wanted,
            state=state,
            run_type=run_type,
            start=moment(start_date, cluster.config) if start_date else None,
            end=moment(end_date, cluster.config) if end_date else None,
            limit=None if no_backfill else limit,
        )
    if no_backfill:
        found = [run for run in found if run.run_type != "backfill"][:limit]
    show(found, output, columns=RUN_COLUMNS)


@click.command()
@click.argument("dag_id")
@click.argument("run")
def state(dag_id: str, run: str) -> None:
    """Print the state of one run, given by its run_id or its logical date."""
    from opskit.core.metastore import runs

    cluster = open_cluster()
    with cluster.reading() as connection:
        found = runs.find_run(connection, dag_id, run)
        if found is None and run[:4].isdigit():
            found = runs.get_run(connection, dag_id, logical_date=moment(run, cluster.config))
        elif found is None:
            found = runs.get_run(connection, dag_id, run)
    click.echo(found.state)
