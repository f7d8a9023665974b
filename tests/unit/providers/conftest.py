"""Fixtures for operators and hooks: connections, and a task that is run by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag import authoring_context, runtime
from opskit.core.dag.connection import Connection


@pytest.fixture(autouse=True)
def store() -> Iterator[runtime.MemoryStore]:
    """A store in memory, installed as this process's."""
    authoring_context.forget()
    made = runtime.MemoryStore()
    runtime.set_store(made)
    yield made
    authoring_context.forget()
    runtime.set_store(None)


@pytest.fixture
def connect(store: runtime.MemoryStore) -> Callable[..., Connection]:
    """`connect("my_db", conn_type="sqlite", host=…)`: a connection that hooks find."""

    def make(conn_id: str, **fields: Any) -> Connection:
        store.connections[conn_id] = Connection(conn_id=conn_id, **fields)
        return store.connections[conn_id]

    return make


@pytest.fixture
def dag() -> Iterator[DAG]:
    """An open DAG: tasks that are made now are in it."""
    with DAG("d", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC), catchup=False) as opened:
        yield opened


@pytest.fixture
def sqlite(tmp_path: Path, connect: Callable[..., Connection]) -> Path:
    """A file for the connection sqlite_default."""
    connect("sqlite_default", conn_type="sqlite", host=str(tmp_path / "data.db"))
    return tmp_path / "data.db"
