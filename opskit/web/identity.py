"""Who is behind a request, and what this person may do. The names of actions and resources are Airflow's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from opskit.web.faults import Forbidden

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
_ONE_DAG = "DAG:"

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
ROLES: dict[str, frozenset[Permission]] = {
    "Public": frozenset(),
    "Viewer": _VIEWER,
    "User": _USER,
    "Op": _OP,
    "Admin": frozenset((action, resource) for action in ACTIONS for resource in RESOURCES),
}
"""The roles that are always there. They can't be changed or deleted."""


def one_dag(dag_id: str) -> str:
    """The resource that stands for this DAG alone."""
    return _ONE_DAG + dag_id


@dataclass(frozen=True, slots=True)
class Who:
    """A person (or a program with a person's token). `by`: web, basic, token, proxy or public."""

    username: str
    roles: tuple[str, ...]
    permissions: frozenset[Permission]
    by: str = "web"
    user_id: int | None = None
    name: str = ""
    csrf_token: str = field(default="", repr=False)

    def can(self, action: str, resource: str, dag_id: str | None = None) -> bool:
        """Whether an action on a resource is allowed: of this DAG, or of any when none is named."""
        if dag_id is None or resource not in OF_DAGS:
            return (action, resource) in self.permissions
        if resource == "DAGs":
            return (action, "DAGs") in self.permissions or (action, one_dag(dag_id)) in self.permissions
        # Who may change a run changes its DAG's work: as in Airflow, that needs the right to edit the DAG.
        on_dag = READ if action == READ else EDIT
        return (action, resource) in self.permissions and self.can(on_dag, "DAGs", dag_id)

    def require(self, action: str, resource: str, dag_id: str | None = None) -> None:
        """Forbidden, naming what is missing, unless `can`."""
        if not self.can(action, resource, dag_id):
            where = f" of DAG {dag_id}" if dag_id else ""
            raise Forbidden(
                f"{self.username or 'nobody'} lacks the permission {action} on {resource}{where}",
                hint="an Admin can give it: opskit roles, or the page Roles",
            )

    def readable_dags(self) -> frozenset[str] | None:
        """The DAGs that may be seen; None: all of them."""
        if (READ, "DAGs") in self.permissions:
            return None
        return frozenset(
            resource.removeprefix(_ONE_DAG)
            for action, resource in self.permissions
            if action == READ and resource.startswith(_ONE_DAG)
        )
