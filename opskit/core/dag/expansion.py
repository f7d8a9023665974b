"""Mapped tasks in the memory of a run: how many instances they get, and when.

Each function changes one RunState. `todo` gets the instances that are to be decided about, or that end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from opskit.core.dag import lengths, states
from opskit.core.dag.run_instance import TaskInstance, Todo
from opskit.core.dag.serialized import MappedUnit, SerializedTask

if TYPE_CHECKING:
    from opskit.core.dag.run_state import RunState


def measure(run: RunState, instance: TaskInstance, xcoms: Iterable[tuple[str, Any]]) -> None:
    """Remember how long the XComs of an attempt are."""
    pushed = dict(xcoms)
    keys = {
        key
        for unit in run.dag.mapped_over[instance.task.task_id]
        for task_id, key in unit.sources
        if task_id == instance.task.task_id
    }
    for key in keys:
        known = run.lengths.setdefault((instance.task.task_id, key), {})
        length = lengths.of_value(pushed[key]) if key in pushed else None
        if length is None and not (instance.task.expand is not None and key in pushed):
            known.pop(instance.map_index, None)
        else:
            known[instance.map_index] = length or 0


def _known_length(run: RunState, task_id: str, key: str) -> int | None:
    known = run.lengths.get((task_id, key), {})
    task = run.dag.by_id.get(task_id)
    if task is not None and task.expand is not None:
        return len(known)
    return known.get(-1)


def _length(run: RunState, unit: MappedUnit) -> int | str | None:
    """How many instances it has; a state when it can have none because a task that it is mapped over has not
    succeeded; None while one of these has not ended."""
    above = [instance for task_id, _ in unit.sources for instance in run.by_task.get(task_id, ())]
    ended = {instance.state for instance in above if instance.map_index < 0}
    if ended & {states.FAILED, states.UPSTREAM_FAILED}:
        return states.UPSTREAM_FAILED
    if states.SKIPPED in ended:
        return states.SKIPPED
    if any(instance.state not in states.FINISHED for instance in above):
        return None
    length = lengths.evaluate(unit.expand, lambda task_id, key: _known_length(run, task_id, key))
    return states.UPSTREAM_FAILED if length is None else length


def expand(run: RunState, instance: TaskInstance, todo: Todo) -> str | None:
    """Put the instances of a mapped task, whose turn it is, in the place of the one that stood for them; the state
    with which that one ends when there are none."""
    length = _length(run, run.dag.mapped_units[instance.task.task_id])
    if length == 0:
        return states.SKIPPED
    if isinstance(length, int):
        _resize(run, [instance.task], length, todo)
        return None
    return length


def fit(run: RunState, unit: MappedUnit, todo: Todo) -> None:
    """What a mapped unit is mapped over has ended, perhaps. Expand a group; make what is expanded already and has
    not begun (it was cleared together with what it is mapped over) as many as there are now."""
    first = run.by_task.get(unit.tasks[0].task_id)
    if not first:
        return
    fresh = first[0].map_index < 0
    if fresh and unit.group is None:
        todo.extend((one, None) for one in first)
        return
    instances = [one for task in unit.tasks for one in run.by_task.get(task.task_id, ())]
    if not all(one.waits or one.state == states.REMOVED for one in instances):
        return
    length = _length(run, unit)
    if isinstance(length, int) and length > 0:
        if fresh or length != sum(one.state != states.REMOVED for one in first):
            _resize(run, unit.tasks, length, todo)
    elif length == 0:
        todo.extend((one, states.SKIPPED if fresh else states.REMOVED) for one in instances)
    elif isinstance(length, str) and fresh:
        todo.extend((one, length) for one in instances)


def _resize(run: RunState, tasks: Sequence[SerializedTask], length: int, todo: Todo) -> None:
    """Give mapped tasks so many instances; `todo` gets those that may have become ready, or are too many."""
    for task in tasks:
        before = run.by_task[task.task_id]
        kept = [one for one in before if 0 <= one.map_index < length]
        todo.extend((one, states.REMOVED) for one in before if one.map_index >= length)
        for one in before:
            if one.map_index < 0:
                del run.instances[one.key]
                run.unfinished -= 1
                run.changed.pop(one.key, None)
                run.added = [other for other in run.added if other is not one]
                run.dropped.append(one.key)
        for one in kept:
            if one.state == states.REMOVED:
                one.state = None
                run.unfinished += 1
                run.changed[one.key] = one
        have = {one.map_index for one in kept}
        for map_index in range(length):
            if map_index not in have:
                one = TaskInstance(task, map_index, max_tries=task.retries)
                kept.append(one)
                run.instances[one.key] = one
                run.added.append(one)
                run.unfinished += 1
        kept.sort(key=lambda one: one.map_index)
        run.by_task[task.task_id] = [*kept, *(one for one in before if one.map_index >= length)]
    for task in tasks:
        run.count_upstream(run.by_task[task.task_id])
    own = {task.task_id for task in tasks}
    for task_id in dict.fromkeys(below for task in tasks for below in task.downstream if below not in own):
        if task_id in run.by_task:
            run.count_upstream(run.by_task[task_id])
    todo.extend((one, None) for task in tasks for one in run.by_task[task.task_id])
