"""Where one may go: the links of the header, by what the person may see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from opskit.core.metastore.permissions import dag_of
from opskit.web.identity import READ, Permission, Who


@dataclass(frozen=True, slots=True)
class Link:
    """One entry: the path, what it is called, and the resource that must be readable (None: for everybody)."""

    path: str
    label: str
    resource: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A group of links under one heading."""

    label: str
    links: tuple[Link, ...]


MAIN = (
    Link("/", "Home"),
    Link("/dags", "DAGs", "DAGs"),
    Link("/answers", "Answers", "Task Instances"),
    Link("/datasets", "Assets", "Datasets"),
)
SECTIONS = (
    Section(
        "Operations",
        (
            Link("/operations/backups", "Backups", "Operations"),
            Link("/operations/deployments", "Deployments", "Operations"),
            Link("/operations/drift", "Drift", "Operations"),
            Link("/operations/clean-up", "Clean-up", "Operations"),
            Link("/operations/watchdog", "Watchdog", "Operations"),
            Link("/operations/doctor", "Doctor", "Operations"),
        ),
    ),
    Section(
        "Admin",
        (
            Link("/connections", "Connections", "Connections"),
            Link("/variables", "Variables", "Variables"),
            Link("/pools", "Pools", "Pools"),
            Link("/import-errors", "Import errors", "ImportError"),
            Link("/audit", "Audit log", "Audit Logs"),
            Link("/configuration", "Configuration", "Configurations"),
            Link("/users", "Users", "Users"),
            Link("/roles", "Roles", "Roles"),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Navigation:
    """What the header of one person's page shows."""

    main: tuple[Link, ...]
    sections: tuple[Section, ...]


def of(who: Who | None) -> Navigation:
    """For this person; nothing before signing in."""
    return Navigation((), ()) if who is None else _of(who.permissions)


@lru_cache(maxsize=256)
def _of(permissions: frozenset[Permission]) -> Navigation:
    shown = (Section(one.label, _allowed(permissions, one.links)) for one in SECTIONS)
    return Navigation(_allowed(permissions, MAIN), tuple(one for one in shown if one.links))


def _allowed(permissions: frozenset[Permission], links: tuple[Link, ...]) -> tuple[Link, ...]:
    # Who may read a single DAG has a list of DAGs, too.
    one_dag = any(action == READ and dag_of(resource) is not None for action, resource in permissions)
    return tuple(
        link
        for link in links
        if link.resource is None or (READ, link.resource) in permissions or (link.resource == "DAGs" and one_dag)
    )


def current(nav: Navigation, path: str) -> str:
    """The path of the link that the page at this path belongs to; empty for none."""
    links = [*nav.main, *(link for section in nav.sections for link in section.links)]
    return next((link.path for link in links if _leads(link, path)), "")


def _leads(link: Link, path: str) -> bool:
    return path == link.path or (link.path != "/" and path.startswith(link.path + "/"))
