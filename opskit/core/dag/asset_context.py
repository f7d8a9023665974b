"""What a task sees of asset events: `inlet_events` and `triggering_asset_events` of the context.

An event travels as plain JSON (`opskit.core.dag.runtime`, EventRow).
"""

from __future__ import annotations

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
    normalized_uri,
)
from opskit.core.dag.exceptions import AirflowException

if TYPE_CHECKING:
    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.task_instance import DagRun

Key = AssetKey | str
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


class Accessors:
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
        self.partition_key: str | None = row.get("partition_key")

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


class InletEvents(Accessors, Mapping[Any, "EventSequence"]):
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


class TriggeringEvents(Accessors, Mapping[Any, list[AssetEvent]]):
    """The events that made this run, by asset (in Airflow 2 by URI) and by alias. Of an asset without any: an empty
    list."""

    def __init__(self, run: DagRun, *, by_uri: bool) -> None:
        self._run = run
        self._by_uri = by_uri
        self._found: dict[Key, list[AssetEvent]] | None = None

    @property
    def _events(self) -> dict[Key, list[AssetEvent]]:
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


def means(reference: AssetRef, asset: Asset) -> bool:
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


def _is(found: Key, key: Any) -> bool:
    """Whether a key that a task writes means this asset, or this alias."""
    if isinstance(found, str):
        return found == (key.name if isinstance(key, AssetAlias) else None)
    if isinstance(key, Asset):
        return found == key.key
    if isinstance(key, AssetRef):
        return means(key, Asset(found.name, found.uri))
    return isinstance(key, str) and (found.name == key or found.uri == normalized_uri(key))


def _time(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
