"""Plans over real metastores: the DAG processor's planner asks (here: this process), the scheduler makes the runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from opskit import config as configuration
from opskit.core.dag import asked_timetable, serialization
from opskit.core.dag.model import DAG
from opskit.core.dag.operators.empty import EmptyOperator
from opskit.core.metastore import dag_loads, dag_plans, dags, runs
from opskit.core.metastore.engine import open_engine, reading, transaction
from opskit.core.metastore.tables import dag as dag_table
from opskit.core.metastore.tables import dag_run
from opskit.core.scheduler.loop import Scheduler
from opskit.core.scheduler.planning import Planner
from tests.databases import Databases
from tests.integration.test_scheduler import Cluster, PlayedExecutor, turn
from tests.metastore_rows import loaded_file
from tests.waiting import wait_until

START = datetime(2024, 1, 1, tzinfo=UTC)


class World(Cluster):
    one: Scheduler
    planner: Planner
    made: DAG

    def start(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.one = self.scheduler(PlayedExecutor())
        self.planner = Planner(configuration.load(self.home), self.engine, self.ask)

    def ask(self, path: str, questions: Sequence[dict[str, Any]]) -> None:
        self.asked += questions
        self.planner.take({question["dag_id"]: asked_timetable.answer(self.made, question) for question in questions})

    def load(self, **values: Any) -> None:
        values = {"schedule": "@daily", "start_date": START, "catchup": True, **values}
        with DAG("d", **values) as self.made:
            EmptyOperator(task_id="a")
        data = serialization.serialize(self.made, "d.py")
        with transaction(self.engine) as connection:
            dag_loads.store_loaded_files(connection, [loaded_file("d.py", data)], datetime.now(UTC))
        self.planner.learn([data])

    def plan(self, rounds: int = 1) -> None:
        """Each round: what the planner does in a second, then what the scheduler does."""
        for _ in range(rounds):
            self.planner.turn(time.monotonic())
            self.planner.store()
            self.planner.look_soon()
            turn(self.one, 3)

    def days(self, run_type: str = "scheduled") -> list[int]:
        return sorted(row.logical_date.day for row in self.rows(dag_run) if row.run_type == run_type)


everywhere = pytest.mark.parametrize("world", ["sqlite", "postgresql", "mariadb"], indirect=True)


@pytest.fixture
def world(request: pytest.FixtureRequest, databases: Databases, home: Path) -> Iterator[World]:
    url = databases.migrated(getattr(request, "param", "sqlite"))
    engine = open_engine(url)
    made = World(engine, home)
    made.start()
    yield made
    for wake in made.sockets:
        wake.close()
    engine.dispose()
    databases.drop(url)


@everywhere
def test_runs_are_made_of_plans_until_there_are_no_more(world: World) -> None:
    world.load(run_if=lambda data_interval, logical_date: logical_date.day != 3, end_date=START + timedelta(days=4))
    world.plan(4)
    assert world.days() == [1, 2, 4, 5]
    asked = len(world.asked)
    world.plan(2)
    assert len(world.asked) == asked
    with reading(world.engine) as connection:
        (known,) = dag_plans.read(connection, ["d"])
    assert known.plan is not None
    assert known.plan["passed"] == ["2024-01-03T00:00:00+00:00", "2024-01-04T00:00:00+00:00"]
    assert known.run is None


def test_what_a_predicate_raises_is_told_and_its_date_is_not_lost(world: World) -> None:
    broken = True

    def wanted(data_interval: Any, logical_date: Any) -> bool:
        if broken and logical_date.day == 2:
            raise RuntimeError("away")
        return True

    world.load(run_if=wanted, end_date=START + timedelta(days=2))
    world.plan(3)
    assert world.days() == [1]
    with transaction(world.engine) as connection:
        assert "RuntimeError: away" in dag_plans.warnings(connection)["d"]
        (known,) = dag_plans.read(connection, ["d"])
        assert known.plan is not None
        # As if the minute were over.
        plan = {**known.plan, "again_at": datetime.now(UTC).isoformat()}
        dag_plans.store(connection, {"d": plan}, datetime.now(UTC))
    broken = False
    world.plan(3)
    assert world.days() == [1, 2, 3]
    with reading(world.engine) as connection:
        assert dag_plans.warnings(connection) == {}


def test_a_date_that_somebody_has_run_by_hand_is_not_run_again(world: World) -> None:
    world.load(run_if=lambda data_interval, logical_date: True, end_date=START + timedelta(days=2))
    with transaction(world.engine) as connection:
        runs.trigger(connection, "d", datetime.now(UTC), logical_date=START + timedelta(days=2))
    world.plan(5)
    assert (world.days(), world.days("manual")) == ([1, 2], [3])


def test_a_new_version_is_asked_anew(world: World) -> None:
    world.load(run_if=lambda data_interval, logical_date: False, end_date=START + timedelta(days=400))
    world.plan(2)
    assert world.days() == []
    first = world.rows(dag_table)[0].plan
    world.load(run_if=lambda data_interval, logical_date: True, end_date=START + timedelta(days=401))
    world.plan(1)
    assert world.rows(dag_table)[0].plan != first
    assert world.days() == [5]  # 5 February 2025: what was passed over stays so


def test_a_paused_dag_is_shown_its_next_run_and_its_predicate_waits(world: World) -> None:
    asked: list[Any] = []

    def wanted(data_interval: Any, logical_date: Any) -> bool:
        asked.append(logical_date)
        return True

    world.load(run_if=wanted, catchup=False)
    with transaction(world.engine) as connection:
        dags.set_paused(connection, ["d"], True, datetime.now(UTC))
    world.plan(3)
    assert asked == []
    assert world.rows(dag_table)[0].next_run_after is not None
    with transaction(world.engine) as connection:
        dags.set_paused(connection, ["d"], False, datetime.now(UTC))
    world.plan(2)
    assert len(asked) == len(world.days()) == 1


def test_the_first_run_waits_for_its_time_however_the_dag_was_unpaused(world: World) -> None:
    world.load(schedule=timedelta(seconds=2), catchup=False, first_run="next", run_if=None)
    with transaction(world.engine) as connection:
        connection.execute(update(dag_table).values(unpaused_at=None))
    turn(world.one, 3)
    row = world.rows(dag_table)[0]
    assert world.days() == []
    assert row.unpaused_at is not None
    with transaction(world.engine) as connection:
        earlier = row.unpaused_at - timedelta(seconds=10)
        connection.execute(update(dag_table).values(unpaused_at=earlier))
        dags.touch(connection, ["d"], datetime.now(UTC))
    wait_until(lambda: turn(world.one, 1) or len(world.days()) > 0, 20.0, what="the first run")
    first = min(row.logical_date for row in world.rows(dag_run))
    assert first >= earlier - timedelta(seconds=2)
