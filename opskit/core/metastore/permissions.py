"""What a person may do, in Airflow's names: actions, resources, and the roles that are always there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opskit.errors import UsageError

READ, EDIT, CREATE, DELETE, MENU = "can_read", "can_edit", "can_create", "can_delete", "menu_access"
ACTIONS = (CREATE, READ, EDIT, DELETE, MENU)

OF_DAGS = ("DAGs", "DAG Runs", "Task Instances", "Task Logs", "XComs", "DAG Code", "DAG Warnings")
"""Resources that belong to a DAG: the right to the DAG itself is needed, too."""
RESOURCES = (
    *OF_DAGS,
    "Datasets",
    "Connections",
    "Variables",
    "Pools",
    "Configurations",
    "Audit Logs",
    "ImportError",
    "Users",
    "Roles",
    "Permissions",
    "Plugins",
    "Providers",
    "Website",
    "Cluster Activity",
    "Operations",
)
_ONE_DAG, _RUNS_OF_ONE = "DAG:", "DAG Run:"
_LONGEST_NAME = 260

Permission = tuple[str, str]
"""`(action, resource)`."""


def _each(action: str, resources: Iterable[str]) -> frozenset[Permission]:
    return frozenset((action, resource) for resource in resources)


_VIEWER = _each(
    READ, (*OF_DAGS, "Datasets", "Pools", "ImportError", "Website", "Cluster Activity", "Plugins", "Providers")
) | _each(MENU, ("DAGs", "Datasets", "Cluster Activity"))
_USER = (
    _VIEWER
    | _each(EDIT, ("DAGs", "DAG Runs", "Task Instances"))
    | _each(CREATE, ("DAG Runs", "Task Instances", "Datasets"))
    | _each(DELETE, ("DAGs", "DAG Runs", "Task Instances"))
)
_OP = (
    _USER
    | frozenset((action, name) for action in ACTIONS for name in ("Connections", "Variables", "Pools", "Operations"))
    | _each(READ, ("Configurations", "Audit Logs"))
    | _each(DELETE, ("Datasets", "XComs"))
    | _each(CREATE, ("XComs",))
    | _each(EDIT, ("XComs",))
)
PUBLIC, ADMIN = "Public", "Admin"
ROLES: dict[str, frozenset[Permission]] = {
    PUBLIC: frozenset(),
    "Viewer": _VIEWER,
    "User": _USER,
    "Op": _OP,
    ADMIN: frozenset((action, resource) for action in ACTIONS for resource in RESOURCES),
}
"""The roles that are always there, with what can't be taken from them. More can be added to all but Admin."""


def one_dag(dag_id: str) -> str:
    """The resource that stands for this DAG alone."""
    return _ONE_DAG + dag_id


def runs_of(dag_id: str) -> str:
    """The resource that stands for the DagRuns of this DAG alone."""
    return _RUNS_OF_ONE + dag_id


def dag_of(resource: str) -> str | None:
    """The dag_id of a resource that `one_dag` made; None for another resource."""
    return resource.removeprefix(_ONE_DAG) if resource.startswith(_ONE_DAG) else None


def is_of_one_dag(resource: str) -> bool:
    """Whether it stands for a single DAG, or its DagRuns."""
    return resource.startswith((_ONE_DAG, _RUNS_OF_ONE))


def checked(action: str, resource: str) -> Permission:
    """The pair. UsageError for a name that is no action or no resource."""
    if action not in ACTIONS:
        raise UsageError(f"there is no action {action!r}", hint=f"choose from {', '.join(ACTIONS)}")
    of_one = is_of_one_dag(resource) and resource.partition(":")[2]
    if (resource not in RESOURCES and not of_one) or len(resource) > _LONGEST_NAME:
        raise UsageError(
            f"there is no resource {resource!r}",
            hint=f"choose from {', '.join(RESOURCES)}, DAG:<dag_id>, DAG Run:<dag_id>",
        )
    return action, resource


def grants_of(dag_id: str, access_control: Mapping[str, Any], roles: Iterable[str]) -> frozenset[Permission]:
    """What a DAG's own `access_control` (as it is stored: role → resource → actions) gives to these roles."""
    given = set[Permission]()
    for role in roles:
        for resource, actions in (access_control.get(role) or {}).items():
            name = one_dag(dag_id) if resource == "DAGs" else runs_of(dag_id)
            given.update((action, name) for action in actions)
    return frozenset(given)
