"""Many task instances in a word: counts of states, and which one stands for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_WEIGHT: tuple[str | None, ...] = (
    "failed",
    "upstream_failed",
    "up_for_retry",
    "restarting",
    "running",
    "deferred",
    "up_for_reschedule",
    "queued",
    "scheduled",
    None,
    "success",
    "skipped",
    "removed",
)
ORDER: dict[str | None, int] = {state: index for index, state in enumerate(_WEIGHT)}
"""State → its weight: what an operator must see first comes first."""


@dataclass(slots=True)
class Summary:
    """How many of some task instances are in which state."""

    counts: dict[str | None, int] = field(default_factory=dict)

    def add(self, state: str | None, count: int = 1) -> None:
        self.counts[state] = self.counts.get(state, 0) + count

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def state(self) -> str | None:
        """The weightiest state."""
        return min(self.counts, key=lambda state: ORDER.get(state, len(ORDER)), default=None)

    @property
    def done(self) -> int:
        """How many are over."""
        ended = ("success", "skipped", "failed", "upstream_failed", "removed")
        return sum(self.counts.get(state, 0) for state in ended)

    def ordered(self) -> list[tuple[str | None, int]]:
        """The weightiest first."""
        return sorted(self.counts.items(), key=lambda item: ORDER.get(item[0], len(ORDER)))

    def words(self) -> str:
        """`3 failed, 97 success`."""
        return ", ".join(f"{count} {(state or 'no status').replace('_', ' ')}" for state, count in self.ordered())


def merged(summaries: Iterable[Summary]) -> Summary:
    """One of several."""
    found = Summary()
    for one in summaries:
        for state, count in one.counts.items():
            found.add(state, count)
    return found


def counted(counts: Mapping[str | None, int]) -> Summary:
    """From state → count."""
    return Summary(dict(counts))
