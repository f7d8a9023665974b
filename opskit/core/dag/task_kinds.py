"""The kinds of `@task`: the class behind `@task.branch`, `@task.virtualenv` and the others, loaded when it is used."""

from __future__ import annotations

from typing import Any

_DECORATED = "opskit.core.dag.decorated"
_ELSEWHERE = "opskit.core.dag.operators.decorated_virtualenv"
OPERATORS: dict[str, str] = {
    "python": f"{_DECORATED}:_PythonDecoratedOperator",
    "branch": f"{_DECORATED}:_BranchPythonDecoratedOperator",
    "short_circuit": f"{_DECORATED}:_ShortCircuitDecoratedOperator",
    "sensor": f"{_DECORATED}:DecoratedSensorOperator",
    "bash": f"{_DECORATED}:_BashDecoratedOperator",
    "virtualenv": f"{_ELSEWHERE}:_PythonVirtualenvDecoratedOperator",
    "external_python": f"{_ELSEWHERE}:_PythonExternalDecoratedOperator",
    "branch_virtualenv": f"{_ELSEWHERE}:_BranchPythonVirtualenvDecoratedOperator",
    "branch_external_python": f"{_ELSEWHERE}:_BranchExternalPythonDecoratedOperator",
    "docker": "opskit.providers.docker_task:_DockerDecoratedOperator",
    "kubernetes": "opskit.providers.kubernetes.pod_task:_KubernetesDecoratedOperator",
    "sftp_sensor": "opskit.providers.sftp_task:_DecoratedSFTPSensor",
}
"""`module:class` of an operator that takes `python_callable`, `op_args` and `op_kwargs`."""
FUNCTIONS: dict[str, str] = {
    "run_if": "opskit.core.dag.task_conditions:run_if",
    "skip_if": "opskit.core.dag.task_conditions:skip_if",
}
"""`module:function` of decorators that go around a `@task`."""


def register(name: str, place: str) -> None:
    """Make `@task.<name>` an operator of this place (`module:class`)."""
    OPERATORS[name] = place


def load(place: str) -> Any:
    """What a `module:name` names."""
    from importlib import import_module

    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def of_packages() -> dict[str, str]:
    """The kinds that installed provider packages bring along: name → `module:function`."""
    # Named, not imported: what knows the packages lies in a room above this one.
    manager = load("opskit.compat.providers_manager:ProvidersManager")()
    found: dict[str, str] = {}
    for info in manager.providers.values():
        for entry in info.get("task-decorators") or ():
            module, _, function = entry["class-name"].rpartition(".")
            found[entry["name"]] = f"{module}:{function}"
    return found


def find(name: str) -> Any:
    """What `@task.<name>` is, when it is no operator of ours. AttributeError when there is no such kind."""
    if name in FUNCTIONS:
        return load(FUNCTIONS[name])
    if not name.startswith("_"):
        brought = of_packages()
        if name in brought:
            return load(brought[name])
    raise unknown(name)


def unknown(name: str) -> AttributeError:
    """The error for a kind that does not exist."""
    known = sorted({*OPERATORS, *FUNCTIONS})
    return AttributeError(f"there is no @task.{name} here: the kinds are {', '.join(known)}")
