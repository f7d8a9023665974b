"""What roles allow, and what single DAGs add."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from opskit.core.dag.access_control import stored_form
from opskit.core.metastore.api_tokens import narrowed
from opskit.core.metastore.permissions import ACTIONS, OF_DAGS, RESOURCES, ROLES, checked, grants_of, one_dag
from opskit.errors import DagInvalid, UsageError
from opskit.web.faults import Forbidden, SignInNeeded
from opskit.web.identity import Who, exceeding
from opskit.web.security.local_paths import local_path


def who(*roles: str, more: frozenset[tuple[str, str]] = frozenset(), by: str = "web") -> Who:
    return Who("mia", roles, frozenset().union(more, *(ROLES[role] for role in roles)), by)


def test_each_role_may_all_that_the_weaker_one_may() -> None:
    ordered = list(ROLES.values())
    assert list(ROLES) == ["Public", "Viewer", "User", "Op", "Admin"]
    for weaker, stronger in pairwise(ordered):
        assert weaker < stronger
    assert ROLES["Public"] == frozenset()


def test_a_viewer_has_no_right_that_changes_anything() -> None:
    assert {action for action, _ in ROLES["Viewer"]} == {"can_read", "menu_access"}
    secret = {"Connections", "Variables", "Configurations", "Audit Logs", "Users", "Roles", "Permissions", "Operations"}
    assert not secret & {resource for _, resource in ROLES["Viewer"]}


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("User", [("can_create", "DAG Runs"), ("can_edit", "Task Instances")], [("can_read", "Connections")]),
        ("Op", [("can_create", "Connections"), ("can_read", "Audit Logs")], [("can_read", "Users")]),
        ("Admin", [("can_delete", "Users"), ("can_edit", "Roles")], []),
    ],
)
def test_what_the_roles_are_for(role: str, may: list[tuple[str, str]], may_not: list[tuple[str, str]]) -> None:
    assert all(who(role).can(*one) for one in may)
    assert not any(who(role).can(*one) for one in may_not)


def test_admin_may_each_action_on_each_resource() -> None:
    assert all(who("Admin").can(action, resource, "etl") for action in ACTIONS for resource in RESOURCES)


def test_a_right_to_one_dag_holds_for_that_dag_and_needs_the_right_to_what_is_asked() -> None:
    runs = frozenset({("can_read", "DAG Runs"), ("can_create", "DAG Runs"), ("can_read", "Task Logs")})
    mia = who("Public", more=runs | {("can_read", "DAG:etl"), ("can_edit", "DAG:run")})
    assert mia.can("can_read", "DAGs", "etl") and not mia.can("can_read", "DAGs", "other")
    assert mia.can("can_read", "DAG Runs", "etl") and mia.can("can_read", "Task Logs", "etl")
    assert not mia.can("can_read", "DAG Runs", "other") and not mia.can("can_read", "XComs", "etl")
    # Who starts a run changes what the DAG does: that needs the right to edit it.
    assert not mia.can("can_create", "DAG Runs", "etl") and mia.can("can_create", "DAG Runs", "run")
    assert not mia.can("can_read", "DAGs", "run") and mia.readable_dags() == {"etl"}
    assert mia.dags_with("can_edit") == {"run"} and who("User").dags_with("can_edit") is None


@pytest.mark.parametrize("resource", OF_DAGS)
def test_nothing_of_a_dag_is_readable_without_the_dag(resource: str) -> None:
    mia = who("Public", more=frozenset({("can_read", resource)} - {("can_read", "DAGs")}))
    assert not mia.can("can_read", resource, "etl")


def test_what_is_missing_is_named_and_strangers_are_asked_to_sign_in() -> None:
    with pytest.raises(Forbidden, match="mia lacks the permission can_edit on DAGs of DAG etl"):
        who("Viewer").require("can_edit", "DAGs", "etl")
    with pytest.raises(SignInNeeded):
        who("Public", by="public").require("can_read", "DAGs")


def test_both_of_airflows_forms_of_access_control_mean_the_same() -> None:
    short = stored_form("etl", {"Team": {"can_edit", "can_read"}, "Old": ["can_dag_read"], "None": set()})
    long = stored_form("etl", {"Team": {"DAGs": {"can_read", "can_edit"}}, "Old": {"DAGs": ("can_read",)}})
    assert short == long == {"Team": {"DAGs": ["can_edit", "can_read"]}, "Old": {"DAGs": ["can_read"]}}
    runs = stored_form("etl", {"Team": {"DAGs": {"can_read"}, "DAG Runs": {"can_create"}}})
    assert grants_of("etl", runs, ["Team", "Viewer"]) == {("can_read", "DAG:etl"), ("can_create", "DAG Run:etl")}
    assert stored_form("etl", None) == {}


@pytest.mark.parametrize(
    "given",
    [["Team"], {"Team": "can_read"}, {"Team": {"can_fly"}}, {"Team": {"Pools": {"can_read"}}}, {"Team": {1}}, {"T": 3}],
)
def test_a_wrong_access_control_is_refused_with_the_dag_named(given: Any) -> None:
    with pytest.raises(DagInvalid, match="DAG etl: access_control"):
        stored_form("etl", given)


def test_nobody_gives_away_more_than_one_may() -> None:
    assert exceeding(who("Op"), ROLES["User"]) is None
    assert exceeding(who("Op"), ROLES["Admin"]) is not None
    assert exceeding(who("User"), [("can_edit", one_dag("etl"))]) is None  # it may edit every DAG
    assert exceeding(who("Viewer"), [("can_edit", one_dag("etl"))]) == ("can_edit", "DAG:etl")


def test_a_token_may_no_more_than_its_scopes_and_its_user() -> None:
    user = ROLES["User"]
    assert narrowed(user, ["all"]) == user
    assert narrowed(user, ["read"]) == {one for one in user if one[0] in ("can_read", "menu_access")}
    assert narrowed(user, ["can_read:DAGs", "can_delete:Users"]) == {("can_read", "DAGs")}
    assert narrowed(user, []) == frozenset()


def test_unknown_actions_and_resources_are_refused() -> None:
    assert checked("can_read", "DAG:a: b") == ("can_read", "DAG:a: b")
    for action, resource in (
        ("can_jump", "DAGs"),
        ("can_read", "Dags"),
        ("can_read", "DAG:"),
        ("can_read", "DAG:" + "x" * 300),
    ):
        with pytest.raises(UsageError):
            checked(action, resource)


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil",
        "javascript:alert(1)",
        "",
        "/a\nb",
        "/login?next=/x",
    ],
)
def test_nobody_is_sent_elsewhere_after_signing_in(wanted: str) -> None:
    assert local_path(wanted) == "/"
    assert local_path("/dags/etl?tab=log") == "/dags/etl?tab=log"
