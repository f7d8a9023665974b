"""What a running task may ask of the cluster, as a contract, and where it finds the answerer.

Task code never opens the metastore. `Variable.get`, `ti.xcom_pull`, `TriggerDagRunOperator` and their kin
call `store()`. Three implementations pass the same suite (`tests/contracts/test_runtime_store.py`):

* `opskit.core.runner.gateway.GatewayStore` in an attempt: asks the worker's gateway process over a socket;
* `opskit.core.metastore.direct_store.DirectStore` in `opskit tasks test` and in the gateway itself;
* `MemoryStore` below, for `dag.test()` without a metastore and for unit tests.

Values are plain JSON values; times are aware UTC datetimes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from opskit.core.dag.connection import Connection
from opskit.errors import NotFound, UsageError


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One DagRun, as a task sees it."""

    dag_id: str
    run_id: str
    run_type: str
    state: str
    logical_date: datetime
    data_interval_start: datetime
    data_interval_end: datetime
    conf: dict[str, Any]
    start_date: datetime | None = None
    end_date: datetime | None = None
    partition_key: str | None = None
    partition_date: datetime | None = None


EventRow = dict[str, Any]
"""An event of an asset: `id, at` (datetime)`, name, uri, group, asset_extra` (of the asset)`, extra, source_dag_id,
source_task_id, source_run_id` (None when no task made it)`, source_map_index, aliases` (names, sorted)`,
partition_key` (None: of no partition)."""


class RuntimeStore(Protocol):
    """Every method may block while the metastore is down: it waits and retries, it does not fail."""

    def get_xcoms(
        self, dag_id: str, run_id: str, task_ids: list[str] | None, key: str, map_index: int | None = None
    ) -> list[tuple[str, int, Any]]:
        """`(task_id, map_index, value)` of the XComs with this key. `task_ids=None`: of all tasks; `map_index=None`: of
        all indexes. Tasks without one are left out. In the order of task_ids, then map_index."""
        ...

    def set_xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str, value: Any) -> None: ...

    def get_variable(self, key: str) -> str | None:
        """The stored text; None when there is no such variable."""
        ...

    def set_variable(self, key: str, value: str, description: str | None = None) -> None: ...

    def delete_variable(self, key: str) -> bool:
        """Whether there was one."""
        ...

    def get_connection(self, conn_id: str) -> Connection | None: ...

    def get_run(self, dag_id: str, run_id: str | None = None, logical_date: datetime | None = None) -> RunInfo | None:
        """The run with this run_id or this logical date."""
        ...

    def previous_run(self, dag_id: str, before: datetime, state: str | None = None) -> RunInfo | None:
        """The newest run with a logical date before `before` (in this state)."""
        ...

    def count_runs(self, dag_id: str, states: list[str], logical_dates: list[datetime]) -> int: ...

    def task_states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str | None]:
        """State of every task instance of a run, by `(task_id, map_index)`."""
        ...

    def find_dag(self, dag_id: str) -> dict[str, Any] | None:
        """A DAG of the cluster: `{"dag_id", "is_paused", "task_ids"}`, the ids of its newest version, sorted."""
        ...

    def trigger_dag_run(
        self,
        dag_id: str,
        *,
        run_id: str | None = None,
        logical_date: datetime | None = None,
        conf: dict[str, Any] | None = None,
        reset_existing: bool = False,
    ) -> RunInfo:
        """Create a manual run. NotFound for an unknown DAG; UsageError when the run exists and is not to be reset."""
        ...

    def find_asset(self, name: str | None = None, uri: str | None = None) -> dict[str, Any] | None:
        """The asset with this name (and this URI): `{"name", "uri", "group", "extra"}`."""
        ...

    def asset_events(
        self,
        *,
        name: str | None = None,
        uri: str | None = None,
        alias: str | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
        ascending: bool = True,
        limit: int | None = None,
    ) -> list[EventRow]:
        """Events of the asset with this name (and URI), or those that came through this alias, in the order in which
        they happened; `after` and `before` are excluded."""
        ...

    def triggering_asset_events(self, dag_id: str, run_id: str) -> list[EventRow]:
        """The events that made this run, the oldest first."""
        ...

    def get_state(self, scope: list[Any], key: str) -> Any:
        """What a task has kept under this key; None when there is nothing, or its time is over. `scope`: `["task",
        dag_id, run_id, task_id, map_index]`, or `["asset", name, uri]` (one of both may be None). NotFound for an
        unknown run or asset."""
        ...

    def set_state(self, scope: list[Any], key: str, value: Any, expires_at: datetime | None = None) -> None: ...

    def delete_state(self, scope: list[Any], key: str | None) -> None:
        """Forget one value, or all (None)."""
        ...


_store: RuntimeStore | None = None


def set_store(new: RuntimeStore | None) -> None:
    """Install the answerer of this process."""
    global _store
    _store = new


def current_store() -> RuntimeStore | None:
    """The answerer of this process, when there is one."""
    return _store


def store() -> RuntimeStore:
    """The answerer of this process. RuntimeError outside of a task, a test or a command."""
    if _store is None:
        raise RuntimeError("there is no metastore here: this code runs outside of a task")
    return _store


class MemoryStore:
    """A RuntimeStore in the memory of one process: for `dag.test()` and unit tests.

    Variables, connections and other DAGs' runs that it does not know are asked of `behind`, where there is one; what is
    written stays here. `dag_ids` are the DAGs that can be triggered (None: any)."""

    def __init__(self, behind: RuntimeStore | None = None, dag_ids: set[str] | None = None) -> None:
        self.behind = behind
        self.dag_ids = dag_ids
        self.variables: dict[str, str | None] = {}
        self.connections: dict[str, Connection] = {}
        self.runs: dict[tuple[str, str], RunInfo] = {}
        self.states: dict[tuple[str, str], dict[tuple[str, int], str | None]] = {}
        self.dags: dict[str, dict[str, Any]] = {}
        self._xcoms: dict[tuple[str, str], dict[tuple[str, int, str], Any]] = {}
        self.events: list[EventRow] = []
        """Events of assets, the oldest first."""
        self._kept: dict[tuple[Any, ...], dict[str, tuple[Any, datetime | None]]] = {}

    def add_run(self, run: RunInfo) -> None:
        """Add a run, or put it in the place of the one with its id."""
        self.runs[run.dag_id, run.run_id] = run

    def get_xcoms(
        self, dag_id: str, run_id: str, task_ids: list[str] | None, key: str, map_index: int | None = None
    ) -> list[tuple[str, int, Any]]:
        if (dag_id, run_id) not in self.runs and (dag_id, run_id) not in self._xcoms and self.behind is not None:
            return self.behind.get_xcoms(dag_id, run_id, task_ids, key, map_index)
        found = [
            (task_id, index, value)
            for (task_id, index, name), value in self._xcoms.get((dag_id, run_id), {}).items()
            if name == key and (task_ids is None or task_id in task_ids) and map_index in (None, index)
        ]
        order = {task_id: number for number, task_id in enumerate(task_ids or ())}
        return sorted(found, key=lambda row: (order.get(row[0], 0), row[0], row[1]))

    def set_xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str, value: Any) -> None:
        self._xcoms.setdefault((dag_id, run_id), {})[task_id, map_index, key] = value

    def clear_xcoms(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
        """Forget what a task instance has pushed, before it runs again."""
        xcoms = self._xcoms.get((dag_id, run_id), {})
        for name in [name for name in xcoms if name[:2] == (task_id, map_index)]:
            del xcoms[name]

    def get_variable(self, key: str) -> str | None:
        if key in self.variables:
            return self.variables[key]
        return self.behind.get_variable(key) if self.behind is not None else None

    def set_variable(self, key: str, value: str, description: str | None = None) -> None:
        self.variables[key] = value

    def delete_variable(self, key: str) -> bool:
        existed = self.get_variable(key) is not None
        self.variables[key] = None  # hides the one behind
        return existed

    def get_connection(self, conn_id: str) -> Connection | None:
        if conn_id in self.connections:
            return self.connections[conn_id]
        return self.behind.get_connection(conn_id) if self.behind is not None else None

    def get_run(self, dag_id: str, run_id: str | None = None, logical_date: datetime | None = None) -> RunInfo | None:
        for run in self._runs_of(dag_id):
            if (run_id is not None and run.run_id == run_id) or (
                logical_date is not None and run.logical_date == logical_date
            ):
                return run
        return self.behind.get_run(dag_id, run_id, logical_date) if self.behind is not None else None

    def previous_run(self, dag_id: str, before: datetime, state: str | None = None) -> RunInfo | None:
        earlier = [
            run for run in self._runs_of(dag_id) if run.logical_date < before and (state is None or run.state == state)
        ]
        if earlier:
            return max(earlier, key=lambda run: run.logical_date)
        return self.behind.previous_run(dag_id, before, state) if self.behind is not None else None

    def count_runs(self, dag_id: str, states: list[str], logical_dates: list[datetime]) -> int:
        own = self._runs_of(dag_id)
        count = sum(1 for run in own if run.state in states and run.logical_date in logical_dates)
        if self.behind is not None:
            known = {run.logical_date for run in own}
            count += self.behind.count_runs(dag_id, states, [date for date in logical_dates if date not in known])
        return count

    def task_states(self, dag_id: str, run_id: str) -> dict[tuple[str, int], str | None]:
        if (dag_id, run_id) in self.runs or self.behind is None:
            return dict(self.states.get((dag_id, run_id), {}))
        return self.behind.task_states(dag_id, run_id)

    def find_dag(self, dag_id: str) -> dict[str, Any] | None:
        if dag_id in self.dags:
            return dict(self.dags[dag_id])
        return self.behind.find_dag(dag_id) if self.behind is not None else None

    def trigger_dag_run(
        self,
        dag_id: str,
        *,
        run_id: str | None = None,
        logical_date: datetime | None = None,
        conf: dict[str, Any] | None = None,
        reset_existing: bool = False,
    ) -> RunInfo:
        if self.dag_ids is not None and dag_id not in self.dag_ids:
            raise NotFound(f"there is no DAG {dag_id!r}")
        at = logical_date or datetime.now(UTC)
        run_id = run_id or f"manual__{at.isoformat()}"
        existing = next(
            (run for run in self._runs_of(dag_id) if run.run_id == run_id or run.logical_date == at),
            None,
        )
        if existing is not None:
            if not reset_existing:
                raise UsageError(f"DAG {dag_id} has a run {existing.run_id} already")
            del self.runs[dag_id, existing.run_id]
            self.states.pop((dag_id, existing.run_id), None)
            run_id = existing.run_id
        run = RunInfo(dag_id, run_id, "manual", "queued", at, at, at, dict(conf or {}))
        self.add_run(run)
        return run

    def add_asset_events(self, made: list[dict[str, Any]], source: tuple[str, str, str, int] | None = None) -> None:
        """Take events as a task that succeeded gives them. `source`: its dag_id, task_id, run_id and map_index."""
        dag_id, task_id, run_id, map_index = source or (None, None, None, -1)
        for event in made:
            self.events.append(
                {
                    "id": len(self.events) + 1,
                    "at": datetime.now(UTC),
                    "name": event["name"],
                    "uri": event["uri"],
                    "group": event["group"],
                    "asset_extra": {},
                    "extra": event["extra"],
                    "source_dag_id": dag_id,
                    "source_task_id": task_id,
                    "source_run_id": run_id,
                    "source_map_index": map_index,
                    "aliases": sorted(event["aliases"]),
                    "partition_key": event.get("partition_key"),
                }
            )

    def find_asset(self, name: str | None = None, uri: str | None = None) -> dict[str, Any] | None:
        for event in self.events:
            if name in (None, event["name"]) and uri in (None, event["uri"]):
                return {"name": event["name"], "uri": event["uri"], "group": event["group"], "extra": {}}
        return self.behind.find_asset(name, uri) if self.behind is not None else None

    def asset_events(
        self,
        *,
        name: str | None = None,
        uri: str | None = None,
        alias: str | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
        ascending: bool = True,
        limit: int | None = None,
    ) -> list[EventRow]:
        found: list[EventRow] = []
        if self.behind is not None:
            found += self.behind.asset_events(name=name, uri=uri, alias=alias, after=after, before=before)
        found += [
            event
            for event in self.events
            if (alias in event["aliases"] if alias is not None else event["name"] == name or name is None)
            and uri in (None, event["uri"])
            and (after is None or event["at"] > after)
            and (before is None or event["at"] < before)
        ]
        return (found if ascending else found[::-1])[:limit]

    def triggering_asset_events(self, dag_id: str, run_id: str) -> list[EventRow]:
        if (dag_id, run_id) in self.runs or self.behind is None:
            return []
        return self.behind.triggering_asset_events(dag_id, run_id)

    def get_state(self, scope: list[Any], key: str) -> Any:
        value, expires_at = self._kept.get(self._whose(scope), {}).get(key, (None, None))
        if value is None or (expires_at is not None and expires_at <= datetime.now(UTC)):
            return None
        return json.loads(value)

    def set_state(self, scope: list[Any], key: str, value: Any, expires_at: datetime | None = None) -> None:
        try:
            text = json.dumps(value)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the value of {key!r} can't be written as JSON: {error}") from error
        self._kept.setdefault(self._whose(scope), {})[key] = (text, expires_at)

    def delete_state(self, scope: list[Any], key: str | None) -> None:
        kept = self._kept.get(self._whose(scope), {})
        if key is None:
            kept.clear()
        else:
            kept.pop(key, None)

    def _whose(self, scope: list[Any]) -> tuple[Any, ...]:
        if scope[0] == "asset" and scope[1] is None:
            found = self.find_asset(uri=scope[2])
            return ("asset", scope[2] if found is None else found["name"])
        return tuple(scope[:2]) if scope[0] == "asset" else tuple(scope)

    def _runs_of(self, dag_id: str) -> list[RunInfo]:
        return [run for (owner, _), run in self.runs.items() if owner == dag_id]
