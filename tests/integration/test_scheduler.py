"""The scheduler over real metastores, with an executor that the test plays."""

from __future__ import annotations

import json
import select
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update
from sqlalchemy import select as sql_select

from opskit import config as configuration
from opskit.core.dag.serialized import SerializedDag, SerializedTask
from opskit.core.executors import contract
from opskit.core.metastore import scheduling
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.tables import (
    attempt_result,
    dag,
    dag_run,
    dag_version,
    instance,
    pool,
    task_attempt,
    task_instance,
    xcom,
)
from opskit.core.scheduler.loop import Scheduler
from opskit.system.wake import WakeSocket

START = datetime(2026, 1, 1, tzinfo=UTC)


class PlayedExecutor:
    """Says what the test wants it to say, and remembers what it was told."""

    def __init__(self, worker_id: str | None = "w1", slots: int = 16) -> None:
        self.worker_id = worker_id
        self.slots = slots
        self.started: list[dict[str, Any]] = []
        self.acknowledged: list[contract.AttemptKey] = []
        self.killed: list[contract.AttemptKey] = []
        self.fences: list[tuple[str, int]] = []
        self.holds: set[contract.AttemptKey] = set()
        self.inbox: list[contract.Event] = []
        self.slow = False
        self.unanswered: list[tuple[str, int, int]] = []

    def fileno(self) -> int:
        return -1

    def wants_write(self) -> bool:
        return False

    def events(self, now: datetime) -> list[contract.Event]:
        events, self.inbox = self.inbox, []
        return events

    def fence(self, dag_id: str, epoch: int, ask: int = 0) -> None:
        self.fences.append((dag_id, epoch))
        self.unanswered.append((dag_id, epoch, ask))
        if not self.slow:
            self.answer()

    def answer(self) -> None:
        """Say what is held, as a worker does when it gets to it."""
        for dag_id, epoch, ask in self.unanswered:
            self.inbox.append(contract.Held(dag_id, epoch, frozenset(self.holds), ask))
        self.unanswered.clear()

    def dispatch(self, attempts: Sequence[dict[str, Any]]) -> None:
        self.started.extend(attempts)

    def acknowledge(self, keys: Any) -> None:
        self.acknowledged.extend(keys)

    def kill(self, keys: Any, reason: str) -> None:
        self.killed.extend(keys)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def end(self, attempt: dict[str, Any], state: str = "success", **fields: Any) -> None:
        now = datetime.now(UTC)
        key = tuple(attempt["key"])
        result = {"state": state, "started_at": now, "ended_at": now, "pid": 1, **fields}
        self.inbox.append(contract.Ended(key, attempt["dag_id"], result))  # type: ignore[arg-type]


class Cluster:
    """A metastore, and schedulers on it."""

    def __init__(self, engine: Engine, home: Path) -> None:
        self.engine = engine
        self.home = home
        self.sockets: list[WakeSocket] = []

    def scheduler(self, executor: PlayedExecutor, **environment: str) -> Scheduler:
        me = str(uuid.uuid4())
        config = configuration.load(self.home, {f"OPSKIT__{key}": value for key, value in environment.items()})
        now = datetime.now(UTC)
        with transaction(self.engine) as connection:
            connection.execute(
                insert(instance).values(
                    id=me,
                    kind="scheduler",
                    hostname="h",
                    home=str(self.home),
                    pid=1,
                    pid_started=1.0,
                    version="1",
                    started_at=now,
                    heartbeat_at=now,
                    progress_at=now,
                    progress=0,
                    detail="{}",
                )
            )
        wake = WakeSocket(config.run_folder, me)
        self.sockets.append(wake)
        made = Scheduler(config, self.engine, me, executor, wake)
        made.me = me  # type: ignore[attr-defined]
        return made

    def put_dag(
        self, dag_id: str, edges: dict[str, list[str]], tasks: dict[str, Any] | None = None, **fields: Any
    ) -> None:
        paused = fields.pop("paused", False)
        down: dict[str, list[str]] = {task: [] for task in edges}
        for task, upstream in edges.items():
            for above in upstream:
                down[above].append(task)
        made = SerializedDag(
            dag_id=dag_id,
            relative_fileloc=f"{dag_id}.py",
            timetable=fields.pop("timetable", {"type": "none"}),
            tasks=tuple(
                SerializedTask(task, "PythonOperator", tuple(up), tuple(down[task]), **(tasks or {}).get(task, {}))
                for task, up in edges.items()
            ),
            **fields,
        )
        data = json.dumps({"format": 1, **asdict(made)}, default=lambda value: value.isoformat(), sort_keys=True)
        version = str(uuid.uuid4())
        now = datetime.now(UTC)
        with transaction(self.engine) as connection:
            connection.execute(
                insert(dag_version).values(hash=version, dag_id=dag_id, fileloc="f", data=data, created_at=now)
            )
            known = connection.execute(sql_select(dag.c.dag_id).where(dag.c.dag_id == dag_id)).first()
            if known:
                connection.execute(
                    update(dag)
                    .where(dag.c.dag_id == dag_id)
                    .values(version_hash=version, revision=dag.c.revision + 1, wake_at=now)
                )
            else:
                connection.execute(
                    insert(dag).values(
                        dag_id=dag_id,
                        fileloc=f"{dag_id}.py",
                        is_paused=paused,
                        is_active=True,
                        version_hash=version,
                        wake_at=now,
                        revision=0,
                        lease_epoch=0,
                        owners="",
                        tags="[]",
                        schedule="",
                    )
                )

    def trigger(self, dag_id: str, number: int = 1, conf: str = "{}") -> None:
        at = START + timedelta(days=number)
        with transaction(self.engine) as connection:
            connection.execute(
                insert(dag_run).values(
                    dag_id=dag_id,
                    run_id=f"r{number}",
                    run_type="manual",
                    state="queued",
                    logical_date=at,
                    data_interval_start=at,
                    data_interval_end=at,
                    conf=conf,
                    queued_at=at,
                )
            )
            self.touch(connection, dag_id)

    def touch(self, connection: Any, dag_id: str) -> None:
        connection.execute(
            update(dag)
            .where(dag.c.dag_id == dag_id)
            .values(revision=dag.c.revision + 1, wake_at=datetime.now(UTC) - timedelta(seconds=1))
        )

    def rows(self, table: Any) -> list[Any]:
        with reading(self.engine) as connection:
            return list(connection.execute(sql_select(table)).all())

    def states(self, run: str = "r1") -> dict[str, str | None]:
        ids = {row.run_id: row.id for row in self.rows(dag_run)}
        return {row.task_id: row.state for row in self.rows(task_instance) if row.dag_run_id == ids[run]}

    def run_states(self) -> dict[str, str]:
        return {row.run_id: row.state for row in self.rows(dag_run)}

    def used_slots(self) -> int:
        return int(next(row.used_slots for row in self.rows(pool) if row.pool == "default_pool"))


@pytest.fixture
def cluster(metastore_url: str, home: Path) -> Iterator[Cluster]:
    engine = open_engine(metastore_url)
    made = Cluster(engine, home)
    yield made
    for wake in made.sockets:
        wake.close()
    engine.dispose()


def turn(scheduler: Scheduler, times: int = 1) -> None:
    """Turns of the loop that do not wait: each looks at the metastore."""
    for _ in range(times):
        scheduler._look_at = 0.0
        scheduler.cycle(0, select.poll())


def play(scheduler: Scheduler, executor: PlayedExecutor, until: Callable[[], bool], *, state: str = "success") -> None:
    """Let every dispatched attempt end, until the condition holds."""
    for _ in range(300):
        if until():
            return
        attempts, executor.started = executor.started, []
        for attempt in attempts:
            executor.end(attempt, state)
        turn(scheduler)
    raise AssertionError("the scheduler came to a stop")


def test_a_triggered_run_goes_through_its_tasks_and_the_lease_is_given_back(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": [], "b": ["a"], "c": ["a"], "end": ["b", "c"]})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d", conf='{"x": 1}')
    turn(scheduler, 3)
    assert [attempt["task_id"] for attempt in executor.started] == ["a"]
    assert executor.started[0]["run"]["conf"] == {"x": 1}
    assert cluster.used_slots() == 1
    play(scheduler, executor, lambda: cluster.run_states() == {"r1": "success"})
    assert set(cluster.states().values()) == {"success"}
    turn(scheduler, 2)
    assert cluster.used_slots() == 0
    assert [(row.lease_owner, row.wake_at) for row in cluster.rows(dag)] == [(None, None)]
    assert len(executor.acknowledged) == 4


def test_nothing_is_dispatched_before_its_claim_is_in_the_rows(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []})
    seen: list[str | None] = []

    class Watching(PlayedExecutor):
        def dispatch(self, attempts: Sequence[dict[str, Any]]) -> None:
            seen.extend(row.state for row in cluster.rows(task_instance))
            super().dispatch(attempts)

    scheduler = cluster.scheduler(Watching())
    cluster.trigger("d")
    turn(scheduler, 3)
    assert seen == ["queued"]


def test_results_are_acknowledged_only_when_they_are_durable(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    with transaction(cluster.engine) as connection:
        cluster.touch(connection, "d")  # someone changes the DAG: the decision below is void
    executor.end(executor.started[0], xcoms=[["return_value", {"n": 1}]])
    scheduler._look_at = 1e18
    scheduler.cycle(0, select.poll())
    assert executor.acknowledged == []
    assert cluster.states() == {"a": "queued"}
    executor.holds = {tuple(executor.started[0]["key"])}  # type: ignore[arg-type]
    turn(scheduler, 2)
    executor.end(executor.started[0], xcoms=[["return_value", {"n": 1}]])  # the worker says it again
    turn(scheduler, 2)
    assert len(executor.acknowledged) == 1
    assert cluster.states() == {"a": "success"}
    assert [(row.key, row.value) for row in cluster.rows(xcom)] == [("return_value", '{"n": 1}')]


def test_a_result_that_is_told_twice_is_not_acknowledged_before_it_is_durable(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    (given,) = executor.started
    with transaction(cluster.engine) as connection:
        cluster.touch(connection, "d")  # the decision below is void
    executor.end(given)
    executor.end(given)
    scheduler._look_at = 1e18
    scheduler.cycle(0, select.poll())
    assert executor.acknowledged == []
    executor.holds = {tuple(given["key"])}  # type: ignore[arg-type]
    turn(scheduler, 2)
    executor.end(given)
    turn(scheduler, 2)
    assert set(executor.acknowledged) == {tuple(given["key"])}
    assert executor.started == [given]


def test_an_answer_that_was_given_before_a_dispatch_does_not_repeat_it(cluster: Cluster) -> None:
    """Two changes in quick succession: the worker's first answer comes when the second question is asked already."""

    class Slow(PlayedExecutor):
        late: list[contract.Event]

        def fence(self, dag_id: str, epoch: int, ask: int = 0) -> None:
            super().fence(dag_id, epoch, ask)
            self.late.append(self.inbox.pop())

    cluster.put_dag("d", {"a": [], "b": []})
    executor = Slow()
    executor.late = []
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 2)
    with transaction(cluster.engine) as connection:
        cluster.touch(connection, "d")
    turn(scheduler, 2)
    assert len(executor.late) == 2
    executor.inbox.append(executor.late.pop(0))
    turn(scheduler, 3)
    executor.inbox.append(executor.late.pop(0))
    turn(scheduler, 3)
    assert sorted(attempt["task_id"] for attempt in executor.started) == ["a", "b"]


def test_a_scheduler_that_takes_over_dispatches_only_what_no_worker_received(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": [], "b": []})
    first = PlayedExecutor()
    dead = cluster.scheduler(first)
    cluster.trigger("d")
    turn(dead, 3)
    keys = {attempt["task_id"]: tuple(attempt["key"]) for attempt in first.started}
    with transaction(cluster.engine) as connection:
        connection.execute(update(instance).where(instance.c.kind == "scheduler").values(ended_at=datetime.now(UTC)))
    second = PlayedExecutor()
    second.holds = {keys["a"]}  # type: ignore[assignment]
    heir = cluster.scheduler(second)
    turn(heir, 3)
    assert [(attempt["task_id"], tuple(attempt["key"])) for attempt in second.started] == [("b", keys["b"])]
    assert second.fences[0][1] > first.fences[0][1]
    second.end({"key": keys["a"], "dag_id": "d"})
    second.end({"key": keys["b"], "dag_id": "d"})
    turn(heir, 2)
    assert cluster.run_states() == {"r1": "success"}
    assert {row.try_number for row in cluster.rows(task_instance)} == {1}


def test_a_scheduler_that_lost_its_lease_writes_nothing(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": [], "b": ["a"]})
    executor = PlayedExecutor()
    frozen = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(frozen, 3)
    with transaction(cluster.engine) as connection:
        scheduling.claim(connection, ["d"], "another", datetime(2100, 1, 1, tzinfo=UTC))
    executor.end(executor.started[0])
    frozen._look_at = 1e18
    frozen.cycle(0, select.poll())
    assert cluster.states() == {"a": "queued", "b": None}
    assert executor.acknowledged == []
    assert frozen.owned == {}


def test_leases_are_shared_between_schedulers_that_are_alive(cluster: Cluster) -> None:
    for number in range(6):
        cluster.put_dag(f"d{number}", {"a": []})
    one, two = cluster.scheduler(PlayedExecutor()), cluster.scheduler(PlayedExecutor())
    for number in range(6):
        cluster.trigger(f"d{number}")
    scheduling_turns = [one, two, one, two]
    one._look_at = two._look_at = 0.0
    for scheduler in scheduling_turns:
        scheduler.cycle(0, select.poll())
    assert len(one.owned) + len(two.owned) == 6
    assert one.owned
    assert two.owned


def test_a_failed_attempt_is_retried_and_its_first_try_is_kept(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []}, {"a": {"retries": 1, "retry_delay": 0.0}})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    executor.end(executor.started.pop(), "failed", reason="boom")
    turn(scheduler, 4)
    again = executor.started.pop()
    assert (again["try_number"], again["max_tries"]) == (2, 1)
    assert [(row.try_number, row.reason) for row in cluster.rows(task_attempt)] == [(1, "boom")]
    executor.end(again)
    turn(scheduler, 2)
    assert cluster.run_states() == {"r1": "success"}


def test_an_attempt_of_a_worker_that_is_gone_fails_as_lost(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []})
    executor = PlayedExecutor("w1")
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    executor.worker_id = "w2"
    executor.inbox += [contract.WorkerGone("w1"), contract.WorkerJoined("w2", "h", 2, 16)]
    turn(scheduler, 4)
    assert cluster.states() == {"a": "failed"}
    assert "worker lost" in cluster.rows(task_instance)[0].reason


def test_an_attempt_of_a_silent_worker_elsewhere_is_waited_for_while_it_beats(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []})
    executor = PlayedExecutor("w1")
    scheduler = cluster.scheduler(executor)
    now = datetime.now(UTC)
    with transaction(cluster.engine) as connection:
        connection.execute(
            insert(instance).values(
                id="w1",
                kind="worker",
                hostname="h",
                home="x",
                pid=1,
                pid_started=1.0,
                version="1",
                started_at=now,
                heartbeat_at=now,
                progress_at=now,
                progress=0,
                detail="{}",
            )
        )
    cluster.trigger("d")
    turn(scheduler, 3)
    key = executor.started[0]["key"]
    executor.worker_id = None
    executor.inbox.append(contract.WorkerGone("w1"))
    turn(scheduler, 3)
    assert cluster.states() == {"a": "queued"}
    payload = {"key": key, "dag_id": "d", "state": "success", "ended_at": now.isoformat(), "xcoms": []}
    with transaction(cluster.engine) as connection:
        connection.execute(
            insert(attempt_result).values(dag_id="d", worker_id="w1", payload=json.dumps(payload), created_at=now)
        )
    turn(scheduler, 3)
    assert cluster.states() == {"a": "success"}
    assert cluster.rows(attempt_result) == []


def test_a_clear_from_outside_kills_the_attempt_and_starts_another(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    old = tuple(executor.started.pop()["key"])
    executor.holds = {old}  # type: ignore[assignment]
    with transaction(cluster.engine) as connection:
        connection.execute(update(task_instance).values(state=None))
        cluster.touch(connection, "d")
    turn(scheduler, 4)
    assert executor.killed == [old]
    new = executor.started.pop()
    assert tuple(new["key"]) != old
    executor.end({"key": old, "dag_id": "d"}, "failed")  # the killed one's last word
    executor.end(new)
    turn(scheduler, 2)
    assert cluster.run_states() == {"r1": "success"}


def test_attempts_of_a_run_that_was_deleted_from_outside_are_killed(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []})
    executor = PlayedExecutor()
    executor.slow = True
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    executor.answer()
    turn(scheduler, 3)
    key = tuple(executor.started.pop()["key"])
    executor.holds = {key}  # type: ignore[assignment]
    with transaction(cluster.engine) as connection:
        connection.execute(dag_run.delete())
        connection.execute(task_instance.delete())
        cluster.touch(connection, "d")
    turn(scheduler, 4)
    assert not scheduler.owned, "there is nothing left to decide, so the lease is given back before the worker answers"
    executor.answer()
    turn(scheduler, 2)
    assert executor.killed == [key]


def test_pool_slots_are_never_exceeded(cluster: Cluster) -> None:
    with transaction(cluster.engine) as connection:
        connection.execute(insert(pool).values(pool="narrow", slots=2, used_slots=0))
    cluster.put_dag("d", {f"t{n}": [] for n in range(6)}, {f"t{n}": {"pool": "narrow"} for n in range(6)})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    done = 0
    while done < 6:
        assert len(executor.started) <= 2
        executor.end(executor.started.pop())
        done += 1
        turn(scheduler, 2)
    assert cluster.run_states() == {"r1": "success"}
    assert [row.used_slots for row in cluster.rows(pool) if row.pool == "narrow"] == [0]


def test_a_shrunk_pool_drains_to_its_new_size(cluster: Cluster) -> None:
    with transaction(cluster.engine) as connection:
        connection.execute(insert(pool).values(pool="p", slots=4, used_slots=0))
    cluster.put_dag("d", {f"t{n}": [] for n in range(8)}, {f"t{n}": {"pool": "p"} for n in range(8)})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    assert len(executor.started) == 4
    with transaction(cluster.engine) as connection:
        connection.execute(update(pool).where(pool.c.pool == "p").values(slots=1))
    turn(scheduler)
    for left in (3, 2, 1, 1):
        executor.end(executor.started.pop(0))
        turn(scheduler, 2)
        assert len(executor.started) == left


def test_limits_of_dag_and_task_hold(cluster: Cluster) -> None:
    cluster.put_dag(
        "d",
        {f"t{n}": [] for n in range(5)} | {"one": []},
        {"one": {"max_active_tis_per_dag": 1, "priority_weight": 9}},
        max_active_tasks=3,
        max_active_runs=2,
    )
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    for number in (1, 2, 3):
        cluster.trigger("d", number)
    turn(scheduler, 4)
    assert sorted(cluster.run_states().values()) == ["queued", "running", "running"]
    tasks = [attempt["task_id"] for attempt in executor.started]
    assert len(tasks) == 3
    assert tasks.count("one") == 1
    play(scheduler, executor, lambda: set(cluster.run_states().values()) == {"success"})


def test_a_task_with_higher_priority_goes_first(cluster: Cluster) -> None:
    cluster.put_dag(
        "d", {"low": [], "high": [], "middle": []}, {"high": {"priority_weight": 9}, "middle": {"priority_weight": 5}}
    )
    executor = PlayedExecutor(slots=1)
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    order: list[str] = []
    for _ in range(3):
        turn(scheduler, 3)
        attempt = executor.started.pop()
        order.append(attempt["task_id"])
        executor.end(attempt)
    assert order == ["high", "middle", "low"]


def test_due_intervals_are_caught_up_within_max_active_runs(cluster: Cluster) -> None:
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=4)
    from opskit.core.dag import timetables

    timetable = timetables.DeltaDataIntervalTimetable(timedelta(days=1)).serialize()
    cluster.put_dag("d", {"a": []}, timetable=timetable, start_date=start, catchup=True, max_active_runs=2)
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    turn(scheduler, 3)
    assert len(cluster.run_states()) == 2
    play(scheduler, executor, lambda: list(cluster.run_states().values()) == ["success"] * 4)
    turn(scheduler, 2)
    row = cluster.rows(dag)[0]
    assert row.lease_owner is None
    assert row.wake_at == row.next_run_after == start + timedelta(days=5)
    assert [r.logical_date for r in cluster.rows(dag_run)] == [start + timedelta(days=n) for n in range(4)]


def test_a_paused_dag_starts_nothing_new(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": [], "b": ["a"]})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    attempt = executor.started.pop()
    executor.holds = {tuple(attempt["key"])}  # type: ignore[assignment]
    with transaction(cluster.engine) as connection:
        connection.execute(update(dag).values(is_paused=True))
        cluster.touch(connection, "d")
    turn(scheduler, 3)
    executor.holds = set()
    executor.end(attempt)
    turn(scheduler, 3)
    assert cluster.states() == {"a": "success", "b": None}
    assert executor.started == []
    with transaction(cluster.engine) as connection:
        connection.execute(update(dag).values(is_paused=False))
        cluster.touch(connection, "d")
    play(scheduler, executor, lambda: cluster.run_states() == {"r1": "success"})


def test_a_new_version_adds_and_removes_tasks_of_a_run_under_way(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": [], "old": ["a"]})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    attempt = executor.started.pop()
    executor.holds = {tuple(attempt["key"])}  # type: ignore[assignment]
    cluster.put_dag("d", {"a": [], "new": ["a"]})
    turn(scheduler, 3)
    assert cluster.states() == {"a": "queued", "old": "removed", "new": None}
    executor.end(attempt)
    play(scheduler, executor, lambda: cluster.run_states() == {"r1": "success"})


def test_a_run_that_takes_too_long_fails_and_its_attempts_are_killed(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": [], "b": ["a"]}, dagrun_timeout=0.0, has_on_failure_callback=True)
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 5)
    assert cluster.run_states() == {"r1": "failed"}
    assert set(cluster.states().values()) == {"skipped"}
    assert [attempt["kind"] for attempt in executor.started][-1] == "dag_on_failure_callback"
    assert cluster.used_slots() == 0


def _calls(executor: PlayedExecutor, kind: str) -> list[dict[str, Any]]:
    return [attempt for attempt in executor.started if attempt["kind"] == kind]


def test_a_missed_deadline_is_told_once_and_the_run_goes_on(cluster: Cluster) -> None:
    late = {"from": "queued_at", "place": 0, "seconds": 0.0}
    later = {"from": "logical_date", "place": 1, "seconds": 1e9, "name": "far"}
    fixed = {"from": "fixed", "place": 2, "seconds": -60.0, "at": START.isoformat(), "name": "over"}
    never = {"from": "average", "place": 3, "seconds": 0.0, "max_runs": 5, "min_runs": 2}
    cluster.put_dag("d", {"a": []}, deadlines=(late, later, fixed, never))
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 5)
    calls = _calls(executor, "dag_deadline_callback")
    assert sorted(one["missed"]["place"] for one in calls) == [0, 2]
    assert {one["missed"]["id"] for one in calls} == {f"{calls[0]['key'][0]}-{place}" for place in (0, 2)}
    scheduler.stop()
    again = PlayedExecutor()
    again.holds = {tuple(one["key"]) for one in executor.started if one["kind"] == "task"}  # type: ignore[misc]
    turn(cluster.scheduler(again), 5)
    assert _calls(again, "dag_deadline_callback") == [], "who takes over knows what was told"
    assert cluster.run_states() == {"r1": "running"}


def test_a_deadline_of_a_run_that_has_ended_in_time_is_not_missed(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []}, deadlines=({"from": "queued_at", "place": 0, "seconds": 3600.0},))
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    play(scheduler, executor, lambda: cluster.run_states() == {"r1": "success"})
    scheduler._fire_timers(datetime.now(UTC) + timedelta(hours=2))
    turn(scheduler, 2)
    assert _calls(executor, "dag_deadline_callback") == []


def test_an_average_is_that_of_the_newest_runs_that_succeeded(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []})
    with transaction(cluster.engine) as connection:
        for number, seconds in enumerate((1000, 10, 20)):
            at = START + timedelta(days=number)
            span = {"data_interval_start": at, "data_interval_end": at, "queued_at": at, "start_date": at}
            ended = {"state": "success", "run_type": "manual", "end_date": at + timedelta(seconds=seconds)}
            connection.execute(
                insert(dag_run).values(dag_id="d", run_id=f"x{number}", logical_date=at, **span, **ended)
            )
    with reading(cluster.engine) as connection:
        assert scheduling.average_seconds(connection, "d", 2, 2) == 15
        assert scheduling.average_seconds(connection, "d", 9, 4) is None


def test_a_task_that_misses_its_sla_is_told_of_and_one_that_meets_it_is_not(cluster: Cluster) -> None:
    schedule = {"type": "cron", "expression": "@daily", "timezone": "UTC"}
    tasks = {"slow": {"sla": 60.0}, "quick": {"sla": 60.0}, "free": {}}
    edges: dict[str, list[str]] = {"quick": [], "slow": ["quick"], "free": []}
    two_days_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    fields = {"timetable": schedule, "start_date": two_days_ago, "catchup": True, "max_active_runs": 1}
    cluster.put_dag("d", edges, tasks, has_sla_miss_callback=True, **fields)
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    turn(scheduler, 4)
    (call,) = _calls(executor, "dag_sla_miss_callback")
    assert call["missed"]["task_ids"] == ["quick", "slow"], "the data interval has been over for long"
    assert [state[0] for state in call["missed"]["states"]] == ["free", "quick", "slow"]
    turn(scheduler, 4)
    assert len(_calls(executor, "dag_sla_miss_callback")) == 1


def test_a_process_that_died_gets_its_failure_callback_elsewhere(cluster: Cluster) -> None:
    cluster.put_dag("d", {"a": []}, {"a": {"has_on_failure_callback": True}})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    executor.end(executor.started.pop(), "failed", signal=11, reason="killed by SIGSEGV")
    turn(scheduler, 3)
    (callback,) = executor.started
    assert (callback["kind"], callback["reason"]) == ("on_failure_callback", "killed by SIGSEGV")
    turn(scheduler, 2)
    assert scheduler.owned == {}
    executor.end(callback)
    turn(scheduler, 2)
    assert tuple(callback["key"]) in executor.acknowledged
    assert cluster.states() == {"a": "failed"}


def test_used_slots_that_drifted_are_counted_anew(cluster: Cluster) -> None:
    with transaction(cluster.engine) as connection:
        connection.execute(update(pool).values(used_slots=77))
    cluster.put_dag("d", {"a": []})
    turn(cluster.scheduler(PlayedExecutor()))
    assert cluster.used_slots() == 0


def test_a_branch_that_skipped_a_task_keeps_it_skipped_after_a_clear(cluster: Cluster) -> None:
    cluster.put_dag("d", {"branch": [], "left": ["branch"], "right": ["branch"]})
    executor = PlayedExecutor()
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    executor.end(executor.started.pop(), skip=["right"])
    turn(scheduler, 2)
    with transaction(cluster.engine) as connection:
        connection.execute(update(task_instance).where(task_instance.c.task_id == "right").values(state=None))
        cluster.touch(connection, "d")
    executor.holds = {tuple(attempt["key"]) for attempt in executor.started}  # type: ignore[misc]
    turn(scheduler, 3)
    assert cluster.states()["right"] == "skipped"
