"""Trigger rules: small tables of every rule, and what must hold for all counts."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.core.dag.trigger_rules import TriggerRule, canonical, decide

RULES = sorted(rule.value for rule in TriggerRule)
ENDED = ("success", "failed", "skipped", "upstream_failed")
LETTERS = {"s": "success", "f": "failed", "k": "skipped", "u": "upstream_failed", "r": "removed", ".": None}


def decision(rule: str, states: str) -> str:
    """The decision when the upstream tasks are in these states, one letter each; `.` has not ended."""
    names = [LETTERS[letter] for letter in states]
    counts = [names.count(name) for name in ("success", "failed", "skipped", "upstream_failed", "removed")]
    return decide(rule, len(names), *counts, sum(name is not None for name in names))


TABLE = {
    "all_success": {
        "ss": "run", "s.": "wait", "..": "wait", "sf": "upstream_failed", "f.": "upstream_failed",
        "u.": "upstream_failed", "sk": "skipped", "k.": "skipped", "fk": "upstream_failed", "kk": "skipped",
        "sr": "run", "r.": "wait",
    },
    "all_failed": {
        "ff": "run", "fu": "run", "uu": "run", "f.": "wait", "s.": "skipped", "fs": "skipped", "fk": "skipped",
        "k.": "skipped", "fr": "run",
    },
    "all_done": {"ss": "run", "fk": "run", "uf": "run", "kk": "run", "s.": "wait", "f.": "wait", "sr": "run"},
    "one_success": {
        "s.": "run", "sf": "run", "sk": "run", "..": "wait", "f.": "wait", "ff": "upstream_failed",
        "fk": "upstream_failed", "uk": "upstream_failed", "kk": "skipped", "kr": "skipped",
    },
    "one_failed": {
        "f.": "run", "u.": "run", "sf": "run", "s.": "wait", "..": "wait", "ss": "skipped", "sk": "skipped",
        "kk": "skipped",
    },
    "one_done": {
        "s.": "run", "f.": "run", "k.": "wait", "u.": "wait", "kk": "skipped", "uk": "skipped", "ks": "run",
    },
    "none_failed": {
        "ss": "run", "sk": "run", "kk": "run", "s.": "wait", "k.": "wait", "f.": "upstream_failed",
        "su": "upstream_failed", "kf": "upstream_failed",
    },
    "none_failed_min_one_success": {
        "ss": "run", "sk": "run", "kk": "skipped", "s.": "wait", "k.": "wait", "f.": "upstream_failed",
        "ku": "upstream_failed",
    },
    "none_skipped": {"ss": "run", "sf": "run", "fu": "run", "k.": "skipped", "sk": "skipped", "s.": "wait"},
    "all_skipped": {
        "kk": "run", "k.": "wait", "s.": "skipped", "f.": "skipped", "u.": "skipped", "ks": "skipped", "kr": "run",
    },
    "always": {"..": "run", "ff": "run", "k.": "run"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "states", "expected"), [(rule, *row) for rule, rows in TABLE.items() for row in rows.items()]
)
def test_a_rule_decides_as_in_airflow(rule: str, states: str, expected: str) -> None:
    assert decision(rule, states) == expected
    assert decision(rule, states[::-1]) == expected, "the order of the upstream tasks says nothing"


def test_old_names_mean_the_present_rules() -> None:
    for states in map("".join, product(LETTERS, repeat=2)):
        assert decision("dummy", states) == decision("always", states)
        assert decision("none_failed_or_skipped", states) == decision("none_failed_min_one_success", states)
    assert canonical("dummy") == "always"
    assert canonical(TriggerRule.NONE_FAILED_OR_SKIPPED) == "none_failed_min_one_success"


def test_an_unknown_rule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"all_sucess.*all_success"):
        canonical("all_sucess")
    with pytest.raises(ValueError, match="no trigger rule"):
        decide("all_sucess", 1, 1, 0, 0, 0, 0, 1)


@pytest.mark.parametrize("rule", RULES)
def test_a_task_without_upstream_tasks_runs(rule: str) -> None:
    assert decision(rule, "") == "run"


@pytest.mark.parametrize("rule", RULES)
def test_nothing_waits_once_every_upstream_task_has_ended(rule: str) -> None:
    for states in map("".join, product("sfkur", repeat=4)):
        assert decision(rule, states) != "wait", states


@given(rule=st.sampled_from(RULES), states=st.text("sfkur.", max_size=6), later=st.text("sfku", min_size=6, max_size=6))
def test_an_early_decision_is_never_changed_by_what_ends_later(rule: str, states: str, later: str) -> None:
    """But for skipped before upstream_failed in all_success, where the earlier one stands, as in Airflow."""
    early = decision(rule, states)
    if early == "wait":
        return
    ending = iter(later)
    final = decision(rule, "".join(next(ending) if letter == "." else letter for letter in states))
    if rule == "all_success" and early == "skipped":
        assert final in ("skipped", "upstream_failed")
    else:
        assert final == early


@given(rule=st.sampled_from(RULES), states=st.text("sfku.", min_size=1, max_size=5))
def test_a_removed_instance_counts_as_if_it_were_not_there(rule: str, states: str) -> None:
    assert decision(rule, states + "r") == decision(rule, states)
