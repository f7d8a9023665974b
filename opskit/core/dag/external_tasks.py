"""ExternalTaskMarkers as the metastore knows them: which task of which other DAG, in its run of which date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opskit.core.dag.runtime import RunInfo
from opskit.core.dag.serialized import SerializedTask
from opskit.errors import UsageError

MARKER = "ExternalTaskMarker"
"""Name of the operator."""
_NODES = frozenset(
    {"Template", "Output", "TemplateData", "Name", "Getattr", "Call", "Keyword", "Const", "Filter", "Add", "Sub", "Neg"}
)
"""What a template may consist of that is rendered outside of an attempt: nothing that could take long."""


@dataclass(frozen=True, slots=True)
class Target:
    """A task of another DAG."""

    dag_id: str
    task_id: str
    logical_date: datetime


def target(task: SerializedTask, run: RunInfo) -> Target | None:
    """What the marker stands for in this run; None for a task that is no marker. UsageError for a template that only an
    attempt could render."""
    if task.operator != MARKER:
        return None
    fields = task.ui.get("fields", {})
    texts = [
        _rendered(task.task_id, str(fields.get(name) or ""), run)
        for name in ("external_dag_id", "external_task_id", "logical_date")
    ]
    try:
        date = datetime.fromisoformat(texts[2])
    except ValueError:
        raise UsageError(
            f"task {task.task_id} of DAG {run.dag_id}: its logical_date {texts[2]!r} is no date",
            hint="clear the other DAG by itself",
        ) from None
    return Target(texts[0], texts[1], date if date.tzinfo else date.replace(tzinfo=run.logical_date.tzinfo))


def _rendered(task_id: str, text: str, run: RunInfo) -> str:
    if "{" not in text:
        return text
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.nodes import Node

    from opskit.core.dag import jinja_environment

    env = jinja_environment.make(False, {"undefined": StrictUndefined, "cache_size": 0})
    try:
        kinds = {type(node).__name__ for node in env.parse(text).find_all(Node)}
        if kinds <= _NODES:
            return str(jinja_environment.render(env.from_string(text), _names(run)))
        problem = f"it holds {', '.join(sorted(kinds - _NODES))}"
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        problem = str(error)
    raise UsageError(
        f"task {task_id} of DAG {run.dag_id}: the template {text!r} can't be rendered here: {problem}",
        hint="clear the other DAG by itself",
    )


def _names(run: RunInfo) -> dict[str, Any]:
    from opskit.core.dag import macros

    at = run.logical_date
    return {
        "logical_date": at,
        "execution_date": at,
        "ds": at.strftime("%Y-%m-%d"),
        "ts": at.isoformat(),
        "data_interval_start": run.data_interval_start,
        "data_interval_end": run.data_interval_end,
        "run_id": run.run_id,
        "dag_run": run,
        "macros": macros,
    }
