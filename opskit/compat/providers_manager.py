"""What `airflow.providers_manager` offers to provider packages that run here without Airflow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True, slots=True)
class HookInfo:
    """A hook, by the type of connection that it is for."""

    hook_class_name: str
    connection_id_attribute_name: str
    package_name: str
    hook_name: str
    connection_type: str
    connection_testable: bool = False


class ProvidersManager:
    """What the installed provider packages say of themselves."""

    _instance: ProvidersManager | None = None

    def __new__(cls) -> ProvidersManager:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    @cached_property
    def providers(self) -> dict[str, Any]:
        """Package name → what its get_provider_info() says, sorted."""
        from importlib import import_module

        from opskit.compat.import_hook import installed_providers

        found = {}
        for folder in installed_providers():
            module = import_module("airflow.providers." + folder.replace("/", ".") + ".get_provider_info")
            info = module.get_provider_info()
            found[info["package-name"]] = info
        return dict(sorted(found.items()))

    @cached_property
    def hook_class_names(self) -> dict[str, str]:
        """Connection type → path of the hook for it."""
        return {
            entry["connection-type"]: entry["hook-class-name"]
            for info in self.providers.values()
            for entry in info.get("connection-types", [])
        }

    @cached_property
    def hooks(self) -> dict[str, HookInfo]:
        """Connection type → the hook for it; loads the classes."""
        from opskit.compat.modules_by_name import import_string

        found = {}
        for package, info in self.providers.items():
            for entry in info.get("connection-types", []):
                hook = import_string(entry["hook-class-name"])
                found[entry["connection-type"]] = HookInfo(
                    entry["hook-class-name"],
                    getattr(hook, "conn_name_attr", "conn_id"),
                    package,
                    getattr(hook, "hook_name", hook.__name__),
                    entry["connection-type"],
                    hasattr(hook, "test_connection"),
                )
        return found

    def initialize_providers_list(self) -> None:
        """They are listed when they are asked for."""

    initialize_providers_hooks = initialize_providers_list
    initialize_providers_configuration = initialize_providers_list

    def _items(self, key: str) -> list[Any]:
        return [item for info in self.providers.values() for item in info.get(key, [])]

    @property
    def extra_links_class_names(self) -> list[str]:
        return self._items("extra-links")

    @property
    def secrets_backend_class_names(self) -> list[str]:
        return self._items("secrets-backends")

    @property
    def notification(self) -> list[str]:
        return self._items("notifications")

    @property
    def dataset_uri_handlers(self) -> dict[str, Any]:
        return {}

    @property
    def dataset_factories(self) -> dict[str, Any]:
        return {}

    @property
    def already_initialized_provider_configs(self) -> list[Any]:
        return []


ProvidersManagerTaskRuntime = ProvidersManager
