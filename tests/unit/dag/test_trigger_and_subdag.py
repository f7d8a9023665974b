"""Runs of other DAGs: triggered ones, and those of sub-DAGs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from opskit import DAG, Variable
from opskit.core.dag import timetables
from opskit.core.dag.execution import Outcome
from opskit.core.dag.runtime import MemoryStore, RunInfo
from opskit.core.dag.serialization import serialize
from opskit.errors import DagInvalid
from opskit.operators import BashOperator, EmptyOperator, PythonOperator, SubDagOperator, TriggerDagRunOperator

Attempt = Callable[..., Outcome]
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule="@daily", start_date=START) as opened:
        yield opened


class Finishing(MemoryStore):
    """Its triggered runs are in this state when they are first looked at."""

    def __init__(self, state: str) -> None:
        super().__init__()
        self.state = state

    def get_run(self, dag_id: str, run_id: str | None = None, logical_date: datetime | None = None) -> RunInfo | None:
        found = super().get_run(dag_id, run_id, logical_date)
        return None if found is None else replace(found, state=self.state)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("ends", "arguments", "state"),
    [
        ("success", {}, "success"),
        ("failed", {}, "failed"),
        ("failed", {"allowed_states": ["success", "failed"], "failed_states": []}, "success"),
    ],
)
def test_a_triggered_run_is_waited_for(
    dag: DAG, attempt: Attempt, deferrable: bool, ends: str, arguments: dict[str, Any], state: str
) -> None:
    from opskit.core.dag import runtime

    runtime.set_store(Finishing(ends))
    TriggerDagRunOperator(
        task_id="t",
        trigger_dag_id="other",
        wait_for_completion=True,
        poke_interval=0,
        deferrable=deferrable,
        **arguments,
    )
    assert attempt(dag, "t").state == state


def test_conf_may_be_json_and_dates_templates(dag: DAG, attempt: Attempt, store: MemoryStore) -> None:
    TriggerDagRunOperator(
        task_id="t",
        trigger_dag_id="other",
        trigger_run_id="by_{{ ds }}",
        conf='{"day": "{{ ds }}"}',
        logical_date="{{ data_interval_end }}",
        note="why",
        run_after=START,
    )
    assert attempt(dag, "t").state == "success"
    run = store.runs["other", "by_2024-03-01"]
    assert (run.conf, run.logical_date) == ({"day": "2024-03-01"}, datetime(2024, 3, 2, tzinfo=UTC))


def test_a_paused_dag_is_refused_when_asked_to(dag: DAG, attempt: Attempt, store: MemoryStore) -> None:
    store.dags["other"] = {"dag_id": "other", "is_paused": True, "task_ids": []}
    TriggerDagRunOperator(task_id="t", trigger_dag_id="other", fail_when_dag_is_paused=True)
    assert "Dag other is paused" in (attempt(dag, "t").reason or "")


def test_a_run_for_later_is_refused_when_the_task_runs(dag: DAG, attempt: Attempt, store: MemoryStore) -> None:
    TriggerDagRunOperator(task_id="t", trigger_dag_id="other", run_after=datetime.now(UTC) + timedelta(hours=1))
    assert "a triggered run starts at once" in (attempt(dag, "t").reason or "")


@pytest.mark.parametrize("answer", [True, False])
def test_an_old_file_decides_by_a_function_whether_to_trigger(
    dag: DAG, attempt: Attempt, store: MemoryStore, answer: bool
) -> None:
    def decide(context: Any, order: Any) -> Any:
        order.payload = {"ds": context["ds"]}
        return order if answer else None

    TriggerDagRunOperator(task_id="t", trigger_dag_id="other", python_callable=decide)
    assert attempt(dag, "t").state == "success"
    assert [run.conf for run in store.runs.values()] == ([{"ds": "2024-03-01"}] if answer else [])


def test_in_a_test_nobody_runs_what_was_triggered(dag: DAG) -> None:
    TriggerDagRunOperator(task_id="t", trigger_dag_id="other", wait_for_completion=True)
    run = dag.test()
    assert "nobody runs it" in run.reasons["t"]


def test_an_unknown_state_to_wait_for_is_refused(dag: DAG) -> None:
    with pytest.raises(DagInvalid, match="no state of a run"):
        TriggerDagRunOperator(task_id="t", trigger_dag_id="other", allowed_states=["skipped"])


def sub(build: Callable[[], Any], **arguments: Any) -> SubDagOperator:
    with DAG("d.section", schedule="@hourly", start_date=START) as inner:
        build()
    return SubDagOperator(task_id="section", subdag=inner, **arguments)


def test_the_tasks_of_a_sub_dag_run_in_order_with_the_logical_date_of_the_run(dag: DAG, attempt: Attempt) -> None:
    seen: list[str] = []

    def build() -> None:
        first = PythonOperator(task_id="first", python_callable=lambda ds: seen.append(ds))
        last = BashOperator(task_id="last", bash_command="echo {{ dag_run.conf['x'] }}")
        first >> last

    task = sub(build, conf={"x": 1})
    outcome = attempt(dag, "section")
    assert (outcome.state, outcome.reason, seen) == ("success", None, ["2024-03-01"])
    assert (task.subdag.is_subdag, task.subdag.parent_dag) == (True, dag)
    assert dag.subdags == [task.subdag]


def test_a_sub_dag_that_fails_fails_its_task_with_the_reasons(dag: DAG, attempt: Attempt) -> None:
    sub(lambda: BashOperator(task_id="bad", bash_command="exit 3"))
    outcome = attempt(dag, "section")
    assert outcome.state == "failed"
    assert "Actual state: failed. bad: AirflowException: Bash command failed" in (outcome.reason or "")


@pytest.mark.parametrize(("option", "skip"), [("any_leaf", ["after"]), ("all_leaves", []), (None, [])])
def test_skipped_leaves_of_a_sub_dag_skip_what_comes_after(
    dag: DAG, attempt: Attempt, option: str | None, skip: list[str]
) -> None:
    def build() -> None:
        BashOperator(task_id="one", bash_command="exit 99")
        EmptyOperator(task_id="two")

    sub(build, propagate_skipped_state=option) >> EmptyOperator(task_id="after")
    assert attempt(dag, "section").skip == skip


def test_a_sub_dag_must_be_named_after_its_task(dag: DAG) -> None:
    inner = DAG("other", schedule=None)
    with pytest.raises(DagInvalid) as caught:
        SubDagOperator(task_id="section", subdag=inner)
    assert caught.value.hint == "name it d.section"


def test_a_sub_dag_is_not_scheduled_by_itself(dag: DAG) -> None:
    task = sub(lambda: EmptyOperator(task_id="a"))
    assert timetables.deserialize(serialize(task.subdag)["timetable"]).can_be_scheduled is False
    assert timetables.deserialize(serialize(dag)["timetable"]).can_be_scheduled is True


def test_sub_dags_that_only_their_operators_know_are_found_in_the_file(load: Callable[..., list[DAG]]) -> None:
    found = load(
        """
        from datetime import datetime
        from opskit import DAG, Variable
        from opskit.operators import EmptyOperator, SubDagOperator

        def section(name):
            inner = DAG(name, schedule=None, start_date=datetime(2024, 1, 1))
            EmptyOperator(task_id="a", dag=inner)
            if name.count(".") == 1:
                SubDagOperator(task_id="deep", subdag=section(name + ".deep"), dag=inner)
            return inner

        dag = DAG("d", schedule=None, start_date=datetime(2024, 1, 1))
        SubDagOperator(task_id="section", subdag=section("d.section"), dag=dag)
        """
    )
    assert sorted(dag.dag_id for dag in found) == ["d", "d.section", "d.section.deep"]


def test_what_a_sub_dag_writes_stays_when_it_has_ended(dag: DAG, attempt: Attempt, store: MemoryStore) -> None:
    def build() -> None:
        PythonOperator(task_id="write", python_callable=lambda: Variable.set("v", "1"))
        PythonOperator(task_id="remove", python_callable=lambda: Variable.delete("old"))
        TriggerDagRunOperator(task_id="trigger", trigger_dag_id="other", trigger_run_id="r")

    store.variables["old"] = "x"
    sub(build)
    assert attempt(dag, "section").state == "success"
    assert (store.get_variable("v"), store.get_variable("old")) == ("1", None)
    assert ("other", "r") in store.runs
    assert not [run for run in store.runs if run[0] == "d.section"]
