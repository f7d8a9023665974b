"""Fixtures for the authoring model: a clean slate, a store in memory, and DAG files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from opskit.core.dag import authoring_context, loading, runtime
from opskit.core.dag.execution import Outcome, execute
from opskit.core.dag.model import DAG

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _clean_slate() -> Iterator[None]:
    authoring_context.forget()
    yield
    authoring_context.forget()
    runtime.set_store(None)


@pytest.fixture
def store() -> runtime.MemoryStore:
    """A store in memory, installed as this process's."""
    made = runtime.MemoryStore()
    runtime.set_store(made)
    return made


@pytest.fixture
def attempt() -> Callable[..., Outcome]:
    """Run one attempt of a task: `attempt(dag, "task_id", try_number=2, conf={…})`."""

    def run(dag: DAG, task_id: str, **values: Any) -> Outcome:
        run_values = {
            "run_type": values.pop("run_type", "scheduled"),
            "logical_date": "2024-03-01T00:00:00+00:00",
            "data_interval_start": "2024-03-01T00:00:00+00:00",
            "data_interval_end": "2024-03-02T00:00:00+00:00",
            "conf": values.pop("conf", {}),
            "start_date": "2024-03-02T00:00:01+00:00",
        }
        frame = {
            "key": [1, task_id, -1, 1],
            "kind": "task",
            "dag_id": dag.dag_id,
            "run_id": "scheduled__2024-03-01",
            "task_id": task_id,
            "map_index": -1,
            "try_number": 1,
            "max_tries": 0,
            "first_poke_at": None,
            "run": run_values,
            **values,
        }
        return execute(dag, frame, triggers_inline=True)

    return run


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., list[DAG]]:
    """Write a DAG file and load it: `load('from opskit import …')`."""

    def write_and_load(source: str, name: str = "file.py") -> list[DAG]:
        path = tmp_path / name
        path.write_text(dedent(source))
        return loading.load_file(path, tmp_path)

    return write_and_load
