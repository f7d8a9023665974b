"""When the runs under way miss a deadline of their DAG, or a task of theirs its SLA; what is then to be told.

Nothing is asked of the metastore for it but what is written once when a time has passed (`MISSED_KEY`), so that nobody
is told twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from opskit.core.dag import states
from opskit.core.dag.deadlines import DEADLINE_CALLBACK, SLA_CALLBACK
from opskit.core.dag.run_state import RunState
from opskit.core.scheduler.owned_dag import OwnedDag

Average = Callable[[str, int, int], float | None]
"""dag_id, most and least number of runs → how many seconds they took; None while there are fewer."""
_DONE = (states.SUCCESS, states.SKIPPED)
_WITHOUT_DATE = ("asset_triggered", "dataset_triggered")


def times(owned: OwnedDag, run: RunState, average: Average) -> Iterable[tuple[datetime, str]]:
    """When something of this run is late, and what: a name for `missed`. Without those that were told already."""
    for form in owned.dag.deadlines:
        name = f"deadline:{form['place']}"
        at = None if name in run.missed else _deadline(owned, run, form, average)
        if at is not None:
            yield at, name
    if owned.dag.has_slas and run.run_type == "scheduled":
        for seconds in sorted({task.sla for task in owned.dag.tasks if task.sla is not None}):
            name = f"sla:{seconds}"
            if name not in run.missed:
                yield run.data_interval_end + timedelta(seconds=seconds), name


def _deadline(owned: OwnedDag, run: RunState, form: dict[str, Any], average: Average) -> datetime | None:
    start: datetime | None
    match form["from"]:
        case "logical_date":
            dated = run.run_type not in _WITHOUT_DATE or owned.dag.timetable.get("dialect") != 3
            start = run.logical_date if dated else None
        case "queued_at":
            start = run.queued_at or run.start_date
        case "fixed":
            start = datetime.fromisoformat(form["at"])
        case _:
            seconds = average(owned.dag_id, form["max_runs"], form["min_runs"])
            begun = run.queued_at or run.start_date
            start = None if seconds is None or begun is None else begun + timedelta(seconds=seconds)
    return None if start is None else start + timedelta(seconds=form["seconds"])


def missed(owned: OwnedDag, run: RunState, name: str, at: datetime) -> tuple[str, str, dict[str, Any]] | None:
    """A time has passed: which kind of callback runs, a sentence, and what the callback is told; None when nothing is
    late after all."""
    kind, _, which = name.partition(":")
    if kind == "deadline":
        form = next((one for one in owned.dag.deadlines if str(one["place"]) == which), None)
        if form is None:
            return None
        words = f"deadline {form.get('name') or int(which) + 1} of {at.isoformat(timespec='seconds')} has passed"
        told = {"place": form["place"], "at": at.isoformat(), "id": f"{run.id}-{which}"}
        return DEADLINE_CALLBACK, words, told
    late = [
        task.task_id
        for task in owned.dag.tasks
        if task.sla == float(which)
        and any(one.state not in _DONE for one in run.instances.values() if one.task.task_id == task.task_id)
    ]
    if not late:
        return None
    found = [[*key, instance.state] for key, instance in sorted(run.instances.items())]
    words = f"SLA of {float(which):g} s is missed by {', '.join(late)}"
    return SLA_CALLBACK, words, {"task_ids": late, "states": found}


def note(run: RunState) -> str:
    """What is stored of a run's missed times."""
    return json.dumps(sorted(run.missed))
