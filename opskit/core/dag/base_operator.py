"""BaseOperator: one task of a DAG, with the arguments that every operator takes (named as in Airflow 2)."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from opskit.core.dag import authoring_context
from opskit.core.dag.dependencies import DependencyMixin, connect_tasks
from opskit.core.dag.exceptions import TaskDeferred
from opskit.core.dag.params import ParamsDict
from opskit.core.dag.trigger_rules import TriggerRule, canonical
from opskit.core.dag.xcom_arg import XComArg, references
from opskit.core.dag.zones import aware
from opskit.errors import DagInvalid

if TYPE_CHECKING:
    import logging

    from opskit.core.dag.expand_input import ExpandInput
    from opskit.core.dag.mapped_operator import OperatorPartial
    from opskit.core.dag.model import DAG
    from opskit.core.dag.task_group import TaskGroup

Callback = Callable[[Any], Any]
Callbacks = Callback | list[Callback] | None

DEFAULT_OWNER = "airflow"
DEFAULT_RETRY_DELAY = timedelta(seconds=300)
LONGEST_ID = 250
WEIGHT_RULES = ("downstream", "upstream", "absolute")


class OperatorMeta(type):
    """Gives every operator class what Airflow promises its authors: keyword arguments only, default_args of DAG and
    task groups for each of them, and dependencies on the tasks whose output is among the arguments."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Any:
        init = namespace.get("__init__")
        if init is not None and not hasattr(init, "_fills_defaults"):
            namespace["__init__"] = _filling_defaults(init)
        return super().__new__(mcs, name, bases, namespace, **kwargs)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        task = super().__call__(*args, **kwargs)
        task.__dict__.pop("_default_values", None)
        if not task.__dict__.pop("_is_instance", False):
            task._connect_references()
        return task


def _filling_defaults(init: Callable[..., None]) -> Callable[..., None]:
    parameters = list(inspect.signature(init).parameters.values())[1:]
    names = frozenset(
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )
    required = [p.name for p in parameters if p.name in names and p.default is p.empty]

    @functools.wraps(init)
    def fill(self: BaseOperator, *args: Any, **kwargs: Any) -> None:
        if args:
            raise DagInvalid(
                f"{type(self).__name__} (task {kwargs.get('task_id', '?')}) was given positional arguments",
                hint="operators take keyword arguments only",
            )
        values = self.__dict__.get("_default_values")
        if values is None:
            values = self.__dict__["_default_values"] = default_values(kwargs)
        if values:
            for name in names & values.keys():
                if name not in kwargs:
                    kwargs[name] = values[name]
        for name in required:
            if name not in kwargs:
                raise TypeError(
                    f"{type(self).__name__} (task {kwargs.get('task_id', '?')}): argument {name!r} is missing"
                )
        init(self, **kwargs)

    fill._fills_defaults = True  # type: ignore[attr-defined]
    return fill


def default_values(kwargs: dict[str, Any]) -> dict[str, Any]:
    """default_args of the DAG, then of the task groups, then of the operator itself: the last one wins."""
    dag = kwargs.get("dag") or authoring_context.current_dag()
    group = kwargs.get("task_group") or authoring_context.current_group(dag)
    if dag is None and group is not None:
        dag = group.dag
    values: dict[str, Any] = {}
    if dag is not None:
        values.update(dag.default_args)
    if group is not None:
        values.update(group.default_args)
    values.update(kwargs.pop("default_args", None) or {})
    values.pop("task_id", None)
    if "params" in values:
        # default_args["params"] adds to params=…, it is not replaced by it.
        params = values.pop("params")
        kwargs["params"] = ParamsDict(params).merged(kwargs.get("params"))
    if dag is not None and dag.params:
        kwargs["params"] = dag.params.merged(kwargs.get("params"))
    return values


class BaseOperator(DependencyMixin, metaclass=OperatorMeta):
    """One task. A subclass names its arguments, calls `super().__init__(**kwargs)` and does its work in `execute`."""

    template_fields: Sequence[str] = ()
    template_ext: Sequence[str] = ()
    template_fields_renderers: ClassVar[dict[str, str]] = {}
    ui_color: str = "#fff"
    ui_fgcolor: str = "#000"
    operator_extra_links: Sequence[Any] = ()
    inherits_from_empty_operator = False
    expand_input: ExpandInput | None = None
    is_mapped = False
    """Whether it has an instance for each element of something."""
    on_failure_fail_dagrun: bool = False
    """Of a teardown: whether its failure fails the run."""
    _is_setup = False
    _is_teardown = False
    shallow_copy_attrs: Sequence[str] = ()
    start_from_trigger: bool = False
    """Whether it begins with the trigger of `start_trigger_args`, and not with `execute`."""
    start_trigger_args: Any = None
    start_date: datetime | None
    end_date: datetime | None

    def __init__(
        self,
        *,
        task_id: str,
        owner: str = DEFAULT_OWNER,
        email: str | Iterable[str] | None = None,
        email_on_retry: bool = True,
        email_on_failure: bool = True,
        retries: int | None = 0,
        retry_delay: timedelta | float = DEFAULT_RETRY_DELAY,
        retry_exponential_backoff: float = False,
        max_retry_delay: timedelta | float | None = None,
        retry_policy: Any = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        depends_on_past: bool = False,
        ignore_first_depends_on_past: bool = True,
        wait_for_past_depends_before_skipping: bool = False,
        wait_for_downstream: bool = False,
        dag: DAG | None = None,
        params: dict[str, Any] | ParamsDict | None = None,
        default_args: dict[str, Any] | None = None,
        priority_weight: int = 1,
        weight_rule: Any = "downstream",
        queue: str = "default",
        pool: str | None = None,
        pool_slots: int = 1,
        sla: timedelta | None = None,
        execution_timeout: timedelta | None = None,
        on_execute_callback: Callbacks = None,
        on_failure_callback: Callbacks = None,
        on_success_callback: Callbacks = None,
        on_retry_callback: Callbacks = None,
        on_skipped_callback: Callbacks = None,
        pre_execute: Callable[[Any], None] | None = None,
        post_execute: Callable[[Any, Any], None] | None = None,
        trigger_rule: str = "all_success",
        resources: dict[str, Any] | None = None,
        run_as_user: str | None = None,
        isolation: str | None = None,
        task_concurrency: int | None = None,
        max_active_tis_per_dag: int | None = None,
        max_active_tis_per_dagrun: int | None = None,
        executor: str | None = None,
        executor_config: dict[str, Any] | None = None,
        do_xcom_push: bool = True,
        xcom_push: bool | None = None,
        multiple_outputs: bool = False,
        inlets: Any = None,
        outlets: Any = None,
        task_group: TaskGroup | None = None,
        doc: str | None = None,
        doc_md: str | None = None,
        doc_json: str | None = None,
        doc_yaml: str | None = None,
        doc_rst: str | None = None,
        task_display_name: str | None = None,
        logger_name: str | None = None,
        map_index_template: str | None = None,
        allow_nested_operators: bool = True,
        render_template_as_native_obj: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise TypeError(_unknown_arguments(self, task_id, kwargs))
        dag = dag or authoring_context.current_dag()
        group = task_group or authoring_context.current_group(dag)
        if dag is None and group is not None:
            dag = group.dag
        mapped = authoring_context.being_unmapped(task_id)
        self.label: str = task_id
        self.task_group: TaskGroup | None = None
        self.upstream_task_ids: set[str] = set()
        self.downstream_task_ids: set[str] = set()
        self._dag: DAG | None = None
        if mapped is None:
            self.task_id: str = _checked_id(group.child_id(task_id) if group is not None else task_id)
        else:
            self._take_place_of(mapped)

        def invalid(argument: str, problem: str) -> DagInvalid:
            return DagInvalid(f"task {self.task_id}: {argument} {problem}")

        self.owner = owner
        self.email = email
        self.email_on_retry = email_on_retry
        self.email_on_failure = email_on_failure
        try:
            self.retries = int(retries or 0)
        except (TypeError, ValueError):
            raise invalid("retries", f"is {retries!r}, a whole number is needed") from None
        if self.retries < 0:
            raise invalid("retries", f"is {retries!r}, it can't be negative")
        self.retry_delay = _duration(retry_delay, "retry_delay", self.task_id)
        if retry_exponential_backoff not in (0, 1, 2):
            raise invalid("retry_exponential_backoff", f"is {retry_exponential_backoff!r}, only doubling (2) is known")
        # A number is the factor of each delay (Airflow 3): 1 leaves them as they are.
        self.retry_exponential_backoff = retry_exponential_backoff is True or retry_exponential_backoff == 2
        self.max_retry_delay = (
            None if max_retry_delay is None else _duration(max_retry_delay, "max_retry_delay", self.task_id)
        )
        if retry_policy is not None and not callable(getattr(retry_policy, "evaluate", None)):
            raise invalid("retry_policy", f"is {retry_policy!r}, a RetryPolicy is needed")
        self.retry_policy = retry_policy
        zone = dag.timezone if dag is not None else None
        self.start_date = aware(start_date, zone) if start_date is not None else None
        self.end_date = aware(end_date, zone) if end_date is not None else None
        self.wait_for_downstream = wait_for_downstream
        # Waiting for the tasks downstream of the last run waits for the task itself, too.
        self.depends_on_past = depends_on_past or wait_for_downstream
        self.ignore_first_depends_on_past = ignore_first_depends_on_past
        self.wait_for_past_depends_before_skipping = wait_for_past_depends_before_skipping
        self.params = ParamsDict(params)
        if not isinstance(priority_weight, int):
            raise invalid("priority_weight", f"is {priority_weight!r}, a whole number is needed")
        self.priority_weight = priority_weight
        self.weight_rule: Any = weight_rule() if isinstance(weight_rule, type) else weight_rule
        """downstream, upstream or absolute; or an object with a method get_weight(ti)."""
        if not callable(getattr(weight_rule, "get_weight", None)):
            self.weight_rule = str(getattr(weight_rule, "value", weight_rule))
            if self.weight_rule not in WEIGHT_RULES:
                raise invalid("weight_rule", f"is {weight_rule!r}, choose one of {', '.join(WEIGHT_RULES)}")
        self.queue = queue
        self.pool = pool or "default_pool"
        if not isinstance(pool_slots, int) or pool_slots < 1:
            raise invalid("pool_slots", f"is {pool_slots!r}, at least 1 is needed")
        self.pool_slots = pool_slots
        self.sla = sla
        if execution_timeout is not None and not isinstance(execution_timeout, timedelta):
            raise invalid("execution_timeout", f"is {execution_timeout!r}, a timedelta is needed")
        self.execution_timeout = execution_timeout
        self.on_execute_callback = on_execute_callback
        self.on_failure_callback = on_failure_callback
        self.on_success_callback = on_success_callback
        self.on_retry_callback = on_retry_callback
        self.on_skipped_callback = on_skipped_callback
        self._pre_execute_hook = pre_execute
        self._post_execute_hook = post_execute
        try:
            self.trigger_rule = TriggerRule(canonical(trigger_rule))
        except ValueError as error:
            raise DagInvalid(f"task {self.task_id}: {error}") from None
        self.resources = resources
        self.run_as_user = run_as_user
        if isolation not in (None, "fork", "reuse"):
            raise invalid("isolation", f"is {isolation!r}, choose fork or reuse")
        self.isolation = isolation
        self.max_active_tis_per_dag = max_active_tis_per_dag if max_active_tis_per_dag is not None else task_concurrency
        self.max_active_tis_per_dagrun = max_active_tis_per_dagrun
        self.executor = executor
        self.executor_config = executor_config or {}
        self.do_xcom_push = do_xcom_push if xcom_push is None else xcom_push
        self.multiple_outputs = multiple_outputs
        self.inlets = _as_list(inlets)
        self.outlets = _as_list(outlets)
        self.doc, self.doc_md, self.doc_json, self.doc_yaml, self.doc_rst = doc, doc_md, doc_json, doc_yaml, doc_rst
        self.task_display_name = task_display_name or self.task_id
        self.logger_name = logger_name
        self.map_index_template = map_index_template
        self.render_template_as_native_obj = render_template_as_native_obj
        """Whether templates give Python values instead of texts. None: as its DAG says."""
        if mapped is not None:
            pass  # its mapped task has a place already
        elif group is not None:
            # The DAG tells about duplicate ids; only then may the group know the task.
            self._place(dag, group)
        elif dag is not None:
            self._place(dag, dag.task_group)
        if mapped is None and (setup_teardown := sys.modules.get("opskit.core.dag.setup_teardown")) is not None:
            setup_teardown.collect(self)

    @property
    def is_setup(self) -> bool:
        """Whether it prepares something for other tasks."""
        return self._is_setup

    @is_setup.setter
    def is_setup(self, value: bool) -> None:
        if value and self._is_teardown:
            raise ValueError(f"Cannot mark task '{self.task_id}' as setup; task is already a teardown.")
        self._is_setup = value

    @property
    def is_teardown(self) -> bool:
        """Whether it cleans up after other tasks, however they ended."""
        return self._is_teardown

    @is_teardown.setter
    def is_teardown(self, value: bool) -> None:
        if value and self._is_setup:
            raise ValueError(f"Cannot mark task '{self.task_id}' as teardown; task is already a setup.")
        self._is_teardown = value

    def as_setup(self) -> BaseOperator:
        """Make it a setup task."""
        self.is_setup = True
        return self

    def as_teardown(self, *, setups: Any = None, on_failure_fail_dagrun: bool | None = None) -> BaseOperator:
        """Make it a teardown task: it runs once its setups have succeeded and all else before it has ended. `setups`
        become setup tasks and come before it."""
        self.is_teardown = True
        self.trigger_rule = TriggerRule.ALL_DONE_SETUP_SUCCESS
        if on_failure_fail_dagrun is not None:
            self.on_failure_fail_dagrun = on_failure_fail_dagrun
        if setups is not None:
            for setup in setups if isinstance(setups, (list, tuple, set)) else [setups]:
                for task in setup.leaves if isinstance(setup, DependencyMixin) else [setup]:
                    task.as_setup()
                setup.set_downstream(self)
        return self

    def __enter__(self) -> Any:
        """`with teardown:` — the tasks made in the block run between its setups and it."""
        from opskit.core.dag import setup_teardown

        return setup_teardown.enter([self])

    def __exit__(self, *_: object) -> None:
        from opskit.core.dag import setup_teardown

        setup_teardown.leave()

    def _take_place_of(self, mapped: BaseOperator) -> None:
        """Be an instance of a mapped task."""
        for name in ("label", "task_id", "task_group", "upstream_task_ids", "downstream_task_ids", "_dag"):
            setattr(self, name, getattr(mapped, name))
        self._is_setup, self._is_teardown = mapped.is_setup, mapped.is_teardown
        self.on_failure_fail_dagrun = mapped.on_failure_fail_dagrun
        self._is_instance = True

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """The arguments that all instances of a mapped task share: `Operator.partial(task_id=…).expand(…)`."""
        from opskit.core.dag.mapped_operator import OperatorPartial

        return OperatorPartial(cls, kwargs)

    def unmap(self, context: Any) -> BaseOperator:
        """The operator of one instance; itself where it is not mapped."""
        return self

    @property
    def mapped_task_group(self) -> TaskGroup | None:
        """The mapped task group around it."""
        return self.task_group.mapped_group if self.task_group is not None else None

    def get_closest_mapped_task_group(self) -> TaskGroup | None:
        return self.mapped_task_group

    def _place(self, dag: DAG | None, group: TaskGroup) -> None:
        if dag is not None:
            dag._adopt(self)
            self._dag = dag
        group.add(self)

    def _connect_references(self) -> None:
        for name in self.template_fields:
            value = getattr(self, name, None)
            if value is None or isinstance(value, str):
                continue
            for upstream in references(value):
                if upstream is not self:
                    connect_tasks(upstream, self)

    def execute(self, context: Any) -> Any:
        """Do the work; what is returned is pushed as XCom."""
        raise NotImplementedError(f"{type(self).__name__} has no execute()")

    def on_kill(self) -> None:
        """Clean up after an attempt that is being ended (SIGTERM or timeout): stop what runs outside of the process."""

    def pre_execute(self, context: Any) -> None:
        """Called right before execute."""
        if self._pre_execute_hook is not None:
            self._pre_execute_hook(context)

    def post_execute(self, context: Any, result: Any = None) -> None:
        """Called right after execute, when it has succeeded."""
        if self._post_execute_hook is not None:
            self._post_execute_hook(context, result)

    @property
    def dag(self) -> DAG:
        """The DAG it belongs to. DagInvalid when there is none yet."""
        if self._dag is None:
            raise DagInvalid(f"task {self.task_id} belongs to no DAG")
        return self._dag

    @dag.setter
    def dag(self, dag: DAG | None) -> None:
        if dag is None or dag is self._dag:
            self._dag = dag
            return
        if self._dag is not None:
            raise DagInvalid(f"task {self.task_id} belongs to DAG {self._dag.dag_id} already")
        dag._adopt(self)
        self._dag = dag
        if self.task_group is None:
            dag.task_group.add(self)

    def has_dag(self) -> bool:
        return self._dag is not None

    def get_dag(self) -> DAG | None:
        return self._dag

    @property
    def dag_id(self) -> str:
        return self._dag.dag_id if self._dag is not None else f"adhoc_{self.owner}"

    @property
    def node_id(self) -> str:
        return self.task_id

    @property
    def task_type(self) -> str:
        return type(self).__name__

    @property
    def operator_class(self) -> type:
        return type(self)

    @property
    def operator_name(self) -> str:
        """The name for people; TaskFlow tasks show their decorator."""
        return str(getattr(self, "custom_operator_name", None) or self.task_type)

    @property
    def roots(self) -> Sequence[BaseOperator]:
        return (self,)

    @property
    def leaves(self) -> Sequence[BaseOperator]:
        return (self,)

    @property
    def output(self) -> XComArg:
        """What it returns, as an argument of other tasks."""
        return XComArg(self)

    @property
    def upstream_list(self) -> list[BaseOperator]:
        return [self.dag.task_dict[task_id] for task_id in sorted(self.upstream_task_ids)]

    @property
    def downstream_list(self) -> list[BaseOperator]:
        return [self.dag.task_dict[task_id] for task_id in sorted(self.downstream_task_ids)]

    def get_direct_relative_ids(self, upstream: bool = False) -> set[str]:
        return self.upstream_task_ids if upstream else self.downstream_task_ids

    def get_direct_relatives(self, upstream: bool = False) -> list[BaseOperator]:
        return self.upstream_list if upstream else self.downstream_list

    def get_flat_relative_ids(self, upstream: bool = False) -> set[str]:
        """Ids of all tasks before (or after) it, direct or not."""
        found: set[str] = set()
        todo = list(self.get_direct_relative_ids(upstream))
        while todo:
            task_id = todo.pop()
            if task_id not in found:
                found.add(task_id)
                todo.extend(self.dag.task_dict[task_id].get_direct_relative_ids(upstream))
        return found

    def get_flat_relatives(self, upstream: bool = False) -> list[BaseOperator]:
        return [self.dag.task_dict[task_id] for task_id in sorted(self.get_flat_relative_ids(upstream))]

    @property
    def log(self) -> logging.Logger:
        import logging

        return logging.getLogger(
            self.logger_name or f"airflow.task.operators.{type(self).__module__}.{type(self).__name__}"
        )

    def prepare_for_execution(self) -> BaseOperator:
        """A copy whose template fields may be rendered without changing the DAG."""
        copied: BaseOperator = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def get_template_env(self) -> Any:
        from opskit.core.dag import templates

        return templates.environment(self._dag, self.render_template_as_native_obj)

    def render_template(self, content: Any, context: Any, jinja_env: Any = None, seen_oids: Any = None) -> Any:
        """`content` with all templates inside it rendered."""
        from opskit.core.dag import templates

        return templates.render(content, context, self, jinja_env)

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render the template fields of this task, in place."""
        from opskit.core.dag import templates

        templates.render_fields(self, context, jinja_env)

    def defer(
        self,
        *,
        trigger: Any,
        method_name: str,
        kwargs: dict[str, Any] | None = None,
        timeout: timedelta | float | None = None,
    ) -> NoReturn:
        """Wait for a trigger (`opskit.triggers`), then go on with `method_name(context, event=…, **kwargs)`. `timeout`
        in seconds or as timedelta; when it is over the task fails with TaskDeferralTimeout. Does not return."""
        raise TaskDeferred(trigger=trigger, method_name=method_name, kwargs=kwargs, timeout=timeout)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """Go on after a trigger. TaskDeferralError when that failed, TaskDeferralTimeout when it did not fire."""
        from opskit.core.dag import deferral

        return deferral.resume(self, next_method, next_kwargs, context)

    def dry_run(self) -> None:
        """Log the template fields as they are."""
        for name in self.template_fields:
            self.log.info("%s: %s", name, getattr(self, name, None))

    @staticmethod
    def xcom_push(context: Any, key: str, value: Any) -> None:
        context["ti"].xcom_push(key=key, value=value)

    @staticmethod
    def xcom_pull(
        context: Any,
        task_ids: str | list[str] | None = None,
        dag_id: str | None = None,
        key: str = "return_value",
        include_prior_dates: bool | None = None,
        **_: Any,
    ) -> Any:
        return context["ti"].xcom_pull(
            task_ids=task_ids, dag_id=dag_id, key=key, include_prior_dates=bool(include_prior_dates)
        )

    def __repr__(self) -> str:
        return f"<Task({self.task_type}): {self.task_id}>"


def _unknown_arguments(task: BaseOperator, task_id: str, kwargs: dict[str, Any]) -> str:
    known: set[str] = set()
    for cls in type(task).__mro__:
        init = cls.__dict__.get("__init__")
        if init is not None and cls is not object:
            known.update(inspect.signature(init).parameters)
    import difflib

    texts: list[str] = []
    for name in sorted(kwargs):
        near = difflib.get_close_matches(name, known - {"self", "kwargs", "args"}, n=1)
        texts.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    return f"{type(task).__name__} (task {task_id}): unknown argument {', '.join(texts)}"


def _checked_id(task_id: Any) -> str:
    from opskit.core.dag.task_group import VALID_ID

    if not isinstance(task_id, str):
        raise DagInvalid(f"a task_id must be a text, this is {type(task_id).__name__} {task_id!r}")
    if len(task_id) > LONGEST_ID:
        raise DagInvalid(f"task_id {task_id[:40]}… has {len(task_id)} characters", hint=f"at most {LONGEST_ID} fit")
    if not VALID_ID.fullmatch(task_id):
        raise DagInvalid(f"{task_id!r} can't be a task_id", hint="use letters, digits, - . and _")
    return task_id


def _duration(value: timedelta | float, argument: str, task_id: str) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return timedelta(seconds=value)
    raise DagInvalid(f"task {task_id}: {argument} is {value!r}, a timedelta or seconds are needed")


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set)) else [value]
