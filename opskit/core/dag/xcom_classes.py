"""XCom values of classes that are no plain values: dataclasses, attrs and pydantic models, numpy numbers, data frames,
pendulum's datetimes. Their forms are Airflow's; a class is only taken from what this process has loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

FRAME = "pandas.core.frame.DataFrame"
MOMENT = "pendulum.datetime.DateTime"


def encode(value: Any, plain: Callable[[Any], Any]) -> tuple[str, int, Any] | None:
    """Name, version and plain JSON of a value; None for a class that has no such form. TypeError when a part can't
    be stored. `plain` makes plain JSON of a part."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    version = int(getattr(kind, "__version__", 0) or 0)
    if name == FRAME:
        return name, 1, _parquet(value)
    if hasattr(kind, "__dataclass_fields__"):
        from dataclasses import asdict

        return name, version, plain(asdict(value))
    if hasattr(kind, "__attrs_attrs__"):
        return name, version, {field.name: plain(getattr(value, field.name)) for field in kind.__attrs_attrs__}
    if callable(getattr(kind, "model_dump", None)) and callable(getattr(kind, "model_validate", None)):
        return name, 1, value.model_dump(mode="json")
    return None


def number(value: Any) -> Any:
    """The Python number of a numpy number, and of nothing else (then None)."""
    kind = type(value)
    if kind.__module__ != "numpy" or not hasattr(value, "dtype") or getattr(value, "shape", None) != ():
        return None
    found = value.item()
    return found if isinstance(found, (bool, int, float)) else None


def moment(value: datetime) -> dict[str, Any] | None:
    """A pendulum datetime with its zone; None for another datetime."""
    kind = type(value)
    if not kind.__module__.startswith("pendulum."):
        return None
    zone = getattr(value, "timezone_name", None)
    return {"timestamp": value.timestamp(), "tz": zone if isinstance(zone, str) else None}


def decode(name: str, data: Any, plain: Callable[[Any], Any]) -> tuple[Any] | None:
    """The object, in a tuple; None when the class isn't loaded here or has no such form."""
    if name == MOMENT:
        import pendulum

        return (pendulum.from_timestamp(data["timestamp"], tz=data["tz"] or "UTC"),)
    if name == FRAME:
        from importlib import import_module
        from io import BytesIO

        return (import_module("pandas").read_parquet(BytesIO(bytes.fromhex(data))),)
    kind = _loaded(name)
    if kind is None or not isinstance(data, dict):
        return None
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__"):
        return (kind(**{key.lstrip("_"): plain(item) for key, item in data.items()}),)
    if callable(getattr(kind, "model_validate", None)):
        return (kind.model_validate(data),)
    return None


def _loaded(name: str) -> Any:
    module_name, _, attribute = name.rpartition(".")
    while module_name and module_name not in sys.modules:
        module_name, _, outer = module_name.rpartition(".")
        attribute = f"{outer}.{attribute}"
    found: Any = sys.modules.get(module_name)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def _parquet(frame: Any) -> str:
    try:
        written: bytes = frame.to_parquet(engine="pyarrow")
    except ImportError:
        raise TypeError("a DataFrame as XCom needs pyarrow: install it, or return frame.to_dict()") from None
    return written.hex()
