"""What `airflow.utils.module_loading` offers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["import_string", "is_valid_dotpath", "iter_namespace", "qualname"]


def import_string(dotted_path: str) -> Any:
    """What `module.name` names. ImportError when there is no such thing."""
    module, _, name = dotted_path.rpartition(".")
    if not module:
        raise ImportError(f"{dotted_path!r} is no path to a name in a module")
    try:
        return getattr(import_module(module), name)
    except AttributeError as error:
        raise ImportError(f"the module {module!r} has no {name!r}") from error


def qualname(o: object | Callable[..., Any], use_qualname: bool = False) -> str:
    """`module.name` of a class, a function, or the class of an object."""
    if isinstance(o, functools.partial):
        return qualname(o.func, use_qualname)
    named: Any = o if callable(o) and hasattr(o, "__name__") else type(o)
    name = named.__qualname__ if use_qualname else named.__name__
    module = named.__module__
    return f"{module}.{name}" if module and module != "builtins" else str(name)


def is_valid_dotpath(path: str) -> bool:
    """Whether the text could be a path to a module or name."""
    return isinstance(path, str) and all(part.isidentifier() for part in path.split("."))


def iter_namespace(ns: ModuleType) -> Iterator[str]:
    """The full names of the modules that lie directly below this package."""
    import pkgutil

    for _, name, _ in pkgutil.iter_modules(ns.__path__, f"{ns.__name__}."):
        yield name
