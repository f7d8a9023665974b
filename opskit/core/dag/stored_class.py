"""Variable and Connection are plain classes for those who read and write single ones. A DAG file that queries the
metastore uses them as models, too: what the class itself does not have is asked of the model behind it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class StoredClass(type):
    """A class with a `model`: the name of the one behind it."""

    model = ""

    def __getattr__(cls, name: str) -> Any:
        if cls.__dict__.get("model", "") and (not name.startswith("_") or name == "__clause_element__"):
            behind = _model(cls)
            if not name.startswith("_") and hasattr(behind, name):
                return getattr(behind, name)
        raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")


class StoredClassWithoutInstances(StoredClass):
    """What is made of such a class is a new row."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        if "model" in cls.__dict__:
            return _model(cls)(*arguments, **named)
        return super().__call__(*arguments, **named)


def _model(cls: StoredClass) -> Any:
    return getattr(import_module("opskit.core.metastore.airflow_models").load_models(), cls.model)
