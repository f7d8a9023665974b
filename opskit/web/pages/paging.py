"""A list cut into pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Query

T = TypeVar("T")
PageNumber = Annotated[int, Query(ge=1, le=100_000)]
Search = Annotated[str, Query(max_length=250)]


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """One page of `total` items."""

    items: Sequence[T]
    page: int
    pages: int
    total: int


def part_of(items: Sequence[T], page: int, size: int) -> Part[T]:
    """The page, or the last one there is."""
    pages = max(1, -(-len(items) // size))
    page = min(page, pages)
    return Part(items[(page - 1) * size : page * size], page, pages, len(items))
