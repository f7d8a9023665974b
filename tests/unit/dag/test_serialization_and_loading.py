"""From a DAG file to the JSON form, and what a broken file says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit import DAG, Param, TaskGroup
from opskit.core.dag import loading, serialized
from opskit.core.dag.exceptions import ParamValidationError
from opskit.core.dag.serialization import content_hash, dumps, serialize
from opskit.errors import DagInvalid
from opskit.operators import BashOperator, EmptyOperator, PythonOperator
from opskit.sensors import PythonSensor

Load = Callable[..., list[DAG]]
START = datetime(2024, 1, 1, tzinfo=UTC)
FULL = """
    from datetime import datetime, timedelta
    from opskit import DAG, Label, Param, TaskGroup
    from opskit.operators import BashOperator, EmptyOperator, PythonOperator
    with DAG("full", schedule="0 6 * * 1-5", start_date=datetime(2024, 1, 1), tags={"b", "a", "c"},
             params={"x": Param(1)}, doc_md="# Full", default_args={"retries": 2}, timezone="Europe/Berlin") as dag:
        first = EmptyOperator(task_id="first")
        with TaskGroup("g", tooltip="both") as g:
            one = BashOperator(task_id="one", bash_command="echo {{ ds }}", env={"password": "hidden", "a": "b"})
            two = PythonOperator(task_id="two", python_callable=lambda: None, op_kwargs={"x": one.output, "f": print})
        first >> Label("go") >> g >> [EmptyOperator(task_id=f"end{i}") for i in range(5)]
"""


def reload(dag: DAG) -> serialized.SerializedDag:
    return serialized.load(json.loads(dumps(serialize(dag))))


def test_everything_that_the_scheduler_needs_survives() -> None:
    with DAG(
        "d", schedule="@daily", start_date=START, end_date=START + timedelta(days=9), catchup=False, max_active_runs=2,
        max_active_tasks=3, dagrun_timeout=timedelta(hours=1), is_paused_upon_creation=False, tags=["b", "a"],
        description="what", params={"x": Param(1, type="integer")}, on_failure_callback=print,
    ) as dag:  # fmt: skip
        a = EmptyOperator(task_id="a", start_date=START - timedelta(days=3))
        with TaskGroup("g"):
            b = BashOperator(
                task_id="b", bash_command="true", retries=2, retry_delay=timedelta(seconds=5), owner="me",
                retry_exponential_backoff=True, max_retry_delay=60, execution_timeout=timedelta(minutes=1), queue="q",
                wait_for_downstream=True, pool="p", pool_slots=2, max_active_tis_per_dag=4, isolation="reuse",
                trigger_rule="dummy", on_failure_callback=print, on_retry_callback=print, weight_rule="absolute",
                priority_weight=7,
            )  # fmt: skip
        c = PythonSensor(task_id="c", python_callable=print, mode="reschedule")
        a >> [b, c]
    found = reload(dag)
    assert (found.dag_id, found.description, found.catchup, found.max_active_runs) == ("d", "what", False, 2)
    assert (found.max_active_tasks, found.dagrun_timeout, found.is_paused_upon_creation) == (3, 3600.0, False)
    assert found.start_date == START  # a task takes no part in runs before that
    assert found.end_date == START + timedelta(days=9)
    assert (found.tags, found.owners, found.params) == (("a", "b"), ("airflow", "me"), {"x": 1})
    assert found.timetable == {"type": "cron", "expression": "@daily", "timezone": "UTC"}
    assert (found.has_on_failure_callback, found.has_on_success_callback) == (True, False)
    assert found.groups == ({"group_id": "g", "parent": None, "tooltip": ""},)
    assert [task.task_id for task in found.tasks] == ["a", "c", "g.b"] or found.tasks[0].task_id == "a"
    b_found = found.task("g.b")
    assert b_found.ui.pop("fields") == {"bash_command": "true"}
    assert b_found == serialized.SerializedTask(
        task_id="g.b", operator="BashOperator", upstream=("a",), trigger_rule="always", owner="me", retries=2,
        retry_delay=5.0, retry_exponential_backoff=True, max_retry_delay=60.0, execution_timeout=60.0,
        depends_on_past=True, wait_for_downstream=True, pool="p", pool_slots=2, priority_weight=7,
        max_active_tis_per_dag=4, queue="q", isolation="reuse", has_on_failure_callback=True,
        has_on_retry_callback=True, group="g", ui=b_found.ui,
    )  # fmt: skip
    assert found.task("a").downstream == ("c", "g.b")
    assert found.task("a").is_empty
    assert found.task("c").reschedules


def test_defaults_survive_by_being_left_out() -> None:
    with DAG("d") as dag:
        EmptyOperator(task_id="a")
    found = reload(dag)
    assert (found.catchup, found.is_paused_upon_creation, found.start_date, found.max_active_runs) == (None,) * 4
    assert found.tasks[0].retries == 0
    assert found.tasks[0].retry_delay == 300.0


def test_the_same_file_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Sets and hashes differ between processes, the JSON form must not: its hash is the version of the DAG."""
    from textwrap import dedent

    (tmp_path / "full.py").write_text(dedent(FULL))
    code = """
import sys
from opskit.core.dag.loading import load_file
from opskit.core.dag.serialization import content_hash, dumps, serialize
(dag,) = load_file(sys.argv[1] + "/full.py", sys.argv[1])
data = serialize(dag)
print(content_hash(data), dumps(data))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1
    (output,) = outputs
    assert "hidden" not in output
    assert "0x" not in output


def test_the_hash_changes_with_the_dag(load: Load) -> None:
    (before,) = load(FULL)
    (after,) = load(FULL.replace("range(5)", "range(6)"))
    assert content_hash(serialize(before)) != content_hash(serialize(after))


def test_a_task_with_callbacks_or_work_is_not_empty() -> None:
    class Busy(EmptyOperator):
        def execute(self, context: Any) -> None:
            print("work")

    with DAG("d") as dag:
        EmptyOperator(task_id="plain")
        EmptyOperator(task_id="success", on_success_callback=print)
        EmptyOperator(task_id="outlets", outlets=["x"])
        EmptyOperator(task_id="hook", pre_execute=print)
        Busy(task_id="busy")
    assert [task.task_id for task in reload(dag).tasks if task.is_empty] == ["plain"]


@given(
    size=st.integers(1, 12),
    data=st.data(),
    rule=st.sampled_from(["downstream", "upstream", "absolute"]),
)
def test_the_effective_weight_is_the_sum_along_the_rule(size: int, data: st.DataObject, rule: str) -> None:
    weights = data.draw(st.lists(st.integers(-3, 9), min_size=size, max_size=size))
    pairs = data.draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=20))
    with DAG("d") as dag:
        tasks = [
            EmptyOperator(task_id=f"t{number}", priority_weight=weight, weight_rule=rule)
            for number, weight in enumerate(weights)
        ]
        for one, other in pairs:
            if one < other:
                tasks[one] >> tasks[other]
    found = reload(dag)
    for task in tasks:
        relatives = [] if rule == "absolute" else task.get_flat_relatives(upstream=rule == "upstream")
        assert found.task(task.task_id).priority_weight == task.priority_weight + sum(
            r.priority_weight for r in relatives
        )


def test_params_must_be_plain_values() -> None:
    with pytest.raises(ParamValidationError, match="no JSON value"):
        DAG("d", params={"x": object()})


def test_a_file_gives_its_dags_however_they_are_held(load: Load) -> None:
    found = load("""
        from opskit import DAG, dag
        from opskit.operators import EmptyOperator
        plain = DAG("global")
        with DAG("unnamed"):
            EmptyOperator(task_id="a")
        for name in ("loop_1", "loop_2"):
            globals()[name] = DAG(name)
        with DAG("left_out", auto_register=False):
            pass
        @dag
        def decorated(): ...
        decorated()
        alias = plain
        DAG("never_kept")
    """)
    assert [dag.dag_id for dag in found] == ["decorated", "global", "loop_1", "loop_2", "unnamed"]
    assert {dag.relative_fileloc for dag in found} == {"file.py"}


def test_a_file_can_import_its_neighbours_and_be_pickled_from(load: Load, tmp_path: Path) -> None:
    (tmp_path / "neighbour_module.py").write_text("VALUE = 'shared'\n")
    (dag,) = load("""
        import pickle
        from dataclasses import dataclass
        from neighbour_module import VALUE
        from opskit import DAG
        @dataclass
        class Row:
            x: int
        assert pickle.loads(pickle.dumps(Row(1))) == Row(1)
        dag = DAG(VALUE)
    """)
    assert dag.dag_id == "shared"


def test_loading_leaves_no_bytecode_of_the_dag_file(load: Load, tmp_path: Path) -> None:
    load("from opskit import DAG\nDAG('d')\n")
    assert not (tmp_path / "__pycache__").exists()


CYCLE = """
from opskit import DAG
from opskit.operators import EmptyOperator
with DAG("x"):
    a = EmptyOperator(task_id="a")
    b = EmptyOperator(task_id="b")
    a >> b >> a
"""
MISSPELT = """
from opskit import DAG
from opskit.operators import EmptyOperator
with DAG("x"):
    EmptyOperator(task_id="a", retrys=1)
"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module_at_all\n", "No module named 'no_such_module_at_all'"),
        ("def f():\n    return 1 / 0\nf()\n", "ZeroDivisionError"),
        ("import sys\nsys.exit(4)\n", "sys.exit(4)"),
        ("from opskit import DAG\na = DAG('x')\nb = DAG('x')\n", "two DAGs with the dag_id 'x'"),
        ("from opskit import DAG\na = DAG('x', schedule='every day')\n", "'every day' is no cron expression"),
        ("from opskit import DAG\na = DAG('x', schedule='0 0 31 2 *')\n", "never matches"),
        (CYCLE, "cycle"),
        (MISSPELT, "'retrys'"),
    ],
)
def test_a_broken_file_says_what_is_wrong(load: Load, source: str, message: str) -> None:
    with pytest.raises(DagInvalid) as caught:
        load(source)
    assert message in caught.value.message


def test_an_import_error_shows_the_authors_frames_only(load: Load) -> None:
    with pytest.raises(DagInvalid) as caught:
        load("""
            from opskit import DAG
            from opskit.operators import BashOperator
            def make():
                BashOperator(task_id="a", bash_command="true", retries="many")
            with DAG("x"):
                make()
        """)
    text = caught.value.message
    assert text.startswith("task a: retries is 'many'")
    assert 'file.py", line 7' in text
    assert 'file.py", line 5, in make' in text
    assert "base_operator.py" not in text
    assert "loading.py" not in text


def test_a_file_that_failed_inside_a_with_block_does_not_hurt_the_next(load: Load) -> None:
    with pytest.raises(DagInvalid):
        load("from opskit import DAG, TaskGroup\nwith DAG('x'), TaskGroup('g'):\n    raise ValueError\n", "one.py")
    (dag,) = load(
        """
        from opskit import DAG
        from opskit.operators import EmptyOperator
        with DAG("y"):
            EmptyOperator(task_id="a")
        """,
        "two.py",
    )
    assert (dag.dag_id, dag.task_ids) == ("y", ["a"])


def test_naive_dates_are_read_in_the_default_zone(tmp_path: Path) -> None:
    (tmp_path / "zone.py").write_text(
        "from datetime import datetime\nfrom opskit import DAG\nd = DAG('d', start_date=datetime(2024, 7, 1))\n"
    )
    try:
        (dag,) = loading.load_file(tmp_path / "zone.py", tmp_path, default_timezone="Europe/Berlin")
    finally:
        loading.zones.set_default_zone("UTC")
    assert dag.start_date == datetime(2024, 6, 30, 22, tzinfo=UTC)
    assert reload(dag).timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("make", "needed"),
    [
        (lambda: EmptyOperator(task_id="a"), set()),
        (lambda: PythonOperator(task_id="a", python_callable=lambda ds, ti: None), set()),
        (lambda: PythonOperator(task_id="a", python_callable=lambda logical_date: None), {"pendulum"}),
        (lambda: PythonOperator(task_id="a", python_callable=lambda **context: None), {"pendulum"}),
        (lambda: PythonOperator(task_id="a", python_callable=print, op_args=["{{ ds }}"]), {"jinja2", "pendulum"}),
        (lambda: BashOperator(task_id="a", bash_command="true"), {"subprocess", "tempfile"}),
        (lambda: BashOperator(task_id="a", bash_command="x.sh"), {"subprocess", "tempfile", "jinja2", "pendulum"}),
    ],
)  # fmt: skip
def test_only_what_the_tasks_will_need_is_warmed_up(make: Callable[[], Any], needed: set[str]) -> None:
    with DAG("d") as dag:
        make()
    assert {name for name in loading.needs_warmup([dag]) if not name.startswith("opskit")} == needed
