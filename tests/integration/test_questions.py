"""Tasks that ask people: the scheduler keeps the question, an answer lets the task go on, and so does the end of its
time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from opskit.core.metastore import questions, recovery, task_instances
from opskit.core.metastore.dags import touch
from opskit.core.metastore.engine import reading, transaction
from opskit.core.metastore.tables import dag_run, task_instance, xcom
from opskit.core.metastore.tables import question as table
from tests.integration.test_scheduler import START, Cluster, PlayedExecutor, cluster, play, turn

__all__ = ["cluster"]

ASKS = {
    "subject": "Go on with ☂?",
    "body": None,
    "options": ["Approve", "Reject"],
    "defaults": ["Reject"],
    "multiple": False,
    "params": {"n": {"value": 1, "description": None, "schema": {"type": "integer"}}},
    "assigned_users": [],
}


def ask(executor: PlayedExecutor, timeout_at: datetime | None = None, **question: Any) -> dict[str, Any]:
    """Let the attempt that was dispatched ask; the attempt."""
    (attempt,) = executor.started
    executor.started = []
    frame = {
        "class": "opskit.core.dag.triggers.hitl:HITLTrigger",
        "kwargs": {},
        "method": "execute_complete",
        "method_kwargs": {},
        "timeout_at": timeout_at and timeout_at.isoformat(),
        "question": {**ASKS, **question},
    }
    executor.end(attempt, "deferred", deferral=frame)
    return attempt


def found(cluster: Cluster) -> questions.Question:
    with reading(cluster.engine) as connection:
        (number,) = connection.execute(select(dag_run.c.id)).scalars()
        one = questions.find(connection, number, "a", -1)
    assert one is not None
    return one


def answer(cluster: Cluster) -> None:
    now = datetime.now(UTC)
    with transaction(cluster.engine) as connection:
        touch(connection, ["d"], now)
        one = questions.find(connection, connection.execute(select(dag_run.c.id)).scalar_one(), "a", -1)
        assert one is not None and one.waits
        questions.answer(connection, one, ["Approve"], {"n": 5}, "mia", "Mia M", now)


def asking(cluster: Cluster, executor: PlayedExecutor, **arguments: Any) -> Any:
    cluster.put_dag("d", {"a": [], "b": ["a"]})
    scheduler = cluster.scheduler(executor)
    cluster.trigger("d")
    turn(scheduler, 3)
    ask(executor, **arguments)
    turn(scheduler, 2)
    assert cluster.states() == {"a": "deferred", "b": None}
    return scheduler


def test_a_question_waits_without_a_process_and_a_slot_and_its_answer_lets_the_task_go_on(cluster: Cluster) -> None:
    executor = PlayedExecutor()
    scheduler = asking(cluster, executor)
    assert not executor.started and cluster.used_slots() == 0
    one = found(cluster)
    assert (one.dag_id, one.run_id, one.task_id, one.try_number) == ("d", "r1", "a", 1)
    assert one.waits and one.asked == ASKS and one.timeout_at is None and one.chosen_options is None

    answer(cluster)
    one = found(cluster)
    assert not one.waits and (one.chosen_options, one.params_input) == (["Approve"], {"n": 5})
    assert (one.responded_by, one.responded_by_name) == ("mia", "Mia M") and one.responded_at is not None
    turn(scheduler, 2)
    (attempt,) = executor.started
    assert (attempt["kind"], attempt["try_number"]) == ("task", 1)
    said = attempt["deferral"]["event"]["answer"]
    assert (said["chosen_options"], said["responded_by_user"]) == (["Approve"], {"id": "mia", "name": "Mia M"})
    play(scheduler, executor, lambda: cluster.run_states() == {"r1": "success"})
    assert "__deferral__" not in {row.key for row in cluster.rows(xcom)}


def test_a_question_outlives_its_scheduler_and_worker(cluster: Cluster) -> None:
    first = PlayedExecutor()
    asking(cluster, first)
    with transaction(cluster.engine) as connection:
        recovery.make_consistent(connection, datetime.now(UTC), {})
    assert cluster.states() == {"a": "deferred", "b": None} and found(cluster).waits
    second = PlayedExecutor("w2")
    scheduler = cluster.scheduler(second)
    turn(scheduler, 3)
    assert not second.started
    answer(cluster)
    play(scheduler, second, lambda: cluster.run_states() == {"r1": "success"})


def test_defaults_are_taken_when_nobody_answers_in_time(cluster: Cluster) -> None:
    executor = PlayedExecutor()
    until = datetime.now(UTC) + timedelta(hours=1)
    scheduler = asking(cluster, executor, timeout_at=until)
    assert found(cluster).timeout_at == until
    assert [row.next_at for row in cluster.rows(task_instance) if row.task_id == "a"] == [until]
    with transaction(cluster.engine) as connection:  # the hour has passed
        touch(connection, ["d"], datetime.now(UTC))
        connection.execute(update(task_instance).where(task_instance.c.task_id == "a").values(next_at=START))
    turn(scheduler, 3)
    (attempt,) = executor.started
    assert attempt["deferral"]["event"] == {"timed_out_at": until.isoformat()}
    one = found(cluster)
    assert (one.waits, one.responded_by, one.chosen_options, one.params_input) == (False, None, ["Reject"], {"n": 1})


def test_a_question_whose_task_was_marked_or_cleared_waits_no_more_and_the_next_try_asks_anew(cluster: Cluster) -> None:
    executor = PlayedExecutor()
    scheduler = asking(cluster, executor)
    now = datetime.now(UTC)
    with transaction(cluster.engine) as connection:
        chosen = task_instances.list_task_instances(connection, "d", task_ids=["a"])
        touch(connection, ["d"], now)
        task_instances.clear(connection, "d", chosen, now)
    assert not found(cluster).waits
    turn(scheduler, 3)
    assert "deferral" not in executor.started[0]
    ask(executor, subject="Again?")
    turn(scheduler, 2)
    assert found(cluster).waits and found(cluster).subject == "Again?" and len(cluster.rows(table)) == 2
    with transaction(cluster.engine) as connection:
        touch(connection, ["d"], now)
        connection.execute(update(task_instance).where(task_instance.c.task_id == "a").values(state="success"))
    assert not found(cluster).waits
    play(scheduler, executor, lambda: cluster.run_states() == {"r1": "success"})
