from __future__ import annotations

from dataclasses import replace

import pytest

from opskit.errors import DagInvalid, GuardRefused, NotFound, UsageError
from opskit.ops.node_tree import manifest_hash
from opskit.ops.releases import (
    BACK,
    FORWARD,
    Journal,
    NodeView,
    Policy,
    check_rollback_is_one,
    choose_rollback,
    decide_recovery,
    expected_files,
    find_duplicates,
    plan_release,
    refuse_duplicates,
    required_hosts,
    rolling_groups,
)

POLICY = Policy(owner="", group="", file_mode="0640", dir_mode="0750")
A, B = ["a" * 64, 1, False], ["b" * 64, 1, False]
RELEASES = tuple(name * 32 for name in "123")
VIEW = NodeView(
    user="u",
    dags="/srv/dags",
    kind="link",
    current="3" * 32,
    current_hash="3" * 32,
    current_deployment="d3",
    files={"a.py": A, "b.py": B},
    dag_ids={"a.py": ["a"], "b.py": ["b"]},
    problems={},
    releases=RELEASES,
    journal=None,
)


def test_a_folder_replaces_the_tree_and_files_go_on_top_of_it() -> None:
    whole = plan_release(VIEW, {"a.py": B, "c.py": A}, POLICY, whole_tree=True)
    assert (whole.added, whole.changed, whole.removed) == (("c.py",), ("a.py",), ("b.py",))
    assert whole.kept_dag_ids == {}
    top = plan_release(VIEW, {"a.py": B, "c.py": A}, POLICY, whole_tree=False)
    assert (top.added, top.changed, top.removed) == (("c.py",), ("a.py",), ())
    assert top.kept_dag_ids == {"b.py": ["b"]}
    assert top.files == {"a.py": B, "b.py": B, "c.py": A}


def test_the_hash_of_a_release_depends_on_content_names_modes_and_owner_and_on_no_order() -> None:
    files = {"a": A, "b": B}
    first = manifest_hash(files, POLICY.as_dict())
    assert first == manifest_hash(dict(reversed(files.items())), dict(reversed(POLICY.as_dict().items())))
    others = [
        manifest_hash({"a": A, "c": B}, POLICY.as_dict()),
        manifest_hash({"a": B, "b": B}, POLICY.as_dict()),
        manifest_hash({"a": A, "b": [*B[:2], True]}, POLICY.as_dict()),
        manifest_hash(files, replace(POLICY, owner="root").as_dict()),
        manifest_hash(files, replace(POLICY, file_mode="0644").as_dict()),
    ]
    assert len({first, *others}) == 6


def test_the_same_content_and_policy_is_the_current_release() -> None:
    digest = manifest_hash(dict(VIEW.files), POLICY.as_dict())
    view = replace(VIEW, current_hash=digest)
    assert plan_release(view, {"a.py": A}, POLICY, whole_tree=False).is_current
    assert not plan_release(replace(view, kind="folder"), {"a.py": A}, POLICY, whole_tree=False).is_current
    assert not plan_release(view, {"a.py": A}, replace(POLICY, dir_mode="0755"), whole_tree=False).is_current


@pytest.mark.parametrize("path", ["a.py/inner.py", "folder"])
def test_a_file_can_not_take_the_place_of_a_folder_or_lie_below_a_file(path: str) -> None:
    view = replace(VIEW, files={"a.py": A, "folder/b.py": B})
    with pytest.raises(GuardRefused):
        plan_release(view, {path: A}, POLICY, whole_tree=False)
    plan_release(view, {path: A}, POLICY, whole_tree=True)


def test_files_do_not_go_on_top_of_a_folder_with_links() -> None:
    view = replace(VIEW, kind="folder", problems={"link": "a symbolic link to /etc"})
    with pytest.raises(GuardRefused, match="/srv/dags/link is a symbolic link"):
        plan_release(view, {"c.py": A}, POLICY, whole_tree=False)
    plan_release(view, {"c.py": A}, POLICY, whole_tree=True)


def test_a_rollback_goes_one_back_or_to_the_named_release() -> None:
    assert choose_rollback(VIEW, None) == "2" * 32
    assert choose_rollback(VIEW, "1") == "1" * 32
    assert choose_rollback(VIEW, "3") == "3" * 32
    with pytest.raises(NotFound):
        choose_rollback(replace(VIEW, current="1" * 32), None)
    with pytest.raises(NotFound, match="no release '9'"):
        choose_rollback(VIEW, "9")
    with pytest.raises(UsageError, match="fits several"):
        choose_rollback(VIEW, "")
    with pytest.raises(UsageError, match="no releases yet"):
        choose_rollback(replace(VIEW, kind="folder"), None)


def test_hosts_go_back_together_only_from_the_same_release_or_the_same_deployment() -> None:
    other_hash = replace(VIEW, current_hash="4" * 32)
    other = replace(other_hash, current_deployment="d4")
    check_rollback_is_one({"a": VIEW, "b": VIEW}, None)
    check_rollback_is_one({"a": VIEW, "b": other_hash}, None)
    check_rollback_is_one({"a": VIEW, "b": replace(VIEW, current_deployment="d4")}, None)
    check_rollback_is_one({"a": VIEW, "b": other}, "1")
    with pytest.raises(GuardRefused, match="different releases"):
        check_rollback_is_one({"a": VIEW, "b": other}, None)


def test_a_dag_that_two_files_define_is_found_and_concerns_only_its_files() -> None:
    dag_ids = {"a.py": ["x", "y"], "b.py": ["y"], "c.py": ["z"]}
    assert find_duplicates(dag_ids) == {"y": ["a.py", "b.py"]}
    with pytest.raises(DagInvalid, match=r"'y' is defined by a\.py and by b\.py"):
        refuse_duplicates(dag_ids, {"b.py"}, "here")
    refuse_duplicates(dag_ids, {"c.py"}, "here")
    with pytest.raises(DagInvalid):
        refuse_duplicates({"a.py": ["x", "x"]}, {"a.py"}, "here")


def test_an_interrupted_deployment_goes_on_only_when_the_switch_was_ordered() -> None:
    def journal(switched: bool) -> Journal:
        return Journal("d", "ann", "now", ("a", "b"), switched)

    waiting = {"a": journal(False), "b": journal(False)}
    half = {"a": journal(True), "b": journal(False)}

    def directions(journals: dict[str, Journal], orders: dict[str, dict[str, str]]) -> dict[str, str]:
        return {host: direction for host, (direction, _) in decide_recovery(journals, orders).items()}

    assert directions(waiting, {}) == {"a": BACK, "b": BACK}
    assert directions(waiting, {"d": {"a": FORWARD, "b": FORWARD}}) == {"a": FORWARD, "b": FORWARD}
    assert directions(half, {}) == {"a": FORWARD, "b": FORWARD}
    assert directions(half, {"d": {"a": BACK, "b": BACK}}) == {"a": BACK, "b": BACK}
    assert directions(half, {"other": {"a": BACK}}) == {"a": FORWARD, "b": FORWARD}
    assert directions({}, {}) == {}


@pytest.mark.parametrize(("quorum", "needed"), [("all", 8), ("any", 1), ("3", 3), ("75%", 6), ("1%", 1), ("100%", 8)])
def test_a_quorum_is_a_number_a_percentage_rounded_up_all_or_any(quorum: str, needed: int) -> None:
    assert required_hosts(quorum, 8) == needed


@pytest.mark.parametrize("quorum", ["", "0", "-1", "101%", "9", "most", "3.5"])
def test_what_is_no_quorum_of_eight_hosts_is_refused(quorum: str) -> None:
    with pytest.raises(UsageError):
        required_hosts(quorum, 8)


def test_hosts_switch_in_groups_of_a_size_a_share_or_as_they_are_configured() -> None:
    hosts = list("abcde")
    assert rolling_groups(hosts, "") == [hosts]
    assert rolling_groups(hosts, "2") == [["a", "b"], ["c", "d"], ["e"]]
    assert rolling_groups(hosts, "10%") == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert rolling_groups(hosts, "groups", [["c", "x"], ["a", "c"]]) == [["c"], ["a"], ["b", "d", "e"]]
    for wrong in ("0", "101%", "half"):
        with pytest.raises(UsageError):
            rolling_groups(hosts, wrong)


def test_a_host_that_was_away_should_have_the_folder_or_the_files_on_top_of_what_was_recorded() -> None:
    assert expected_files(None, {"a": A}, whole_tree=True) == {"a": A}
    assert expected_files({"b": B}, {"a": A}, whole_tree=False) == {"a": A, "b": B}
    assert expected_files(None, {"a": A}, whole_tree=False) is None
