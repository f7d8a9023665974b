"""What a task sees of asset events: `outlet_events`, `inlet_events`, `triggering_asset_events` of the context.

An event travels as plain JSON (`opskit.core.dag.runtime`, EventRow); what the task's own events say goes into the
*Result* frame when it has succeeded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

from opskit.core.dag import runtime
from opskit.core.dag.asset_names import local_asset
from opskit.core.dag.assets import (
    Asset,
    AssetAlias,
    AssetKey,
    AssetNameRef,
    AssetRef,
    AssetUriRef,
    Dataset,
    normalized_uri,
)
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.plugins import listener_manager

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.task_instance import DagRun

_Key = AssetKey | str
"""Of an asset, or the name of an alias."""
TRIGGERED = ("asset_triggered", "dataset_triggered")
"""run_type of runs that events of assets made."""


def resolve(reference: AssetRef) -> Asset:
    """The asset that a reference means: one of this DAG file, or one that the cluster knows. AirflowException when
    there is none."""
    name = reference.name if isinstance(reference, AssetNameRef) else None
    uri = reference.uri if isinstance(reference, AssetUriRef) else None
    found = local_asset(name, uri)
    if found is not None:
        return found
    row = runtime.store().find_asset(name=name, uri=uri)
    if row is None:
        raise AirflowException(f"there is no asset with the {'name' if name else 'URI'} {name or uri!r}")
    return Asset(row["name"], row["uri"], group=row["group"], extra=row["extra"])


class OutletEvent:
    """The event that a task will have made of one outlet. `extra` is plain JSON, to be changed or replaced."""

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.extra: dict[str, Any] = {}
        self.asset_alias_events: list[tuple[Asset, dict[str, Any]]] = []

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

    def add_partitions(self, keys: Any) -> None:
        raise NotImplementedError("assets have no partitions here: make one asset of each, or tell them by `extra`")

    def __repr__(self) -> str:
        return f"<OutletEvent of {self.key!r} extra={self.extra!r}>"


class _Accessors:
    """`events.for_asset(name=…, uri=…)` and `events.for_asset_alias(name=…)`."""

    def for_asset(self, *, name: str | None = None, uri: str | None = None) -> Any:
        if name and uri:
            return self[Asset(name, uri)]
        if not name and not uri:
            raise ValueError("for_asset() needs a name or a uri")
        return self[Asset.ref(name=name) if name else Asset.ref(uri=uri or "")]

    def for_asset_alias(self, *, name: str) -> Any:
        return self[AssetAlias(name)]

    def __getitem__(self, key: Any) -> Any:
        raise NotImplementedError


class OutletEvents(_Accessors, Mapping[Any, OutletEvent]):
    """`outlet_events[asset].extra = …`, `outlet_events[alias].add(asset, extra=…)`. A text is the name of an alias, or
    the name or URI of an asset, among the task's outlets; else the URI of an asset."""

    def __init__(self, task: BaseOperator) -> None:
        self._outlets = list(task.outlets)
        self._events: dict[_Key, OutletEvent] = {}

    def _key(self, key: Any) -> _Key:
        if isinstance(key, Asset):
            return key.key
        if isinstance(key, AssetAlias):
            return key.name
        if isinstance(key, AssetRef):
            for outlet in self._outlets:
                if isinstance(outlet, Asset) and _means(key, outlet):
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


class AssetEvent:
    """An event that has happened."""

    def __init__(self, row: runtime.EventRow) -> None:
        self._row = row
        self.id = row["id"]
        self.extra: dict[str, Any] = row["extra"]
        self.source_dag_id: str | None = row["source_dag_id"]
        self.source_task_id: str | None = row["source_task_id"]
        self.source_run_id: str | None = row["source_run_id"]
        self.source_map_index: int = row["source_map_index"]

    @property
    def timestamp(self) -> Any:
        from opskit.core.dag.task_instance import moment

        return moment(self._row["at"])

    @property
    def asset(self) -> Asset:
        return Asset(self._row["name"], self._row["uri"], group=self._row["group"], extra=self._row["asset_extra"])

    dataset = asset

    @property
    def name(self) -> str:
        return str(self._row["name"])

    @property
    def uri(self) -> str:
        return str(self._row["uri"])

    @property
    def source_aliases(self) -> list[AssetAlias]:
        return [AssetAlias(name) for name in self._row["aliases"]]

    @property
    def source_dag_run(self) -> DagRun | None:
        """The run whose task made it; None when nobody knows it any more, or no task made it."""
        from opskit.core.dag.task_instance import DagRun

        if self.source_dag_id is None or self.source_run_id is None:
            return None
        found = runtime.store().get_run(self.source_dag_id, self.source_run_id)
        return None if found is None else DagRun(found)

    @property
    def source_task_instance(self) -> Any:
        """The task instance that made it, with `xcom_pull`; None as above."""
        run = self.source_dag_run
        return None if run is None else run.get_task_instance(str(self.source_task_id), self.source_map_index)

    def __repr__(self) -> str:
        return f"<AssetEvent {self.id} of {self.uri} extra={self.extra!r} by {self.source_task_id}>"


class InletEvents(_Accessors, Mapping[Any, "EventSequence"]):
    """`inlet_events[asset][-1].extra`: all events of the task's inlets, the oldest first. KeyError for an asset that is
    none of them. A number is the place among the inlets."""

    def __init__(self, task: BaseOperator) -> None:
        self._inlets = inlets_of(task)

    def __getitem__(self, key: Any) -> EventSequence:
        if isinstance(key, int):
            inlet = self._inlets[key]
            if not isinstance(inlet, (Asset, AssetAlias, AssetRef)):
                raise IndexError(key)
            return self._sequence(inlet)
        if not isinstance(key, (Asset, AssetAlias, AssetRef, str)):
            raise TypeError(f"inlet_events[{key!r}]: the key must be an asset or an alias")
        for inlet in self._inlets:
            if _same(inlet, key):
                return self._sequence(inlet)
        raise KeyError(key)

    @staticmethod
    def _sequence(inlet: Any) -> EventSequence:
        if isinstance(inlet, AssetAlias):
            return EventSequence(alias=inlet.name)
        asset = resolve(inlet) if isinstance(inlet, AssetRef) else inlet
        return EventSequence(name=asset.name, uri=asset.uri)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._inlets)

    def __len__(self) -> int:
        return len(self._inlets)


class EventSequence(Sequence[AssetEvent]):
    """Events, asked for when they are first needed. `.after(time)`, `.before(time)`, `.limit(n)` and
    `.ascending(False)` narrow and order them."""

    def __init__(self, **which: Any) -> None:
        self._question: dict[str, Any] = which
        self._found: list[AssetEvent] | None = None

    def _narrowed(self, **more: Any) -> EventSequence:
        self._question.update(more)
        self._found = None
        return self

    def after(self, after: str | datetime) -> EventSequence:
        return self._narrowed(after=_time(after))

    def before(self, before: str | datetime) -> EventSequence:
        return self._narrowed(before=_time(before))

    def ascending(self, ascending: bool = True) -> EventSequence:
        return self._narrowed(ascending=ascending)

    def limit(self, limit: int) -> EventSequence:
        return self._narrowed(limit=limit)

    @property
    def _events(self) -> list[AssetEvent]:
        if self._found is None:
            self._found = [AssetEvent(row) for row in runtime.store().asset_events(**self._question)]
        return self._found

    @overload
    def __getitem__(self, index: int) -> AssetEvent: ...
    @overload
    def __getitem__(self, index: slice) -> list[AssetEvent]: ...
    def __getitem__(self, index: int | slice) -> AssetEvent | list[AssetEvent]:
        return self._events[index]

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return repr(self._events)


class TriggeringEvents(_Accessors, Mapping[Any, list[AssetEvent]]):
    """The events that made this run, by asset (in Airflow 2 by URI) and by alias. Of an asset without any: an empty
    list."""

    def __init__(self, run: DagRun, *, by_uri: bool) -> None:
        self._run = run
        self._by_uri = by_uri
        self._found: dict[_Key, list[AssetEvent]] | None = None

    @property
    def _events(self) -> dict[_Key, list[AssetEvent]]:
        if self._found is None:
            self._found = {}
            rows: Iterable[runtime.EventRow] = ()
            if self._run.run_type in TRIGGERED:
                rows = runtime.store().triggering_asset_events(self._run.dag_id, self._run.run_id)
            for row in rows:
                event = AssetEvent(row)
                self._found.setdefault(AssetKey(event.name, event.uri), []).append(event)
                if not self._by_uri:
                    for alias in row["aliases"]:
                        self._found.setdefault(str(alias), []).append(event)
        return self._found

    def __getitem__(self, key: Any) -> list[AssetEvent]:
        return [event for found, events in self._events.items() if _is(found, key) for event in events]

    def __contains__(self, key: object) -> bool:
        return any(_is(found, key) for found in self._events)

    def __iter__(self) -> Iterator[Any]:
        for key in self._events:
            if isinstance(key, str):
                yield AssetAlias(key)
            else:
                yield key.uri if self._by_uri else Asset(key.name, key.uri)

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return repr(dict(self.items()))


def inlets_of(task: BaseOperator) -> list[Any]:
    """The task's inlets; those of a function with `@task` are also the assets among its arguments."""
    found = list(task.inlets)
    if str(getattr(task, "custom_operator_name", None)).startswith("@task"):
        arguments = [*getattr(task, "op_args", ()), *getattr(task, "op_kwargs", {}).values()]
        found += [one for one in arguments if isinstance(one, Asset)]
    return found


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
    plain JSON, where `aliases` are those that it was added to. AirflowException for an extra that is no plain JSON, and
    for a reference to an asset that nobody knows."""
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
            found.append(_event(asset, events[asset].extra if events is not None else {}))
    return found + list(through_alias.values())


def _event(asset: Asset, extra: dict[str, Any]) -> dict[str, Any]:
    try:
        plain = json.loads(json.dumps(extra or {}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AirflowException(f"the extra of the event of {asset.uri} is no plain JSON: {error}") from error
    return {"name": asset.name, "uri": asset.uri, "group": asset.group, "extra": plain, "aliases": []}


def _means(reference: AssetRef, asset: Asset) -> bool:
    if isinstance(reference, AssetNameRef):
        return reference.name == asset.name
    return isinstance(reference, AssetUriRef) and reference.uri == asset.uri


def _same(inlet: Any, key: Any) -> bool:
    if isinstance(inlet, AssetAlias):
        return inlet.name == (key.name if isinstance(key, AssetAlias) else key)
    if isinstance(inlet, AssetRef):
        if isinstance(key, AssetRef):
            return inlet == key
        return _same(resolve(inlet), key)
    return isinstance(inlet, Asset) and _is(inlet.key, key)


def _is(found: _Key, key: Any) -> bool:
    """Whether a key that a task writes means this asset, or this alias."""
    if isinstance(found, str):
        return found == (key.name if isinstance(key, AssetAlias) else None)
    if isinstance(key, Asset):
        return found == key.key
    if isinstance(key, AssetRef):
        return _means(key, Asset(found.name, found.uri))
    return isinstance(key, str) and (found.name == key or found.uri == normalized_uri(key))


def _time(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
