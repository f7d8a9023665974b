"""What `airflow.lineage` offers: inlets and outlets that say where data comes from and goes to. Nothing is reported
anywhere; the classes hold what they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

AUTO = "auto"
PIPELINE_INLETS = "pipeline_inlets"
PIPELINE_OUTLETS = "pipeline_outlets"


def apply_lineage(func: _F) -> _F:
    """For `execute`: nothing is added to it."""
    return func


def prepare_lineage(func: _F) -> _F:
    return func


def get_backend() -> None:
    """There is none."""


class LineageBackend:
    """To be told of inlets and outlets."""

    def send_lineage(self, operator: Any, inlets: Any = None, outlets: Any = None, context: Any = None) -> None:
        raise NotImplementedError


@dataclass
class File:
    """A file."""

    url: str
    type_hint: str | None = None
    template_fields = ("url",)


@dataclass
class User:
    """Somebody."""

    email: str
    first_name: str | None = None
    last_name: str | None = None
    template_fields = ("email", "first_name", "last_name")


@dataclass
class Tag:
    """A word for a table."""

    tag_name: str
    template_fields = ("tag_name",)


@dataclass
class Column:
    """Of a table."""

    name: str
    description: str | None = None
    data_type: str = ""
    tags: list[Tag] = field(default_factory=list)
    template_fields = ("name", "description", "data_type", "tags")


@dataclass
class Table:
    """A table of a database."""

    database: str
    cluster: str
    name: str
    tags: list[Tag] = field(default_factory=list)
    description: str | None = None
    columns: list[Column] = field(default_factory=list)
    owners: list[User] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    type_hint: str | None = None
    template_fields = ("database", "cluster", "name", "tags", "description", "columns", "owners", "extra")


@dataclass
class AssetLineageInfo:
    """One asset that a hook has read or written, and how often."""

    asset: Any
    count: int = 0
    context: Any = None


DatasetLineageInfo = AssetLineageInfo


@dataclass
class HookLineage:
    """What hooks have read and written."""

    inputs: list[AssetLineageInfo] = field(default_factory=list)
    outputs: list[AssetLineageInfo] = field(default_factory=list)
    extra: list[Any] = field(default_factory=list)


class HookLineageCollector:
    """Takes what hooks tell of their reading and writing, and keeps nothing."""

    def __init__(self, **_: Any) -> None:
        pass

    @property
    def has_collected(self) -> bool:
        return False

    @property
    def collected_assets(self) -> HookLineage:
        return HookLineage()

    collected_datasets = collected_assets

    def add_input_asset(self, *_: Any, **__: Any) -> None:
        pass

    def add_output_asset(self, *_: Any, **__: Any) -> None:
        pass

    def add_extra(self, *_: Any, **__: Any) -> None:
        pass

    def create_asset(self, *_: Any, **__: Any) -> None:
        pass

    add_input_dataset = add_input_asset
    add_output_dataset = add_output_asset
    create_dataset = create_asset


NoOpCollector = HookLineageCollector


class HookLineageReader:
    """Reads what a collector has kept."""

    def __init__(self, **_: Any) -> None:
        self.lineage_collector = get_hook_lineage_collector()

    def retrieve_hook_lineage(self) -> HookLineage:
        return self.lineage_collector.collected_assets


_COLLECTOR = HookLineageCollector()


def get_hook_lineage_collector() -> HookLineageCollector:
    return _COLLECTOR
