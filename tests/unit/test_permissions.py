"""The policy of `opskit permissions`, and its decisions on single entries."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from opskit.errors import ConfigError
from opskit.ops.permissions import Rule, compare, parse_policy, why_refused


def status(mode: int, uid: int = 1000, gid: int = 1000, links: int = 1) -> os.stat_result:
    return os.stat_result((mode, 7, 8, links, uid, gid, 0, 0, 0, 0))


def test_a_policy_names_users_groups_and_octal_modes() -> None:
    table = {"dags": {"owner": "root", "group": 0, "file_mode": "0640", "dir_mode": "2750"}}
    assert parse_policy(table) == [Rule("dags", 0, 0, 0o640, 0o2750)]


def test_without_a_policy_the_key_is_private() -> None:
    assert parse_policy({}) == [Rule("fernet.key", file_mode=0o600, optional=True)]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"dags": {"owner": "nobody-has-this-name"}}, "there is no user 'nobody-has-this-name'"),
        ({"dags": {"group": "nobody-has-this-name"}}, "there is no group"),
        ({"dags": {"file_mode": "4755"}}, "sets bits that a policy may not set"),
        ({"dags": {"file_mode": "2755"}}, "sets bits that a policy may not set"),
        ({"dags": {"dir_mode": "4755"}}, "sets bits that a policy may not set"),
        ({"dags": {"file_mode": "rw-r--r--"}}, "file_mode is 'rw-r--r--'"),
        ({"dags": {"file_mode": 640}}, "file_mode is 640"),
        ({"dags": {"file_mode": "-640"}}, "file_mode is '-640'"),
        ({"dags": {"filemode": "0640"}}, "has 'filemode'"),
        ({"dags": "0640"}, "is no table"),
        ({"../etc": {"file_mode": "0640"}}, "a path below OPSKIT_HOME"),
        ({"/": {"file_mode": "0640"}}, "a path below OPSKIT_HOME"),
        ({".": {"file_mode": "0640"}}, "a path below OPSKIT_HOME"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_policy(table)


def test_an_entry_that_is_as_it_should_be_has_no_difference() -> None:
    rule = Rule("x", 1000, 1000, 0o640, 0o750)
    assert compare("x/f", status(stat.S_IFREG | 0o640), rule) is None
    assert compare("x/d", status(stat.S_IFDIR | 0o750), rule) is None


def test_only_what_differs_is_to_be_written() -> None:
    rule = Rule("x", 1000, 1000, 0o640, 0o750)
    found = compare("x/f", status(stat.S_IFREG | 0o644, uid=0), rule)
    assert found is not None
    assert (found.uid, found.gid, found.mode) == (1000, None, 0o640)
    assert found.text.startswith("owner root, should be ")
    assert found.text.endswith("mode 0644, should be 0640")


def test_what_a_rule_leaves_open_may_be_anything() -> None:
    assert compare("x", status(stat.S_IFREG | 0o777, uid=5, gid=6), Rule("x")) is None


@pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
def test_setuid_programs_are_refused(bit: int) -> None:
    assert "setuid" in why_refused(status(stat.S_IFREG | 0o755 | bit), Rule("x", 1000), 1000)


def test_a_foreign_file_that_was_linked_in_is_refused() -> None:
    assert "2 links" in why_refused(status(stat.S_IFREG | 0o644, uid=0, links=2), Rule("x", 1000), 1000)
    assert "2 links" in why_refused(status(stat.S_IFREG | 0o644, uid=0, links=2), Rule("x", file_mode=0o600), 1000)


def test_own_files_may_have_many_links() -> None:
    assert why_refused(status(stat.S_IFREG | 0o644, links=2), Rule("x", 1000), 1000) == ""


def test_a_directory_with_setgid_may_be_repaired() -> None:
    assert why_refused(status(stat.S_IFDIR | 0o2777, links=5), Rule("x", 1000), 1000) == ""
