"""The core's facts about DAGs: from their serialized form, and from its metastore."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from opskit.config import Config
from opskit.core.dag import serialized, timetables
from opskit.core.scheduler.next_runs import next_runs
from opskit.platforms.dag_facts import MANY_RUNS, DagFacts, Stored

if TYPE_CHECKING:
    from opskit.core.metastore.engine import Engine

_VARIABLE = re.compile(r"""\bvar\.(?:value|json)(?:\.get\(\s*['"]([^'"]+)['"]|\.(?!get\b)(\w+)|\[['"]([^'"]+)['"]\])""")
_TOO_OFTEN = timedelta(seconds=10)


def facts_of(data: Mapping[str, Any], catchup_by_default: bool, now: datetime) -> DagFacts:
    """The facts of a DAG in the form of `opskit.core.dag.serialization`."""
    dag = serialized.load(dict(data))
    texts = (str(text) for task in dag.tasks for text in task.ui.get("fields", {}).values())
    named = (next(filter(None, match)) for text in texts if "var." in text for match in _VARIABLE.findall(text))
    due, doubts = _schedule(dag, catchup_by_default, now)
    return DagFacts(
        dag_id=dag.dag_id,
        tasks=frozenset(task.task_id for task in dag.tasks),
        pools=frozenset(task.pool for task in dag.tasks),
        connections=frozenset(name for task in dag.tasks for name in task.ui.get("connections", ())),
        variables=frozenset(named),
        due_runs=due,
        doubts=doubts,
    )


def _schedule(dag: serialized.SerializedDag, catchup_by_default: bool, now: datetime) -> tuple[int, tuple[str, ...]]:
    """How many runs are due if none was made so far, and what is odd."""
    kind = dag.timetable.get("type")
    if kind in ("none", "continuous"):
        return 0, ()
    if dag.start_date is None:
        return 0, ("it has a schedule, but no start_date: it never runs by itself",)
    if dag.end_date is not None and dag.end_date < now:
        return 0, (f"its end_date {dag.end_date:%Y-%m-%d} has passed: it never runs by itself",)
    if timetables.is_asked(dag.timetable):
        return 0, ("its file decides when it runs: how many runs are due is not known before",)
    upcoming = next_runs(dag, None, catchup_by_default, now, 2)
    if not upcoming:
        return 0, ("its schedule has no date after its start_date: it never runs by itself",)
    doubts: list[str] = []
    if len(upcoming) == 2 and upcoming[1].run_after - upcoming[0].run_after < _TOO_OFTEN:
        seconds = (upcoming[1].run_after - upcoming[0].run_after).total_seconds()
        doubts.append(f"it runs every {seconds:g} s")
    if len(upcoming) == 2 and upcoming[1].run_after <= now:
        many = next_runs(dag, None, catchup_by_default, now, MANY_RUNS)
        return sum(run.run_after <= now for run in many), tuple(doubts)
    return sum(run.run_after <= now for run in upcoming), tuple(doubts)


class CoreDagFacts:
    def __init__(self, config: Config) -> None:
        self._config = config

    def warm_up(self) -> None:
        from opskit.core.metastore import connections, dag_loads, dags, pools, variables  # noqa: F401

    def stored(self, dag_ids: Collection[str]) -> Stored:
        from opskit.core.metastore import connections, dag_loads, dags, pools, variables
        from opskit.core.metastore.engine import reading

        with self._engine() as engine, reading(engine) as connection:
            return Stored(
                tasks={dag_id: frozenset(tasks) for dag_id, tasks in dags.newest_tasks(connection, dag_ids).items()},
                with_runs=frozenset(dag_loads.last_automated(connection, dag_ids)),
                pools=frozenset(pool.pool for pool in pools.list_pools(connection)),
                connections=frozenset(shown.conn_id for shown in connections.show_connections(connection)),
                variables=frozenset(key for key, _ in variables.variable_keys(connection)),
            )

    def unfinished(self, tasks: Mapping[str, Collection[str]]) -> dict[tuple[str, str], int]:
        from opskit.core.metastore import dags
        from opskit.core.metastore.engine import reading

        with self._engine() as engine, reading(engine) as connection:
            return dags.unfinished_tasks(connection, tasks)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        from opskit.core.metastore.engine import open_engine

        engine = open_engine(self._config, pool_size=1)
        try:
            yield engine
        finally:
            engine.dispose()
