"""A function of a DAG file as a script for another Python: its source, its arguments, the way back of its result."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import ModuleType, SimpleNamespace
from typing import Any

from opskit.core.dag.exceptions import AirflowException

TEXT_KEYS = frozenset(
    {
        "ds",
        "ds_nodash",
        "expanded_ti_count",
        "next_ds",
        "next_ds_nodash",
        "params",
        "prev_ds",
        "prev_ds_nodash",
        "run_id",
        "task_instance_key_str",
        "templates_dict",
        "test_mode",
        "tomorrow_ds",
        "tomorrow_ds_nodash",
        "ts",
        "ts_nodash",
        "ts_nodash_with_tz",
        "yesterday_ds",
        "yesterday_ds_nodash",
    }
)
"""Entries of the context whose values are plain."""
MOMENT_KEYS = frozenset(
    {
        "data_interval_end",
        "data_interval_start",
        "execution_date",
        "logical_date",
        "next_execution_date",
        "prev_data_interval_end_success",
        "prev_data_interval_start_success",
        "prev_end_date_success",
        "prev_execution_date",
        "prev_execution_date_success",
        "prev_start_date_success",
    }
)
"""Entries that are points in time: pendulum's where the other Python has pendulum, else datetimes."""
SNAPSHOT_KEYS = frozenset({"dag", "dag_run", "task"})
"""Entries of which the other Python gets a snapshot of plain attributes."""
PASSABLE_KEYS = TEXT_KEYS | MOMENT_KEYS | SNAPSHOT_KEYS

_DECORATORS = frozenset({"task", "setup", "teardown"})
_HEAD = """\
# -*- coding: utf-8 -*-
import sys as _sys
import types as _types

import {library} as _library

with open(_sys.argv[3], encoding="utf-8") as _file:
    virtualenv_string_args = [_line.strip() for _line in _file]

"""
_TAIL = """

_module = _types.ModuleType({module!r})
setattr(_module, {name!r}, {name})
_sys.modules.setdefault({module!r}, _module)
with open(_sys.argv[1], "rb") as _file:
    _call = _library.load(_file)
try:
    from pendulum import instance as _moment
except ImportError:
    _moment = None
if _moment is not None:
    for _name in _call["moments"]:
        if _call["kwargs"][_name] is not None:
            _call["kwargs"][_name] = _moment(_call["kwargs"][_name], tz="UTC")
try:
    _result = {name}(*_call["args"], **_call["kwargs"])
except Exception as _error:
    with open(_sys.argv[4], "w") as _file:
        _file.write("{{}}: {{}}".format(type(_error).__name__, _error))
    raise
"""
_RESULT = """\
with open(_sys.argv[2], "wb") as _file:
    if _result is not None:
        _library.dump(_result, _file)
"""
_JSON_RESULT = """\
import json as _json

with open(_sys.argv[2], "w") as _file:
    _json.dump(_result, _file)
"""


def library(name: str) -> ModuleType:
    """The module that writes and reads arguments and results: pickle, cloudpickle or dill."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise AirflowException(f"the serializer {name} is not installed: `pip install {name}` on this host") from error


def script(
    function: Callable[..., Any], serializer: str, decorator_name: str = "@task", *, as_json: bool = False
) -> str:
    """The script: arguments of its command line are the files input, output, string_args and termination log.
    `as_json`: the output is JSON, whatever the serializer."""
    names = {"library": serializer, "name": function.__name__, "module": function.__module__}
    return (
        "from __future__ import annotations\n"
        + _HEAD.format(**names)
        + source_of(function, decorator_name)
        + _TAIL.format(**names)
        + (_JSON_RESULT if as_json else _RESULT)
    )


def source_of(function: Callable[..., Any], decorator_name: str = "@task") -> str:
    """The function's source without the decorators that make it a task (`decorator_name` is one of them).
    AirflowException when there is none."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
        definition = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError, IndexError) as error:
        raise AirflowException(f"the source of {function.__name__}() can't be read: {error}") from error
    if not isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef)):
        raise AirflowException(f"{function.__name__} is no function that was written with def")
    if isinstance(definition, ast.AsyncFunctionDef):
        raise AirflowException(f"{function.__name__}() is a coroutine function: another Python can't be given one")
    lines = source.splitlines()
    kept = [
        "@" + (ast.get_source_segment(source, decorator) or "")
        for decorator in definition.decorator_list
        if not _makes_a_task(decorator, function, decorator_name)
    ]
    return "\n".join([*kept, *lines[definition.lineno - 1 : definition.end_lineno]])


def _makes_a_task(decorator: ast.expr, function: Callable[..., Any], decorator_name: str) -> bool:
    root: ast.AST = decorator
    while isinstance(root, (ast.Call, ast.Attribute)):
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name):
        return False
    known = inspect.unwrap(function).__globals__.get(root.id)
    return (
        root.id in _DECORATORS
        or root.id == decorator_name.lstrip("@").partition(".")[0]
        or type(known).__module__.startswith("opskit.")
    )


def call_data(serializer: str, args: Iterable[Any], kwargs: Mapping[str, Any], own: set[str]) -> bytes:
    """The arguments, serialized. Those named in `own` came from the context and are made plain first. AirflowException
    that names an argument which can't be written."""
    module = library(serializer)
    plain = {name: _plain(name, value) if name in own else value for name, value in kwargs.items()}
    moments = [name for name in own if name in MOMENT_KEYS]
    try:
        data: bytes = module.dumps({"args": list(args), "kwargs": plain, "moments": moments})
    except Exception as error:
        wrong = [repr(name) for name, value in plain.items() if not _can_be_written(module, value)]
        which = f"op_kwargs {', '.join(wrong)}" if wrong else "op_args"
        raise AirflowException(f"{which} can't be given to another Python: {error}") from error
    return data


def _can_be_written(module: ModuleType, value: Any) -> bool:
    try:
        module.dumps(value)
    except Exception:  # noqa: BLE001 - whatever a serializer raises means no
        return False
    return True


def _plain(name: str, value: Any) -> Any:
    if name in MOMENT_KEYS:
        return _moment(value)
    if name == "params":
        return dict(value)
    if name == "dag_run":
        return SimpleNamespace(
            **{key: _attribute(value, key) for key in ("dag_id", "run_id", "run_type", "state", "conf")},
            **{
                key: _moment(_attribute(value, key))
                for key in ("logical_date", "execution_date", "data_interval_start", "data_interval_end", "start_date")
            },
            external_trigger=value.run_type == "manual",
        )
    if name == "dag":
        return SimpleNamespace(
            **{key: _attribute(value, key) for key in ("dag_id", "description", "fileloc", "folder", "doc_md")},
            task_ids=sorted(value.task_dict),
            tags=[str(tag) for tag in _attribute(value, "tags") or ()],
        )
    if name == "task":
        keys = ("task_id", "owner", "retries", "queue", "pool", "doc_md")
        return SimpleNamespace(
            **{key: _attribute(value, key) for key in keys},
            dag_id=value.dag_id,
            upstream_task_ids=sorted(value.upstream_task_ids),
            downstream_task_ids=sorted(value.downstream_task_ids),
        )
    return value


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name)
    except AttributeError:
        return None


def _moment(value: Any) -> datetime | None:
    """A plain datetime: another release of pendulum can't read this one's."""
    from opskit.core.dag.zones import utc

    return None if value is None or not hasattr(value, "tzinfo") else utc(value)
