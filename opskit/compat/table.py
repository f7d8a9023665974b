"""The alias table: which import paths of Airflow lead to which of our names.

The `names_*` modules hold it as text, sorted by our names: a line at the left margin is the target, the indented words
below it are the Airflow paths that lead to it. A target `module:attribute` is one name. A target without a colon is a
whole module: each of its public names is found under each of the paths (a row for a single name goes before it)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from types import ModuleType

_PARTS = ("names_metastore", "names_authoring", "names_operators", "names_providers", "names_core", "names_seldom")
_COPIES = {"airflow.providers.common.compat.sdk": ("airflow.sdk",)}
"""Modules that have every name of these others, too."""


class Names:
    """One synthetic module."""

    __slots__ = ("attributes", "children", "modules")

    def __init__(self) -> None:
        self.attributes: dict[str, str] = {}
        """Name → `module:attribute` of ours."""
        self.modules: list[str] = []
        """Our modules, whose public names it has, too."""
        self.children: set[str] = set()
        """The last part of the names of the modules below it."""


def rows() -> Iterator[tuple[str, tuple[str, ...]]]:
    """(target, Airflow paths) of every row."""
    for part in _PARTS:
        yield from parse(import_module(f"opskit.compat.{part}").NAMES)


def parse(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    target = ""
    paths: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace():
            paths += line.split()
            continue
        if target:
            yield target, tuple(paths)
        target, paths = line.strip(), []
    if target:
        yield target, tuple(paths)


@cache
def index() -> dict[str, Names]:
    """Synthetic module → its names. Modules that others lie in are there, too."""
    found: dict[str, Names] = {"airflow": Names()}
    for target, paths in rows():
        for path in paths:
            if ":" in target:
                module, _, name = path.rpartition(".")
                _module(found, module).attributes[name] = target
            else:
                _module(found, path).modules.append(target)
    for names in found.values():
        names.modules.sort(key=lambda module: module.startswith("opskit.compat"))
    for copy, origins in _COPIES.items():
        for origin in origins:
            for name, target in found[origin].attributes.items():
                _module(found, copy).attributes.setdefault(name, target)
            for child in found[origin].children:
                _module(found, f"{copy}.{child}").modules.extend(found[f"{origin}.{child}"].modules)
    return found


def _module(found: dict[str, Names], name: str) -> Names:
    names = found.get(name)
    if names is None:
        names = found[name] = Names()
        parent, _, child = name.rpartition(".")
        _module(found, parent).children.add(child)
    return names


def public_names(module: str) -> list[str]:
    """The names of one of our modules that a row for the whole module offers."""
    loaded = import_module(module)
    listed = getattr(loaded, "__all__", None)
    if listed is not None:
        return list(listed)
    return [
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_") and getattr(value, "__module__", module) == module and type(value) is not ModuleType
    ]


def all_paths() -> set[str]:
    """Every dotted path that can be imported: modules and names in them. Loads the modules of whole-module rows."""
    paths = set()
    for module, names in index().items():
        paths.add(module)
        paths.update(f"{module}.{name}" for name in names.attributes)
        for ours in names.modules:
            paths.update(f"{module}.{name}" for name in public_names(ours))
    return paths
