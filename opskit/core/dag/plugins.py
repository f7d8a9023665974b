"""The plugins folder: modules whose AirflowPlugin classes add macros, operators, timetables, listeners and rules of
priority to DAG files. Loaded with each DAG file, and only where there is one."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_MARK = "_opskit_hookimpl"


class AirflowPlugin:
    """What a plugin adds; to be derived from. The lists that belong to Airflow's web pages are kept and not used."""

    name: str | None = None
    source: Any = None
    macros: list[Any] = []
    operators: list[Any] = []
    sensors: list[Any] = []
    hooks: list[Any] = []
    executors: list[Any] = []
    timetables: list[Any] = []
    listeners: list[Any] = []
    priority_weight_strategies: list[Any] = []
    global_operator_extra_links: list[Any] = []
    operator_extra_links: list[Any] = []
    ti_deps: list[Any] = []
    hook_lineage_readers: list[Any] = []
    admin_views: list[Any] = []
    flask_blueprints: list[Any] = []
    menu_links: list[Any] = []
    appbuilder_views: list[Any] = []
    appbuilder_menu_items: list[Any] = []
    fastapi_apps: list[Any] = []
    fastapi_root_middlewares: list[Any] = []
    external_views: list[Any] = []
    react_apps: list[Any] = []

    @classmethod
    def validate(cls) -> None:
        """AirflowPluginException for a plugin without a name."""
        if not cls.name:
            raise AirflowPluginException("a plugin needs a name")

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Called once, after the plugin has been loaded."""


class AirflowPluginException(Exception):
    """A plugin can't be used."""


plugins: list[type[AirflowPlugin]] = []
"""Those of this process, in the order of their files."""
import_errors: dict[str, str] = {}
"""File → why it could not be loaded."""
modules: dict[str, dict[str, Any]] = {}
"""`airflow.operators.NAME`, `airflow.macros.NAME` … → what plugins put there; the import hook asks for it."""
_loaded: dict[str, list[str]] = {}


def load(folder: str) -> None:
    """Load the .py files below the folder, once per process. One that can't be loaded is named in `import_errors`, and
    does not keep DAG files from being loaded."""
    if not folder or folder in _loaded or not os.path.isdir(folder):
        return
    if folder not in sys.path:
        sys.path.append(folder)
    _loaded[folder] = files = _files(folder)
    for path in files:
        try:
            for plugin in _plugins_of(_import(path)):
                _register(plugin, path)
        except Exception as error:
            import logging

            import_errors[path] = f"{type(error).__name__}: {error}"
            logging.getLogger(__name__).exception("The plugin %s can't be loaded", path)


def forget() -> None:
    """As if none had been loaded."""
    from opskit.core.dag import macros

    for path in modules:
        if path.startswith("airflow.macros."):
            vars(macros).pop(path.rpartition(".")[2], None)
    plugins.clear()
    import_errors.clear()
    modules.clear()
    _loaded.clear()
    _listeners.clear()


def sources() -> list[str]:
    """The files that were loaded: a change of one is a change of every DAG."""
    return [path for files in _loaded.values() for path in files]


def _files(folder: str) -> list[str]:
    from opskit.core.dag.ignore_files import files_below

    return [path for path in files_below(folder) if path.endswith(".py") and os.path.basename(path) != "__init__.py"]


def _import(path: str) -> ModuleType:
    from importlib.util import module_from_spec, spec_from_file_location

    name = os.path.splitext(os.path.basename(path))[0]
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _plugins_of(module: ModuleType) -> list[type[AirflowPlugin]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, AirflowPlugin)
        and value is not AirflowPlugin
        and value not in plugins
        and value.__module__ == module.__name__
    ]


def _register(plugin: type[AirflowPlugin], path: str) -> None:
    plugin.validate()
    if any(known.name == plugin.name for known in plugins):
        return
    plugin.source = path
    plugins.append(plugin)
    for kind in ("operators", "sensors", "hooks", "executors"):
        _offer(f"airflow.{kind}", str(plugin.name), getattr(plugin, kind))
    if plugin.macros:
        from opskit.core.dag import macros

        _offer("airflow.macros", str(plugin.name), plugin.macros)
        holder = ModuleType(f"airflow.macros.{plugin.name}")
        vars(holder).update(modules[holder.__name__])
        setattr(macros, str(plugin.name), holder)
    _listeners.extend(plugin.listeners)
    plugin.on_load()


def _offer(parent: str, name: str, things: list[Any]) -> None:
    named = {thing.__name__: thing for thing in things}
    if named:
        modules.setdefault(f"{parent}.{name}", {}).update(named)
        modules.setdefault(parent, {}).update(named)


_listeners: list[Any] = []


def hookimpl(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    """Marks a function of a listener as one that is to be called; also written with arguments."""
    if function is None:
        return lambda inner: hookimpl(inner)
    setattr(function, _MARK, True)
    return function


class ListenerManager:
    """Whom to tell what happens to task instances and runs."""

    muted = False
    """Nobody is told: a process rehearses what attempts do."""

    @property
    def has_listeners(self) -> bool:
        return bool(_listeners)

    def add_listener(self, listener: Any) -> None:
        if listener not in _listeners:
            _listeners.append(listener)

    def clear(self) -> None:
        _listeners.clear()

    def hears(self, event: str) -> bool:
        """Whether any listener wants to know of it."""
        return any(_implementation(listener, event) is not None for listener in _listeners)

    def tell(self, event: str, **arguments: Any) -> None:
        """Call `event` of every listener that has it, with those of the arguments that it takes. What a listener raises
        is logged, and changes nothing."""
        if self.muted:
            return
        for listener in _listeners:
            function = _implementation(listener, event)
            if function is None:
                continue
            try:
                taken = inspect.signature(function).parameters
                function(**{name: value for name, value in arguments.items() if name in taken})
            except Exception:
                import logging

                logging.getLogger(__name__).exception("The listener %r failed at %s", listener, event)


_manager = ListenerManager()


def listener_manager() -> ListenerManager:
    return _manager


def _implementation(listener: Any, event: str) -> Callable[..., Any] | None:
    function = getattr(listener, event, None)
    return function if callable(function) and getattr(function, _MARK, False) else None


def timetables() -> dict[str, type]:
    """Classes of timetables that plugins have registered, by their path."""
    return {f"{kind.__module__}.{kind.__qualname__}": kind for plugin in plugins for kind in plugin.timetables}


def priority_weight_strategies() -> dict[str, type]:
    """Classes of rules of priority that plugins have registered, by their path."""
    return {
        f"{kind.__module__}.{kind.__qualname__}": kind
        for plugin in plugins
        for kind in plugin.priority_weight_strategies
    }
