"""What `dag.test()` may be given beside a conf: files with connections and variables, and tasks that don't run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.core.dag import runtime
from opskit.core.dag.connection import Connection
from opskit.errors import UsageError

if TYPE_CHECKING:
    from opskit.core.dag.model import DAG


@contextmanager
def from_files(conn_file_path: str | None, variable_file_path: str | None) -> Iterator[None]:
    """Within the block, connections and variables come from these files before anything else. UsageError for a file
    that can't be read."""
    if conn_file_path is None and variable_file_path is None:
        yield
        return
    before = runtime.current_store()
    store = runtime.MemoryStore(behind=before)
    for conn_id, value in _read(conn_file_path).items():
        one = value[0] if isinstance(value, list) else value
        store.connections[conn_id] = (
            Connection.from_text(one, conn_id) if isinstance(one, str) else Connection.from_dict(one, conn_id)
        )
    for key, value in _read(variable_file_path).items():
        store.variables[key] = value if isinstance(value, str) else json.dumps(value)
    runtime.set_store(store)
    try:
        yield
    finally:
        runtime.set_store(before)


def _read(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    file = Path(path)
    try:
        text = file.read_text()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from None
    if file.suffix in (".yaml", ".yml"):
        try:
            import yaml
        except ImportError:
            raise UsageError(f"{path}: reading YAML needs the extra opskit[yaml]") from None
        data = yaml.safe_load(text)
    elif file.suffix == ".env":
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
        data = {key.strip(): value.strip() for key, value in pairs}
    else:
        try:
            data = json.loads(text)
        except ValueError as error:
            raise UsageError(f"{path} is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path} must hold names and their values")
    return data


@contextmanager
def succeeding(dag: DAG, pattern: Any) -> Iterator[None]:
    """Within the block, tasks whose ids match the pattern succeed without doing anything."""
    if pattern is None:
        yield
        return
    matching = [task for task in dag.tasks if re.compile(pattern).match(task.task_id)]
    for task in matching:
        task.__dict__["execute"] = _nothing
    try:
        yield
    finally:
        for task in matching:
            del task.__dict__["execute"]


def _nothing(context: Any) -> None:
    """Instead of a task's execute()."""
