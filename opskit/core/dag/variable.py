"""Variable: small settings that DAG files and tasks read by name."""

from __future__ import annotations

import json
import os
from typing import Any

from opskit.core.dag.stored_class import StoredClassWithoutInstances

ENV_PREFIXES = ("OPSKIT_VAR_", "AIRFLOW_VAR_")
_NO_DEFAULT: Any = object()


class Variable(metaclass=StoredClassWithoutInstances):
    """Airflow's interface: class methods. An instance is a row of the metastore (see core/metastore/airflow_models)."""

    model = "VariableModel"

    @classmethod
    def get(
        cls,
        key: str,
        default_var: Any = _NO_DEFAULT,
        deserialize_json: bool = False,
        default: Any = _NO_DEFAULT,
    ) -> Any:
        """The text (or, with deserialize_json, the value) of a variable: from the environment first, then from the
        metastore. Without one: the default, else KeyError."""
        text = _lookup(key)
        if text is None:
            fallback = default_var if default_var is not _NO_DEFAULT else default
            if fallback is _NO_DEFAULT:
                raise KeyError(f"Variable {key} does not exist")
            return fallback
        return json.loads(text) if deserialize_json else text

    @classmethod
    def set(cls, key: str, value: Any, description: str | None = None, serialize_json: bool = False) -> None:
        from opskit.core.dag import runtime

        text = json.dumps(value, indent=2) if serialize_json else str(value)
        runtime.store().set_variable(key, text, description)

    @classmethod
    def update(cls, key: str, value: Any, serialize_json: bool = False) -> None:
        """Change a variable. KeyError when there is none."""
        from opskit.core.dag import runtime

        if runtime.store().get_variable(key) is None:
            raise KeyError(f"Variable {key} does not exist")
        cls.set(key, value, serialize_json=serialize_json)

    @classmethod
    def delete(cls, key: str) -> int:
        """How many were deleted: 0 or 1."""
        from opskit.core.dag import runtime

        return int(runtime.store().delete_variable(key))

    @classmethod
    def setdefault(cls, key: str, default: Any, description: str | None = None, deserialize_json: bool = False) -> Any:
        """The value of a variable, after it was set to `default` where there was none."""
        text = _lookup(key)
        if text is None:
            cls.set(key, default, description, serialize_json=deserialize_json)
            return default
        return json.loads(text) if deserialize_json else text


def _lookup(key: str) -> str | None:
    from opskit.core.dag import secrets_backends

    if secrets_backends.configured():
        found = secrets_backends.variable(key)
        if found is not None:
            return found
    for prefix in ENV_PREFIXES:
        text = os.environ.get(prefix + key.upper())
        if text is not None:
            return text
    from opskit.core.dag import runtime

    return runtime.store().get_variable(key)
