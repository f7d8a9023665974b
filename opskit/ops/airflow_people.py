"""Users and roles in what is taken over from an Airflow: its export files, and what is to be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.errors import UsageError
from opskit.platforms.base import Platform
from opskit.platforms.configuration import Fields, Objects, Write

if TYPE_CHECKING:
    from opskit.ops.airflow_import import Plan

KINDS = ("roles", "users")
_WITHOUT = "the file holds no password: the user is taken without one (opskit users reset-password sets it)"


def read_file(platform: Platform, kind: str, path: Path, left: list[tuple[str, str]]) -> dict[str, Fields]:
    """What `airflow roles export` or `airflow users export` has written. UsageError when it is none."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return _roles(platform, entries, left) if kind == "roles" else _users(entries, left)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not what airflow {kind} export writes: {error}") from error


def _users(entries: list[dict[str, Any]], left: list[tuple[str, str]]) -> dict[str, Fields]:
    found = {}
    for entry in entries:
        name = str(entry["username"])
        found[name] = {
            "first_name": entry.get("first_name") or "",
            "last_name": entry.get("last_name") or "",
            "email": entry.get("email") or "",
            "active": bool(entry.get("active", True)),
            "roles": sorted(map(str, entry["roles"])),
            "password": None,
        }
        left.append((f"users/{name}.password", _WITHOUT))
    return found


def _roles(platform: Platform, entries: list[dict[str, Any]], left: list[tuple[str, str]]) -> dict[str, Fields]:
    pairs: dict[str, list[tuple[str, str]]] = {}
    for entry in entries:
        of_role = pairs.setdefault(str(entry["name"]), [])
        if entry.get("resource"):
            actions = entry["action"].split(",") if isinstance(entry["action"], str) else entry["action"]
            of_role += [(action.strip(), entry["resource"]) for action in actions if action.strip()]
    builtin = platform.moving_in.builtin_roles()
    return {
        name: platform.moving_in.role_fields(name, allowed, left)
        for name, allowed in pairs.items()
        if name not in builtin
    }


def decide(platform: Platform, wanted: Objects, plan: Plan, *, overwrite: bool) -> None:
    """Which users and roles are written. A user's role that is neither here nor among what is taken is left out."""
    if not (wanted["roles"] or wanted["users"]):
        return
    here = platform.moving_in.people_here()
    known = here["roles"].keys() | wanted["roles"].keys()
    for kind in KINDS:
        for name, fields in sorted(wanted[kind].items()):
            if kind == "users":
                unknown = sorted(set(fields["roles"]) - known)
                plan.left += [(f"users/{name}.roles", f"there is no role {role}") for role in unknown]
                fields = {**fields, "roles": [role for role in fields["roles"] if role in known]}
            present = here[kind].get(name)
            if present is not None and _alike(present, fields):
                plan.unchanged += 1
            elif present is not None and not overwrite:
                plan.left.append(
                    (f"{kind}/{name}", "it is here already, and differs: --overwrite takes it all the same")
                )
            else:
                plan.writes.append(Write(kind, name, fields))
                if present is not None:
                    plan.replaced.add((kind, name))


def _alike(present: Fields, fields: Fields) -> bool:
    """But for the password, which can't be compared."""
    return all(present[name] == value for name, value in fields.items() if name != "password")
