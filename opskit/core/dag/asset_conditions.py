"""Conditions over assets as plain JSON, for the scheduler. Pure.

{"asset": {"name": N, "uri": U, "group": G}}    {"alias": {"name": N, "group": G}}
{"asset_ref": {"name": N}}, {"asset_ref": {"uri": U}}
{"all": [condition, ...]}, {"any": [condition, ...]}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Leaf(NamedTuple):
    """Something that events can be of: `kind` is asset, alias, name or uri (the last two are references)."""

    kind: str
    name: str
    uri: str


def leaf_of(condition: dict[str, Any]) -> Leaf | None:
    """The leaf that a condition is; None for `all` and `any`. ValueError for a form that there is not."""
    if "asset" in condition:
        return Leaf("asset", condition["asset"]["name"], condition["asset"]["uri"])
    if "alias" in condition:
        return Leaf("alias", condition["alias"]["name"], "")
    if "asset_ref" in condition:
        ((kind, value),) = condition["asset_ref"].items()
        return Leaf(kind, value if kind == "name" else "", value if kind == "uri" else "")
    if "all" in condition or "any" in condition:
        return None
    raise ValueError(f"{condition!r} is no condition over assets")


def leaves(condition: dict[str, Any]) -> Iterator[Leaf]:
    """Every leaf in it."""
    leaf = leaf_of(condition)
    if leaf is not None:
        yield leaf
        return
    for part in condition.get("all", condition.get("any", ())):
        yield from leaves(part)


def evaluate(condition: dict[str, Any], has: Callable[[Leaf], bool]) -> bool:
    """Whether it is met, when `has(leaf)` tells of which leaves there is an event."""
    leaf = leaf_of(condition)
    if leaf is not None:
        return has(leaf)
    if "all" in condition:
        return all(evaluate(part, has) for part in condition["all"])
    return any(evaluate(part, has) for part in condition["any"])


def words(condition: dict[str, Any]) -> str:
    """For people: `(orders and s3://lake/x) or prices`."""
    return _words(condition, top=True)


def _words(condition: dict[str, Any], *, top: bool = False) -> str:
    leaf = leaf_of(condition)
    if leaf is not None:
        return f"alias {leaf.name}" if leaf.kind == "alias" else leaf.name or leaf.uri
    word = "all" if "all" in condition else "any"
    parts = [_words(part) for part in condition[word]]
    text = (" and " if word == "all" else " or ").join(parts)
    return text if top or len(parts) < 2 else f"({text})"
