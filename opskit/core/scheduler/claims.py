"""What runs next: by priority over all DAGs, within the limits of DAGs, tasks, pools and the worker. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opskit.core.dag.run_instance import TaskInstance
from opskit.core.dag.run_state import RunState
from opskit.core.scheduler.owned_dag import OwnedDag

Claim = tuple[OwnedDag, RunState, TaskInstance]


@dataclass(frozen=True, slots=True)
class Demand:
    """What is ready, before it is known how many slots its pools have."""

    freed: Mapping[str, int]
    """Slots that the attempts which have just ended give back, by pool: these may be taken again without asking."""
    ask: Collection[str]
    """Pools of which more is wanted: their rows must be read, and locked."""


def demand(dags: Collection[OwnedDag], free: int, tight_pools: Collection[str]) -> Demand:
    """`free`: attempts that the worker can still take. In `tight_pools` a freed slot is not ours to reuse."""
    freed: dict[str, int] = {}
    for dag in dags:
        for name, delta in dag.pool_delta.items():
            freed[name] = freed.get(name, 0) - delta
    ask = set()
    for _, pool, dag in _heads(dags):
        candidates = dag.queues[pool][: free + 1]
        wanted = sum(candidate[4].task.pool_slots for candidate in candidates)
        most = free * max(candidate[4].task.pool_slots for candidate in candidates)
        if pool in tight_pools or min(wanted, most) > freed.get(pool, 0):
            ask.add(pool)
    # Two DAGs may share what a pool has free.
    heads = [pool for _, pool, _ in _heads(dags)]
    ask.update(pool for pool in set(heads) if heads.count(pool) > 1)
    return Demand(freed, ask)


def choose(
    dags: Collection[OwnedDag], budget: Mapping[str, int], worker_id: str, free: int, now: datetime
) -> list[Claim]:
    """Claim in memory what may run: at most `free` attempts, and per pool at most `budget` slots."""
    left = dict(budget)
    claims: list[Claim] = []
    put_back: list[tuple[OwnedDag, str, Any]] = []
    heads = _heads(dags)
    heapq.heapify(heads)
    while heads and free > 0:
        _, pool, dag = heapq.heappop(heads)
        if dag.active >= dag.max_active_tasks:
            continue
        candidate = dag.head(pool)
        if candidate is None:
            continue
        _, _, _, run, instance = candidate
        if instance.task.pool_slots > left.get(pool, 0):
            continue
        heapq.heappop(dag.queues[pool])
        if dag.is_limited(run, instance.task):
            put_back.append((dag, pool, candidate))
        else:
            run.claim(instance, worker_id, now)
            dag.occupy(run, instance)
            left[pool] -= instance.task.pool_slots
            free -= 1
            claims.append((dag, run, instance))
        head = dag.head(pool)
        if head is not None:
            heapq.heappush(heads, (head[:3], pool, dag))
    for dag, pool, candidate in put_back:
        heapq.heappush(dag.queues[pool], candidate)
    return claims


def _heads(dags: Collection[OwnedDag]) -> list[tuple[Any, str, OwnedDag]]:
    """The first of each queue; nothing of a DAG that may not start more, or whose worker has not answered yet."""
    heads = []
    for dag in dags:
        if not dag.held or dag.is_paused or dag.active >= dag.max_active_tasks:
            continue
        for pool in dag.queues:
            head = dag.head(pool)
            if head is not None:
                heads.append((head[:3], pool, dag))
    return heads
