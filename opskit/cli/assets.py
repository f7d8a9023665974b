"""`opskit assets` (and `opskit datasets`): what DAGs produce and wait for; events and runs by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click

from opskit.cli.cluster import moment, open_cluster
from opskit.cli.output import output_option, show
from opskit.errors import UsageError

_COLUMNS = ["name", "uri", "group", "producers", "consumers", "events", "last_event_at"]
_EVENT_COLUMNS = ["id", "at", "name", "source", "made", "extra"]


@click.group()
def assets() -> None:
    """Show assets (datasets) and their events, and make events."""


@assets.command("list")
@output_option
def list_assets(output: str) -> None:
    """List assets with the tasks that make them and the DAGs that wait for them."""
    from opskit.core.metastore import asset_queries

    with open_cluster().reading() as database:
        found = asset_queries.list_assets(database)
    if output != "table":
        show(found, output)
        return
    rows = [
        {
            **{name: getattr(one, name) for name in _COLUMNS},
            "producers": [f"{dag_id}.{task_id}" for dag_id, task_id in one.producers],
        }
        for one in found
    ]
    show(rows, output, columns=_COLUMNS)
    watched = sorted(one.name for one in found if one.watchers)
    if watched:
        click.echo(f"nothing watches {', '.join(watched)}: watchers of assets do not run here", err=True)


@assets.command()
@click.argument("name", required=False)
@click.option("--alias", help="Only events that came through this alias.")
@click.option("--dag-id", help="Only events that tasks of this DAG have made.")
@click.option("-s", "--start-date", help="Only events after this.")
@click.option("-e", "--end-date", help="Only events before this.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@output_option
def events(
    name: str | None,
    alias: str | None,
    dag_id: str | None,
    start_date: str | None,
    end_date: str | None,
    limit: int,
    output: str,
) -> None:
    """List events of the asset with this NAME or URI, or of all, the newest first, and the runs that they made."""
    from opskit.core.metastore import asset_queries

    cluster = open_cluster()
    with cluster.reading() as database:
        which: dict[str, Any] = {}
        if name is not None:
            row = asset_queries.get_asset(database, name)
            which = {"name": row.name, "uri": row.uri}
        found = asset_queries.events(
            database,
            **which,
            alias=alias,
            dag_id=dag_id,
            after=moment(start_date, cluster.config) if start_date else None,
            before=moment(end_date, cluster.config) if end_date else None,
            ascending=False,
            limit=limit,
        )
        made = asset_queries.runs_of_events(database, [event["id"] for event in found])
    rows = [
        {
            **event,
            "source": f"{event['source_dag_id']}.{event['source_task_id']}" if event["source_dag_id"] else "by hand",
            "made": [f"{run_dag} {run_id}" for run_dag, run_id in made.get(event["id"], ())],
        }
        for event in found
    ]
    show(rows, output, columns=_EVENT_COLUMNS if output == "table" else None)


@assets.command()
@output_option
def waiting(output: str) -> None:
    """List DAGs that have events and no run of them yet."""
    from opskit.core.metastore import asset_queries

    with open_cluster().reading() as database:
        found = asset_queries.waiting(database)
    rows = [
        {"dag_id": dag_id, "asset": name, "uri": uri, "events": count}
        for dag_id, counts in found.items()
        for (name, uri), count in counts.items()
    ]
    show(rows, output, columns=["dag_id", "asset", "uri", "events"])


@assets.command()
@click.argument("name")
@click.option("--extra", help="JSON object that the event says.")
@click.option("--partition-key", help="The partition of the asset that it is of.")
def trigger(name: str, extra: str | None, partition_key: str | None) -> None:
    """Make an event of the asset with this NAME or URI, as if a task had made it."""
    from opskit.core.metastore import asset_queries, audit

    now = datetime.now(UTC)
    with open_cluster().changing() as database:
        met = asset_queries.make_event(database, name, _extra(extra), now, partition_key)
        audit.write(database, "assets trigger", now, extra={"asset": name, "dags": sorted(met)})
    click.echo(
        f"made an event of {name}; it is the last that these DAGs waited for: {', '.join(sorted(met)) or 'none'}"
    )


@assets.command()
@click.argument("name")
def materialize(name: str) -> None:
    """Run the DAG that makes the asset with this NAME or URI."""
    from opskit.core.metastore import asset_queries, audit, runs

    now = datetime.now(UTC)
    with open_cluster().changing() as database:
        dag_id = asset_queries.producer_of(database, name)
        run = runs.trigger(database, dag_id, now)
        audit.write(database, "assets materialize", now, dag_id=dag_id, run_id=run.run_id, extra={"asset": name})
    click.echo(f"{dag_id}: run {run.run_id} is {run.state}")


def _extra(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--extra is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError("--extra is no JSON object", hint='write it as {"rows": 3}')
    return value
