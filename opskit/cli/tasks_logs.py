"""`opskit tasks logs`: prints the log of an attempt, and follows it while it grows."""

from __future__ import annotations

import sys
import time

import click

from opskit.cli.cluster import Cluster, open_cluster
from opskit.cli.tasks import find_run
from opskit.core.dag import states
from opskit.errors import MetastoreUnavailable, NotFound

_CHUNK_BYTES = 1024 * 1024
_POLL_SECONDS = 0.2


@click.command()
@click.argument("dag_id")
@click.argument("run")
@click.argument("task_id")
@click.option("--attempt", type=click.IntRange(min=1), help="Number of the attempt; default: the newest with a log.")
@click.option("--map-index", type=int, default=-1, help="Which one of a mapped task.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the attempt has ended.")
def logs(dag_id: str, run: str, task_id: str, attempt: int | None, map_index: int, follow: bool) -> None:
    """Print the log of an attempt. RUN is a run_id or a logical date."""
    from opskit.core.metastore import task_instances
    from opskit.telemetry import task_logs

    cluster = open_cluster()
    folder = cluster.config.logs_folder
    run_id = find_run(cluster, dag_id, run).run_id
    with cluster.reading() as connection:
        instance = task_instances.get_task_instance(connection, dag_id, run_id, task_id, map_index)
    there = task_logs.list_attempts(folder, dag_id, run_id, task_id, map_index)
    number = attempt or max(there, default=max(1, instance.try_number))
    if number not in there and not follow and cluster.config.get("logs", "archive_to"):
        from opskit import platforms
        from opskit.ops.logs_show import read

        for piece in read(platforms.find(cluster.config), dag_id, task_id, run_id, attempt, map_index):
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        return
    if number not in there and not follow:
        known = f"it has {', '.join(map(str, there))}" if there else f"its state is {instance.state}"
        raise NotFound(
            f"{task_id} of run {run_id} has no log of attempt {number}",
            hint=f"{known}; --follow waits for the log of an attempt that has not begun",
        )
    path = task_logs.log_path(dag_id, run_id, task_id, map_index, number)
    offset = 0
    while True:
        # Asked first: what was written before the end is then read after it.
        over = not follow or _is_over(cluster, dag_id, run_id, task_id, map_index, number)
        while True:
            try:
                text, after = task_logs.read(folder, path, offset=offset, limit=_CHUNK_BYTES)
            except NotFound:
                if over:
                    raise
                break
            sys.stdout.write(text)
            if after == offset:
                break
            offset = after
        sys.stdout.flush()
        if over:
            return
        time.sleep(_POLL_SECONDS)


def _is_over(cluster: Cluster, dag_id: str, run_id: str, task_id: str, map_index: int, number: int) -> bool:
    from opskit.core.metastore import task_instances

    try:
        with cluster.reading() as connection:
            now = task_instances.get_task_instance(connection, dag_id, run_id, task_id, map_index)
    except MetastoreUnavailable:
        return False
    if now.try_number != number:
        return now.try_number > number or now.state in states.FINISHED
    return now.state not in (states.RUNNING, states.QUEUED, states.SCHEDULED, states.UP_FOR_RESCHEDULE, None)
