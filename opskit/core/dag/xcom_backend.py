"""The class that `core.xcom_backend` names: it may keep the values of XComs elsewhere (Airflow's interface:
serialize_value, deserialize_value). What it makes of a value is what the metastore stores."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

_path = ""
_class: Any = None


def configure(path: str) -> None:
    """The backend of this process: path to its class (empty: none)."""
    global _path, _class
    if path != _path:
        _path, _class = path, None


def configured() -> bool:
    return bool(_path)


def written(value: Any, key: str, ti: Any) -> Any:
    """What the backend makes of a value that `ti` pushes."""
    function = _backend().serialize_value
    given = {
        "key": key,
        "task_id": ti.task_id,
        "dag_id": ti.dag_id,
        "run_id": ti.run_id,
        "map_index": ti.map_index,
    }
    parameters = inspect.signature(function).parameters
    every = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return function(value, **{name: item for name, item in given.items() if every or name in parameters})


def read(stored: Any) -> Any:
    """The value again. Without a backend in this process: what is stored."""
    return _backend().deserialize_value(SimpleNamespace(value=stored)) if _path else stored


def _backend() -> Any:
    """ConfigError when the class can't be loaded."""
    global _class
    if _class is None:
        from importlib import import_module

        from opskit.errors import ConfigError

        module, _, name = _path.rpartition(".")
        try:
            _class = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"core.xcom_backend is {_path!r}, which can't be used: {error}") from error
    return _class
