"""The policy of `opskit permissions`, and its decisions on single entries."""

from __future__ import annotations

import os
import re
import stat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import ConfigError
from opskit.ops import permissions_acl as acl
from opskit.ops.permissions_acl import Named
from opskit.ops.permissions_policy import parse
from opskit.ops.permissions_rules import (
    Held,
    Refused,
    State,
    describe,
    merged,
    resolve,
    split_glob,
    wanted,
    why_not_allowed,
    why_refused,
)


def status(mode: int, uid: int = 1000, gid: int = 1000, links: int = 1) -> os.stat_result:
    return os.stat_result((mode, 7, 8, links, uid, gid, 0, 0, 0, 0))


def test_a_policy_names_users_groups_and_octal_modes() -> None:
    table = {"dags": {"owner": "root", "group": 0, "file_mode": "0640", "dir_mode": "2750", "inherit": True}}
    rule = resolve(parse(table), "/h")[-1]
    assert (rule.root, rule.values) == (
        "/h/dags",
        {"uid": 0, "gid": 0, "file_mode": 0o640, "dir_mode": 0o2750, "inherit": True},
    )


def test_the_key_is_private_unless_the_policy_says_otherwise() -> None:
    (row,) = parse({})
    assert (row["path"], row["file_mode"], row["optional"]) == ("fernet.key", 0o600, True)
    assert {row["path"]: row["file_mode"] for row in parse({"dags": {"file_mode": "0640"}})}["fernet.key"] == 0o600
    assert parse({"fernet.key": {"file_mode": "0640"}})[0]["file_mode"] == 0o640


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"dags": {"file_mode": "4755"}}, "sets bits that a policy may not set"),
        ({"dags": {"file_mode": "2755"}}, "sets bits that a policy may not set"),
        ({"dags": {"dir_mode": "4755"}}, "sets bits that a policy may not set"),
        ({"dags": {"file_mode": "rw-r--r--"}}, "file_mode is 'rw-r--r--'"),
        ({"dags": {"file_mode": 640}}, "file_mode is 640"),
        ({"dags": {"file_mode": "-640"}}, "file_mode is '-640'"),
        ({"dags": {"filemode": "0640"}}, "has 'filemode'"),
        ({"dags": {"owner": True}}, "owner is True"),
        ({"dags": {"inherit": "yes"}}, "inherit is 'yes'"),
        ({"dags": {"acl": "hadoop:rx"}}, "acl is 'hadoop:rx'"),
        ({"dags": {"acl": "group:hadoop:rq"}}, "acl is 'group:hadoop:rq'"),
        ({"dags": {"acl": "group:hadoop:r, g:hadoop:w"}}, "names group hadoop twice"),
        ({"dags": "0640"}, "is no table"),
        ({"../etc": {"file_mode": "0640"}}, "a path below OPSKIT_HOME"),
        ({"/": {"file_mode": "0640"}}, "a path below OPSKIT_HOME"),
        ({".": {"file_mode": "0640"}}, "a path below OPSKIT_HOME"),
        ({"**/*.py": {"file_mode": "0640"}}, "must begin with a fixed folder"),
        ({"/*": {"file_mode": "0640"}}, "must begin with a fixed folder"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        parse(table)


@pytest.mark.parametrize("key", ["owner", "group"])
def test_a_name_that_the_host_does_not_know_is_refused(key: str) -> None:
    with pytest.raises(Refused, match=r"there is no (user|group) 'nobody-has-this-name'"):
        resolve(parse({"dags": {key: "nobody-has-this-name"}}), "/h")
    with pytest.raises(Refused, match="there is no group 'nobody-has-this-name'"):
        resolve(parse({"dags": {"acl": "g:nobody-has-this-name:r"}}), "/h")


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("dags/**/*.sh", "dags/a.sh", True),
        ("dags/**/*.sh", "dags/x/y/a.sh", True),
        ("dags/**/*.sh", "dags/a.py", False),
        ("dags/*/private", "dags/team/private/deep/file", True),
        ("dags/*/private", "dags/a/b/private", False),
        ("dags/run?.py", "dags/run1.py", True),
        ("dags/run?.py", "dags/run/.py", False),
        ("dags/[ab]*.py", "dags/b.py", True),
        ("dags/[!ab]*.py", "dags/b.py", False),
        ("dags/[!ab]*.py", "dags/c\n.py", True),
        ("dags/**", "dags/any/thing", True),
    ],
)
def test_a_pattern_stays_within_its_folder(pattern: str, path: str, matches: bool) -> None:
    assert split_glob(pattern)[0] == "dags"
    rule = resolve(parse({pattern: {"file_mode": "0600"}}), "/h")[-1]
    assert rule.pattern is not None
    assert bool(rule.pattern.match(f"/h/{path}")) is matches
    assert rule.pattern.match(f"/elsewhere/{path}") is None


def test_the_rule_with_the_longer_fixed_path_wins_value_by_value() -> None:
    table = {
        "dags/private": {"file_mode": "0600"},
        "dags/**/*.sh": {"file_mode": "0750"},
        "dags": {"owner": 7, "file_mode": "0640", "dir_mode": "0750"},
    }
    rules = [rule for rule in resolve(parse(table), "/h") if rule.root.startswith("/h/dags")]
    assert [rule.values["file_mode"] for rule in rules] == [0o640, 0o750, 0o600]
    held = merged(rules)
    assert (held.uid, held.file_mode, held.dir_mode) == (7, 0o600, 0o750)


def test_an_entry_that_is_as_it_should_be_stays() -> None:
    held = Held(1000, 1000, 0o640, 0o2750)
    for folder, mode in ((False, 0o640), (True, 0o2750)):
        state = State(1000, 1000, mode)
        assert wanted(state, folder, held) == state


def test_what_is_wanted_is_told_with_what_is() -> None:
    old = State(0, 1000, 0o644)
    new = wanted(old, False, Held(1000, 1000, 0o640, 0o750))
    assert new == State(1000, 1000, 0o640)
    assert describe(old, new).startswith("owner root, should be ")
    assert describe(old, new).endswith("mode 0644, should be 0640")


def test_what_the_policy_leaves_open_may_be_anything() -> None:
    for folder in (False, True):
        assert wanted(State(5, 6, 0o777), folder, Held()) == State(5, 6, 0o777)


def test_a_file_that_changes_hands_loses_setuid() -> None:
    assert wanted(State(5, 6, 0o6755), False, Held(uid=7)).mode == 0o755
    assert wanted(State(5, 6, 0o2755), True, Held(uid=7)).mode == 0o2755


@pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
def test_setuid_programs_are_refused(bit: int) -> None:
    assert "setuid" in why_refused(status(stat.S_IFREG | 0o755 | bit), 1000)


def test_a_foreign_file_that_was_linked_in_is_refused() -> None:
    assert "2 links" in why_refused(status(stat.S_IFREG | 0o644, uid=0, links=2), 1000)


def test_own_files_may_have_many_links_and_folders_setgid() -> None:
    assert why_refused(status(stat.S_IFREG | 0o644, links=2), 1000) == ""
    assert why_refused(status(stat.S_IFDIR | 0o2777, links=5), 1000) == ""


@pytest.mark.parametrize(
    ("old", "new", "capabilities", "words"),
    [
        (State(5, 5, 0o644), State(5, 5, 0o640), 0, ""),
        (State(5, 5, 0o644), State(5, 6, 0o640), 0, ""),
        (State(5, 5, 0o644), State(5, 7, 0o640), 0, "is not in the group"),
        (State(5, 5, 0o644), State(9, 5, 0o644), 0, "only root may give it to"),
        (State(9, 5, 0o644), State(9, 5, 0o640), 0, "it belongs to"),
        (State(9, 5, 0o644), State(5, 7, 0o640), 0b1001, ""),
        (State(9, 5, 0o644), State(9, 5, 0o640), 0b1000, ""),
    ],
)
def test_a_user_learns_what_he_may_not_change(old: State, new: State, capabilities: int, words: str) -> None:
    found = why_not_allowed(old, new, 5, [5, 6], capabilities)
    assert words in found if words else found == ""


named = st.builds(
    Named, st.sampled_from([acl.USER, acl.GROUP]), st.integers(0, 2**32 - 2), st.integers(0, 7), st.booleans()
)


@given(st.integers(0, 0o777), st.lists(named, unique_by=lambda item: item[:2]), st.booleans())
def test_an_access_list_says_what_the_mode_and_the_names_say(mode: int, names: list[Named], folder: bool) -> None:
    data = acl.for_mode(mode, names, folder)
    entries = acl.decode(data)
    assert acl.encode(entries) == data
    found = {(tag, number): bits for tag, bits, number in entries}
    assert [found[tag, 0xFFFFFFFF] for tag in (acl.USER_OBJ, acl.GROUP_OBJ, acl.OTHER)] == [
        mode >> 6 & 7,
        mode >> 3 & 7,
        mode & 7,
    ]
    mask = found.get((acl.MASK, 0xFFFFFFFF), 7)
    for item in names:
        given_bits = item.permissions | (1 if item.execute_folders and folder else 0)
        assert found[item.tag, item.id] == given_bits == given_bits & mask
    assert (mode >> 3 & 7) & mask == mode >> 3 & 7
    assert ((acl.MASK, 0xFFFFFFFF) in found) == bool(names)


def test_a_second_look_at_an_entry_with_a_list_wants_nothing_more() -> None:
    for held in (Held(acl=(Named(acl.GROUP, 7, 4, True),), inherit=True), Held(None, None, 0o600, 0o700, (), True)):
        for folder in (False, True):
            first = wanted(State(5, 5, 0o750, b"" if held.acl else None, b"" if folder else None), folder, held)
            assert wanted(first, folder, held) == first


def test_lists_are_shown_as_setfacl_writes_them() -> None:
    assert (
        acl.show(acl.for_mode(0o750, [Named(acl.GROUP, 12, 4, True)], True)) == "u::rwx,g::r-x,g:12:r-x,m::r-x,o::---"
    )
    assert acl.show(b"") == "none"
    with pytest.raises(ValueError, match="no access control list"):
        acl.decode(b"\1\0\0\0")
