"""/plugins and /providers: what is installed beside the core."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from opskit.core.metastore.browsing.window import Window
from opskit.web.airflow_api.collections import Answer, Listing, paged
from opskit.web.gate import allow
from opskit.web.identity import READ, Who

router = APIRouter()


class Plugin(Answer):
    """A distribution with plugins of Airflow's kind (entry point `airflow.plugins`) in this environment."""

    name: str
    hooks: list[str] = []
    executors: list[str] = []
    macros: list[Any] = []
    flask_blueprints: list[Any] = []
    appbuilder_views: list[Any] = []
    appbuilder_menu_items: list[Any] = []
    global_operator_extra_links: list[Any] = []
    operator_extra_links: list[Any] = []
    source: str | None
    ti_deps: list[str] = []
    listeners: list[str] = []
    timetables: list[str] = []


class PluginCollection(Listing):
    plugins: list[Plugin]


class Provider(Answer):
    """A distribution with providers of Airflow's kind (entry point `apache_airflow_provider`) in this environment."""

    package_name: str
    description: str
    version: str


class ProviderCollection(Listing):
    providers: list[Provider]


@router.get("/plugins", operation_id="get_plugins", tags=["Plugin"])
def get_plugins(
    _: Annotated[Who, Depends(allow(READ, "Plugins"))], window: Annotated[Window, paged()]
) -> PluginCollection:
    """List plugins."""
    found = _plugins()
    return PluginCollection(plugins=window.of(found), total_entries=len(found))


@router.get("/providers", operation_id="get_providers", tags=["Provider"])
def get_providers(_: Annotated[Who, Depends(allow(READ, "Providers"))]) -> ProviderCollection:
    """List providers."""
    found = _providers()
    return ProviderCollection(providers=found, total_entries=len(found))


@cache  # what is installed does not change while a process runs
def _plugins() -> list[Plugin]:
    points = metadata.entry_points(group="airflow.plugins")
    return [Plugin(name=point.name, source=point.value) for point in sorted(points, key=lambda one: one.name)]


@cache
def _providers() -> list[Provider]:
    names = {
        point.dist.name: point.dist
        for point in metadata.entry_points(group="apache_airflow_provider")
        if point.dist is not None
    }
    return [
        Provider(package_name=name, description=str(dist.metadata["Summary"] or ""), version=dist.version)
        for name, dist in sorted(names.items())
    ]
