"""Sequences that stand for XComs of several task instances, and for what `.map()`, `.zip()` and `.concat()` make of
them. Elements are computed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, zip_longest
from typing import Any

NO_FILL: Any = object()
"""`zip` without a fillvalue: the shortest one decides."""


class LazySequence(Sequence[Any]):
    """Equal to any sequence with equal elements. Slices are lists."""

    def _at(self, index: int) -> Any:
        raise NotImplementedError

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._at(number) for number in range(len(self))[index]]
        return self._at(range(len(self))[index])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return all(own == its for own, its in zip_longest(self, other, fillvalue=NO_FILL))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        count = len(self)
        return f"{type(self).__name__}([{count} item{'' if count == 1 else 's'}])"


class LazyXComSequence(LazySequence):
    """The XComs of the instances of a mapped task, by map_index. They are read at the first use. As text it looks as in
    the Airflow of the dialect: that is what a rendered template shows."""

    def __init__(self, read: Callable[[], list[Any]], dialect: int | None = None) -> None:
        self._read = read
        self._values: list[Any] | None = None
        self._dialect = dialect

    def __repr__(self) -> str:
        if self._values is None and self._dialect != 2:
            return "LazyXComSequence(<unevaluated length>)"
        name = "LazySelectSequence" if self._dialect == 2 else "LazyXComSequence"
        return f"{name}([{len(self)} item{'' if len(self) == 1 else 's'}])"

    @property
    def values(self) -> list[Any]:
        if self._values is None:
            self._values = self._read()
        return self._values

    def _at(self, index: int) -> Any:
        return self.values[index]

    def __len__(self) -> int:
        return len(self.values)


class MappedSequence(LazySequence):
    """Each element given to one function after the other. Of a dict: its (key, value) pairs."""

    def __init__(self, value: Sequence[Any] | dict[Any, Any], functions: Sequence[Callable[[Any], Any]]) -> None:
        self._value = value
        self._functions = functions

    def _at(self, index: int) -> Any:
        value = element(self._value, index)
        for function in self._functions:
            value = function(value)
        return value

    def __len__(self) -> int:
        return len(self._value)


class ZippedSequence(LazySequence):
    """Tuples of the elements with the same index."""

    def __init__(self, values: Sequence[Sequence[Any] | dict[Any, Any]], fillvalue: Any = NO_FILL) -> None:
        self._values = values
        self._fillvalue = fillvalue

    def _at(self, index: int) -> Any:
        return tuple(element(value, index) if index < len(value) else self._fillvalue for value in self._values)

    def __len__(self) -> int:
        counts = [len(value) for value in self._values]
        return min(counts) if self._fillvalue is NO_FILL else max(counts)


class ConcatenatedSequence(LazySequence):
    """One after the other."""

    def __init__(self, values: Sequence[Sequence[Any] | dict[Any, Any]]) -> None:
        self._values = values

    def _at(self, index: int) -> Any:
        for value in self._values:
            if index < len(value):
                # As in Airflow: concatenating dicts gives their keys.
                return next(islice(value, index, None)) if isinstance(value, dict) else value[index]
            index -= len(value)
        raise IndexError(index)

    def __len__(self) -> int:
        return sum(len(value) for value in self._values)


def element(value: Any, index: int) -> Any:
    """Element `index` of what a task is mapped over; of a dict its (key, value) pair. TypeError for what has none."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return value[index]
    if isinstance(value, dict):
        return next(islice(value.items(), index, None))
    raise TypeError(f"can't map over value of type {type(value).__name__}")
