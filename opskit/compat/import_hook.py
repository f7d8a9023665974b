"""Makes the modules `airflow` and `airflow.*`: synthetic, their names looked up in the alias table when they are used.

Nothing is made where a real Airflow is installed. Packages of real providers that were installed without it (a folder
airflow/providers/NAME in site-packages), and whatever else lies in such a folder, are imported from there, but for the
names that the table has."""

from __future__ import annotations

import importlib.util
import opcode
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from opskit.compat import table
from opskit.core.dag import airflow_gate, dialect, plugins
from opskit.providers import registry

if TYPE_CHECKING:
    from importlib.abc import Loader
else:
    Loader = object  # importlib.abc brings tempfile and shutil along, and each DAG file would wait for them

VERSIONS = {2: "2.11.2", 3: "3.3.2"}
"""What `airflow.__version__` says, by dialect."""
_IMPORT_FROM = opcode.opmap["IMPORT_FROM"]
_OF_THE_CORE = ("airflow.providers.standard", "airflow.providers.common.compat")
_real: bool | None = None


def real_airflow_installed() -> bool:
    """Whether an Airflow is installed here that is not ours. A folder without an __init__.py is none (providers have
    one), nor is a package in the DAG folder that happens to have its name."""
    global _real
    if _real is None:
        _real = _find_real()
    return _real


def _find_real() -> bool:
    for finder in sys.meta_path:
        if finder is airflow_gate.GATE:
            continue
        find = getattr(finder, "find_spec", None)
        spec = find("airflow", None) if find is not None else None
        if spec is not None and spec.origin is not None and spec.loader is not None:
            origin = os.path.realpath(spec.origin)
            own = tuple(os.path.realpath(folder) + os.sep for folder in airflow_gate.own_folders)
            return not (own and origin.startswith(own))
    return False


def find_spec(name: str) -> ModuleSpec | None:
    """The answer of the meta path finder for `airflow` and what lies below it.

    ModuleNotFoundError, with the nearest name, for an import of a module that there is not; None when somebody only
    asks whether there is one (`importlib.util.find_spec`)."""
    if real_airflow_installed():
        return None
    _settle_dialect()
    if name in table.index() or name == "airflow.providers" or name in plugins.modules:
        return ModuleSpec(name, _Loader(), is_package=True)
    found = PathFinder.find_spec(name, _provider_path(name)) if "." in name else None
    if found is not None:
        return found
    if _is_import(sys._getframe(1)):
        from opskit.compat.nearest import ModuleIsMissing

        raise ModuleIsMissing(f"opskit has no module {name!r}", name=name)
    return None


def forget() -> None:
    """Remove the synthetic modules from sys.modules, and what was found out about this process."""
    global _real
    _real = None
    for name, module in list(sys.modules.items()):
        if _is_synthetic(module) and (name == "airflow" or name.startswith("airflow.")):
            del sys.modules[name]


def version() -> str:
    return VERSIONS[dialect.current() or dialect.latest() or 2]


class _Loader(Loader):
    """Makes one synthetic module."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        names = table.index().get(name) or table.Names()
        if name.startswith("airflow.providers"):
            module.__path__ = _provider_path(name + ".x")
        module.__getattr__ = lambda attribute: _attribute(module, names, attribute)  # type: ignore[method-assign]
        module.__dir__ = lambda: sorted({*vars(module), *_all(names), *names.children})  # type: ignore[method-assign]


def _attribute(module: ModuleType, names: table.Names, attribute: str) -> Any:
    """The value of `module.attribute`, kept in the module from then on."""
    if attribute == "__all__":
        return _all(names)
    if attribute == "__version__" and module.__name__ == "airflow":
        return version()
    of_plugins = plugins.modules.get(module.__name__)
    if of_plugins is not None and attribute in of_plugins:
        return of_plugins[attribute]
    caller = sys._getframe(2)
    if _wants_its_own(caller, module.__name__) and not attribute.startswith("__"):
        real = _real_provider_attribute(module, attribute)
        if real is not None:
            return real
    target = names.attributes.get(attribute)
    if target is not None:
        value = resolve(target)
        if not module.__name__.startswith("airflow.providers."):  # else it depends on who asks
            module.__dict__[attribute] = value
        return value
    if not attribute.startswith("__"):
        for ours in names.modules:
            loaded = import_module(ours)
            if hasattr(loaded, attribute):
                return getattr(loaded, attribute)  # not kept: settings of ours may change
        if attribute in names.children:
            return import_module(f"{module.__name__}.{attribute}")
        real = _real_provider_attribute(module, attribute)
        if real is not None:
            return real
        if caller.f_lasti >= 0 and caller.f_code.co_code[caller.f_lasti] == _IMPORT_FROM:
            from opskit.compat.nearest import NameIsMissing

            raise NameIsMissing(module.__name__, attribute)
    raise AttributeError(f"opskit has no {attribute!r} in {module.__name__!r}")


def _wants_its_own(caller: FrameType, module: str) -> bool:
    """Whether a real provider asks for a name of a provider: it was written for the real one, where that is installed.
    The standard provider and the layer between versions are parts of the core, and ours."""
    return (
        module.startswith("airflow.providers.")
        and not module.startswith(_OF_THE_CORE)
        and str(caller.f_globals.get("__name__", "")).startswith("airflow.providers.")
    )


def resolve(target: str) -> Any:
    """The thing that `module:attribute` names."""
    module, _, attribute = target.partition(":")
    value = import_module(module)
    for part in attribute.split("."):
        value = getattr(value, part)
    return value


def __getattr__(name: str) -> Any:
    if name == "installed_version":
        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _foreign_hook(conn_type: str, caller: FrameType) -> Any:
    """The hook class of a real provider for this type: for what real providers ask, and where we have none."""
    if not _provider_path("airflow.providers.x"):
        return None
    frame: FrameType | None = caller
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    asks = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    if conn_type in registry.HOOKS and not asks.startswith("airflow.providers."):
        return None
    from opskit.compat.providers_manager import ProvidersManager

    path = ProvidersManager().hook_class_names.get(conn_type)
    if path is None:
        return None
    module_name, _, name = path.rpartition(".")
    module = import_module(module_name)
    return _real_provider_attribute(module, name) if _is_synthetic(module) else getattr(module, name)


registry.foreign_hook = _foreign_hook


def _is_synthetic(module: ModuleType) -> bool:
    return isinstance(getattr(module, "__loader__", None), _Loader)


def _all(names: table.Names) -> list[str]:
    found = dict.fromkeys(names.attributes)
    for ours in names.modules:
        found.update(dict.fromkeys(table.public_names(ours)))
    return list(found)


def _provider_path(name: str) -> list[str]:
    """The folders on sys.path in which a part of the package that `name` lies in may be."""
    parts = name.split(".")[:-1]
    folders = (os.path.join(entry or ".", *parts) for entry in sys.path if isinstance(entry, str))
    return [folder for folder in folders if os.path.isdir(folder)]


def _real_provider_attribute(module: ModuleType, attribute: str) -> Any:
    """A name that the table does not have, from a provider's own module of the same path, where it is installed."""
    name = module.__name__
    if not name.startswith("airflow.providers."):
        return None
    real = module.__dict__.get("_real_module")
    if real is None:
        spec = PathFinder.find_spec(name, _provider_path(name))
        if spec is None or spec.loader is None or spec.origin is None:
            return None
        real = importlib.util.module_from_spec(spec)
        module.__dict__["_real_module"] = real
        try:
            spec.loader.exec_module(real)
        except BaseException:
            del module.__dict__["_real_module"]
            raise
    return getattr(real, attribute, None)


def _settle_dialect() -> None:
    """Where the file itself shows none, the first module that imports Airflow's names decides."""
    if dialect.current() is not None:
        return
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith("<frozen importlib") and "importlib" not in path and not _is_ours(frame):
            break
        frame = frame.f_back
    if frame is None:
        return
    try:
        with open(frame.f_code.co_filename, "rb") as file:
            found = dialect.of_source(file.read())
    except (OSError, SyntaxError, ValueError):
        return
    dialect.settle(found)


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("opskit.")


def _is_import(caller: FrameType) -> bool:
    """Whether the import statement asks, not importlib.util.find_spec."""
    frame: FrameType | None = caller
    for _ in range(6):
        if frame is None:
            return False
        if frame.f_code.co_name == "_find_and_load_unlocked":
            return True
        if frame.f_code.co_name == "find_spec" and frame.f_globals.get("__name__") == "importlib.util":
            return False
        frame = frame.f_back
    return False


def installed_providers() -> Sequence[str]:
    """Folders of real providers that are installed without Airflow, such as `http` or `common/sql`."""
    found = []
    for folder in _provider_path("airflow.providers.x"):
        for base, folders, files in os.walk(folder):
            if "get_provider_info.py" in files:
                found.append(os.path.relpath(base, folder))
                folders.clear()
    return sorted(found)


table.index()  # now, so that it is there before processes are forked that load DAG files
