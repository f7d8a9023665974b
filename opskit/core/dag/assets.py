"""Assets (Airflow 2: datasets): names for data, which tasks produce and DAGs wait for.

Asset("orders")                       the name is the URI, too
Asset("orders", "s3://lake/orders")   name and URI
(a & b) | c                           a condition of a DAG's schedule
AssetAlias("of-today")                a name that a task links to assets while it runs
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from opskit.core.dag import dialect
from opskit.core.dag.asset_parts import (
    AssetAccessControl,
    AssetWatcher,
    check_uri,
    check_version,
    normalized_uri,
)

__all__ = [
    "XCOM_CLASSES",
    "Asset",
    "AssetAccessControl",
    "AssetAlias",
    "AssetAll",
    "AssetAny",
    "AssetKey",
    "AssetNameRef",
    "AssetRef",
    "AssetUriRef",
    "AssetWatcher",
    "BaseAsset",
    "Dataset",
    "DatasetAlias",
    "DatasetAll",
    "DatasetAny",
    "Metadata",
    "Model",
    "condition_of",
    "normalized_uri",
]

LONGEST_NAME = 1500
_FORBIDDEN_NAMES = ("self", "context")


class AssetKey(NamedTuple):
    """What tells one asset from all others."""

    name: str
    uri: str


class BaseAsset:
    """Whatever a DAG can wait for: an asset, an alias, a reference, a condition of those."""

    def __and__(self, other: Any) -> BaseAsset:
        return AssetAll(self, other) if isinstance(other, BaseAsset) else NotImplemented

    def __or__(self, other: Any) -> BaseAsset:
        return AssetAny(self, other) if isinstance(other, BaseAsset) else NotImplemented

    def as_expression(self) -> dict[str, Any]:
        """Plain JSON; `opskit.core.dag.asset_conditions` reads it."""
        raise NotImplementedError

    def leaves(self) -> Iterator[BaseAsset]:
        """The assets, aliases and references in it."""
        yield self

    def iter_assets(self) -> Iterator[tuple[AssetKey, Asset]]:
        """Its assets, each once."""
        seen = set()
        for leaf in self.leaves():
            if isinstance(leaf, Asset) and leaf.key not in seen:
                seen.add(leaf.key)
                yield leaf.key, leaf

    iter_datasets = iter_assets

    def iter_asset_aliases(self) -> Iterator[AssetAlias]:
        """Its aliases."""
        return (leaf for leaf in self.leaves() if isinstance(leaf, AssetAlias))

    iter_dataset_aliases = iter_asset_aliases


class Asset(BaseAsset, os.PathLike[str]):
    """One asset. With a name or a URI alone, that stands for both. `extra` is plain JSON.

    A URI is brought into one form: scheme in lower case, no trailing slash, no fragment, its query sorted, no password.
    TypeError without name and URI; ValueError for names of other kinds than 1 to 1,500 characters, for `self` and
    `context`, and for the scheme `airflow`."""

    asset_type: ClassVar[str] = "asset"
    __version__: ClassVar[int] = 1
    xcom_name: ClassVar[str] = "airflow.sdk.definitions.asset.Asset"

    def __init__(
        self,
        name: Any = None,
        uri: Any = None,
        *,
        group: str | None = None,
        extra: dict[str, Any] | None = None,
        watchers: list[AssetWatcher] | None = None,
        access_control: AssetAccessControl | None = None,
    ) -> None:
        if name is None and uri is None:
            raise TypeError(f"{type(self).__name__}() needs a name or a uri")
        name = str(uri) if name is None else name
        self.name = _checked(self, "name", name)
        if name in _FORBIDDEN_NAMES:
            raise ValueError(f"{name!r} can't be the name of an asset: functions of @asset have arguments of that name")
        self.uri = _checked(self, "uri", normalized_uri(name if uri is None else uri))
        self.group = _checked(self, "group", self.asset_type if group is None else group, empty=True)
        self.extra: dict[str, Any] = {} if extra is None else extra
        self.watchers = list(watchers or ())
        self.access_control = access_control or AssetAccessControl()

    @staticmethod
    def ref(*, name: str = "", uri: str = "") -> AssetRef:
        """A reference to the asset of this name, or of this URI, that another DAG file defines."""
        if name and uri:
            raise TypeError("Asset.ref() takes a name or a uri, not both")
        if name:
            return AssetNameRef(name)
        if uri:
            return AssetUriRef(uri)
        raise TypeError("Asset.ref() needs name=… or uri=…")

    @property
    def key(self) -> AssetKey:
        return AssetKey(self.name, self.uri)

    @property
    def normalized_uri(self) -> str | None:
        """Its URI, when it is a real one."""
        return self.uri if urlsplit(self.uri).scheme else None

    def as_expression(self) -> dict[str, Any]:
        said: dict[str, Any] = {"name": self.name, "uri": self.uri, "group": self.group}
        if self.extra:
            said["extra"] = self.extra
        if self.watchers:
            said["watchers"] = sorted(watcher.name for watcher in self.watchers)
        return {"asset": said}

    def __fspath__(self) -> str:
        return self.uri

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Asset):
            return NotImplemented
        mine, theirs = (
            (one.name, one.uri, one.group, one.extra, one.watchers, one.access_control) for one in (self, other)
        )
        return mine == theirs

    def __hash__(self) -> int:
        return hash((self.name, self.uri))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name={self.name!r}, uri={self.uri!r}, group={self.group!r}, extra={self.extra!r}, "
            f"watchers={self.watchers!r}, access_control={self.access_control!r})"
        )

    def xcom_data(self) -> dict[str, Any]:
        """As an XCom, in Airflow's form. Watchers stay behind."""
        return {
            "name": self.name,
            "uri": self.uri,
            "group": self.group,
            "extra": self.extra,
            "watchers": [],
            "access_control": self.access_control,
        }

    @classmethod
    def from_xcom(cls, data: dict[str, Any], version: int) -> Asset:
        check_version(cls, version)
        return cls(**data)


class Dataset(Asset):
    """An asset, as Airflow 2 wrote it: `Dataset(uri, extra)`. Two of the same URI are equal. In a file for Airflow 3 it
    is another name for Asset."""

    asset_type: ClassVar[str] = "dataset"
    xcom_name: ClassVar[str] = "airflow.datasets.Dataset"

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        if cls is Dataset and _spoken() == 3:
            return Asset(*arguments, **named)
        return super().__new__(cls)

    def __init__(self, name: Any = None, uri: Any = None, extra: dict[str, Any] | None = None, **more: Any) -> None:
        if isinstance(uri, dict):
            uri, extra = None, uri
        if name is not None and uri is None:
            check_uri(name)
        super().__init__(name, uri, extra=extra, **more)
        if uri is None or name is None:
            # An URI is all that it has: whatever way it is written, it is the same dataset.
            self.name = self.uri

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dataset):
            return self.uri == other.uri
        return super().__eq__(other)

    __hash__ = Asset.__hash__

    def __repr__(self) -> str:
        return f"Dataset(uri={self.uri!r}, extra={self.extra or None!r})"

    def xcom_data(self) -> dict[str, Any]:
        return {"uri": self.uri, "extra": self.extra or None}


class Model(Asset):
    """An asset that is a trained model."""

    asset_type: ClassVar[str] = "model"


class AssetRef(BaseAsset):
    """A reference to an asset that is defined elsewhere; `Asset.ref()` makes it."""

    _argument: ClassVar[str]

    def __init__(self, value: str) -> None:
        self._value = value

    def as_expression(self) -> dict[str, Any]:
        return {"asset_ref": {self._argument: self._value}}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    def __hash__(self) -> int:
        return hash((type(self), self._value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._argument}={self._value!r})"


class AssetNameRef(AssetRef):
    _argument = "name"

    @property
    def name(self) -> str:
        return self._value


class AssetUriRef(AssetRef):
    _argument = "uri"

    def __init__(self, uri: str) -> None:
        super().__init__(normalized_uri(uri))

    @property
    def uri(self) -> str:
        return self._value


class AssetAlias(BaseAsset):
    """A name that tasks link to assets while they run: `outlet_events[alias].add(asset)`."""

    xcom_name: ClassVar[str] = "airflow.sdk.definitions.asset.AssetAlias"

    def __init__(self, name: str, *, group: str = "asset") -> None:
        self.name = _checked(self, "name", name)
        self.group = _checked(self, "group", group, empty=True)

    def as_expression(self) -> dict[str, Any]:
        return {"alias": {"name": self.name, "group": self.group}}

    def __eq__(self, other: object) -> bool:
        return self.name == other.name if isinstance(other, AssetAlias) else NotImplemented

    def __hash__(self) -> int:
        return hash((AssetAlias, self.name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, group={self.group!r})"

    def xcom_data(self) -> dict[str, Any]:
        return {"name": self.name, "group": self.group}

    @classmethod
    def from_xcom(cls, data: dict[str, Any], version: int) -> AssetAlias:
        check_version(cls, version)
        return cls(**data)


class DatasetAlias(AssetAlias):
    """An alias, as Airflow 2 calls it."""

    xcom_name: ClassVar[str] = "airflow.datasets.DatasetAlias"

    def __repr__(self) -> str:
        return f"DatasetAlias(name={self.name!r})"

    def xcom_data(self) -> dict[str, Any]:
        return {"name": self.name}


class _Condition(BaseAsset):
    _word: ClassVar[str]

    def __init__(self, *objects: BaseAsset) -> None:
        wrong = next((one for one in objects if not isinstance(one, BaseAsset)), None)
        if wrong is not None:
            raise TypeError(f"{type(self).__name__}: {wrong!r} is no asset, alias or condition of those")
        self.objects: tuple[BaseAsset, ...] = objects

    def as_expression(self) -> dict[str, Any]:
        return {self._word: [one.as_expression() for one in self.objects]}

    def leaves(self) -> Iterator[BaseAsset]:
        for one in self.objects:
            yield from one.leaves()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.objects == other.objects

    def __hash__(self) -> int:
        return hash((self._word, self.objects))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.objects))})"


class AssetAny(_Condition):
    """One of them is enough."""

    _word = "any"

    def __or__(self, other: Any) -> BaseAsset:
        return type(self)(*self.objects, other) if isinstance(other, BaseAsset) else NotImplemented


class AssetAll(_Condition):
    """Each of them is needed."""

    _word = "all"

    def __and__(self, other: Any) -> BaseAsset:
        return type(self)(*self.objects, other) if isinstance(other, BaseAsset) else NotImplemented


class DatasetAny(AssetAny):
    """As Airflow 2 calls it."""


class DatasetAll(AssetAll):
    """As Airflow 2 calls it."""


class Metadata:
    """What a task's function yields to give the event of an asset an `extra`; with `alias`, to make one of an asset
    that the alias is to be linked to."""

    def __init__(self, asset: Any, extra: dict[str, Any] | None = None, alias: Any = None) -> None:
        self.asset = asset
        self.extra: dict[str, Any] = {} if extra is None else extra
        self.alias = alias

    @property
    def uri(self) -> str:
        return str(self.asset.uri) if isinstance(self.asset, Asset) else normalized_uri(self.asset)

    @property
    def alias_name(self) -> str | None:
        return self.alias.name if isinstance(self.alias, AssetAlias) else self.alias

    def __repr__(self) -> str:
        return f"Metadata({self.asset!r}, extra={self.extra!r}, alias={self.alias!r})"


XCOM_CLASSES: dict[str, Any] = {
    cls.xcom_name: cls for cls in (AssetAccessControl, Asset, Dataset, AssetAlias, DatasetAlias)
}
"""Name in an XCom → class."""


def condition_of(assets: Any) -> BaseAsset:
    """The condition that an author's `schedule` or `assets=` means: one asset, a condition, or all of a collection.
    TypeError for anything else."""
    return assets if isinstance(assets, BaseAsset) else AssetAll(*assets)


def _spoken() -> int | None:
    """The dialect of the file that is being loaded, or whose task is running."""
    running = sys.modules.get("opskit.core.dag.context")
    if dialect.current() is None and running is not None and running._running:
        dag = running._running[-1]["ti"].task.get_dag()
        return None if dag is None else dag.dialect
    return dialect.current()


def _checked(owner: object, what: str, value: Any, *, empty: bool = False) -> str:
    kind = type(owner).__name__
    if not isinstance(value, str):
        raise ValueError(f"{kind}: the {what} is {value!r}, a text is needed")
    if len(value) > LONGEST_NAME:
        raise ValueError(f"{kind}: the {what} has {len(value):,} characters, at most {LONGEST_NAME:,} are allowed")
    if (not value and not empty) or value.isspace():
        raise ValueError(f"{kind}: the {what} is empty")
    return value
