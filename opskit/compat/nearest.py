"""Words for a name of Airflow that opskit does not have: what comes closest, or which package has it."""

from __future__ import annotations

import difflib

from opskit.compat import table

CHECK = "`opskit airflow check FOLDER` lists all that is missing"
_TWO_PARTS = frozenset({"apache", "common", "cncf", "microsoft", "dbt", "atlassian"})


class ModuleIsMissing(ModuleNotFoundError):
    """Finds its words when somebody reads them: many an import is only tried."""

    def __str__(self) -> str:
        return missing_module(str(self.name))


class NameIsMissing(ImportError):
    """The same, of `from module import name`."""

    def __init__(self, module: str, wanted: str) -> None:
        super().__init__(f"opskit has no {wanted!r} in {module!r}", name=module)
        self.wanted = wanted

    def __str__(self) -> str:
        return missing_name(str(self.name), self.wanted)


# A traceback shows what DAG files catch.
for _class, _shown in ((ModuleIsMissing, "ModuleNotFoundError"), (NameIsMissing, "ImportError")):
    _class.__name__ = _class.__qualname__ = _shown
    _class.__module__ = "builtins"


def missing_module(name: str) -> str:
    """For `import name`."""
    return f"opskit has no module {name!r}: {advice(name)}; {CHECK}"


def missing_name(module: str, name: str) -> str:
    """For `from module import name`."""
    return f"opskit has no {name!r} in {module!r}: {advice(module, name)}; {CHECK}"


def advice(module: str, name: str = "") -> str:
    """What to do about it."""
    package = provider_package(module)
    if package is not None and module.count(".") == 2 and module.rpartition(".")[2] in _TWO_PARTS:
        return f"install the package {package}-… that the file needs with `pip install --no-deps`"
    if package is not None and not _known(module):
        return f"install the package {package} with `pip install --no-deps {package}` and what it needs beside Airflow"
    closest = nearest(module, name)
    if closest:
        return f"the nearest is {closest}"
    return f"install the package {package} --no-deps" if package is not None else "there is nothing like it"


def provider_package(module: str) -> str | None:
    """The package from the registry that has this module; None for what is no provider's."""
    parts = module.split(".")
    if parts[:2] != ["airflow", "providers"] or len(parts) < 3:
        return None
    name = parts[2:4] if parts[2] in _TWO_PARTS and len(parts) > 3 else parts[2:3]
    return "apache-airflow-providers-" + "-".join(part.replace("_", "-") for part in name)


def nearest(module: str, name: str = "") -> str | None:
    """The path in the table that is closest: the same name elsewhere before a similar one."""
    paths = table.all_paths()
    last = name or module.rpartition(".")[2]
    wanted = f"{module}.{name}" if name else module
    same = [path for path in paths if path.rpartition(".")[2] == last]
    if same and name:
        return max(same, key=lambda path: (difflib.SequenceMatcher(None, path, wanted).ratio(), path))
    siblings = [path for path in paths if path.startswith(f"{module}.") and name]
    by_name = difflib.get_close_matches(last, [path.rpartition(".")[2] for path in siblings], 1, 0.6)
    if by_name:
        return f"{module}.{by_name[0]}"
    close = difflib.get_close_matches(wanted, paths, 1, 0.75)
    return close[0] if close else None


def _known(module: str) -> bool:
    index = table.index()
    return module in index
