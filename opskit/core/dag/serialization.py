"""From a DAG to the JSON form that scheduler and web UI work with. The same DAG always gives the same bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.core.dag import access_control, deadlines, plugins, schedules, serialized, timetables
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.model import DAG
from opskit.core.dag.operators.empty import EmptyOperator
from opskit.core.dag.params import NOTSET, ParamsDict
from opskit.core.dag.secret_names import is_secret_name
from opskit.core.dag.zones import zone_name
from opskit.errors import DagInvalid

_LOWEST_WEIGHT, _HIGHEST_WEIGHT = -(2**31), 2**31 - 1
_SHOWN_CHARACTERS = 4096
"""Longest text of one template field that is kept for display."""


def serialize(dag: DAG, relative_fileloc: str | None = None) -> dict[str, Any]:
    """The JSON form of a DAG; `serialized.load` reads it. Keys with their default value are left out.

    DagInvalid for a cycle, a schedule that can't be used, or params that are not plain JSON."""
    dag.validate()
    listeners = plugins.listener_manager()
    order = dag.topological_sort()
    weights = _effective_weights(order)
    marks = _setup_teardown(dag)
    tasks = [{**_task(task, weights[task.task_id]), **marks.get(task.task_id, {})} for task in order]
    start_date, end_date = schedules.bounds(dag)
    fileloc = relative_fileloc if relative_fileloc is not None else dag.relative_fileloc
    data: dict[str, Any] = {
        "format": serialized.FORMAT,
        "dag_id": dag.dag_id,
        "relative_fileloc": fileloc,
        "timetable": timetables.schedule_form(_own_timetable(dag), dag.dag_id, fileloc, dag.run_if),
        "timezone": zone_name(dag.timezone),
        "tasks": tasks,
        "owners": sorted({str(task.owner) for task in order}),
        "tags": sorted(str(tag) for tag in dag.tags),
        "ui": _without_empty(
            {
                "doc_md": dag.doc_md,
                "default_view": dag.default_view,
                "orientation": dag.orientation,
                "display_name": dag.dag_display_name if dag.dag_display_name != dag.dag_id else None,
                "schedule": dag.timetable.summary,
                "schedule_words": timetables.describe(dag.timetable),
                "edges": _edge_labels(dag),
                "owner_links": dag.owner_links,
                "param_order": _param_order(dag),
            }
        ),
    }
    optional = {
        "description": dag.description,
        "start_date": _moment(start_date),
        "end_date": _moment(end_date),
        "catchup": dag.catchup,
        "first_run": dag.first_run,
        "max_active_runs": dag.max_active_runs,
        "max_active_tasks": dag.max_active_tasks,
        "dagrun_timeout": _seconds(dag.dagrun_timeout),
        "is_paused_upon_creation": dag.is_paused_upon_creation,
        "fail_fast": dag.fail_fast,
        "max_consecutive_failed_dag_runs": dag.max_consecutive_failed_dag_runs,
        "allowed_run_types": list(dag.allowed_run_types or ()),
        "has_on_success_callback": bool(dag.on_success_callback or listeners.hears("on_dag_run_success")) or None,
        "has_on_failure_callback": bool(dag.on_failure_callback or listeners.hears("on_dag_run_failed")) or None,
        "deadlines": deadlines.forms(dag) if dag.deadline is not None else None,
        "has_sla_miss_callback": bool(dag.sla_miss_callback) or None,
        "params": _params(dag),
        "param_rules": _param_rules(dag),
        "groups": _groups(dag),
        "access_control": access_control.stored_form(dag.dag_id, dag.access_control),
    }
    data.update(_without_empty(optional))
    return data


def _own_timetable(dag: DAG) -> Any:
    """A sub-DAG's runs are those of its SubDagOperator: it has none of its own, whatever its schedule says."""
    return timetables.make_timetable(None, dag.timezone) if getattr(dag, "is_subdag", False) else dag.timetable


def dumps(data: dict[str, Any]) -> str:
    """The text that is stored and hashed: keys sorted, no spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_hash(data: dict[str, Any]) -> str:
    """SHA-256 of `dumps`, as hexadecimal digits."""
    from hashlib import sha256

    return sha256(dumps(data).encode()).hexdigest()


def _task(task: BaseOperator, weight: int) -> dict[str, Any]:
    data: dict[str, Any] = {
        "task_id": task.task_id,
        "operator": task.operator_name,
        "owner": str(task.owner),
        "trigger_rule": task.trigger_rule.value,
        "retry_delay": task.retry_delay.total_seconds(),
    }
    group = task.task_group
    optional = {
        "upstream": sorted(task.upstream_task_ids),
        "downstream": sorted(task.downstream_task_ids),
        "retries": task.retries,
        "retry_exponential_backoff": bool(task.retry_exponential_backoff),
        "max_retry_delay": _seconds(task.max_retry_delay),
        "execution_timeout": _seconds(task.execution_timeout),
        "depends_on_past": bool(task.depends_on_past),
        "wait_for_downstream": bool(task.wait_for_downstream),
        "max_active_tis_per_dag": task.max_active_tis_per_dag,
        "isolation": task.isolation,
        "reschedules": getattr(task, "mode", None) == "reschedule",
        "has_on_failure_callback": bool(task.on_failure_callback or (task.email and task.email_on_failure)),
        "has_on_retry_callback": bool(task.on_retry_callback or (task.email and task.email_on_retry)),
        "is_empty": _is_empty(task),
        "group": group.group_id if group is not None else None,
        "max_active_tis_per_dagrun": task.max_active_tis_per_dagrun,
        **_own_dates(task),
        **_mapping(task),
        "outlets": _assets(task, "outlets"),
        "inlets": _assets(task, "inlets"),
        "sla": deadlines.sla_of(task) if task.sla is not None else None,
        "ui": _task_ui(task),
    }
    data.update(_without_empty(optional))
    for name, default in (("pool", "default_pool"), ("pool_slots", 1), ("queue", "default")):
        if getattr(task, name) != default:
            data[name] = getattr(task, name)
    if weight != 1:
        data["priority_weight"] = weight
    return data


def _setup_teardown(dag: DAG) -> dict[str, dict[str, Any]]:
    """By task_id, what setups and teardowns mean for a task; only what differs from a DAG without them."""
    if not any(task.is_setup or task.is_teardown for task in dag.tasks):
        return {}
    from opskit.core.dag import setup_teardown

    setups, leaves = setup_teardown.setups_of(dag), setup_teardown.effective_leaves(dag)
    found: dict[str, dict[str, Any]] = {}
    for task in dag.tasks:
        marks = {
            "is_setup": task.is_setup,
            "is_teardown": task.is_teardown,
            "setups": sorted(setups.get(task.task_id, ())),
        }
        found[task.task_id] = _without_empty(marks)
        leaf = task.task_id in leaves
        if leaf != (not task.downstream_task_ids):
            found[task.task_id]["leaf"] = leaf
    return found


def _mapping(task: BaseOperator) -> dict[str, Any]:
    group = task.mapped_task_group
    over = group.expand_input if group is not None else task.expand_input
    return {
        "expand": over.length() if over is not None else None,
        "mapped_group": group.group_id if group is not None else None,
    }


def _own_dates(task: BaseOperator) -> dict[str, Any]:
    """Where the task begins later than its DAG, or ends earlier."""
    dag = task.dag
    later = task.start_date is not None and (dag.start_date is None or task.start_date > dag.start_date)
    earlier = task.end_date is not None and (dag.end_date is None or task.end_date < dag.end_date)
    return {
        "start_date": _moment(task.start_date) if later else None,
        "end_date": _moment(task.end_date) if earlier else None,
    }


def _is_empty(task: BaseOperator) -> bool:
    return (
        isinstance(task, EmptyOperator)
        and type(task).execute is EmptyOperator.execute
        and type(task).pre_execute is BaseOperator.pre_execute
        and type(task).post_execute is BaseOperator.post_execute
        and not (
            task.on_execute_callback
            or task.on_success_callback
            or task.on_skipped_callback
            or task._pre_execute_hook
            or task._post_execute_hook
            or task.outlets
            or task.inlets
            or any(getattr(task, name, None) for name in task.template_fields)
        )
    )


def _assets(task: BaseOperator, role: str) -> list[dict[str, Any]]:
    """The assets among its outlets or inlets; what else may stand there says nothing to the scheduler."""
    if not getattr(task, role, None):
        return []
    expressions = [
        expression
        for one in _listed(getattr(task, role, None))
        if (as_expression := getattr(one, "as_expression", None)) and (expression := as_expression())
    ]
    try:
        json.dumps(expressions)
    except (TypeError, ValueError) as error:
        raise DagInvalid(
            f"task {task.task_id}: the extra of an asset among its {role} is no plain JSON: {error}"
        ) from None
    return expressions


def _listed(value: Any) -> list[Any]:
    """A mapped task has what its author wrote: one asset, several, or none."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def _task_ui(task: BaseOperator) -> dict[str, Any]:
    fields = {name: _shown(getattr(task, name, None)) for name in task.template_fields}
    return _without_empty(
        {
            "doc_md": task.doc_md or task.doc,
            "color": task.ui_color if task.ui_color != BaseOperator.ui_color else None,
            "fgcolor": task.ui_fgcolor if task.ui_fgcolor != BaseOperator.ui_fgcolor else None,
            "label": task.label if task.label != task.task_id else None,
            "display_name": task.task_display_name if task.task_display_name != task.task_id else None,
            "fields": {name: text for name, text in fields.items() if text},
            "connections": _connections(task),
            "links": _links(task),
            "asks": getattr(getattr(task, "operator_class", task), "asks_people", False),
        }
    )


def _links(task: BaseOperator) -> dict[str, str]:
    """The links that its instances have: text → key of the XCom that holds the address."""
    found = {}
    for link in getattr(task, "operator_extra_links", None) or ():
        name, key = getattr(link, "name", None), getattr(link, "xcom_key", None)
        if isinstance(name, str) and isinstance(key, str):
            found[name] = key
    return found


def _connections(task: BaseOperator) -> list[str]:
    """The connections that its arguments name, as far as they are no templates: `ssh_conn_id="…"` and the like."""
    named = {
        value
        for name, value in getattr(task, "partial_kwargs", vars(task)).items()
        if name.endswith("conn_id") and isinstance(value, str) and value and "{" not in value
    }
    return sorted(named)


def _shown(value: Any) -> str | None:
    """Text of a template field. Only plain values: a repr could hold an address, which differs between processes."""
    if value is None or value == () or value == {} or value == []:
        return None
    if isinstance(value, str):
        return value[:_SHOWN_CHARACTERS]
    try:
        return json.dumps(_masked(value), sort_keys=True, default=lambda item: f"<{type(item).__name__}>")[
            :_SHOWN_CHARACTERS
        ]
    except (TypeError, ValueError):
        return f"<{type(value).__name__}>"


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "***" if is_secret_name(key) else _masked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item) for item in value]
    return value


def _effective_weights(order: tuple[BaseOperator, ...]) -> dict[str, int]:
    """priority_weight plus, by the weight rule, that of all tasks after (downstream) or before (upstream) it.

    Sets of tasks are the bits of integers: linear in the number of edges, and fast for thousands of tasks."""
    index = {task.task_id: number for number, task in enumerate(order)}
    own = [task.priority_weight for task in order]
    uniform = len(set(own)) == 1

    def total(mask: int) -> int:
        if uniform:
            return own[0] * mask.bit_count()
        weight = 0
        while mask:
            lowest = mask & -mask
            weight += own[lowest.bit_length() - 1]
            mask ^= lowest
        return weight

    weights: dict[str, int] = {}
    for upstream in (False, True):
        rule = "upstream" if upstream else "downstream"
        if not any(task.weight_rule == rule for task in order):
            continue
        reach = [0] * len(order)
        for task in order if upstream else reversed(order):
            mask = 1 << index[task.task_id]
            for neighbour in task.get_direct_relative_ids(upstream):
                mask |= reach[index[neighbour]]
            reach[index[task.task_id]] = mask
            if task.weight_rule == rule:
                weights[task.task_id] = total(mask)
    for task in order:
        if task.weight_rule == "absolute":
            weights[task.task_id] = task.priority_weight
        elif not isinstance(task.weight_rule, str):
            weights[task.task_id] = int(task.weight_rule.get_weight(PlannedInstance(task)))
    return {task_id: max(_LOWEST_WEIGHT, min(weight, _HIGHEST_WEIGHT)) for task_id, weight in weights.items()}


class PlannedInstance:
    """What a weight strategy of the author's own is asked about: the first try of a task."""

    try_number = 1
    map_index = -1
    state = None

    def __init__(self, task: BaseOperator) -> None:
        self.task = task
        self.task_id = task.task_id
        self.dag_id = task.dag_id
        self.priority_weight = task.priority_weight


def _params(dag: DAG) -> dict[str, Any]:
    values = ParamsDict(dag.params).dump()
    for name, value in values.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            if dag.dialect == 2:
                values[name] = _shown(value)
                continue
            raise DagInvalid(
                f"DAG {dag.dag_id}: the default of param {name} is {type(value).__name__}",
                hint="params are texts, numbers, booleans, lists and dicts of those",
            ) from None
    return values


def _param_rules(dag: DAG) -> dict[str, dict[str, Any]]:
    found = {}
    for name, param in ParamsDict(dag.params).items():
        rules = _without_empty(
            {"schema": param.schema, "description": param.description, "required": param.value is NOTSET}
        )
        try:
            json.dumps(rules)
        except (TypeError, ValueError):
            rules.pop("schema", None)  # the attempt says what is wrong with it, if anything is
            rules = {key: str(value) if key == "description" else value for key, value in rules.items()}
        if rules:
            found[name] = rules
    return found


def _param_order(dag: DAG) -> list[str]:
    """As the author wrote them, where that is not the order of their names: the stored form sorts its keys."""
    names = [str(name) for name in dag.params]
    return names if names != sorted(names) else []


def _groups(dag: DAG) -> list[dict[str, Any]]:
    return [
        {
            "group_id": group.group_id,
            "parent": group.parent_group.group_id if group.parent_group is not None else None,
            "tooltip": group.tooltip,
        }
        for group in dag.task_group.iter_groups()
    ]


def _edge_labels(dag: DAG) -> dict[str, dict[str, Any]]:
    return {up: dict(sorted(downs.items())) for up, downs in sorted(dag.edge_info.items())}


def _seconds(delta: timedelta | None) -> float | None:
    return None if delta is None else delta.total_seconds()


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
    """Without what equals its default: None, False, 0, and empty texts and containers. False stays where it says
    something (catchup, is_paused_upon_creation)."""
    return {
        name: value
        for name, value in values.items()
        if value or (value is False and name in ("catchup", "is_paused_upon_creation"))
    }
