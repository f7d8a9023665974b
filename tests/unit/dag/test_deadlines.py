"""Deadlines of DAGs and SLAs of tasks: what a file says, what the scheduler reads of it, and what is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opskit.core.dag import dialect, execution, runtime, serialization, serialized
from opskit.core.dag.deadlines import (
    AsyncCallback,
    BaseDeadlineReference,
    DeadlineAlert,
    DeadlineReference,
    SyncCallback,
    VariableInterval,
    deadline_reference,
)
from opskit.core.dag.model import DAG
from opskit.core.dag.notifiers import BaseNotifier
from opskit.core.dag.operators.empty import EmptyOperator
from opskit.errors import DagInvalid

told: list[Any] = []
RUN = {"run_type": "scheduled", "logical_date": "2024-03-01T00:00:00+00:00", "conf": {}}
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def nobody_is_told_yet() -> None:
    told.clear()


def note(**arguments: Any) -> None:
    told.append(arguments)


async def note_later(text: str, context: Any) -> None:
    told.append((text, context["dag_run"]["dag_run_id"], context["deadline"]["deadline_time"].isoformat()))


def note_text(text: str) -> None:
    told.append(text)


class Notifier(BaseNotifier):
    template_fields = ("message",)

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def notify(self, context: Any) -> None:
        told.append((self.message, context["dag_run"]["run_id"]))


def _dag(**arguments: Any) -> DAG:
    with dialect.speaking(3), DAG("d", schedule=None, **arguments) as dag:
        EmptyOperator(task_id="a")
    return dag


def _missed(dag: DAG, kind: str, **missed: Any) -> execution.Outcome:
    return execution.execute(dag, {"kind": kind, "task_id": "", "run_id": "r1", "missed": missed}, RUN)


def test_the_scheduler_reads_what_a_deadline_counts_from() -> None:
    callback = SyncCallback(note)
    at = datetime(2030, 1, 1, tzinfo=UTC)
    references = [
        DeadlineReference.DAGRUN_LOGICAL_DATE,
        DeadlineReference.DAGRUN_QUEUED_AT,
        DeadlineReference.FIXED_DATETIME(at),
        DeadlineReference.AVERAGE_RUNTIME(max_runs=5, min_runs=2),
    ]
    dag = _dag(deadline=[DeadlineAlert(one, HOUR, callback, name=f"n{n}") for n, one in enumerate(references)])
    read = serialized.load(json.loads(json.dumps(serialization.serialize(dag))))
    assert [(one["from"], one["place"], one["name"], one["seconds"]) for one in read.deadlines] == [
        ("logical_date", 0, "n0", 3600),
        ("queued_at", 1, "n1", 3600),
        ("fixed", 2, "n2", 3600),
        ("average", 3, "n3", 3600),
    ]
    assert (read.deadlines[2]["at"], read.deadlines[3]["min_runs"]) == (at.isoformat(), 2)
    assert "deadlines" not in serialization.serialize(_dag())


def test_a_deadline_of_the_files_own_kind_is_told_when_the_file_is_loaded() -> None:
    @deadline_reference()
    class Mine(BaseDeadlineReference):
        pass

    own: Any = DeadlineReference.Mine  # type: ignore[attr-defined]
    dag = _dag(deadline=DeadlineAlert(own, HOUR, SyncCallback(note)))
    with pytest.warns(UserWarning, match=r"can't tell when the deadline from Mine\(\) has passed"):
        assert "deadlines" not in serialization.serialize(dag)


def test_an_interval_may_be_the_value_of_a_variable() -> None:
    store = runtime.MemoryStore()
    store.set_variable("patience", "90")
    runtime.set_store(store)
    try:
        reference = DeadlineReference.DAGRUN_QUEUED_AT
        dag = _dag(deadline=DeadlineAlert(reference, VariableInterval("patience"), SyncCallback(note)))
        assert serialization.serialize(dag)["deadlines"][0]["seconds"] == 90
        store.set_variable("patience", "long")
        with pytest.raises(ValueError, match="must be a number of seconds, it is 'long'"):
            serialization.serialize(dag)
    finally:
        runtime.set_store(None)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, HOUR, note), "function are not"),  # type: ignore[arg-type]
        (lambda: SyncCallback(note, {"context": 1}), "context is an argument"),
        (lambda: DeadlineReference.AVERAGE_RUNTIME(max_runs=3, min_runs=-1), "min_runs must be at least 1"),
        (lambda: AsyncCallback(note), "is not awaitable"),
        (lambda: SyncCallback("no path"), "valid dot path"),
        (lambda: serialization.serialize(_dag(deadline="soon")), "a DeadlineAlert or a list"),
    ],
)
def test_what_is_no_deadline_is_refused(make: Callable[[], Any], error: str) -> None:
    with pytest.raises((ValueError, AttributeError, ImportError, DagInvalid), match=error):
        make()


def test_a_missed_deadline_calls_what_the_file_says() -> None:
    callbacks = [
        SyncCallback(note, {"channel": "#ops"}),
        AsyncCallback(note_later, {"text": "late"}),
        SyncCallback(f"{__name__}.note_text", {"text": "by path"}),
        AsyncCallback(Notifier, {"message": "{{ deadline.id }}"}),
    ]
    dag = _dag(deadline=[DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, HOUR, one) for one in callbacks])
    for place in range(4):
        outcome = _missed(dag, "dag_deadline_callback", place=place, at="2024-03-01T01:00:00+00:00", id=f"7-{place}")
        assert (outcome.state, outcome.reason) == ("success", None)
    first = told[0]
    assert (first["channel"], first["context"]["dag_run"]["run_id"]) == ("#ops", "r1")
    assert told[1:] == [("late", "r1", "2024-03-01T01:00:00+00:00"), "by path", ("7-3", "r1")]


def test_a_failing_callback_of_a_deadline_changes_nothing() -> None:
    dag = _dag(deadline=DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, HOUR, SyncCallback("nowhere.at_all")))
    outcome = _missed(dag, "dag_deadline_callback", place=0, at="2024-03-01T01:00:00+00:00", id="7-0")
    assert outcome.state == "success"
    assert "No module named 'nowhere'" in str(outcome.reason)


def test_a_missed_sla_calls_the_dags_callback_with_its_five_arguments() -> None:
    def callback(dag: DAG, task_list: str, blocking_task_list: str, slas: Any, blocking_tis: Any) -> None:
        told.append((dag.dag_id, task_list, blocking_task_list, [one.task_id for one in slas], len(blocking_tis)))

    with dialect.speaking(2), DAG("d", schedule="@daily", sla_miss_callback=callback) as dag:  # type: ignore[arg-type]
        EmptyOperator(task_id="a", sla=HOUR)
        EmptyOperator(task_id="b")
    read = serialized.load(json.loads(json.dumps(serialization.serialize(dag))))
    assert (read.has_sla_miss_callback, read.has_slas, read.task("a").sla, read.task("b").sla) == (
        True,
        True,
        3600,
        None,
    )
    outcome = _missed(dag, "dag_sla_miss_callback", task_ids=["a"], states=[["a", -1, "running"], ["b", -1, "success"]])
    assert outcome.reason is None
    line = "a on 2024-03-01T00:00:00+00:00"
    assert told == [("d", line, line, ["a"], 1)]


def test_an_sla_must_be_a_timedelta_and_means_nothing_in_airflow_3() -> None:
    with dialect.speaking(2), DAG("d", schedule=None) as dag:
        EmptyOperator(task_id="a", sla="1h")  # type: ignore[arg-type]
    with pytest.raises(DagInvalid, match="sla is '1h', a timedelta is needed"):
        serialization.serialize(dag)
    with dialect.speaking(3), DAG("d", schedule=None) as newer:
        EmptyOperator(task_id="a", sla=HOUR)
    assert "sla" not in serialization.serialize(newer)["tasks"][0]
