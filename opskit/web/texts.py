"""Texts of what lists hold, by what they were made of: what is as it was is not written once more."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

Value = TypeVar("Value")
_MOST = 20_000
"""Some 20 MB at the most."""


class Texts:
    """Safe for threads: each entry is put in its place whole."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[object, str]] = {}

    def get(self, key: Hashable, value: Value, write: Callable[[Value], str]) -> str:
        """`write(value)`, or what it gave when `key` had an equal value last. All that the text depends on is in the
        value."""
        known = self._known.get(key)
        if known is not None and known[0] == value:
            return known[1]
        text = write(value)
        if len(self._known) >= _MOST:
            self._known = {}
        self._known[key] = value, text
        return text
