"""Single names of Airflow's API, web and serialization packages that DAG files use."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from html import escape
from typing import Any

from opskit.core.dag import xcom

Callback = Callable[[Any], None]
"""What is called with a context when a task or DAG changes its state."""
_RENDERED = (
    "bash bash_command doc doc_json doc_md doc_rst doc_yaml hql html jinja json md mysql postgresql powershell py "
    "python_callable rst sql tsql yaml"
)


def get_attr_renderer() -> dict[str, Callable[[Any], str]]:
    """What a template field can be shown as, and how: a function to HTML for each."""
    return {name: lambda value: f"<pre>{escape(str(value))}</pre>" for name in _RENDERED.split()}


def trigger_dag(
    dag_id: str,
    run_id: str | None = None,
    conf: dict[str, Any] | str | None = None,
    execution_date: datetime | None = None,
    logical_date: datetime | None = None,
    replace_microseconds: bool = True,
    **_: Any,
) -> Any:
    """Create a run of a DAG. NotFound for an unknown DAG, UsageError when there is such a run."""
    from opskit.core.dag import runtime
    from opskit.core.dag.task_instance import DagRun

    date = logical_date or execution_date
    if date is not None and replace_microseconds:
        date = date.replace(microsecond=0)
    found = json.loads(conf) if isinstance(conf, str) else conf
    return DagRun(runtime.store().trigger_dag_run(dag_id, run_id=run_id, logical_date=date, conf=found), None)


class XComEncoder(json.JSONEncoder):
    """Writes what an XCom can hold as JSON."""

    def default(self, o: Any) -> Any:
        return xcom.encode(o)

    def encode(self, o: Any) -> str:
        return super().encode(xcom.encode(o))


class XComDecoder(json.JSONDecoder):
    """Reads it back."""

    def decode(self, s: str, *args: Any) -> Any:
        return xcom.decode(super().decode(s, *args))


class WebEncoder(json.JSONEncoder):
    """Moments as texts, and numbers of other kinds as numbers."""

    def default(self, o: Any) -> Any:
        if hasattr(o, "isoformat"):
            return o.isoformat()
        return float(o) if hasattr(o, "__float__") else str(o)


all_tables = [
    *("_xcom_archive", "callback_request", "celery_taskmeta", "celery_tasksetmeta", "dag", "dag_run", "dataset_event"),
    *("import_error", "job", "log", "session", "sla_miss", "task_fail", "task_instance", "task_instance_history"),
    *("task_reschedule", "trigger", "xcom"),
]
"""The tables that Airflow's `db clean` knows."""
