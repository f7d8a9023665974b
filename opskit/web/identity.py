"""Who is behind a request, and what this person may do. The names of actions and resources are Airflow's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from opskit.core.metastore.permissions import (
    ACTIONS,
    CREATE,
    DELETE,
    EDIT,
    MENU,
    OF_DAGS,
    READ,
    RESOURCES,
    ROLES,
    Permission,
    dag_of,
    is_of_one_dag,
    one_dag,
    runs_of,
)
from opskit.web.faults import Forbidden, SignInNeeded

__all__ = [
    "ACTIONS",
    "CREATE",
    "DELETE",
    "EDIT",
    "MENU",
    "OF_DAGS",
    "READ",
    "RESOURCES",
    "ROLES",
    "Permission",
    "Who",
    "exceeding",
    "one_dag",
]


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
        own = resource == "DAG Runs" and (action, runs_of(dag_id)) in self.permissions
        return (own or (action, resource) in self.permissions) and self.can(on_dag, "DAGs", dag_id)

    def require(self, action: str, resource: str, dag_id: str | None = None) -> None:
        """Forbidden, naming what is missing, unless `can`; SignInNeeded for somebody who has not signed in."""
        if self.can(action, resource, dag_id):
            return
        if self.by == "public":
            raise SignInNeeded("sign in first")
        where = f" of DAG {dag_id}" if dag_id else ""
        raise Forbidden(
            f"{self.username or 'nobody'} lacks the permission {action} on {resource}{where}",
            hint="an Admin can give it: opskit roles, or the page Roles",
        )

    def readable_dags(self) -> frozenset[str] | None:
        """The DAGs that may be seen; None: all of them."""
        return self.dags_with(READ)

    def dags_with(self, action: str) -> frozenset[str] | None:
        """The DAGs that this may be done to; None: all of them."""
        if (action, "DAGs") in self.permissions:
            return None
        return frozenset(
            dag_id for one, resource in self.permissions if one == action and (dag_id := dag_of(resource)) is not None
        )


def exceeding(who: Who, permissions: Iterable[Permission]) -> Permission | None:
    """The first of these permissions, as roles hold them, that this person lacks, also by way of a more general one:
    nobody gives away what one may not do oneself."""
    for action, resource in sorted(permissions):
        general = "DAGs" if dag_of(resource) is not None else "DAG Runs" if is_of_one_dag(resource) else resource
        if not {(action, resource), (action, general)} & who.permissions:
            return action, resource
    return None
