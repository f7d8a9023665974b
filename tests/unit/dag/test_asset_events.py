"""Events of assets while tasks run: what they say of their outlets, and what they see of their inlets."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit.core.dag import authoring_context, dialect, loading, plugins, runtime, xcom
from opskit.core.dag.asset_context import AssetEvent, TriggeringEvents
from opskit.core.dag.asset_decorator import asset
from opskit.core.dag.asset_outlets import emitted
from opskit.core.dag.assets import Asset, AssetAlias, Dataset, DatasetAlias, Metadata
from opskit.core.dag.execution import execute
from opskit.core.dag.model import DAG
from opskit.core.dag.operators.bash import BashOperator
from opskit.core.dag.operators.python import PythonOperator
from opskit.core.dag.task_instance import DagRun
from opskit.core.dag.taskflow import task
from opskit.errors import DagInvalid

AT = datetime(2024, 6, 3, tzinfo=UTC)
A, B = Asset("a", "s3://lake/a"), Dataset("s3://lake/b")


def _events_of(function: Any, **arguments: Any) -> list[dict[str, Any]]:
    """What one attempt of a task gives to the scheduler."""
    with DAG("d", schedule=None) as dag:
        PythonOperator(task_id="t", python_callable=function, **arguments)
    frame = {"task_id": "t", "run_id": "r", "run": {"run_type": "manual", "logical_date": AT}}
    outcome = execute(dag, frame)
    assert outcome.fields().get("events", []) == outcome.events
    assert outcome.state == "success", outcome.reason
    return outcome.events


def _event(name: str, uri: str, extra: dict[str, Any], aliases: list[str], group: str = "asset") -> dict[str, Any]:
    return {"name": name, "uri": uri, "group": group, "extra": extra, "aliases": aliases}


def test_a_task_that_succeeds_makes_an_event_of_each_outlet() -> None:
    made = _events_of(lambda: 1, outlets=[A, B, "something else"])
    assert made == [
        _event("a", "s3://lake/a", {}, []),
        _event("s3://lake/b", "s3://lake/b", {}, [], "dataset"),
    ]


def test_a_task_without_outlets_makes_none() -> None:
    assert _events_of(lambda outlet_events: outlet_events[A].extra.update(x=1)) == []


@pytest.mark.parametrize("key", [A, "a", "s3://lake/a/", Asset.ref(name="a"), Asset.ref(uri="s3://lake/a")])
def test_an_event_gets_an_extra(key: Any) -> None:
    def tell(outlet_events: Any) -> None:
        outlet_events[key].extra = {"rows": 3}

    assert _events_of(tell, outlets=[A]) == [_event("a", "s3://lake/a", {"rows": 3}, [])]


def test_an_extra_can_be_yielded() -> None:
    def tell() -> Any:
        yield Metadata(A, {"rows": 3})
        yield Metadata(B, {"of": "alias"}, alias=AssetAlias("al"))
        return "done"

    assert _events_of(tell, outlets=[A, DatasetAlias("al")]) == [
        _event("a", "s3://lake/a", {"rows": 3}, []),
        _event("s3://lake/b", "s3://lake/b", {"of": "alias"}, ["al"], "dataset"),
    ]


def test_an_alias_gets_assets_while_the_task_runs() -> None:
    def add(outlet_events: Any) -> None:
        outlet_events[AssetAlias("al")].add(A, extra={"n": 1})
        outlet_events["al"].add("s3://lake/c/", extra={"n": 2})
        outlet_events[AssetAlias("al2")].add(A, extra={"n": 1})
        outlet_events[AssetAlias("none of ours")].add(A)
        outlet_events[B].add(A)

    made = _events_of(add, outlets=[AssetAlias("al"), AssetAlias("al2"), B])
    assert made == [
        _event("s3://lake/b", "s3://lake/b", {}, [], "dataset"),
        _event("a", "s3://lake/a", {"n": 1}, ["al", "al2"]),
        _event("s3://lake/c", "s3://lake/c", {"n": 2}, ["al"]),
    ]


def test_an_extra_that_is_no_json_fails_the_task() -> None:
    with DAG("d", schedule=None) as dag:
        PythonOperator(
            task_id="t", python_callable=lambda outlet_events: outlet_events[A].extra.update(x={1}), outlets=[A]
        )
    run = dag.test(logical_date=AT)
    assert run.state == "failed"
    assert "s3://lake/a is no plain JSON" in run.reasons["t"]


def test_a_task_that_fails_makes_no_event() -> None:
    def fail(outlet_events: Any) -> None:
        outlet_events[A].extra = {"x": 1}
        raise ValueError("no")

    with DAG("d", schedule=None) as dag:
        PythonOperator(task_id="t", python_callable=fail, outlets=[A])
    frame = {"task_id": "t", "run_id": "r", "run": {"run_type": "manual", "logical_date": AT}}
    outcome = execute(dag, frame)
    assert (outcome.state, outcome.events) == ("failed", [])
    assert "events" not in outcome.fields()


def test_later_tasks_see_events_of_their_inlets() -> None:
    seen: dict[str, Any] = {}

    def produce(n: int, outlet_events: Any) -> None:
        outlet_events[A].extra = {"n": n}

    def consume(inlet_events: Any) -> None:
        events = inlet_events[A]
        seen["extras"] = [event.extra["n"] for event in events]
        seen["last"] = events[-1].extra
        seen["sliced"] = [event.extra["n"] for event in events[:-1]]
        seen["newest"] = [event.extra["n"] for event in inlet_events[0].ascending(False).limit(1)]
        seen["by name"] = len(inlet_events.for_asset(name="a"))
        seen["by text"] = len(inlet_events["s3://lake/a"])
        seen["of alias"] = [event.uri for event in inlet_events[AssetAlias("al")]]
        seen["source"] = (events[0].source_task_id, events[0].source_dag_run.run_id == events[0].source_run_id)
        seen["uri"] = (events[0].uri, events[0].asset == A, events[0].timestamp.tzinfo is not None)
        with pytest.raises(KeyError):
            inlet_events[B]

    with DAG("d", schedule=None) as dag:
        first, second = (
            PythonOperator(task_id=f"p{n}", python_callable=produce, op_kwargs={"n": n}, outlets=[A]) for n in (1, 2)
        )
        third = PythonOperator(
            task_id="add",
            python_callable=lambda outlet_events: outlet_events[AssetAlias("al")].add(B),
            outlets=[AssetAlias("al")],
        )
        last = PythonOperator(task_id="c", python_callable=consume, inlets=[A, AssetAlias("al")])
        shown = BashOperator(task_id="b", bash_command="echo {{ inlet_events['a'][-1].extra | tojson }}", inlets=[A])
        first >> second >> third >> last >> shown
    run = dag.test(logical_date=AT)
    assert (run.state, run.reasons) == ("success", {})
    assert seen == {
        "extras": [1, 2],
        "last": {"n": 2},
        "sliced": [1],
        "newest": [2],
        "by name": 2,
        "by text": 2,
        "of alias": ["s3://lake/b"],
        "source": ("p1", True),
        "uri": ("s3://lake/a", True, True),
    }
    assert run.xcoms["b"]["return_value"] == "{n: 2}"


def test_a_run_that_no_event_made_has_no_triggering_events() -> None:
    seen = []
    with DAG("d", schedule=[A]) as dag:
        PythonOperator(
            task_id="t",
            python_callable=lambda triggering_asset_events, **context: seen.append(
                (dict(triggering_asset_events), list(context["triggering_dataset_events"].items()))
            ),
        )
    assert dag.test(logical_date=AT).state == "success"
    assert seen == [({}, [])]


class _Store(runtime.MemoryStore):
    def triggering_asset_events(self, dag_id: str, run_id: str) -> list[runtime.EventRow]:
        return self.events


def test_triggering_events_are_found_by_asset_by_uri_and_by_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    store = _Store()
    store.add_asset_events([_event("a", "s3://lake/a", {"n": 1}, ["al"]), _event("a", "s3://lake/a", {"n": 2}, [])])
    monkeypatch.setattr(runtime, "_store", store)
    run = DagRun(runtime.RunInfo("d", "r", "asset_triggered", "running", AT, AT, AT, {}))
    events = TriggeringEvents(run, by_uri=False)
    assert [event.extra["n"] for event in events[A]] == [1, 2]
    assert [event.extra["n"] for event in events[AssetAlias("al")]] == [1]
    assert [event.extra["n"] for event in events.for_asset(uri="s3://lake/a")] == [1, 2]
    assert list(events) == [A, AssetAlias("al")]
    assert A in events and B not in events and events[B] == []
    old = TriggeringEvents(run, by_uri=True)
    assert [(uri, len(found)) for uri, found in old.items()] == [("s3://lake/a", 2)]
    assert isinstance(old["s3://lake/a"][0], AssetEvent)


@asset(schedule="@daily", uri="s3://lake/raw", tags=["x"])
def raw(self: Any, context: dict[str, Any], outlet_events: Any) -> dict[str, Any]:
    outlet_events[self].extra = {"at": context["ds"]}
    return {"uri": self.uri}


@asset(schedule=[raw])
def refined(raw: Any, factor: int = 2) -> Any:
    yield Metadata(Asset("refined"), {"from": raw.uri, "factor": factor})


@asset.multi(outlets=[Asset("m1"), Asset("m2")], schedule=raw & refined)
def both() -> None:
    pass


def test_an_asset_is_defined_by_a_function(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom typing import Any\n"
    text += "from opskit.core.dag.asset_decorator import asset\nfrom opskit.core.dag.assets import Asset, Metadata\n"
    source = inspect.getsource(inspect.getmodule(_events_of))  # type: ignore[arg-type]
    begin, end = source.index("@asset(schedule"), source.index("def test_an_asset_is_defined")
    (tmp_path / "f.py").write_text(text + source[begin:end])
    dags = {dag.dag_id: dag for dag in loading.load_file(tmp_path / "f.py", tmp_path)}
    assert list(dags) == ["both", "raw", "refined"]
    assert {dag_id: dag.task_ids for dag_id, dag in dags.items()} == {
        "both": ["both"],
        "raw": ["raw"],
        "refined": ["refined"],
    }
    first = dags["raw"]
    assert (first.catchup, first.tags, first.schedule) == (False, ["x"], "@daily")
    assert first.get_task("raw").task_type == "_AssetMainOperator"
    assert dags["refined"].get_task("refined").inlets == [Asset.ref(name="raw")]
    assert dags["both"].get_task("both").outlets == [Asset("m1"), Asset("m2")]
    run = first.test(logical_date=AT)
    assert (run.state, run.xcoms["raw"]["return_value"]) == ("success", {"uri": "s3://lake/raw"})
    outcome = execute(
        dags["refined"],
        {"task_id": "refined", "run_id": "r", "run": {"run_type": "manual", "logical_date": AT}},
    )
    assert outcome.events == [_event("refined", "refined", {"from": "s3://lake/raw", "factor": 2}, [])]


def test_an_asset_may_be_a_task_of_another_kind() -> None:
    authoring_context.forget()

    made = asset(schedule=None)(task.bash(_command))
    (dag,) = authoring_context.registered
    (only,) = dag.tasks
    assert (dag.dag_id, only.task_type, only.outlets) == ("_command", "_BashDecoratedOperator", [made])
    authoring_context.forget()


def _command() -> str:
    return "echo 1"


def test_functions_that_can_be_no_asset_are_refused() -> None:
    def inside() -> None: ...

    with pytest.raises(ValueError, match="inside of another"):
        asset(schedule=None)(inside)
    with pytest.raises(TypeError, match=r"can't take \*anything"):
        asset(schedule=None)(_wild)
    with pytest.raises(ValueError, match="needs outlets"):
        asset.multi(outlets=[], schedule=None)(_command)
    with pytest.raises(TypeError, match="no outlets"):
        asset(schedule=None)(task(outlets=[A])(_command))
    with pytest.raises(DagInvalid, match="61"):
        asset(schedule="61 * * * *")(_command)
        authoring_context.registered[-1].validate()
    authoring_context.forget()


def _wild(*anything: Any) -> None: ...


def test_an_asset_that_a_function_is_given_or_returns_is_one_of_its_inlets_or_outlets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    @task
    def refine(source: Asset, *, inlet_events: Any = None) -> list[Asset]:
        seen.append(list(inlet_events[source]))
        return [Asset("made of it")]

    with dialect.speaking(2), DAG("d", schedule=None) as dag:
        refine(A)
    run = dag.test(logical_date=AT)
    assert (run.state, seen) == ("success", [[]])
    values = {key: xcom.decode(value) for key, value in run.xcoms["refine"].items()}
    made = [Asset("made of it")]
    assert values == {"return_value": made, "pipeline_outlets": made, "pipeline_inlets": [A]}
    frame = {"task_id": "refine", "run_id": "r", "run": {"run_type": "manual", "logical_date": AT}}
    monkeypatch.setattr(runtime, "_store", runtime.MemoryStore())
    assert execute(dag, frame).events == [_event("made of it", "made of it", {}, [])]


@pytest.mark.parametrize(
    ("asset", "stored"),
    [
        (Dataset("s3://x/y", {"k": 1}), {"uri": "s3://x/y", "extra": {"k": 1}}),
        (DatasetAlias("al"), {"name": "al"}),
        (AssetAlias("al", group="g"), {"name": "al", "group": "g"}),
    ],
)
def test_assets_come_back_from_xcoms_in_airflows_form(asset: Any, stored: dict[str, Any]) -> None:
    plain = xcom.encode(asset)
    assert plain["__data__"] == stored
    assert plain["__classname__"].startswith("airflow.")
    assert xcom.decode(plain) == asset
    assert xcom.decode(xcom.encode(A)) == A


def test_listeners_hear_of_assets_that_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    class Listener:
        @plugins.hookimpl
        def on_asset_changed(self, asset: Asset) -> None:
            heard.append(asset.uri)

        @plugins.hookimpl
        def on_dataset_changed(self, dataset: Asset) -> None:
            heard.append(type(dataset).__name__)

    monkeypatch.setattr(plugins, "_listeners", [Listener()])
    _events_of(lambda: None, outlets=[A])
    with dialect.speaking(2):
        _events_of(lambda: None, outlets=[B])
    assert heard == ["Asset", "s3://lake/a", "Dataset", "s3://lake/b"]


def test_an_asset_that_nobody_knows_fails_the_task() -> None:
    with DAG("d", schedule=None) as dag:
        PythonOperator(task_id="t", python_callable=lambda: None, outlets=[Asset.ref(name="unknown")])
    run = dag.test(logical_date=AT)
    assert run.state == "failed"
    assert "there is no asset with the name 'unknown'" in run.reasons["t"]
    assert emitted(PythonOperator(task_id="u", python_callable=print), None) == []
