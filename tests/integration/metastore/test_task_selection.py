"""Which task instances a clear or a mark concerns: over runs, map indexes and DAGs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update

from opskit.core.dag import external_tasks, serialized
from opskit.core.metastore import dag_loads, runs, tables, task_instances, task_notes, task_selection
from opskit.core.metastore.engine import Connection, Engine, open_engine, transaction
from opskit.core.metastore.task_selection import Selection
from opskit.errors import NotFound, UsageError
from tests.databases import Databases
from tests.metastore_rows import NOW, dag_data, loaded_file, start_run, store_dag

DAY = timedelta(days=1)


@pytest.fixture
def engine_of_sqlite(databases: Databases) -> Iterator[Engine]:
    """For what is decided above the database."""
    opened = open_engine(databases.migrated("sqlite"))
    yield opened
    opened.dispose()


def _names(found: list[task_instances.TaskInstance]) -> list[tuple[int, str]]:
    return [((one.logical_date - NOW).days, one.task_id) for one in found]


def _three_runs(connection: Connection) -> list[runs.Run]:
    store_dag(connection, "d")
    states = {"a": "success", "b": "failed", "c": "upstream_failed"}
    return [start_run(connection, "d", NOW + number * DAY, states, state="failed") for number in range(3)]


CHOICES: list[tuple[dict[str, Any], list[tuple[int, str]]]] = [
    ({}, [(1, "b")]),
    ({"past": True}, [(0, "b"), (1, "b")]),
    ({"future": True}, [(1, "b"), (2, "b")]),
    ({"past": True, "future": True}, [(0, "b"), (1, "b"), (2, "b")]),
    ({"downstream": True, "future": True, "only_failed": True}, [(1, "b"), (1, "c"), (2, "b"), (2, "c")]),
    ({"upstream": True}, [(1, "a"), (1, "b")]),
    ({"only_running": True}, []),
]


def test_a_selection_reaches_over_runs_and_dependencies_and_names_what_is_not_there(engine_of_sqlite: Engine) -> None:
    with transaction(engine_of_sqlite) as connection:
        run = _three_runs(connection)[1]
        for choice, expected in CHOICES:
            found = task_selection.to_clear(connection, Selection("d", run.run_id, ["b"], **choice))
            assert _names(found) == expected, choice
        for wrong, message in (
            (Selection("d", run.run_id, ["bb"]), "no task 'bb'"),
            (Selection("d", "nope"), "no run 'nope'"),
            (Selection("d", run.run_id, ["b"], map_indexes=[3]), "map index 3"),
        ):
            with pytest.raises(NotFound, match=message):
                task_selection.to_clear(connection, wrong)
        for wrong, message in (
            (Selection("d", run.run_id, only_failed=True, only_running=True), "choose one"),
            (Selection("d", run.run_id, start=NOW), "choose one"),
            (Selection("d", past=True), "from a run on"),
        ):
            with pytest.raises(UsageError, match=message):
                task_selection.to_clear(connection, wrong)


def test_a_mark_over_runs_clears_what_had_failed_below_and_spares_what_it_marks(engine_of_sqlite: Engine) -> None:
    with transaction(engine_of_sqlite) as connection:
        first = _three_runs(connection)[0]
        selection = Selection("d", first.run_id, ["a", "b"], future=True)
        chosen = task_selection.to_mark(connection, selection)
        changed = task_instances.mark(connection, "d", chosen, "failed", NOW)
        assert _names(changed) == [(0, "a"), (1, "a"), (2, "a")]
        for run_id in {one.run_id for one in changed}:
            states = task_instances.task_states(connection, "d", run_id)
            # b had failed by itself: it was meant, so it is not cleared although it is below a.
            assert states == {("a", -1): "failed", ("b", -1): "failed", ("c", -1): None}
            assert runs.get_run(connection, "d", run_id).state == "running"


def test_single_instances_of_a_mapped_task_are_chosen_cleared_and_noted(engine: Engine) -> None:
    with transaction(engine) as connection:
        data = dag_data("m", {"files": ["load"], "load": []})
        data["tasks"][0]["expand"] = {"const": 3}
        dag_loads.store_loaded_files(connection, [loaded_file("m.py", data)], NOW)
        run = start_run(connection, "m", NOW, {"load": "success"})
        connection.execute(
            insert(tables.task_instance),
            [
                {"dag_run_id": run.id, "task_id": "files", "map_index": index, "state": "success", "try_number": 1}
                for index in range(3)
            ],
        )
        selection = Selection("m", run.run_id, ["files"], map_indexes=[1], downstream=True)
        found = task_selection.to_clear(connection, selection)
        assert [(one.task_id, one.map_index) for one in found] == [("files", 1), ("load", -1)]
        assert task_instances.clear(connection, "m", found, NOW, resume_runs=False) == 2
        assert task_instances.task_states(connection, "m", run.run_id)[("files", 0)] == "success"
        key = (run.id, "files", 1)
        assert task_notes.notes_of(connection, [key]) == {}
        task_notes.set_note(connection, key, "disk full ☂", "ada", NOW)
        task_notes.set_note(connection, key, "disk was full", "grace", NOW)
        assert task_notes.notes_of(connection, [key, (run.id, "files", 0)]) == {key: "disk was full"}
        task_notes.set_note(connection, key, None, "ada", NOW)
        assert task_notes.notes_of(connection, [key]) == {}


def _marker(target: str, date: str = "{{ logical_date.isoformat() }}") -> dict[str, Any]:
    fields = {"external_dag_id": target, "external_task_id": "a", "logical_date": date}
    return {"task_id": "tell", "operator": external_tasks.MARKER, "upstream": ["a"], "ui": {"fields": fields}}


def _store_marked(connection: Connection, dag_id: str, marker: dict[str, Any]) -> runs.Run:
    data = dag_data(dag_id, {"a": ["tell"], "tell": []})
    data["tasks"][1] |= marker
    dag_loads.store_loaded_files(connection, [loaded_file(f"{dag_id}.py", data)], NOW)
    run = start_run(connection, dag_id, NOW, {"a": "success", "tell": "success"}, state="success")
    connection.execute(
        update(tables.task_instance)
        .where(tables.task_instance.c.task_id == "tell")
        .values(operator=external_tasks.MARKER)
    )
    return run


def test_a_recursive_selection_follows_markers_into_other_dags_and_stops_at_circles(engine_of_sqlite: Engine) -> None:
    with transaction(engine_of_sqlite) as connection:
        first = _store_marked(connection, "d1", _marker("d2"))
        _store_marked(connection, "d2", _marker("d3", "{{ (logical_date - macros.timedelta(days=1)).isoformat() }}"))
        store_dag(connection, "d3")
        start_run(connection, "d3", NOW - DAY, {"a": "success", "b": "success", "c": "failed"}, state="failed")
        selection = Selection("d1", first.run_id, ["a"], downstream=True)
        assert {one.dag_id for one in task_selection.to_clear(connection, selection)} == {"d1"}
        selection = Selection("d1", first.run_id, ["a"], downstream=True, recursive=True)
        found = task_selection.to_clear(connection, selection)
        assert [(one.dag_id, one.task_id) for one in found] == [
            ("d1", "a"), ("d1", "tell"), ("d2", "a"), ("d2", "tell"), ("d3", "a"), ("d3", "b"), ("d3", "c"),
        ]  # fmt: skip
        # A circle ends by itself: what was found is not looked at again.
        _store_marked(connection, "e1", _marker("e2"))
        circle = _store_marked(connection, "e2", _marker("e1"))
        selection = Selection("e2", circle.run_id, ["a"], downstream=True, recursive=True)
        assert len(task_selection.to_clear(connection, selection)) == 4


def test_a_marker_whose_date_only_an_attempt_could_tell_is_refused_with_the_reason() -> None:
    def target(date: str) -> external_tasks.Target | None:
        task = serialized._load_task(_marker("other", date))
        run = runs.Run(
            1, "d", "r", "manual", "success", NOW, NOW, NOW, {}, None, NOW, None, None, None
        )  # fmt: skip
        return external_tasks.target(task, run.info())

    found = target("{{ ds }}")
    assert found is not None
    assert found.logical_date == NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    for wrong in ("{{ nothing }}", "{% for x in range(9) %}{{ x }}{% endfor %}", "{{ 9 ** 9 }}", "{{ ds", "soon"):
        with pytest.raises(UsageError, match=r"can't be rendered|no date"):
            target(wrong)


def test_a_run_that_was_ended_by_hand_goes_on_when_it_is_queued_again(engine_of_sqlite: Engine) -> None:
    with transaction(engine_of_sqlite) as connection:
        store_dag(connection, "d")
        run = start_run(connection, "d", NOW, {"a": "success", "b": None}, state="failed")
        task_instances.mark_run(connection, "d", run.run_id, "queued", NOW)
        again = runs.get_run(connection, "d", run.run_id)
        assert (again.state, again.end_date) == ("running", None)
        assert task_instances.task_states(connection, "d", run.run_id) == {("a", -1): "success", ("b", -1): None}
        with pytest.raises(UsageError, match="marked 'running'"):
            task_instances.mark_run(connection, "d", run.run_id, "running", NOW)
