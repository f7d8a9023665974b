"""Mapped tasks, fail_fast and failures in a row, from the rows to the rows, on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opskit.core.metastore.engine import open_engine
from opskit.core.metastore.tables import dag, dag_run, log, task_instance
from tests.integration.test_scheduler import Cluster, PlayedExecutor, play, turn

OVER_A: dict[str, Any] = {"expand": {"xcom": "a", "key": "return_value"}}
EDGES: dict[str, list[str]] = {"a": [], "m": ["a"], "end": ["m"]}


@pytest.fixture
def cluster(metastore_url: str, home: Path) -> Iterator[Cluster]:
    engine = open_engine(metastore_url)
    made = Cluster(engine, home)
    yield made
    for socket in made.sockets:
        socket.close()
    engine.dispose()


def instances(cluster: Cluster, run: str = "r1") -> dict[tuple[str, int], str | None]:
    ids = {row.run_id: row.id for row in cluster.rows(dag_run)}
    return {
        (row.task_id, row.map_index): row.state for row in cluster.rows(task_instance) if row.dag_run_id == ids[run]
    }


def end(executor: PlayedExecutor, task_id: str, map_index: int = -1, **result: Any) -> None:
    found = [one for one in executor.started if (one["task_id"], one["map_index"]) == (task_id, map_index)]
    executor.started = [one for one in executor.started if one not in found]
    executor.end(found[-1], **result)


def test_a_mapped_task_becomes_rows_when_its_list_is_known_and_another_scheduler_goes_on(cluster: Cluster) -> None:
    cluster.put_dag("d", EDGES, {"m": {**OVER_A, "max_active_tis_per_dagrun": 2}})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    end(executor, "a", xcoms=[["return_value", ["x", "y", "z"]]])
    turn(scheduler, 3)
    expected = {("a", -1): "success", ("m", 0): "queued", ("m", 1): "queued", ("m", 2): None, ("end", -1): None}
    assert instances(cluster) == expected
    end(executor, "m", 0)
    end(executor, "m", 1)
    turn(scheduler, 3)
    assert instances(cluster) == {**expected, ("m", 0): "success", ("m", 1): "success", ("m", 2): "queued"}
    scheduler.stop()
    end(executor, "m", 2)
    other = cluster.scheduler(executor)
    play(other, executor, lambda: cluster.run_states() == {"r1": "success"})
    assert set(instances(cluster).values()) == {"success"}


def test_the_length_of_a_list_is_read_by_the_scheduler_that_takes_over(cluster: Cluster) -> None:
    """The first one is gone between the end of one of two tasks that lists are mapped over, and the other."""
    length = {"product": [OVER_A["expand"], {"xcom": "b", "key": "return_value"}]}
    cluster.put_dag("d", {"a": [], "b": [], "m": ["a", "b"]}, {"m": {"expand": length}})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    end(executor, "a", xcoms=[["return_value", [1, 2]]])
    turn(scheduler, 3)
    scheduler.stop()
    other = cluster.scheduler(executor)
    turn(other, 2)
    end(executor, "b", xcoms=[["return_value", {"k": 1, "l": 2, "m": 3}]])
    play(other, executor, lambda: cluster.run_states() == {"r1": "success"})
    assert {key for key in instances(cluster) if key[0] == "m"} == {("m", index) for index in range(6)}


def test_a_cleared_list_of_another_length_makes_as_many_instances_as_it_has_now(cluster: Cluster) -> None:
    from opskit.core.metastore import task_instances
    from opskit.core.metastore.engine import transaction
    from tests.metastore_rows import NOW

    cluster.put_dag("d", EDGES, {"m": OVER_A})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    end(executor, "a", xcoms=[["return_value", [1, 2, 3]]])
    play(scheduler, executor, lambda: cluster.run_states() == {"r1": "success"})
    with transaction(cluster.engine) as connection:
        chosen = task_instances.select_to_clear(connection, "d", run_ids=["r1"])
        assert task_instances.clear(connection, "d", chosen, NOW) == 5
    turn(scheduler, 4)
    end(executor, "a", xcoms=[["return_value", [1]]])
    play(scheduler, executor, lambda: cluster.run_states() == {"r1": "success"})
    assert instances(cluster) == {
        ("a", -1): "success",
        ("m", 0): "success",
        ("m", 1): "removed",
        ("m", 2): "removed",
        ("end", -1): "success",
    }


def test_with_fail_fast_the_first_failure_ends_the_run(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": [], "b": [], "c": ["b"], "below": ["a"]}, fail_fast=True)
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    (other,) = [one for one in executor.started if one["task_id"] == "b"]
    end(executor, "a", state="failed")
    turn(scheduler, 4)
    assert cluster.run_states() == {"r1": "success"}  # as in Airflow: the leaves decide
    assert instances(cluster) == {
        ("a", -1): "failed",
        ("b", -1): "failed",
        ("c", -1): "skipped",
        ("below", -1): "skipped",
    }
    assert [list(key) for key in executor.killed] == [other["key"]]


def test_failures_in_a_row_pause_the_dag(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []}, max_consecutive_failed_dag_runs=2)
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)

    def paused() -> bool:
        (row,) = cluster.rows(dag)
        return bool(row.is_paused)

    for number, state in enumerate(("failed", "success", "failed", "failed"), start=1):
        assert not paused()
        cluster.trigger("d", number)
        turn(scheduler, 4)
        end(executor, "a", state=state)
        turn(scheduler, 4)
    assert paused()
    (line,) = cluster.rows(log)
    assert (line.event, line.dag_id, line.owner) == ("dags pause", "d", "scheduler")
    cluster.trigger("d", 5)
    turn(scheduler, 4)
    assert executor.started == [] and cluster.run_states()["r5"] == "queued"
