"""What a task keeps: `task_state_store` of the context for its own next tries, `asset_state_store` about assets.

Values are plain JSON. What a task keeps for itself belongs to its instance of this run and outlives tries and clears;
what it keeps about an asset every task finds that has the asset among its inlets or outlets."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from opskit.core.dag import runtime
from opskit.core.dag.assets import Asset, AssetAlias, AssetNameRef, AssetUriRef

if TYPE_CHECKING:
    from opskit.core.dag.task_instance import RuntimeTaskInstance

KEPT = timedelta(days=30)
"""How long a task's values stay when it does not say."""


class _NeverExpire:
    def __repr__(self) -> str:
        return "NEVER_EXPIRE"


NEVER_EXPIRE = _NeverExpire()
"""For `retention`: until the run is deleted."""


class _Accessor:
    _scope: list[Any]

    def get(self, key: str, default: Any = None) -> Any:
        """The value; `default` when there is none."""
        found = runtime.store().get_state(self._scope, key)
        return default if found is None else found

    def delete(self, key: str) -> None:
        """Forget it, when there is one."""
        runtime.store().delete_state(self._scope, key)

    def clear(self) -> None:
        """Forget all."""
        runtime.store().delete_state(self._scope, None)

    async def aget(self, key: str, default: Any = None) -> Any:
        return await _aside(lambda: self.get(key, default))

    async def adelete(self, key: str) -> None:
        await _aside(lambda: self.delete(key))

    async def aclear(self) -> None:
        await _aside(self.clear)

    def _set(self, key: str, value: Any, expires_at: datetime | None) -> None:
        if value is None:
            raise ValueError(f"None can't be kept as {key!r}: delete() the key instead")
        runtime.store().set_state(self._scope, key, value, expires_at)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._scope == other._scope

    def __hash__(self) -> int:
        return hash(tuple(self._scope))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {'.'.join(str(part) for part in self._scope[1:] if part is not None)}>"


class TaskStateStoreAccessor(_Accessor):
    """`get`, `set`, `delete`, `clear`, and the same to be awaited: `aget`, `aset`, `adelete`, `aclear`."""

    def __init__(self, ti: RuntimeTaskInstance) -> None:
        self._scope = ["task", ti.dag_id, ti.run_id, ti.task_id, ti.map_index]

    def set(self, key: str, value: Any, *, retention: timedelta | _NeverExpire | None = None) -> None:
        """Keep a value for so long (default: 30 days). ValueError for None."""
        expires_at = None
        if not isinstance(retention, _NeverExpire):
            expires_at = datetime.now(UTC) + (KEPT if retention is None else retention)
        self._set(key, value, expires_at)

    async def aset(self, key: str, value: Any, *, retention: timedelta | _NeverExpire | None = None) -> None:
        await _aside(lambda: self.set(key, value, retention=retention))


class AssetStateStoreAccessor(_Accessor):
    """The same, about one asset; values stay."""

    def __init__(self, *, name: str | None = None, uri: str | None = None) -> None:
        if not name and not uri:
            raise ValueError("the name or the URI of an asset is needed")
        self._scope = ["asset", name, uri]

    def set(self, key: str, value: Any) -> None:
        self._set(key, value, None)

    async def aset(self, key: str, value: Any) -> None:
        await _aside(lambda: self.set(key, value))


class AssetStateStoreAccessors:
    """`asset_state_store[asset]`, for the inlets and outlets of a task. A task that has only one calls `get`, `set` …
    without naming it. KeyError for an asset that is none of them, ValueError when it is not clear which is meant."""

    def __init__(self, inlets: Iterable[Any], outlets: Iterable[Any]) -> None:
        self._known: dict[tuple[str, str], AssetStateStoreAccessor] = {}
        for one in (*inlets, *outlets):
            key = _key(one)
            if key is not None:
                kind, text = key
                made = AssetStateStoreAccessor(name=text) if kind == "name" else AssetStateStoreAccessor(uri=text)
                self._known.setdefault(key, made)
            elif isinstance(one, AssetAlias):
                for event in runtime.store().asset_events(alias=one.name):
                    name = str(event["name"])
                    self._known.setdefault(("name", name), AssetStateStoreAccessor(name=name))

    def __getitem__(self, asset: Any) -> AssetStateStoreAccessor:
        key = _key(asset)
        if key is None:
            raise TypeError(f"asset_state_store[{asset!r}]: the key must be an asset")
        if key not in self._known:
            raise KeyError(f"{asset!r} is none of this task's inlets and outlets")
        return self._known[key]

    def _only(self) -> AssetStateStoreAccessor:
        if len(self._known) != 1:
            raise ValueError(f"the task has {len(self._known)} inlets and outlets: say which, asset_state_store[asset]")
        return next(iter(self._known.values()))

    def __getattr__(self, name: str) -> Any:
        if name in ("get", "set", "delete", "clear", "aget", "aset", "adelete", "aclear"):
            return getattr(self._only(), name)
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {[text for _, text in self._known]}>"


def _key(asset: Any) -> tuple[str, str] | None:
    if isinstance(asset, (Asset, AssetNameRef)):
        return "name", asset.name
    return ("uri", asset.uri) if isinstance(asset, AssetUriRef) else None


async def _aside(work: Any) -> Any:
    """Do it in a thread, so that the event loop goes on. The questions of several coroutines wait for each other."""
    import asyncio

    return await asyncio.to_thread(work)
