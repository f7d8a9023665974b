"""`opskit dags test` and `opskit tasks test`: run a DAG or a task in this process. Nothing is written anywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime

import click

from opskit.cli.cluster import Cluster, moment, open_cluster
from opskit.cli.dags_runs import parse_conf
from opskit.cli.local_dag import load_local_dag
from opskit.cli.output import output_option, show
from opskit.core.dag import runtime, states
from opskit.errors import MetastoreUnavailable, NotFound, Unhealthy


@contextmanager
def _prints_go_to(output: str) -> Iterator[None]:
    """What tasks and their programs print: to stdout for people; to stderr where stdout is JSON or YAML alone."""
    if output == "table":
        yield
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


@contextmanager
def _store(cluster: Cluster) -> Iterator[None]:
    """Variables and connections come from the metastore, where there is one; what the code writes stays in memory."""
    from opskit.core.metastore import schema
    from opskit.core.metastore.direct_store import DirectStore
    from opskit.telemetry import logs

    logs.setup(str(cluster.config.get("logging", "logging_level")))
    behind = None
    try:
        schema.check(cluster.engine)
        behind = DirectStore.open(cluster.config)
    except MetastoreUnavailable as error:
        click.echo(f"without variables and connections of the metastore: {error}", err=True)
    runtime.set_store(runtime.MemoryStore(behind=behind))
    try:
        yield
    finally:
        runtime.set_store(None)
        if behind is not None:
            behind.close()


@click.command("test")
@click.argument("dag_id")
@click.argument("logical_date", required=False)
@click.option("-c", "--conf", help="JSON object that the tasks see as dag_run.conf.")
@click.option("-f", "--file", help="The DAG file; default: the one that defines the DAG in the DAG folder.")
@output_option
def test_dag(dag_id: str, logical_date: str | None, conf: str | None, file: str | None, output: str) -> None:
    """Run a whole DAG in this process, without scheduler and worker. Exit code 4 when it failed."""
    values = parse_conf(conf)
    cluster = open_cluster()
    at = None if logical_date is None else moment(logical_date, cluster.config)
    with _prints_go_to(output), _store(cluster):
        dag = load_local_dag(cluster, dag_id, file)
        run = dag.test(conf=values, logical_date=at, report=lambda line: click.echo(line, err=True))
    if output == "table":
        click.echo(f"{run.dag_id}: {run.state}")
    else:
        show(asdict(run), output)
    if run.state == states.FAILED:
        first = next(iter(run.reasons.items()), None)
        raise Unhealthy(f"the run of {dag_id} failed", hint=f"{first[0]}: {first[1]}" if first else None)


@click.command("test")
@click.argument("dag_id")
@click.argument("task_id")
@click.argument("logical_date", required=False)
@click.option("-c", "--conf", help="JSON object that the task sees as dag_run.conf.")
@click.option("-f", "--file", help="The DAG file; default: the one that defines the DAG in the DAG folder.")
@output_option
def test_task(
    dag_id: str, task_id: str, logical_date: str | None, conf: str | None, file: str | None, output: str
) -> None:
    """Run one task in this process, whatever its upstream tasks did. Exit code 4 when it failed."""
    from opskit.core.dag.execution import execute
    from opskit.core.metastore.dags import nearest

    values = parse_conf(conf)
    cluster = open_cluster()
    at = datetime.now(UTC) if logical_date is None else moment(logical_date, cluster.config)
    with _prints_go_to(output), _store(cluster):
        dag = load_local_dag(cluster, dag_id, file)
        if task_id not in dag.task_dict:
            raise NotFound(f"DAG {dag_id} has no task {task_id!r}", hint=nearest(task_id, dag.task_dict))
        interval = dag.infer_automated_data_interval(at)
        run = {
            "run_type": "manual",
            "logical_date": at,
            "data_interval_start": interval.start,
            "data_interval_end": interval.end,
            "conf": values or {},
            "start_date": datetime.now(UTC),
        }
        attempt = {
            "kind": "task",
            "task_id": task_id,
            "run_id": f"test__{at.isoformat()}",
            "try_number": 1,
            "max_tries": dag.task_dict[task_id].retries,
            "first_poke_at": datetime.now(UTC),
        }
        outcome = execute(dag, attempt, run, test_mode=True, triggers_inline=True)
    if output == "table":
        click.echo(f"{dag_id}.{task_id}: {outcome.state}")
    else:
        show(outcome, output)
    if outcome.state == states.FAILED:
        raise Unhealthy(f"{dag_id}.{task_id} failed", hint=outcome.reason)
