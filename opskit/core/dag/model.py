"""DAG: tasks, their order and their schedule; arguments and attributes are named as in Airflow 2."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from opskit.core.dag import authoring_context, dialect, schedules
from opskit.core.dag.base_operator import LONGEST_ID, BaseOperator, Callbacks
from opskit.core.dag.dag_state import DagState
from opskit.core.dag.dependencies import Label, chain, chain_linear, cross_downstream
from opskit.core.dag.params import NOTSET, DagParam, ParamsDict
from opskit.core.dag.task_group import VALID_ID, TaskGroup
from opskit.core.dag.timetables import (
    DEFAULT_SCHEDULE,
    DagRunInfo,
    DataInterval,
    TimeRestriction,
    Timetable,
    make_timetable,
    manual_interval,
    next_run,
)
from opskit.core.dag.zones import aware, default_zone, load_zone, utc
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    from opskit.core.dag.testing import TestRun

__all__ = ["DAG", "Label", "chain", "chain_linear", "cross_downstream"]


class DAG(DagState):
    """Used as `with DAG("sales", schedule="@daily", start_date=…):`.

    `catchup`, `max_active_runs` and `max_active_tasks` are None when not given: the configuration decides. A naive
    start_date is wall time of the DAG's zone: the one of another date that has a zone, else core.default_timezone."""

    partial = False
    """Whether it is only some of the tasks of a DAG."""

    def __init__(
        self,
        dag_id: str,
        description: str | None = None,
        schedule: Any = NOTSET,
        schedule_interval: Any = NOTSET,
        timetable: Timetable | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        full_filepath: str | None = None,
        template_searchpath: str | Iterable[str] | None = None,
        template_undefined: type | None = None,
        user_defined_macros: dict[str, Any] | None = None,
        user_defined_filters: dict[str, Any] | None = None,
        default_args: dict[str, Any] | None = None,
        concurrency: int | None = None,
        max_active_tasks: int | None = None,
        max_active_runs: int | None = None,
        max_consecutive_failed_dag_runs: int | None = None,
        dagrun_timeout: timedelta | None = None,
        sla_miss_callback: Callbacks = None,
        default_view: str = "grid",
        orientation: str = "LR",
        catchup: bool | None = None,
        on_success_callback: Callbacks = None,
        on_failure_callback: Callbacks = None,
        doc_md: str | None = None,
        params: Mapping[str, Any] | None = None,
        access_control: dict[str, Any] | None = None,
        is_paused_upon_creation: bool | None = None,
        jinja_environment_kwargs: dict[str, Any] | None = None,
        render_template_as_native_obj: bool = False,
        tags: Iterable[str] | None = None,
        owner_links: dict[str, str] | None = None,
        auto_register: bool = True,
        fail_stop: bool = False,
        dag_display_name: str | None = None,
        fail_fast: bool = False,
        deadline: Any = None,
        allowed_run_types: Any = None,
        disable_bundle_versioning: bool | None = None,
        rerun_with_latest_version: bool | None = None,
        timezone: str | tzinfo | None = None,
        run_if: Callable[[DataInterval, datetime], Any] | None = None,
        first_run: str | None = None,
    ) -> None:
        self.dag_id = _checked_dag_id(dag_id)
        self.dialect = dialect.current()
        """The Airflow that the file was written for: 2, 3, or None for opskit's own defaults."""
        given = [
            name
            for name, value in (
                ("schedule", schedule),
                ("schedule_interval", schedule_interval),
                ("timetable", timetable if timetable is not None else NOTSET),
            )
            if value is not NOTSET
        ]
        if len(given) > 1:
            raise DagInvalid(f"DAG {dag_id}: both {given[0]} and {given[1]} are given", hint="give schedule alone")
        self.default_args = dict(default_args or {})
        for name in ("start_date", "end_date"):
            if isinstance(self.default_args.get(name), str):
                self.default_args[name] = _parsed_date(self.default_args[name], name, dag_id)
        self.params = ParamsDict(self.default_args.pop("params", None)).merged(params)
        start_date = start_date if start_date is not None else self.default_args.get("start_date")
        end_date = end_date if end_date is not None else self.default_args.get("end_date")
        for name, moment in (("start_date", start_date), ("end_date", end_date)):
            if moment is not None and not isinstance(moment, datetime):
                raise DagInvalid(f"DAG {dag_id}: {name} is {moment!r}, a datetime is needed")
        self.timezone: tzinfo = _zone_of(timezone, start_date, end_date)
        self.start_date = utc(aware(start_date, self.timezone)) if start_date is not None else None
        self.end_date = utc(aware(end_date, self.timezone)) if end_date is not None else None
        for name in ("start_date", "end_date"):
            if isinstance(self.default_args.get(name), datetime):
                self.default_args[name] = aware(self.default_args[name], self.timezone)
        self.schedule = (
            schedule if schedule is not NOTSET else schedule_interval if schedule_interval is not NOTSET else timetable
        )
        spoken = dialect.current()
        if not given and spoken == 2:
            self.schedule = DEFAULT_SCHEDULE
        try:
            self.timetable = make_timetable(self.schedule, self.timezone)
        except DagInvalid as error:
            raise DagInvalid(f"DAG {dag_id}: {error}", hint=error.hint) from None
        self.description = description
        self.template_searchpath = (
            [template_searchpath] if isinstance(template_searchpath, str) else list(template_searchpath or [])
        )
        self.template_undefined = template_undefined
        self.user_defined_macros = user_defined_macros
        self.user_defined_filters = user_defined_filters
        self.max_active_tasks = _count(
            max_active_tasks if max_active_tasks is not None else concurrency, "max_active_tasks", dag_id
        )
        self.max_active_runs = _count(max_active_runs, "max_active_runs", dag_id)
        limit = self.timetable.active_runs_limit
        if limit is not None:
            if self.max_active_runs is not None and self.max_active_runs > limit:
                raise DagInvalid(f"DAG {dag_id}: max_active_runs is {max_active_runs}, {self.schedule} allows {limit}")
            self.max_active_runs = limit
        self.max_consecutive_failed_dag_runs = max_consecutive_failed_dag_runs
        if dagrun_timeout is not None and not isinstance(dagrun_timeout, timedelta):
            raise DagInvalid(f"DAG {dag_id}: dagrun_timeout is {dagrun_timeout!r}, a timedelta is needed")
        self.dagrun_timeout = dagrun_timeout
        self.sla_miss_callback = sla_miss_callback
        self.default_view = default_view
        self.orientation = orientation
        self.run_if = schedules.checked_run_if(run_if, self.timetable, dag_id)
        self.first_run = schedules.checked_first_run(first_run, catchup, dag_id)
        self.catchup = catchup if catchup is not None or spoken is None else spoken == 2
        self.on_success_callback = on_success_callback
        self.on_failure_callback = on_failure_callback
        self.doc_md = doc_md
        self.access_control = access_control
        self.is_paused_upon_creation = is_paused_upon_creation
        self.jinja_environment_kwargs = jinja_environment_kwargs
        self.render_template_as_native_obj = render_template_as_native_obj
        self.tags = [tags] if isinstance(tags, str) else list(tags or [])
        self.owner_links = owner_links or {}
        self.auto_register = auto_register
        self.fail_fast = bool(fail_fast or fail_stop)
        """Whether the first failure of a task ends the run: what has not ended yet is skipped, what runs is failed."""
        self.deadline = deadline
        self.allowed_run_types = _run_types(allowed_run_types, dag_id)
        """The types that a run may have (manual, scheduled …); None: all."""
        self.disable_bundle_versioning = disable_bundle_versioning
        self.rerun_with_latest_version = rerun_with_latest_version
        self.dag_display_name = dag_display_name or dag_id
        self.dialect = dialect.current()
        """2 or 3: the Airflow that its file was written for; None for a file that knows only opskit."""
        self.task_dict: dict[str, BaseOperator] = {}
        self.edge_info: dict[str, dict[str, dict[str, Any]]] = {}
        self.fileloc = full_filepath or _calling_file()
        self.relative_fileloc = ""
        self.task_group = TaskGroup(None, dag=self)

    def __enter__(self) -> DAG:
        authoring_context.push_dag(self)
        return self

    def __exit__(self, *_: object) -> None:
        authoring_context.pop_dag()

    def add_task(self, task: BaseOperator) -> None:
        """Take a task that was made without a DAG."""
        task.dag = self

    def add_tasks(self, tasks: Iterable[BaseOperator]) -> None:
        for task in tasks:
            self.add_task(task)

    def _adopt(self, task: BaseOperator) -> None:
        known = self.task_dict.get(task.task_id)
        if known is not None and known is not task:
            raise DagInvalid(
                f"DAG {self.dag_id} has two tasks with the id {task.task_id!r}", hint="give one of them another task_id"
            )
        if task.task_id in self.task_group.used_group_ids:
            raise DagInvalid(f"{task.task_id!r} is the id of a task and of a task group of DAG {self.dag_id}")
        self.task_dict[task.task_id] = task

    def set_dependency(self, upstream_task_id: str, downstream_task_id: str) -> None:
        self.get_task(upstream_task_id).set_downstream(self.get_task(downstream_task_id))

    def set_edge_info(self, upstream_task_id: str, downstream_task_id: str, info: dict[str, Any]) -> None:
        self.edge_info.setdefault(upstream_task_id, {})[downstream_task_id] = info

    def get_edge_info(self, upstream_task_id: str, downstream_task_id: str) -> dict[str, Any]:
        return self.edge_info.get(upstream_task_id, {}).get(downstream_task_id, {})

    def param(self, name: str, default: Any = NOTSET) -> DagParam:
        """A value that stands for the param of this name until the task runs."""
        return DagParam(name, default)

    @property
    def task(self) -> Any:
        """`@dag.task` on a function: as `@task`, for tasks of this DAG."""
        from opskit.core.dag.taskflow import task

        return functools.partial(task, dag=self)

    @property
    def schedule_interval(self) -> Any:
        return self.schedule

    @property
    def fail_stop(self) -> bool:
        return self.fail_fast

    @property
    def concurrency(self) -> int | None:
        return self.max_active_tasks

    @property
    def normalized_schedule_interval(self) -> Any:
        """The schedule with a preset written out as cron expression."""
        expression = getattr(self.timetable, "expression", None)
        return expression if isinstance(self.schedule, str) and expression else self.schedule

    @property
    def safe_dag_id(self) -> str:
        return self.dag_id.replace(".", "__dot__")

    @property
    def subdags(self) -> list[DAG]:
        """The DAGs of its SubDagOperators."""
        return [subdag for task in self.tasks if isinstance(subdag := getattr(task, "subdag", None), DAG)]

    @property
    def display_name(self) -> str:
        return self.dag_display_name

    @property
    def folder(self) -> str:
        """The folder of the DAG file."""
        return self.fileloc.rpartition("/")[0]

    @property
    def filepath(self) -> str:
        return self.relative_fileloc or self.fileloc

    @property
    def tasks(self) -> list[BaseOperator]:
        return list(self.task_dict.values())

    @property
    def task_ids(self) -> list[str]:
        return list(self.task_dict)

    @property
    def roots(self) -> list[BaseOperator]:
        return [task for task in self.task_dict.values() if not task.upstream_task_ids]

    @property
    def leaves(self) -> list[BaseOperator]:
        return [task for task in self.task_dict.values() if not task.downstream_task_ids]

    @property
    def owner(self) -> str:
        return ", ".join(sorted({str(task.owner) for task in self.task_dict.values()}))

    @property
    def task_group_dict(self) -> dict[str, TaskGroup]:
        """Every task group by its full id."""
        return {str(group.group_id): group for group in self.task_group.iter_groups()}

    def has_task(self, task_id: str) -> bool:
        return task_id in self.task_dict

    def has_task_group(self, task_group_id: str) -> bool:
        return task_group_id in self.task_group_dict

    def get_task(self, task_id: str, include_subdags: bool = False) -> BaseOperator:
        """DagInvalid when there is none of this id."""
        try:
            return self.task_dict[task_id]
        except KeyError:
            raise DagInvalid(f"DAG {self.dag_id} has no task {task_id!r}") from None

    @property
    def mapped_over(self) -> frozenset[str]:
        """Ids of the tasks whose output something is mapped over."""
        found: frozenset[str] | None = self.__dict__.get("_mapped_over")
        if found is None:
            inputs = [task.expand_input for task in self.tasks if task.is_mapped]
            inputs += [group.expand_input for group in self.task_group.iter_groups() if group.is_mapped]
            found = self._mapped_over = frozenset(
                task.task_id for expand_input in inputs if expand_input for task in expand_input.iter_references()
            )
        return found

    def topological_sort(self) -> tuple[BaseOperator, ...]:
        """Tasks, each after its upstream tasks; in the order of the file where that is free.

        DagInvalid, with the tasks of a cycle, when there is one."""
        missing = {task_id: len(task.upstream_task_ids) for task_id, task in self.task_dict.items()}
        ready = [task_id for task_id, count in missing.items() if not count]
        order: list[BaseOperator] = []
        position = 0
        while position < len(ready):
            task = self.task_dict[ready[position]]
            position += 1
            order.append(task)
            # The order of the file, not of a set: the same file always gives the same order.
            downstream = task.downstream_task_ids
            for task_id in sorted(downstream) if len(downstream) > 1 else downstream:
                missing[task_id] -= 1
                if not missing[task_id]:
                    ready.append(task_id)
        if len(order) < len(self.task_dict):
            cycle = self._find_cycle({task_id for task_id, count in missing.items() if count})
            raise DagInvalid(f"DAG {self.dag_id} has a cycle: {' >> '.join(cycle)}")
        return tuple(order)

    def _find_cycle(self, among: set[str]) -> list[str]:
        # Each of these waits for another of them, so going upstream must come back to a task seen before.
        path = [min(among)]
        while True:
            before = min(self.task_dict[path[-1]].upstream_task_ids & among)
            if before in path:
                return [before, *reversed(path[path.index(before) :])]
            path.append(before)

    def validate(self) -> None:
        """DagInvalid for a cycle, a bad cron expression, or a schedule with params that have no value."""
        from opskit.core.dag import timetables
        from opskit.core.dag.exceptions import ParamValidationError

        self.topological_sort()
        self._validate_setup_teardown()
        if self.fail_fast:
            for task in self.tasks:
                if task.trigger_rule not in ("all_success", "all_done_setup_success"):
                    raise DagInvalid(
                        f"task {task.task_id} of the fail-fast DAG {self.dag_id} has the trigger rule "
                        f"{task.trigger_rule}",
                        hint="in such a DAG tasks have the trigger rule all_success",
                    )
        try:
            timetables.check(self.timetable)
        except DagInvalid as error:
            raise DagInvalid(f"DAG {self.dag_id}: {error}", hint=error.hint) from None
        if self.timetable.can_be_scheduled and self.params:
            try:
                self.params.validate()
            except ParamValidationError as error:
                raise DagInvalid(
                    f"DAG {self.dag_id} has a schedule, but {error}",
                    hint="give every param of a scheduled DAG a valid default",
                ) from None

    def _validate_setup_teardown(self) -> None:
        for task in self.tasks:
            if task.is_setup:
                for below in task.downstream_list:
                    if not below.is_teardown and below.trigger_rule != "all_success":
                        raise DagInvalid(
                            f"task {below.task_id} has the trigger rule {below.trigger_rule}, but follows the setup "
                            f"{task.task_id}",
                            hint="what follows a setup has the trigger rule all_success",
                        )

    @property
    def teardowns(self) -> list[BaseOperator]:
        return [task for task in self.tasks if task.is_teardown]

    def infer_automated_data_interval(self, logical_date: datetime) -> DataInterval:
        return manual_interval(self.timetable, logical_date)

    def get_run_data_interval(self, run: Any) -> DataInterval:
        return DataInterval(run.data_interval_start, run.data_interval_end)

    def next_dagrun_info(
        self,
        last_automated_dagrun: DataInterval | None,
        *,
        restricted: bool = True,
        catchup: bool = True,
        now: datetime | None = None,
    ) -> DagRunInfo | None:
        """The scheduled run after the one with this data interval."""
        restriction = (
            TimeRestriction(self.start_date, self.end_date, catchup if self.catchup is None else self.catchup, now)
            if restricted
            else TimeRestriction(None, None, True, now)
        )
        return next_run(self.timetable, last_automated_dagrun, restriction)

    def get_template_env(self, *, force_sandboxed: bool = False) -> Any:
        from opskit.core.dag import templates

        return templates.environment(self)

    def test(
        self,
        execution_date: datetime | None = None,
        run_conf: dict[str, Any] | None = None,
        conn_file_path: str | None = None,
        variable_file_path: str | None = None,
        use_executor: bool = False,
        mark_success_pattern: Any = None,
        *,
        run_after: datetime | None = None,
        conf: dict[str, Any] | None = None,
        logical_date: datetime | None = None,
        session: Any = None,
        report: Callable[[str], None] | None = None,
    ) -> TestRun:
        """Run all tasks in this process, without scheduler and metastore.

        `conn_file_path`, `variable_file_path`: JSON, YAML or .env files of connections (a URI, or its parts) and
        variables by name, that tasks find before those of the metastore. `mark_success_pattern`: tasks whose ids match
        it (a regular expression) succeed without running. With `use_executor` they run in this process as well."""
        from opskit.core.dag import test_inputs
        from opskit.core.dag.testing import run_in_process

        at = logical_date or execution_date or run_after
        with (
            test_inputs.from_files(conn_file_path, variable_file_path),
            test_inputs.succeeding(self, mark_success_pattern),
        ):
            return run_in_process(self, conf=conf or run_conf, logical_date=at, report=report)

    def cli(self) -> None:
        """For `if __name__ == "__main__": dag.cli()`: `python file.py list`, `python file.py test [LOGICAL_DATE]`."""
        from opskit.core.dag import dag_cli

        dag_cli.run(self)

    def partial_subset(
        self,
        task_ids: Any = None,
        include_downstream: bool = False,
        include_upstream: bool = True,
        include_direct_upstream: bool = False,
        *,
        task_ids_or_regex: Any = None,
    ) -> DAG:
        """A copy with some of its tasks: those whose ids match the regular expression (or are in the list), with what
        comes before or after them."""
        from opskit.core.dag.subset import subset

        wanted = task_ids if task_ids is not None else task_ids_or_regex
        return subset(self, wanted, include_downstream, include_upstream, include_direct_upstream)

    sub_dag = partial_subset

    def following_schedule(self, dttm: datetime) -> datetime | None:
        """The logical date of the scheduled run after the one with this logical date."""
        following = getattr(self.timetable, "_get_next", None)
        return None if following is None else following(utc(dttm))

    def previous_schedule(self, dttm: datetime) -> datetime | None:
        """The logical date of the scheduled run before the one with this logical date."""
        before = getattr(self.timetable, "_get_prev", None)
        return None if before is None else before(utc(dttm))

    def iter_dagrun_infos_between(
        self, earliest: datetime | None, latest: datetime, *, align: bool = True
    ) -> Iterator[DagRunInfo]:
        """The scheduled runs with a logical date between the two (both included)."""
        restriction = TimeRestriction(utc(earliest) if earliest is not None else self.start_date, utc(latest), True)
        info = self.timetable.next_dagrun_info(None, restriction)
        while info is not None and info.logical_date <= utc(latest):
            yield info
            info = self.timetable.next_dagrun_info(info.data_interval, restriction)

    def get_run_dates(self, start_date: datetime, end_date: datetime | None = None) -> list[datetime]:
        """The logical dates of the scheduled runs between the two (both included)."""
        end = end_date if end_date is not None else datetime.now(UTC)
        return [info.logical_date for info in self.iter_dagrun_infos_between(start_date, end)]

    def resolve_template_files(self) -> None:
        """Nothing: the files of templates are read when a task runs."""

    def __repr__(self) -> str:
        return f"<DAG: {self.dag_id}>"

    def __iter__(self) -> Iterator[BaseOperator]:
        return iter(self.tasks)

    def __bool__(self) -> bool:
        return True


def _zone_of(timezone: str | tzinfo | None, *moments: datetime | None) -> tzinfo:
    if timezone is not None:
        return load_zone(timezone) if isinstance(timezone, str) else timezone
    for moment in moments:
        if moment is not None and moment.tzinfo is not None:
            return moment.tzinfo
    return default_zone()


def _parsed_date(text: str, name: str, dag_id: str) -> datetime:
    import pendulum

    try:
        moment: object = pendulum.parse(text, strict=False, tz=default_zone())
    except ValueError:
        moment = None
    if not isinstance(moment, datetime):
        raise DagInvalid(f"DAG {dag_id}: {name} is {text!r}, a datetime is needed")
    return moment


def _run_types(value: Any, dag_id: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    values = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    names = tuple(str(getattr(one, "value", one)) for one in values)
    known = ("manual", "scheduled", "backfill", "asset_triggered", "dataset_triggered")
    for name in names:
        if name not in known:
            raise DagInvalid(f"DAG {dag_id}: allowed_run_types has {name!r}, choose of {', '.join(known)}")
    return names


def _checked_dag_id(dag_id: Any) -> str:
    if not isinstance(dag_id, str) or not dag_id:
        raise DagInvalid(f"a dag_id must be a text, this is {dag_id!r}")
    if len(dag_id) > LONGEST_ID:
        raise DagInvalid(f"dag_id {dag_id[:40]}… has {len(dag_id)} characters", hint=f"at most {LONGEST_ID} fit")
    if not VALID_ID.fullmatch(dag_id):
        raise DagInvalid(f"{dag_id!r} can't be a dag_id", hint="use letters, digits, - . and _")
    return dag_id


def _count(value: Any, argument: str, dag_id: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DagInvalid(f"DAG {dag_id}: {argument} is {value!r}, a whole number is needed")
    return value or None  # 0: no limit of its own, as in Airflow


def _calling_file() -> str:
    """The file that made the DAG: the first frame outside of the authoring model."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("opskit.core.dag"):
        frame = frame.f_back
    return frame.f_code.co_filename
