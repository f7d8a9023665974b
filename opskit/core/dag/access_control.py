"""What a DAG's `access_control` gives to roles, in both of Airflow's forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opskit.errors import DagInvalid

_ACTIONS = {
    "DAGs": frozenset({"can_read", "can_edit", "can_delete", "menu_access"}),
    "DAG Runs": frozenset({"can_create", "can_read", "can_edit", "can_delete", "menu_access"}),
}
_OLD_NAMES = {"can_dag_read": "can_read", "can_dag_edit": "can_edit"}


def stored_form(dag_id: str, given: Any) -> dict[str, dict[str, list[str]]]:
    """role → resource (DAGs, DAG Runs) → actions, sorted. `given` is that, or role → actions, which means DAGs.

    DagInvalid for what is neither, and for an action that has no meaning there.
    """
    if not given:
        return {}
    if not isinstance(given, Mapping):
        raise _wrong(dag_id, f"is {given!r}, a mapping of roles is needed")
    found: dict[str, dict[str, list[str]]] = {}
    for role, what in given.items():
        by_resource = what if isinstance(what, Mapping) else {"DAGs": what}
        for resource, actions in by_resource.items():
            if resource not in _ACTIONS:
                raise _wrong(dag_id, f"gives {role!r} something on {resource!r}: only {' and '.join(_ACTIONS)} can be")
            names = {_OLD_NAMES.get(name, name) for name in _each(dag_id, actions)}
            if unknown := sorted(names - _ACTIONS[resource]):
                raise _wrong(dag_id, f"gives {role!r} {unknown[0]!r} on {resource}, which is no action there")
            if names:
                found.setdefault(str(role), {})[str(resource)] = sorted(names)
    return found


def _each(dag_id: str, actions: Any) -> set[str]:
    if isinstance(actions, str) or not isinstance(actions, (set, frozenset, list, tuple)):
        raise _wrong(dag_id, f"has {actions!r} where a set of actions is needed")
    if not all(isinstance(name, str) for name in actions):
        raise _wrong(dag_id, f"has {actions!r} where a set of texts is needed")
    return set(actions)


def _wrong(dag_id: str, what: str) -> DagInvalid:
    return DagInvalid(f"DAG {dag_id}: access_control {what}", hint='for example {"Team A": {"can_read", "can_edit"}}')
