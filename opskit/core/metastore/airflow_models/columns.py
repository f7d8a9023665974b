"""What the models have in common: their registry, and the types of their columns."""

from __future__ import annotations

import json
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar

from sqlalchemy import Boolean, Column, Double, Integer, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeDecorator

from opskit.core.metastore.tables import UtcDateTime

mapped = registry()


class Model:
    """What all models share."""

    # What a statement returns is not known once it was done in our way.
    __table_args__: ClassVar[dict[str, Any]] = {"implicit_returning": False}
    __allow_unmapped__ = True


class Name(TypeDecorator[str]):
    """A text; the members of State, DagRunState and their kin are their values."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value.value if isinstance(value, Enum) else value


class Moment(TypeDecorator[datetime]):
    """An aware time; a date in a text is refused as in Airflow."""

    impl = UtcDateTime
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is not None and not isinstance(value, datetime):
            raise TypeError(f"expected datetime.datetime, not {value!r}")
        return value


class JsonText(TypeDecorator[Any]):
    """A value that is kept as JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return json.dumps(value, ensure_ascii=False)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def key(kind: Any = Name) -> Any:
    return Column(kind, primary_key=True)


def name() -> Any:
    return Column(Name)


def moment() -> Any:
    return Column(Moment)


def number() -> Any:
    return Column(Integer)


def real() -> Any:
    return Column(Double)


def flag() -> Any:
    return Column(Boolean(create_constraint=False))


def json_value(**options: Any) -> Any:
    return Column(JsonText, **options)
