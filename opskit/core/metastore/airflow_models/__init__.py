"""Airflow's database models and sessions, for DAG files that open the metastore themselves.

These names cost nothing until they are used (most files import `TaskInstance` for an annotation only): the models
behind them, and with them SQLAlchemy, are loaded when an attribute is asked for, or by the first query. In SQLAlchemy
they stand for their models.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

_MODELS = "opskit.core.metastore.airflow_models.models"


class StoredName(type):
    """A class that stands for a model."""

    model = ""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") and name not in ("__table__", "__tablename__", "__mapper__"):
            if name == "__clause_element__":
                real(cls)  # SQLAlchemy asks; from now on it knows what the class stands for
            raise AttributeError(name)
        found = real(cls)
        try:
            return getattr(found, name)
        except AttributeError:
            raise AttributeError(f"{cls.__name__} has no {name!r} in opskit's metastore") from None

    def __dir__(cls) -> list[str]:
        return sorted({*super().__dir__(), *dir(real(cls))})

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        return real(cls)(*arguments, **named)

    def __instancecheck__(cls, instance: object) -> bool:
        if type(instance).__name__ in _AT_RUN_TIME.get(cls.model, ()):
            return True
        loaded = sys.modules.get(_MODELS)
        return loaded is not None and isinstance(instance, getattr(loaded, cls.model))

    def __eq__(cls, other: object) -> bool:
        return cls is other or (isinstance(other, StoredName) and cls.model == other.model) or _is_model(cls, other)

    def __hash__(cls) -> int:
        return hash(cls.model)

    def __repr__(cls) -> str:
        return f"<class 'airflow.models.{cls.__name__}'>"


_AT_RUN_TIME = {"TaskInstance": {"RuntimeTaskInstance", "TaskInstanceState"}, "DagRun": {"DagRun"}}
"""Classes of what tasks find in their context."""


def _is_model(name: StoredName, other: object) -> bool:
    loaded = sys.modules.get(_MODELS)
    return loaded is not None and other is getattr(loaded, name.model)


def real(name: StoredName) -> Any:
    """The model that a name stands for."""
    return getattr(load_models(), name.model)


def load_models() -> Any:
    """The models, loaded now."""
    loaded = importlib.import_module(_MODELS)
    tell_sqlalchemy()
    return loaded


def tell_sqlalchemy() -> None:
    """Let `select(DagRun)`, `inspect(DagRun)`, `session.query(Variable)` … find the models."""
    from sqlalchemy import inspect
    from sqlalchemy.inspection import _inspects, _registrars

    from opskit.core.dag.stored_class import StoredClass

    if StoredName in _registrars:
        return

    @_inspects(StoredName)
    def mapper_of_name(name: StoredName) -> Any:
        return inspect(real(name))

    @_inspects(StoredClass)
    def mapper_of_class(found: StoredClass) -> Any:
        if "_sa_class_manager" in found.__dict__:
            return found.__dict__["_sa_class_manager"].mapper
        return inspect(getattr(load_models(), found.model)) if found.model else None


class DagRun(metaclass=StoredName):
    model = "DagRun"


class TaskInstance(metaclass=StoredName):
    model = "TaskInstance"


class BaseXCom(metaclass=StoredName):
    model = "BaseXCom"

    @staticmethod
    def serialize_value(value: Any, **_: Any) -> bytes:
        """The JSON of a value, as it is stored."""
        import json

        from opskit.core.dag.xcom import encode

        return json.dumps(encode(value), ensure_ascii=False).encode()

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """The value of an XCom row (or of a text)."""
        import json

        from opskit.core.dag.xcom import decode

        stored = getattr(result, "value", result)
        return decode(json.loads(stored)) if isinstance(stored, (str, bytes)) else stored


XCom = BaseXCom
XComModel = BaseXCom


class TaskFail(metaclass=StoredName):
    model = "TaskFail"


class TaskReschedule(metaclass=StoredName):
    model = "TaskReschedule"


class RenderedTaskInstanceFields(metaclass=StoredName):
    model = "RenderedTaskInstanceFields"


class SlaMiss(metaclass=StoredName):
    model = "SlaMiss"


class TaskMap(metaclass=StoredName):
    model = "TaskMap"


class DagModel(metaclass=StoredName):
    model = "DagModel"


class DagTag(metaclass=StoredName):
    model = "DagTag"


class SerializedDagModel(metaclass=StoredName):
    model = "SerializedDagModel"


class DagCode(metaclass=StoredName):
    model = "DagCode"


class DagPickle(metaclass=StoredName):
    model = "DagPickle"


class DagWarning(metaclass=StoredName):
    model = "DagWarning"


class Pool(metaclass=StoredName):
    model = "Pool"


class Log(metaclass=StoredName):
    model = "Log"


class Job(metaclass=StoredName):
    model = "Job"


class BaseJob(metaclass=StoredName):
    model = "Job"


class ParseImportError(metaclass=StoredName):
    model = "ParseImportError"


class ImportError(metaclass=StoredName):  # noqa: A001 -- Airflow's name
    model = "ParseImportError"


class Trigger(metaclass=StoredName):
    model = "Trigger"


class DatasetModel(metaclass=StoredName):
    model = "DatasetModel"


class DatasetEvent(metaclass=StoredName):
    model = "DatasetEvent"


def clear_task_instances(tis: Any, session: Any, *arguments: Any, **named: Any) -> None:
    """Let task instances run again; runs that had ended go on."""
    load_models().clear_task_instances(tis, session, *arguments, **named)


def __getattr__(name: str) -> Any:
    """`Session`, `engine` and what is used with them."""
    if name in ("Session", "create_session", "provide_session", "NEW_SESSION"):
        sessions = importlib.import_module("opskit.core.metastore.airflow_models.sessions")
        load_models()
        return getattr(sessions, name)
    if name == "engine":
        load_models()
        return importlib.import_module("opskit.core.metastore.airflow_models.database").engine()
    if name == "Base":
        return load_models().mapped.generate_base()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
