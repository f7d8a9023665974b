"""What a verb may know of DAGs before they are deployed, and of those that the metastore has. Part of the contract in
`base`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DagFacts:
    """One DAG, as its file defines it."""

    dag_id: str
    tasks: frozenset[str]
    pools: frozenset[str] = frozenset()
    connections: frozenset[str] = frozenset()
    """Named by arguments of its tasks."""
    variables: frozenset[str] = frozenset()
    """Named in its templates."""
    due_runs: int = 0
    """How many runs would start at once if it never had one; at most MANY_RUNS."""
    doubts: tuple[str, ...] = ()
    """What is odd about its schedule, each a sentence."""


MANY_RUNS = 1000


@dataclass(frozen=True, slots=True)
class Stored:
    """What the metastore has."""

    tasks: Mapping[str, frozenset[str]]
    """Of the DAGs that were asked for and are known: their tasks in the newest version."""
    with_runs: frozenset[str]
    """Those of them that have had a run by their schedule."""
    pools: frozenset[str]
    connections: frozenset[str]
    variables: frozenset[str]


class DagFactsReader(Protocol):
    def warm_up(self) -> None:
        """Load the modules that the questions need: for a thread, while something else is being waited for."""
        ...

    def stored(self, dag_ids: Collection[str]) -> Stored:
        """MetastoreUnavailable when nobody can say."""
        ...

    def unfinished(self, tasks: Mapping[str, Collection[str]]) -> Mapping[tuple[str, str], int]:
        """(dag_id, task_id) → task instances that have not ended, of runs that go on; without those that have none."""
        ...
