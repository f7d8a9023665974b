"""The tasks of a DAG as an indented tree, each under the tasks it waits for."""

from __future__ import annotations

from collections.abc import Iterator

from opskit.core.dag.serialized import SerializedDag


def tree_lines(dag: SerializedDag) -> Iterator[str]:
    """Lines of text. A task with several upstream tasks stands under each; what follows it only under the first."""
    tasks = {task.task_id: task for task in dag.tasks}
    expanded: set[str] = set()
    todo = [(task.task_id, 0) for task in reversed(dag.tasks) if not task.upstream]
    while todo:
        task_id, depth = todo.pop()
        task = tasks[task_id]
        again = task_id in expanded and bool(task.downstream)
        yield f"{'    ' * depth}<{task.operator}> {task_id}{' …' if again else ''}"
        if not again:
            expanded.add(task_id)
            todo.extend((name, depth + 1) for name in reversed(task.downstream))
