"""What assets are made of: their URIs, watchers, and who may use them."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit


class AssetWatcher:
    """Who makes events of an asset when something happens outside: a trigger with a name of its own.

    ValueError for a trigger that is no BaseEventTrigger."""

    def __init__(self, name: str, trigger: Any) -> None:
        if not any(cls.__name__ == "BaseEventTrigger" for cls in type(trigger).__mro__):
            raise ValueError(
                f"AssetWatcher {name!r}: the trigger is {type(trigger).__name__}, a BaseEventTrigger is needed"
            )
        self.name = name
        self.trigger = trigger

    def __repr__(self) -> str:
        return f"AssetWatcher(name={self.name!r}, trigger={self.trigger!r})"


@dataclass(slots=True)
class AssetAccessControl:
    """Which teams may produce and consume an asset. There are no teams here: kept, and of no effect."""

    producer_teams: list[str] = field(default_factory=list)
    consumer_teams: list[str] | None = None
    allow_global: bool = True

    xcom_name: ClassVar[str] = "airflow.sdk.definitions.asset.access_control.AssetAccessControl"

    def xcom_data(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_xcom(cls, data: dict[str, Any], version: int) -> AssetAccessControl:
        check_version(cls, version)
        return cls(**data)


def normalized_uri(uri: Any) -> str:
    """The one form of a URI. What is none (no scheme) stays as it is, and so does a scheme that begins with x-."""
    text = str(uri)
    parts = urlsplit(text)
    scheme = parts.scheme.lower()
    if not scheme or scheme.startswith("x-"):
        return text
    if scheme == "airflow":
        raise ValueError(f"{text!r} can't be the URI of an asset: the scheme airflow is reserved")
    netloc = parts.netloc
    if parts.password:
        warnings.warn("the URI of an asset should hold no password; it is left out", UserWarning, stacklevel=3)
        netloc = netloc.rpartition("@")[2]
    query = urlencode(sorted(parse_qsl(parts.query))) if parts.query else ""
    return urlunsplit((scheme, netloc, parts.path.rstrip("/") or "/", query, ""))


def check_uri(uri: Any) -> None:
    text = str(uri)
    if not text.isascii():
        raise ValueError(f"{text!r} can't be the URI of a dataset: only ASCII characters are allowed")


def check_version(cls: type, version: int) -> None:
    known = getattr(cls, "__version__", 0)
    if version > known:
        raise ValueError(f"{cls.__name__} of version {version} can't be read, this is version {known}")
