"""XCom values as plain JSON and back: what JSON lacks is wrapped in Airflow's `__classname__` form."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from opskit.core.dag.xcom_sequences import LazySequence

XCOM_RETURN_KEY = "return_value"

_CLASS, _VERSION, _DATA = "__classname__", "__version__", "__data__"
_BACKEND = "opskit.xcom_backend"
"""Marks what a backend has made of a value."""
_PLAIN = (str, int, float, bool, type(None))


def encode(value: Any) -> Any:
    """A value as plain JSON. TypeError (with the type's name) for one that can't be stored."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [encode(item) for item in value]
    if kind is dict:
        return {_key(key): encode(item) for key, item in value.items()}
    return _encode_other(value)


def decode(value: Any) -> Any:
    """What `encode` was given."""
    kind = type(value)
    if kind is list:
        return [decode(item) for item in value]
    if kind is dict:
        if _CLASS in value:
            return _decode_wrapped(value)
        return {key: decode(item) for key, item in value.items()}
    return value


def pushed(value: Any, key: str, ti: Any) -> Any:
    """As `encode`, of a value that a task instance pushes: through the backend that the configuration names, if any."""
    from opskit.core.dag import xcom_backend

    if not xcom_backend.configured():
        return encode(value)
    kept = _wrap(_BACKEND, encode(xcom_backend.written(value, key, ti)))
    if isinstance(value, (list, tuple, set, frozenset, dict, LazySequence)):
        kept["length"] = len(value)  # over which tasks are mapped: `lengths` can't see into the rest
    return kept


def _key(key: Any) -> str:
    """As JSON has it: always a text."""
    if isinstance(key, str):
        return key if type(key) is str else str(key)
    if type(key) in _PLAIN:
        import json

        return json.dumps(key)
    raise TypeError(f"a dict with keys of type {type(key).__name__} can't be stored as XCom")


def _wrap(name: str, data: Any, version: int = 1) -> dict[str, Any]:
    return {_CLASS: name, _VERSION: version, _DATA: data}


def _encode_other(value: Any) -> Any:
    if isinstance(value, datetime):
        if type(value) is not datetime:
            from opskit.core.dag import xcom_classes

            zoned = xcom_classes.moment(value)
            if zoned is not None:
                return _wrap(xcom_classes.MOMENT, zoned)
        return _wrap("datetime.datetime", value.isoformat())
    if isinstance(value, date):
        return _wrap("datetime.date", value.isoformat())
    if isinstance(value, timedelta):
        return _wrap("datetime.timedelta", value.total_seconds(), 2)
    if isinstance(value, tuple):
        return _wrap("builtins.tuple", [encode(item) for item in value])
    if isinstance(value, (set, frozenset)):
        name = "builtins.frozenset" if isinstance(value, frozenset) else "builtins.set"
        return _wrap(name, sorted((encode(item) for item in value), key=repr))
    if isinstance(value, (bytes, bytearray)):
        return _wrap("builtins.bytes", bytes(value).hex())
    if isinstance(value, dict):
        return {_key(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, LazySequence)):
        return [encode(item) for item in value]  # a list, or the outputs of a mapped task
    if isinstance(value, bool | int | float | str):  # subclasses, such as str and int enums
        for base in (str, int, float):
            if isinstance(value, base):
                return base(value.value) if hasattr(value, "value") else base(value)
    kind = type(value)
    if f"{kind.__module__}.{kind.__qualname__}" == "decimal.Decimal":
        return _wrap("decimal.Decimal", str(value))
    if f"{kind.__module__}.{kind.__qualname__}" == "uuid.UUID":
        return str(value)
    if hasattr(kind, "xcom_name"):  # an asset: under Airflow's name, so that both can read it
        written = {_CLASS: kind.xcom_name, _VERSION: getattr(kind, "__version__", 0)}
        return {**written, _DATA: encode(value.xcom_data())}
    if callable(getattr(kind, "serialize", None)) and callable(getattr(kind, "deserialize", None)):
        written = {_CLASS: f"{kind.__module__}.{kind.__qualname__}", _VERSION: getattr(kind, "__version__", 0)}
        return {**written, _DATA: encode(value.serialize())}
    from opskit.core.dag import xcom_classes

    found = xcom_classes.encode(value, encode)
    if found is not None:
        return {_CLASS: found[0], _VERSION: found[1], _DATA: found[2]}
    plain = xcom_classes.number(value)
    if plain is not None:
        return plain
    raise TypeError(
        f"a value of type {kind.__module__}.{kind.__qualname__} can't be stored as XCom: "
        "return plain values (text, numbers, lists, dicts, dates), or set do_xcom_push=False"
    )


def _decode_wrapped(value: dict[str, Any]) -> Any:
    name: str = value[_CLASS]
    data: Any = value.get(_DATA)
    if name == "datetime.datetime":
        return datetime.fromisoformat(data)
    if name == "datetime.date":
        return date.fromisoformat(data)
    if name == "datetime.timedelta":
        return timedelta(seconds=data)
    if name == "builtins.tuple":
        return tuple(decode(item) for item in data)
    if name == "builtins.set":
        return {decode(item) for item in data}
    if name == "builtins.frozenset":
        return frozenset(decode(item) for item in data)
    if name == "builtins.bytes":
        return bytes.fromhex(data)
    if name == "decimal.Decimal":
        from decimal import Decimal

        return Decimal(data)
    if name == _BACKEND:
        from opskit.core.dag import xcom_backend

        return xcom_backend.read(decode(data))
    from opskit.core.dag import xcom_classes

    made = xcom_classes.decode(name, data, decode)
    return made[0] if made is not None else _own_class(name, data, int(value.get(_VERSION) or 0), value)


def _own_class(name: str, data: Any, version: int, written: dict[str, Any]) -> Any:
    """The object of a class that writes itself (serialize, deserialize): of one that this process has loaded, or of
    opskit's own. Nothing else is imported because a stored value says so."""
    import sys

    module_name, _, attribute = name.rpartition(".")
    if module_name.startswith(("airflow.datasets", "airflow.sdk.definitions.asset")):
        from opskit.core.dag.assets import XCOM_CLASSES

        asset = XCOM_CLASSES.get(name)
        return written if asset is None else asset.from_xcom(decode(data), version)
    if module_name.startswith("opskit."):
        from importlib import import_module

        kind = getattr(import_module(module_name), attribute, None)
    else:
        kind = getattr(sys.modules.get(module_name), attribute, None)
    read = getattr(kind, "deserialize", None)
    return written if read is None else read(decode(data), version)
