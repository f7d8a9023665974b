"""What a deployment would change in the DAGs, and what in them will not work as somebody may expect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from opskit.errors import MetastoreUnavailable
from opskit.platforms import Platform
from opskit.platforms.base import LoadedDagFile
from opskit.platforms.dag_facts import MANY_RUNS, DagFacts, Stored

_MANY_AT_ONCE = 50
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class DagChange:
    """How one DAG differs from the version that the metastore has."""

    dag_id: str
    path: str
    is_new: bool
    added: tuple[str, ...]
    """Tasks; of a new DAG all."""
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    changes: tuple[DagChange, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be looked at, and why."""


def advise(platform: Platform, files: Sequence[LoadedDagFile]) -> Advice:
    """Look at DAG files that were loaded without an error."""
    dags = [(file.path, dag) for file in files if file.error is None for dag in file.facts]
    budget = float(platform.config.get("deploy", "import_seconds"))
    warnings = [
        f"{file.path}: it takes {file.seconds:.1f} s to load, whenever it is looked at (budget: {budget:g} s)"
        for file in files
        if file.error is None and budget and file.seconds > budget
    ]
    warnings += [f"{path}: {dag.dag_id}: {doubt}" for path, dag in dags for doubt in dag.doubts]
    if not dags:
        return Advice((), tuple(warnings))
    try:
        stored = platform.dag_facts.stored([dag.dag_id for _, dag in dags])
        changes = tuple(change for path, dag in dags if (change := _change(path, dag, stored)) is not None)
        removed = {change.dag_id: change.removed for change in changes if change.removed}
        unfinished = platform.dag_facts.unfinished(removed) if removed else {}
    except MetastoreUnavailable as error:
        # A machine that only deploys has no metastore.
        return Advice((), tuple(warnings), (f"pools, connections, variables and tasks were not compared: {error}",))
    for path, dag in dags:
        warnings += [f"{path}: {dag.dag_id}: {text}" for text in _missing(dag, stored)]
    paths = {dag.dag_id: path for path, dag in dags}
    for (dag_id, task_id), count in sorted(unfinished.items()):
        warnings.append(f"{paths[dag_id]}: {dag_id}: task {task_id} goes, and has {count} unfinished task instances")
    return Advice(changes, tuple(warnings))


def _change(path: str, dag: DagFacts, stored: Stored) -> DagChange | None:
    before = stored.tasks.get(dag.dag_id)
    if before == dag.tasks:
        return None
    old = before or frozenset()
    return DagChange(dag.dag_id, path, before is None, tuple(sorted(dag.tasks - old)), tuple(sorted(old - dag.tasks)))


def _missing(dag: DagFacts, stored: Stored) -> Iterator[str]:
    if pools := dag.pools - stored.pools:
        yield f"there is no pool {_names(pools)}: tasks that want it wait until somebody makes it (opskit pools set)"
    if connections := dag.connections - stored.connections:
        yield f"the metastore has no connection {_names(connections)} (opskit connections add)"
    if variables := dag.variables - stored.variables:
        yield f"the metastore has no variable {_names(variables)} (opskit variables set)"
    if dag.due_runs > _MANY_AT_ONCE and dag.dag_id not in stored.with_runs:
        many = f"{MANY_RUNS:,} or more" if dag.due_runs >= MANY_RUNS else f"{dag.due_runs:,}"
        yield f"catchup is on: {many} runs are due as soon as it is unpaused"


def _names(names: frozenset[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
