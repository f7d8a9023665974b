"""What an environment must change to become another: decided from plain values."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit.errors import UsageError
from opskit.ops import env_apply, env_mapping
from opskit.ops.env_document import Document
from opskit.ops.env_mapping import EnvMapping
from opskit.ops.env_plan import Plan, Policy, decide
from opskit.ops.env_secrets import Fingerprints, Rules, redact
from opskit.ops.env_sources import Environment
from opskit.platforms.configuration import Unreadable

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
KEY = Fingerprints("ab" * 32, "the test")
RULES = Rules()


def connection(**fields: Any) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(("description", "host", "login", "password", "schema", "port"))
    return {"conn_type": "postgres", **empty, "extra": {}, **fields}


def side(name: str, objects: dict[str, Any], *, redacted: bool = False, protected: bool = False) -> Environment:
    full = {kind: objects.get(kind, {}) for kind in ("connections", "variables", "pools", "dags")}
    if redacted:
        full = {k: {n: redact(RULES, KEY, k, n, f) for n, f in items.items()} for k, items in full.items()}
    return Environment(f"file {name}", name, protected, Document(name, full, KEY.key_id if redacted else ""))


def plan(source: Environment, target: Environment, asked: dict[str, str] | None = None, **policy: Any) -> Plan:
    def resolve(origin: str, what: str) -> str:
        return (asked or {})[origin]

    return decide(source, target, Policy(**policy), RULES, KEY, resolve, NOW)


def mapping(tmp_path: Path, text: str) -> EnvMapping:
    path = tmp_path / "map.toml"
    path.write_text(text)
    return env_mapping.load(path, RULES)


def after(made: Plan, name: str) -> dict[str, Any]:
    found = next(change.after for change in made.changes if change.object == name)
    assert found is not None
    return found


def test_between_environments_the_target_keeps_its_secrets_and_new_objects_that_need_one_are_blocked() -> None:
    source = side("prod", {"connections": {"a": connection(host="new", password="p1"), "b": connection(password="p2")}})
    target = side("dev", {"connections": {"a": connection(host="old", password="mine", extra={"api_key": "k"})}})
    made = plan(source, target)
    kept = connection(host="new", password="mine", extra={"api_key": "k"})
    assert [(change.object, change.after) for change in made.changes] == [("connections/a", kept)]
    assert list(made.blocked) == ["connections/b"]
    assert "p1" not in str(made.changes[0].fields) and "mine" not in str(made.changes[0].fields)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("source", {"a": "p1", "b": "p2"}),
        ("fill", {"a": "mine", "b": "p2"}),
        ("empty", {"a": "mine", "b": None}),
    ],
)
def test_where_secrets_come_from_can_be_said(mode: str, expected: dict[str, str | None]) -> None:
    source = side("prod", {"connections": {"a": connection(host="x", password="p1"), "b": connection(password="p2")}})
    target = side("dev", {"connections": {"a": connection(password="mine")}})
    made = plan(source, target, secrets=mode)
    assert made.blocked == {}
    assert {change.name: (change.after or {})["password"] for change in made.changes} == expected


def test_a_redacted_file_changes_what_it_says_and_keeps_secrets_whose_fingerprint_is_the_same() -> None:
    here = {
        "connections": {"a": connection(host="old", password="p", extra={"token": "t", "x": 1})},
        "variables": {"api_key": {"value": "v", "description": None}},
    }
    assert plan(side("dev", here, redacted=True), side("dev", here)).changes == ()
    wanted = {**here, "connections": {"a": connection(host="new", password="p", extra={"token": "t", "x": 2})}}
    made = plan(side("dev", wanted, redacted=True), side("dev", here))
    assert after(made, "connections/a") == wanted["connections"]["a"]
    other = {**here, "connections": {"a": connection(host="old", password="other", extra={"token": "t", "x": 1})}}
    assert "fingerprint" in plan(side("dev", other, redacted=True), side("dev", here)).blocked["connections/a"]


def test_policies_say_how_much_is_brought() -> None:
    source = side("dev", {"variables": {"a": {"value": "1"}, "new": {"value": "n"}}})
    target = side(
        "dev", {"variables": {"a": {"value": "0", "description": "d"}, "old": {"value": "o", "description": None}}}
    )
    assert after(plan(source, target), "variables/a") == {"value": "1", "description": "d"}
    assert after(plan(source, target, policy="replace"), "variables/a") == {"value": "1", "description": None}
    created = plan(source, target, policy="create")
    assert [change.object for change in created.changes] == ["variables/new"]
    assert "variables/a" in created.left
    pruned = plan(source, target, prune=True)
    assert [change.object for change in pruned.changes if change.action == "delete"] == ["variables/old"]
    assert plan(source, target).count("delete") == 0


def test_protected_names_and_the_default_pool_are_never_touched() -> None:
    source = side("dev", {"variables": {"keep": {"value": "2", "description": None}}})
    target = side(
        "dev",
        {
            "variables": {"keep": {"value": "1", "description": None}, "keep2": {"value": "", "description": None}},
            "pools": {"default_pool": {"slots": 1, "description": None}, "p": {"slots": 1, "description": None}},
        },
    )
    made = plan(source, target, prune=True, protect=("variables/keep*",))
    assert [change.object for change in made.changes] == ["pools/p"]
    assert set(made.left) == {"variables/keep", "variables/keep2", "pools/default_pool"}


def test_a_dag_is_only_paused_where_it_is() -> None:
    source = side("dev", {"dags": {"here": {"paused": True}, "gone": {"paused": True}}})
    made = plan(source, side("dev", {"dags": {"here": {"paused": False}, "other": {"paused": False}}}), prune=True)
    assert [change.object for change in made.changes] == ["dags/here"]
    assert "no such DAG" in made.left["dags/gone"]


def test_what_can_not_be_read_is_never_brought_and_never_lost() -> None:
    source = side(
        "dev",
        {"connections": {"a": connection(password=Unreadable(), host="new"), "b": connection(password=Unreadable())}},
    )
    target = side("dev", {"connections": {"a": connection(password="mine")}})
    made = plan(source, target)
    assert after(made, "connections/a") == connection(password="mine", host="new")
    assert "can't be read" in made.blocked["connections/b"]
    broken = side("dev", {"connections": {"a": connection(password=Unreadable(), host="old")}})
    made = plan(side("prod", {"connections": {"a": connection(password="p", host="new")}}), broken)
    assert isinstance(after(made, "connections/a")["password"], Unreadable)


def test_a_mapping_renames_sets_and_fetches_secrets(tmp_path: Path) -> None:
    rules = mapping(
        tmp_path,
        """
        [[rule]]
        match = "connections/pg_*"
        rename = "dev_{name}"
        set = { host = "{value}.dev", port = 6432, "extra.sslmode" = "disable" }
        unset = ["extra.keepalives", "schema"]
        secret = { password = "env:PW_{name}", "extra.token" = "command:show {name}" }

        [[rule]]
        match = ["connections/pg_old", "variables/*"]
        policy = "ignore"
        """,
    )
    extra = {"sslmode": "require", "keepalives": "1", "keep": "x"}
    source = side(
        "prod",
        {
            "connections": {
                "pg_a": connection(host="db", port=5432, schema="s", password="p", extra=extra),
                "pg_old": connection(),
            },
            "variables": {"x": {"value": "1"}},
        },
    )
    asked = {"env:PW_pg_a": "pw", "command:show pg_a": "tk"}
    made = plan(source, side("dev", {}), asked, mapping=rules)
    wanted = connection(
        host="db.dev", port=6432, password="pw", extra={"sslmode": "disable", "keep": "x", "token": "tk"}
    )
    assert [(change.object, change.after) for change in made.changes] == [("connections/dev_pg_a", wanted)]
    assert set(made.left) == {"connections/pg_old", "variables/x"}
    again = plan(source, side("dev", {"connections": {"dev_pg_a": wanted}}), asked, mapping=rules)
    assert again.changes == () and again.unchanged == 1


def test_two_objects_never_become_one(tmp_path: Path) -> None:
    rules = mapping(tmp_path, '[[rule]]\nmatch = "variables/*"\nrename = "same"\n')
    with pytest.raises(UsageError, match="both become variables/same"):
        plan(side("a", {"variables": {"x": {"value": "1"}, "y": {"value": "1"}}}), side("b", {}), mapping=rules)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[rule]]\nmatch = 1", "match"),
        ('[[rule]]\nmatch = "pg_*"', "glob over kind/name"),
        ('[[rule]]\nmatch = "connections/*"\npolicy = "all"', "policy is one of"),
        ('[[rule]]\nmatch = "connections/*"\nset = { password = "geheim" }', "looks like a secret"),
        ('[[rule]]\nmatch = "connections/*"\nsecret = { password = "geheim" }', "comes from"),
        ('[[rule]]\nmatch = "connections/*"\nrenmae = "x"', "a rule has"),
        ("rule = 1", "something else"),
        ("[[rule", "TOML"),
    ],
)
def test_a_mapping_that_makes_no_sense_names_the_rule_and_tells_no_secret(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        mapping(tmp_path, text)
    assert "map.toml" in caught.value.message and "geheim" not in str(caught.value) + str(caught.value.hint)


def test_a_value_of_the_wrong_type_is_refused(tmp_path: Path) -> None:
    rules = mapping(tmp_path, '[[rule]]\nmatch = "connections/*"\nset = { port = "x" }\n')
    with pytest.raises(UsageError, match="port can't be str"):
        plan(side("a", {"connections": {"c": connection()}}), side("b", {}), mapping=rules)


def test_a_protected_environment_is_changed_from_elsewhere_only_by_name() -> None:
    source, own = side("dev", {"variables": {"a": {"value": "1"}}}), side("prod", {"variables": {"a": {"value": "1"}}})
    target = side("prod", {}, protected=True)
    made = plan(source, target)
    assert "--allow-prod prod" in env_apply.refusals(made)[0]
    assert env_apply.refusals(made, allow="dev") != []
    assert env_apply.refusals(made, allow="prod") == []
    assert env_apply.refusals(plan(own, target)) == []
    assert env_apply.refusals(plan(side("", {"variables": {"a": {"value": "1"}}}), side("", {}, protected=True))) != []


def test_too_many_changes_are_refused() -> None:
    def values(value: str) -> dict[str, Any]:
        return {"variables": {f"v{n}": {"value": value, "description": None} for n in range(20)}}

    made = plan(side("dev", values("new")), side("dev", values("old")))
    assert "20 of 20" in env_apply.refusals(made)[0]
    assert env_apply.refusals(made, max_percent=100) == []
    assert env_apply.refusals(plan(side("dev", values("new")), side("dev", {}))) == []
