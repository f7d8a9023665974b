"""Fixtures for operators and hooks against real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from opskit.core.dag import authoring_context, runtime
from opskit.core.dag.connection import Connection
from tests.sshd import Node, Nodes


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
def node(sshd_nodes: Callable[[int], Nodes], store: runtime.MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A host behind the connections ssh_default and sftp_default, which know its key."""
    nodes = sshd_nodes(1)
    made = nodes[0]
    monkeypatch.setenv("HOME", str(made.root))
    fields = {"host": made.address, "port": made.port, "login": None, "conn_type": "ssh"}
    extra = {"key_file": str(nodes.folder / "user_key"), "host_key": made.public_key(), "look_for_keys": "false"}
    for conn_id in ("ssh_default", "sftp_default"):
        store.connections[conn_id] = Connection(conn_id, **{**fields, "conn_type": conn_id[:-8]}, extra=extra)  # type: ignore[arg-type]
    return made
