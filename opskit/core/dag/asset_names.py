"""The assets that `@asset` has defined in this process: a task of the same file finds them without asking anybody."""

from __future__ import annotations

from opskit.core.dag.assets import Asset

_defined: dict[str, Asset] = {}


def define(asset: Asset) -> None:
    """Make it known by its name; a later one of that name takes its place."""
    _defined[asset.name] = asset


def local_asset(name: str | None, uri: str | None) -> Asset | None:
    """The one with this name, or this URI."""
    if name is not None:
        return _defined.get(name)
    return next((asset for asset in _defined.values() if asset.uri == uri), None)
