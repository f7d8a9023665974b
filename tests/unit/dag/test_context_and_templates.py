"""What a task sees: the names of the context, templates, XComs, variables and connections."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit import DAG, Param, Variable, get_current_context
from opskit.core.dag import context as contexts
from opskit.core.dag import dialect
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.execution import Outcome
from opskit.core.dag.runtime import MemoryStore, RunInfo
from opskit.core.dag.task_instance import DagRun, RuntimeTaskInstance
from opskit.core.dag.xcom import decode, encode
from opskit.operators import BashOperator, EmptyOperator, PythonOperator

START = datetime(2024, 1, 1, tzinfo=UTC)
RUN = RunInfo(
    dag_id="d", run_id="scheduled__2024-03-01", run_type="scheduled", state="running",
    logical_date=datetime(2024, 3, 1, 6, 30, tzinfo=UTC), data_interval_start=datetime(2024, 3, 1, 6, 30, tzinfo=UTC),
    data_interval_end=datetime(2024, 3, 2, 6, 30, tzinfo=UTC), conf={},
    start_date=datetime(2024, 3, 2, 6, 31, tzinfo=UTC),
)  # fmt: skip


@pytest.fixture
def dag() -> Iterator[DAG]:
    with DAG("d", schedule="30 6 * * *", start_date=START, params={"x": 1, "deep": {"a": [1, 2]}}) as opened:
        yield opened


def make_context(dag: DAG, task_id: str = "t", run: RunInfo = RUN, **values: Any) -> contexts.Context:
    task = dag.task_dict.get(task_id) or EmptyOperator(task_id=task_id, dag=dag)
    return contexts.Context(RuntimeTaskInstance(task, DagRun(run, dag), **values))


def render(dag: DAG, template: Any, run: RunInfo = RUN) -> Any:
    context = make_context(dag, run=run)
    return context["task"].render_template(template, context)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ ds }}", "2024-03-01"),
        ("{{ ds_nodash }}", "20240301"),
        ("{{ ts }}", "2024-03-01T06:30:00+00:00"),
        ("{{ ts_nodash }}", "20240301T063000"),
        ("{{ ts_nodash_with_tz }}", "20240301T063000+0000"),
        ("{{ logical_date }} {{ execution_date == logical_date }}", "2024-03-01 06:30:00+00:00 True"),
        ("{{ (data_interval_end - data_interval_start).in_hours() }}", "24"),
        ("{{ data_interval_end.in_timezone('Europe/Berlin').to_date_string() }}", "2024-03-02"),
        ("{{ logical_date | ds_nodash }} {{ logical_date | ts }}", "20240301 2024-03-01T06:30:00+00:00"),
        ("{{ next_ds }} {{ prev_ds }} {{ yesterday_ds }} {{ tomorrow_ds_nodash }}",
         "2024-03-02 2024-02-29 2024-02-29 20240302"),
        ("{{ params.x + 1 }} {{ params.deep.a[1] }}", "2 2"),
        ("{{ dag.dag_id }} {{ task.task_id }} {{ run_id }}", "d t scheduled__2024-03-01"),
        ("{{ ti.task_id }} {{ task_instance.try_number }} {{ task_instance_key_str }}", "t 1 d__t__20240301"),
        ("{{ macros.ds_add(ds, -1) }} {{ macros.ds_format(ds, '%Y-%m-%d', '%d/%m/%y') }}", "2024-02-29 01/03/24"),
        ("{{ macros.datetime(2024, 1, 1) + macros.timedelta(days=1) }}", "2024-01-02 00:00:00"),
        ("{{ macros.json.dumps({'a': 1}) }}", '{"a": 1}'),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ("{% set l = [] %}{% do l.append(1) %}{{ l }}", "[1]"),
        ("{# nothing #}text", "text"),
        ("{% raw %}{{ ds }}{% endraw %}", "{{ ds }}"),
        ("{{ dag_run.conf.get('a', 'none') }} {{ dag_run.run_type }}", "none scheduled"),
        ("{{ test_mode }} {{ ti.map_index }}", "False -1"),
    ],
)  # fmt: skip
def test_a_template_finds_airflows_names(dag: DAG, template: str, text: str) -> None:
    assert render(dag, template) == text


def test_templates_are_rendered_at_any_depth(dag: DAG) -> None:
    value = {"a": ["{{ ds }}", ("{{ params.x }}", 3)], "b": {"{{ ds }}"}, "c": None, "d": 1.5}
    assert render(dag, value) == {"a": ["2024-03-01", ("1", 3)], "b": {"2024-03-01"}, "c": None, "d": 1.5}


def test_objects_with_template_fields_are_rendered(dag: DAG) -> None:
    class Mail:
        template_fields = ("subject",)

        def __init__(self) -> None:
            self.subject, self.body = "{{ ds }}", "{{ ds }}"

    mail = render(dag, Mail())
    assert (mail.subject, mail.body) == ("2024-03-01", "{{ ds }}")


def test_an_unknown_name_fails_the_template(dag: DAG) -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="nothere"):
        render(dag, "{{ nothere }}")


def test_dunder_attributes_are_out_of_reach(dag: DAG) -> None:
    from jinja2.exceptions import SecurityError

    with pytest.raises(SecurityError):
        render(dag, "{{ ''.__class__.__mro__ }}")


def test_native_rendering_gives_values() -> None:
    with DAG("n", start_date=START, render_template_as_native_obj=True, params={"x": [1, 2]}) as dag:
        assert render(dag, "{{ params.x }}") == [1, 2]
        assert render(dag, "{{ 1 + 1 }}") == 2


def test_user_defined_macros_and_filters_are_found() -> None:
    with DAG("u", user_defined_macros={"twice": lambda x: x * 2}, user_defined_filters={"up": str.upper}) as dag:
        assert render(dag, "{{ twice('a') | up }}") == "AA"


def test_a_context_name_comes_before_a_macro_of_the_user() -> None:
    with DAG("u", user_defined_macros={"ds": "mine"}) as dag:
        assert render(dag, "{{ ds }}") == "2024-03-01"


def test_a_script_file_lies_beside_the_dag_file_or_on_the_search_path(
    load: Callable[..., list[DAG]], tmp_path: Path, attempt: Callable[..., Outcome]
) -> None:
    (tmp_path / "beside.sh").write_text("echo {{ ds }}")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "far.sh").write_text("echo far {{ params.x }}\n{% include 'beside.sh' %}")
    (dag,) = load(f"""
        from opskit import DAG
        from opskit.operators import BashOperator
        with DAG("d", template_searchpath="{tmp_path}/scripts", params={{"x": 1}}):
            BashOperator(task_id="a", bash_command="beside.sh")
            BashOperator(task_id="b", bash_command="far.sh")
            BashOperator(task_id="c", bash_command="echo no_file.sh ")
            BashOperator(task_id="missing", bash_command="missing.sh")
    """)
    assert dict(attempt(dag, "a").xcoms) == {"return_value": "2024-03-01"}
    assert dict(attempt(dag, "b").xcoms) == {"return_value": "2024-03-01"}
    assert dict(attempt(dag, "c").xcoms) == {"return_value": "no_file.sh"}
    failed = attempt(dag, "missing")
    assert failed.state == "failed"
    assert "missing.sh" in str(failed.reason)


def test_rendering_leaves_the_dag_as_it_was(dag: DAG, attempt: Callable[..., Outcome]) -> None:
    task = BashOperator(task_id="b", bash_command="echo {{ ds }}")
    assert attempt(dag, "b").state == "success"
    assert task.bash_command == "echo {{ ds }}"


def test_params_of_the_task_come_before_the_dags_and_conf_before_both(dag: DAG) -> None:
    EmptyOperator(task_id="p", params={"x": 2, "own": 3})
    run = replace(RUN, conf={"own": 4, "new": 5})
    assert make_context(dag, "p", run)["params"] == {"x": 2, "deep": {"a": [1, 2]}, "own": 4, "new": 5}


def test_a_forbidden_conf_fails_the_task(attempt: Callable[..., Outcome]) -> None:
    with DAG("d", params={"x": Param(1, type="integer")}) as dag:
        PythonOperator(task_id="a", python_callable=lambda params: params["x"])
    assert attempt(dag, "a", conf={"x": 2}).xcoms == [("return_value", 2)]
    failed = attempt(dag, "a", conf={"x": "two"})
    assert (failed.state, failed.reason) == (
        "failed",
        "ParamValidationError: Invalid input for param x: 'two' is not of type 'integer'",
    )


def test_variables_are_found_in_templates_and_code(
    dag: DAG, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.variables.update(plain="text", config='{"a": {"b": 7}}')
    assert render(dag, "{{ var.value.plain }} {{ var.json.config.a.b }}") == "text 7"
    assert render(dag, "{{ var.value.get('none', 'default') }} {{ var.json.get('none', {'z': 1}).z }}") == "default 1"
    with pytest.raises(KeyError, match="nothere"):
        render(dag, "{{ var.value.nothere }}")
    Variable.set("new", {"k": [1]}, serialize_json=True)
    assert Variable.get("new", deserialize_json=True) == {"k": [1]}
    assert Variable.setdefault("plain", "other") == "text"
    assert Variable.setdefault("other", "set") == Variable.get("other") == "set"
    assert (Variable.delete("new"), Variable.delete("new")) == (1, 0)
    assert Variable.get("new", default_var=None) is None
    monkeypatch.setenv("AIRFLOW_VAR_PLAIN", "from the environment")
    assert Variable.get("plain") == "from the environment"


def test_connections_are_found_in_templates(dag: DAG, store: MemoryStore) -> None:
    store.connections["db"] = Connection("db", "postgres", host="h", password="p", extra={"k": "v"})
    assert render(dag, "{{ conn.db.host }} {{ conn.db.extra_dejson.k }}") == "h v"
    assert render(dag, "{{ conn.get('none', {'host': 'other'}).host }}") == "other"


def test_entries_that_need_the_metastore_are_asked_for_only_when_used(dag: DAG, store: MemoryStore) -> None:
    """Without a store they would raise; a function with **kwargs gets a stand-in."""
    store.add_run(replace(RUN, run_id="before", state="success", logical_date=datetime(2024, 2, 1, tzinfo=UTC),
                          data_interval_start=datetime(2024, 2, 1, tzinfo=UTC)))  # fmt: skip
    values = make_context(dag).unpacked()
    stand_in = values["prev_data_interval_start_success"]
    assert isinstance(stand_in, contexts.LazyValue)
    assert stand_in == datetime(2024, 2, 1, tzinfo=UTC)
    assert stand_in.year == 2024
    assert stand_in < datetime(2024, 3, 1, tzinfo=UTC)
    assert str(stand_in + timedelta(days=1)).startswith("2024-02-02")
    assert not values["prev_end_date_success"]


def test_the_current_context_is_there_while_the_task_runs(dag: DAG, attempt: Callable[..., Outcome]) -> None:
    def run() -> str:
        return str(get_current_context()["ds"])

    PythonOperator(task_id="a", python_callable=run)
    assert attempt(dag, "a").xcoms == [("return_value", "2024-03-01")]
    with pytest.raises(AirflowException, match="no context"):
        get_current_context()


def test_xcom_pull_gives_one_value_or_a_list(dag: DAG, store: MemoryStore) -> None:
    for task_id, index, value in (("a", -1, 1), ("b", -1, 2), ("m", 0, "x"), ("m", 1, "y")):
        store.set_xcom("d", RUN.run_id, task_id, index, "return_value", value)
    store.set_xcom("d", RUN.run_id, "a", -1, "other", [3])
    ti = make_context(dag)["ti"]
    assert ti.xcom_pull("a") == 1
    assert ti.xcom_pull(task_ids=["b", "a", "none"]) == [2, 1, None]
    assert ti.xcom_pull("a", key="other") == [3]
    assert ti.xcom_pull("none") is None
    assert ti.xcom_pull("none", default=9) == 9
    assert ti.xcom_pull("m") == ["x", "y"]
    assert ti.xcom_pull("m", map_indexes=1) == "y"
    assert ti.xcom_pull("m", map_indexes=[1, 0]) == ["y", "x"]
    assert ti.xcom_pull(key="other") == [3]
    assert render(dag, "{{ ti.xcom_pull('a') }} {{ ti.xcom_pull(task_ids='a', key='other')[0] }}") == "1 3"


def test_own_pushes_can_be_pulled_at_once(dag: DAG, store: MemoryStore) -> None:
    pushed: list[tuple[str, Any]] = []
    ti = make_context(dag, push=lambda key, value: pushed.append((key, value)))["ti"]
    ti.xcom_push(key="k", value=(1, 2))
    assert ti.xcom_pull("t", key="k") == (1, 2)
    assert json.dumps(pushed)


def test_xcoms_of_earlier_runs_are_found_when_asked_for(dag: DAG, store: MemoryStore) -> None:
    for day, state in ((1, "success"), (2, "failed")):
        store.add_run(replace(RUN, run_id=f"r{day}", state=state, logical_date=datetime(2024, 2, day, tzinfo=UTC)))
    store.set_xcom("d", "r1", "a", -1, "return_value", "old")
    ti = make_context(dag)["ti"]
    assert ti.xcom_pull("a") is None
    assert ti.xcom_pull("a", include_prior_dates=True) == "old"
    assert ti.get_previous_dagrun().run_id == "r2"
    assert ti.get_previous_dagrun("success").run_id == "r1"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.datetimes(timezones=st.just(UTC)) | st.dates() | st.binary() | st.decimals(allow_nan=False)
    | st.timedeltas(timedelta(days=-1000), timedelta(days=1000)),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(VALUES)
def test_an_xcom_survives_json(value: Any) -> None:
    assert decode(json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize("value", [{1, 2}, frozenset({"a"}), Decimal("1.10"), date(2024, 1, 1), b"\0\xff", (1, (2,))])
def test_values_that_json_lacks_keep_their_type(value: Any) -> None:
    again = decode(json.loads(json.dumps(encode(value))))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("value", [object(), open, {(1, 2): 3}, lambda: None])
def test_what_can_not_be_stored_is_refused_by_its_type(value: Any) -> None:
    with pytest.raises(TypeError, match="can't be stored"):
        encode(value)


def test_the_model_loads_nothing_heavy() -> None:
    """A process that holds a DAG file pays for pendulum, Jinja and the cron library only when a task needs them."""
    code = """
import sys
from datetime import datetime
from opskit import DAG
from opskit.core.dag import execution, loading, serialization
from opskit.operators import EmptyOperator, PythonOperator
with DAG("d", schedule="@daily", start_date=datetime(2024, 1, 1)) as dag:
    EmptyOperator(task_id="a") >> PythonOperator(task_id="b", python_callable=lambda ds: ds)
dag.validate()
serialization.serialize(dag)
run = {"run_type": "manual", "logical_date": "2024-01-01T00:00:00+00:00"}
assert execution.execute(dag, {"task_id": "b", "run_id": "r"}, run).state == "success"
print(*({"jinja2", "pendulum", "croniter", "sqlalchemy", "dateutil", "jsonschema"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("spoken", "known", "unknown"),
    [
        (2, {"execution_date", "next_ds", "conf", "triggering_dataset_events"}, {"triggering_asset_events"}),
        (3, {"triggering_asset_events", "partition_key"}, {"execution_date", "yesterday_ds", "conf", "test_mode"}),
        (None, {"execution_date", "triggering_asset_events"}, {"map_index"}),
    ],
)
def test_the_context_has_the_names_of_the_airflow_the_file_was_written_for(
    spoken: Any, known: set[str], unknown: set[str]
) -> None:
    from jinja2 import UndefinedError

    with dialect.speaking(spoken), DAG("d", schedule="@daily", start_date=START) as dag:
        context = make_context(dag)
    assert known | {"ti", "ds", "logical_date", "var", "outlet_events"} <= set(context)
    assert not unknown & set(context)
    for name in unknown:
        assert name not in context
        assert name not in context.unpacked()
        with pytest.raises(KeyError):
            context[name]
        with pytest.raises(UndefinedError):
            render(dag, f"{{{{ {name} }}}}")


def test_a_pull_without_a_task_means_the_own_one_in_airflow_3_and_any_in_2(store: MemoryStore) -> None:
    for spoken, found in ((2, "other"), (3, None)):
        with dialect.speaking(spoken), DAG("d", schedule="@daily") as dag:  # type: ignore[arg-type]
            ti = make_context(dag)["ti"]
        store.set_xcom("d", RUN.run_id, "other", -1, "k", "other")
        assert ti.xcom_pull(key="k") == found
        assert ti.xcom_pull(task_ids=["none", "other"], key="k") == (["other"] if spoken == 2 else [None, "other"])
        ti.xcom_push("k", "own")
        assert ti.xcom_pull(key="k") == "own"


def test_a_task_instance_answers_what_authors_ask(dag: DAG, store: MemoryStore) -> None:
    store.add_run(RUN)
    other = replace(RUN, dag_id="e", run_id="r", logical_date=START)
    store.add_run(other)
    store.states["d", RUN.run_id] = {("t", -1): "running", ("u", 0): "success", ("u", 1): "failed"}
    store.states["e", "r"] = {("x", -1): "success"}
    ti = make_context(dag)["ti"]
    assert (ti.key.task_id, ti.key.run_id, ti.key.primary[3], ti.job_id) == ("t", RUN.run_id, -1, None)
    assert ti.get_task_states() == {RUN.run_id: {"t": "running", "u_0": "success", "u_1": "failed"}}
    assert ti.get_task_states("e", logical_dates=[START]) == {"r": {"x": "success"}}
    assert (ti.get_ti_count(states=["failed"]), ti.get_dr_count("e", run_ids=["r", "s"])) == (1, 1)
    assert (ti.get_dagrun_state("e", "r"), ti.get_dagrun().get_task_instance("u", 1).state) == ("running", "failed")
    assert ti.dag_run.run_after == RUN.data_interval_end
    assert [found.task_id for found in ti.get_dagrun().get_task_instances(state="failed")] == ["u"]


def test_an_instance_gets_its_name_from_the_context_that_the_task_has_changed(attempt: Callable[..., Outcome]) -> None:
    def run(word: str) -> None:
        get_current_context()["word"] = word.upper()
        if word == "c":
            raise ValueError(word)

    with DAG("d") as dag:
        for task_id, template in (("good", "{{ word }} {{ ti.map_index }} {{ task.op_args[0] }}"), ("bad", "{{ no }}")):
            PythonOperator.partial(task_id=task_id, python_callable=run, map_index_template=template).expand(
                op_args=[["a"], ["b"], ["c"]]
            )
    assert attempt(dag, "good", map_index=1).fields()["rendered_map_index"] == "B 1 b"
    failed = attempt(dag, "good", map_index=2)
    assert (failed.state, failed.rendered_map_index, failed.reason) == ("failed", "C 2 c", "ValueError: c")
    assert attempt(dag, "bad", map_index=0).state == "failed"


@dataclass
class Point:
    x: int
    when: datetime | None = None


def test_values_of_classes_are_stored_in_airflows_form_and_come_back() -> None:
    point = Point(1, START)
    stored = json.loads(json.dumps(encode({"p": [point]})))
    assert stored["p"][0]["__classname__"].endswith("Point")
    assert decode(stored) == {"p": [point]}
    stored["p"][0]["__classname__"] = "not_loaded.Class"
    assert decode(stored) == stored  # nothing is imported because a value says so


def test_a_pendulum_datetime_stays_one_with_its_zone() -> None:
    import pendulum

    moment = pendulum.datetime(2024, 7, 1, 12, tz="Europe/Berlin")
    back = decode(json.loads(json.dumps(encode(moment))))
    assert (back, back.timezone_name, back.add(days=1).day) == (moment, "Europe/Berlin", 2)


def test_a_model_and_a_number_of_other_packages_are_recognised() -> None:
    class Model:
        def __init__(self, n: int) -> None:
            self.n = n

        def model_dump(self, mode: str) -> dict[str, Any]:
            return {"n": self.n, "mode": mode}

        @classmethod
        def model_validate(cls, data: dict[str, Any]) -> Any:
            return cls(data["n"])

    Model.__qualname__ = "Model"
    Model.__module__ = "a_module_of_a_dag"
    sys.modules["a_module_of_a_dag"] = module = ModuleType("a_module_of_a_dag")
    module.Model = Model  # type: ignore[attr-defined]
    try:
        stored = encode(Model(3))
        assert stored["__data__"] == {"n": 3, "mode": "json"}
        assert decode(stored).n == 3
    finally:
        del sys.modules["a_module_of_a_dag"]

    class Int64:
        dtype, shape = "int64", ()

        def item(self) -> int:
            return 7

    Int64.__module__ = "numpy"
    assert encode(Int64()) == 7


@pytest.mark.parametrize(("spoken", "count"), [(2, True), (3, False), (None, True)])
def test_a_context_shows_what_that_of_airflow_has_from_the_start(
    attempt: Callable[..., Outcome], spoken: Any, count: bool
) -> None:
    seen: dict[str, Any] = {}

    def look(own: int, **context: Any) -> None:
        seen.update(context)
        seen["current"] = set(get_current_context())
        seen["asked"] = get_current_context().get("exception")

    with dialect.speaking(spoken), DAG("d", schedule=None) as dag:
        PythonOperator(task_id="t", python_callable=look, op_kwargs={"own": 1})
    assert attempt(dag, "t").state == "success"
    hidden = {"exception", "reason", "try_number"}
    assert hidden & seen["current"] == (set() if spoken else hidden)
    assert {"own", "templates_dict"} <= seen["current"], "the arguments of the function are put there"
    assert ("expanded_ti_count" in seen["current"]) is count
    assert ("asset_state_store" in seen["current"]) is False
    assert ("task_state_store" in seen["current"]) is (spoken != 2)
    assert seen["asked"] is None
