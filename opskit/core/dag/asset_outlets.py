"""What a task says of its outlets: `outlet_events` of the context, and the events that it makes by its success."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from opskit.core.dag.asset_context import Accessors, Key, inlets_of, means, resolve
from opskit.core.dag.assets import Asset, AssetAlias, AssetKey, AssetRef, Dataset, normalized_uri
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.plugins import listener_manager

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator

LONGEST_KEY = 250
"""Of a partition, in characters."""


class OutletEvent:
    """The event that a task will have made of one outlet. `extra` is plain JSON, to be changed or replaced."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.extra: dict[str, Any] = {}
        self.asset_alias_events: list[tuple[Asset, dict[str, Any]]] = []
        self.partition_keys: set[str] = set()

    @property
    def dataset_alias_events(self) -> list[tuple[Asset, dict[str, Any]]]:
        return self.asset_alias_events

    def add(self, asset: Any, extra: dict[str, Any] | None = None) -> None:
        """Link this alias to an asset (or the URI of one), and make an event of that. Of no effect for an asset."""
        if not isinstance(self.key, str):
            return
        if isinstance(asset, AssetRef):
            asset = resolve(asset)
        elif isinstance(asset, str):
            uri = normalized_uri(asset)
            asset = Asset(uri, uri)
        self.asset_alias_events.append((asset, dict(extra or {})))

    def add_partitions(self, keys: str | Iterable[str]) -> None:
        """Make an event of each of these partitions of the asset. TypeError for an alias, ValueError for a key that is
        empty or longer than 250 characters."""
        if isinstance(self.key, str):
            raise TypeError(f"add_partitions() is for an asset: {self.key!r} is an alias")
        added = [keys] if isinstance(keys, str) else list(keys)
        for key in added:
            if not isinstance(key, str) or not key.strip():
                raise ValueError(f"the partition key {key!r} is empty")
            if len(key) > LONGEST_KEY:
                raise ValueError(f"a partition key has at most {LONGEST_KEY} characters, this one {len(key)}")
        self.partition_keys.update(added)

    def __repr__(self) -> str:
        return f"<OutletEvent of {self.key!r} extra={self.extra!r}>"


class OutletEvents(Accessors, Mapping[Any, OutletEvent]):
    """`outlet_events[asset].extra = …`, `outlet_events[alias].add(asset, extra=…)`. A text is the name of an alias, or
    the name or URI of an asset, among the task's outlets; else the URI of an asset."""

    def __init__(self, task: BaseOperator) -> None:
        self._outlets = list(task.outlets)
        self._events: dict[Key, OutletEvent] = {}

    def _key(self, key: Any) -> Key:
        if isinstance(key, Asset):
            return key.key
        if isinstance(key, AssetAlias):
            return key.name
        if isinstance(key, AssetRef):
            for outlet in self._outlets:
                if isinstance(outlet, Asset) and means(key, outlet):
                    return outlet.key
            return resolve(key).key
        if isinstance(key, str):
            for outlet in self._outlets:
                if isinstance(outlet, AssetAlias) and outlet.name == key:
                    return key
                if isinstance(outlet, Asset) and (outlet.name == key or outlet.uri == normalized_uri(key)):
                    return outlet.key
            return AssetKey(normalized_uri(key), normalized_uri(key))
        raise TypeError(f"outlet_events[{key!r}]: the key must be an asset or an alias")

    def __getitem__(self, key: Any) -> OutletEvent:
        wanted = self._key(key)
        if wanted not in self._events:
            self._events[wanted] = OutletEvent(wanted)
        return self._events[wanted]

    def __iter__(self) -> Iterator[Any]:
        return (AssetAlias(key) if isinstance(key, str) else Asset(key.name, key.uri) for key in self._events)

    def __len__(self) -> int:
        return len(self._events)


def after_success(task: BaseOperator, context: Any, result: Any) -> list[dict[str, Any]]:
    """The events of a task that has succeeded. What a function with `@task` returns is an outlet, too, when it is an
    asset or a list with some. In a DAG for Airflow 2 the task leaves its inlets and outlets as XComs, as that does."""
    if str(getattr(task, "custom_operator_name", None)).startswith("@task"):
        returned = result if isinstance(result, list) else [result]
        found = [one for one in returned if isinstance(one, Asset)]
        if found:
            task.outlets = [*task.outlets, *found]
    dag = task.get_dag()
    if dag is not None and dag.dialect == 2:
        for key, values in (("pipeline_outlets", task.outlets), ("pipeline_inlets", inlets_of(task))):
            if values:
                _leave(task, context, key, list(values))
    made = emitted(task, context["outlet_events"]) if task.outlets else []
    _tell_listeners(made, 2 if dag is not None and dag.dialect == 2 else 3)
    return made


def _tell_listeners(made: list[dict[str, Any]], spoken: int) -> None:
    """What listeners of plugins want to hear of assets, under Airflow's names for it."""
    manager = listener_manager()
    if not manager.has_listeners:
        return
    for event in made:
        kind = Dataset if spoken == 2 else Asset
        asset = kind(event["name"], event["uri"], group=event["group"])
        manager.tell("on_dataset_changed", dataset=asset)
        manager.tell("on_asset_changed", asset=asset)


def _leave(task: BaseOperator, context: Any, key: str, values: list[Any]) -> None:
    try:
        context["ti"].xcom_push(key=key, value=values)
    except TypeError as error:
        task.log.warning("no XCom %s is left: %s", key, error)


def emitted(task: BaseOperator, events: OutletEvents | None) -> list[dict[str, Any]]:
    """The events that a task which succeeded makes of its outlets: `[{"name", "uri", "group", "extra", "aliases"}, …]`,
    plain JSON, where `aliases` are those that it was added to; with the `partition_key` that the task gave.
    AirflowException for an extra that is no plain JSON, and for a reference to an asset that nobody knows."""
    found: list[dict[str, Any]] = []
    through_alias: dict[tuple[AssetKey, str], dict[str, Any]] = {}
    for outlet in task.outlets:
        if isinstance(outlet, AssetAlias):
            for asset, extra in events[outlet].asset_alias_events if events is not None else ():
                event = _event(asset, extra)
                same = through_alias.setdefault((asset.key, json.dumps(event["extra"], sort_keys=True)), event)
                if outlet.name not in same["aliases"]:
                    same["aliases"].append(outlet.name)
        elif isinstance(outlet, (Asset, AssetRef)):
            asset = resolve(outlet) if isinstance(outlet, AssetRef) else outlet
            event = _event(asset, events[asset].extra if events is not None else {})
            keys = events[asset].partition_keys if events is not None else ()
            found += [{**event, "partition_key": key} for key in sorted(keys)] or [event]
    return found + list(through_alias.values())


def _event(asset: Asset, extra: dict[str, Any]) -> dict[str, Any]:
    try:
        plain = json.loads(json.dumps(extra or {}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AirflowException(f"the extra of the event of {asset.uri} is no plain JSON: {error}") from error
    return {"name": asset.name, "uri": asset.uri, "group": asset.group, "extra": plain, "aliases": []}
