"""What the scheduler and the web UI know of a DAG: plain values, read from JSON, no user code.

`opskit.core.dag.serialization.serialize(dag)` makes the JSON form from a DAG; `load` reads it.
Durations are seconds, times are aware UTC datetimes (ISO 8601 with offset in JSON).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from typing import Any

from opskit.core.dag import lengths

FORMAT = 1
"""Version of the JSON form. A reader refuses a newer one."""


@dataclass(frozen=True, slots=True)
class SerializedTask:
    """One task. `upstream` and `downstream` are the direct neighbours' task_ids, sorted."""

    task_id: str
    operator: str
    upstream: tuple[str, ...] = ()
    downstream: tuple[str, ...] = ()
    trigger_rule: str = "all_success"
    owner: str = "opskit"
    retries: int = 0
    retry_delay: float = 300.0
    retry_exponential_backoff: bool = False
    max_retry_delay: float | None = None
    execution_timeout: float | None = None
    depends_on_past: bool = False
    wait_for_downstream: bool = False
    pool: str = "default_pool"
    pool_slots: int = 1
    priority_weight: int = 1
    """The effective weight: the weight rule (downstream, upstream, absolute) is already applied."""
    max_active_tis_per_dag: int | None = None
    queue: str = "default"
    isolation: str | None = None
    """fork or reuse; None: core.isolation decides."""
    reschedules: bool = False
    """A sensor in reschedule mode."""
    has_on_failure_callback: bool = False
    has_on_retry_callback: bool = False
    is_empty: bool = False
    """Does nothing and has no callbacks: the scheduler ends it without starting a process."""
    group: str | None = None
    """Full id of the task group it belongs to."""
    expand: dict[str, Any] | None = None
    """How many instances it is mapped to: a length as `opskit.core.dag.lengths` defines it. None: it is not mapped."""
    mapped_group: str | None = None
    """Full id of the mapped task group around it. Its tasks have the same `expand`; instance i follows instance i."""
    is_setup: bool = False
    is_teardown: bool = False
    setups: tuple[str, ...] = ()
    """Setup tasks that it needs and that are not among `upstream`: they come before it by way of other tasks."""
    leaf: bool | None = None
    """Whether its state decides that of the run. None: it does when nothing is downstream."""
    max_active_tis_per_dagrun: int | None = None
    start_date: datetime | None = None
    """Its own, where that is later than the DAG's: it has no part in runs of an earlier logical date."""
    end_date: datetime | None = None
    """Its own, where that is earlier than the DAG's."""
    outlets: tuple[dict[str, Any], ...] = ()
    """The assets and aliases that it produces, each as a condition (`opskit.core.dag.asset_conditions`) of one leaf."""
    inlets: tuple[dict[str, Any], ...] = ()
    """Those that it reads."""
    sla: float | None = None
    """Seconds after the end of a scheduled run's data interval within which it is to succeed."""
    ui: dict[str, Any] = field(default_factory=dict)
    """For display only: doc_md, color, template fields as text …"""


@dataclass(frozen=True, slots=True)
class MappedUnit:
    """Tasks that are mapped together: one, or all of a mapped task group."""

    tasks: tuple[SerializedTask, ...]
    expand: dict[str, Any]
    group: str | None

    @property
    def sources(self) -> list[tuple[str, str]]:
        """`(task_id, key)` of the XComs that decide how many instances there are."""
        return list(lengths.sources(self.expand))


@dataclass(frozen=True)
class SerializedDag:
    """One DAG. `tasks` is in a topological order."""

    dag_id: str
    relative_fileloc: str
    """Path of the DAG file below the DAG folder."""
    timetable: dict[str, Any]
    """As `opskit.core.dag.timetables.serialize` gives it."""
    tasks: tuple[SerializedTask, ...]
    description: str | None = None
    owners: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    timezone: str = "UTC"
    start_date: datetime | None = None
    """The DAG's, or the earliest of its tasks."""
    end_date: datetime | None = None
    catchup: bool | None = None
    """None: scheduler.catchup_by_default decides."""
    first_run: str | None = None
    """Without catchup, the first run of a DAG that has none: "latest" (whose time has passed, too) or "next" (the first
    after it was unpaused). None: scheduler.first_run decides."""
    max_active_runs: int | None = None
    max_active_tasks: int | None = None
    dagrun_timeout: float | None = None
    fail_fast: bool = False
    """The first task that fails for good ends the run."""
    max_consecutive_failed_dag_runs: int | None = None
    """So many failed runs in a row pause the DAG. None: the configuration decides, 0: never."""
    is_paused_upon_creation: bool | None = None
    has_on_success_callback: bool = False
    has_on_failure_callback: bool = False
    has_sla_miss_callback: bool = False
    deadlines: tuple[dict[str, Any], ...] = ()
    """As `opskit.core.dag.deadlines.forms` gives them."""
    params: dict[str, Any] = field(default_factory=dict)
    """Default values of the DAG's params; plain JSON."""
    param_rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What is known of a param beside its default, where there is more: `schema` (JSON schema), `description`,
    `required` (it has no default)."""
    groups: tuple[dict[str, Any], ...] = ()
    """Task groups: {"group_id", "parent", "tooltip"}."""
    ui: dict[str, Any] = field(default_factory=dict)
    """For display only: doc_md, default_view, schedule text …"""

    def task(self, task_id: str) -> SerializedTask:
        return self.by_id[task_id]

    @cached_property
    def by_id(self) -> dict[str, SerializedTask]:
        return {task.task_id: task for task in self.tasks}

    @cached_property
    def has_slas(self) -> bool:
        """Whether a task has to succeed by a time."""
        return any(task.sla is not None for task in self.tasks)

    @cached_property
    def mapped_units(self) -> dict[str, MappedUnit]:
        """By the task_id of each task in them."""
        groups: dict[str, list[SerializedTask]] = {}
        found: dict[str, MappedUnit] = {}
        for task in self.tasks:
            if task.mapped_group is not None:
                groups.setdefault(task.mapped_group, []).append(task)
            elif task.expand is not None:
                found[task.task_id] = MappedUnit((task,), task.expand, None)
        for group, tasks in groups.items():
            expand = next((task.expand for task in tasks if task.expand is not None), None)
            if expand is None:
                raise ValueError(f"the tasks of mapped task group {group} say nothing of its length")
            unit = MappedUnit(tuple(tasks), expand, group)
            found.update((task.task_id, unit) for task in tasks)
        return found

    @cached_property
    def all_units(self) -> list[MappedUnit]:
        return list({id(unit): unit for unit in self.mapped_units.values()}.values())

    @cached_property
    def mapped_over(self) -> dict[str, list[MappedUnit]]:
        """task_id → what is mapped over its XComs."""
        found: dict[str, list[MappedUnit]] = {}
        for unit in self.all_units:
            for task_id in dict.fromkeys(task_id for task_id, _ in unit.sources):
                found.setdefault(task_id, []).append(unit)
        return found

    @cached_property
    def set_up_by(self) -> dict[str, list[str]]:
        """Setup task → the tasks that need it and do not follow it directly."""
        found: dict[str, list[str]] = {}
        for task in self.tasks:
            for setup in task.setups:
                found.setdefault(setup, []).append(task.task_id)
        return found


_DAG_FIELDS = {f.name for f in fields(SerializedDag)}
_TASK_FIELDS = {f.name for f in fields(SerializedTask)}


def load(data: dict[str, Any]) -> SerializedDag:
    """Read the JSON form. ValueError when a newer opskit wrote it. Keys that are unknown here are ignored."""
    if data.get("format", 0) > FORMAT:
        raise ValueError(f"serialized DAG has format {data['format']}, this opskit reads up to {FORMAT}")
    tasks = tuple(_load_task(task) for task in data["tasks"])
    rest: dict[str, Any] = {key: data[key] for key in _DAG_FIELDS & data.keys() if key != "tasks"}
    for key in ("start_date", "end_date"):
        if rest.get(key):
            rest[key] = datetime.fromisoformat(rest[key])
    for key in ("owners", "tags", "groups", "deadlines"):
        if key in rest:
            rest[key] = tuple(rest[key])
    return SerializedDag(tasks=tasks, **rest)


def _load_task(data: dict[str, Any]) -> SerializedTask:
    rest = {key: data[key] for key in _TASK_FIELDS & data.keys()}
    for key in ("upstream", "downstream", "setups", "outlets", "inlets"):
        if key in rest:
            rest[key] = tuple(rest[key])
    for key in ("start_date", "end_date"):
        if rest.get(key):
            rest[key] = datetime.fromisoformat(rest[key])
    return SerializedTask(**rest)
