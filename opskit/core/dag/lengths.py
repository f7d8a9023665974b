"""How many instances a mapped task has: an expression in JSON over the lengths of XComs, so that the scheduler can tell
without the DAG file.

    {"const": 3}                                    a literal list or dict of three
    {"xcom": "task_id", "key": "return_value"}      what that task has pushed; of a mapped task: how many of its
                                                    instances have pushed something
    {"product": [length, ...]}                      several arguments of expand()
    {"sum": [length, ...]}                          a.concat(b)
    {"min": [length, ...]}, {"max": [length, ...]}  a.zip(b), with fillvalue
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

Length = dict[str, Any]
_COMBINE: dict[str, Callable[[list[int]], int]] = {"product": math.prod, "sum": sum, "min": min, "max": max}


def sources(length: Length) -> Iterator[tuple[str, str]]:
    """The XComs that it depends on: `(task_id, key)`."""
    if "xcom" in length:
        yield length["xcom"], length["key"]
    for name in _COMBINE:
        for part in length.get(name, ()):
            yield from sources(part)


def evaluate(length: Length, known: Callable[[str, str], int | None]) -> int | None:
    """Its value; None when `known(task_id, key)` is None for one of its sources. ValueError for a form it has not."""
    if "const" in length:
        return int(length["const"])
    if "xcom" in length:
        return known(length["xcom"], length["key"])
    for name, combine in _COMBINE.items():
        if name in length:
            parts = [evaluate(part, known) for part in length[name]]
            return None if None in parts else combine([part for part in parts if part is not None])
    raise ValueError(f"{length!r} is no length")


def of_value(plain: Any) -> int | None:
    """Over how many elements a task can be mapped that is given this XCom (a plain JSON value); None: it can't be."""
    if isinstance(plain, dict) and plain.get("__classname__") == "opskit.xcom_backend":
        return plain.get("length")
    if isinstance(plain, dict) and isinstance(plain.get("__data__"), list) and "__classname__" in plain:
        plain = plain["__data__"]  # a tuple or a set, as opskit.core.dag.xcom wraps it
    return len(plain) if isinstance(plain, (list, dict)) else None
