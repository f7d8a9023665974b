"""Trigger rules: what the states of the direct upstream tasks mean for a task. Pure; the semantics are Airflow's."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Decision = Literal["run", "wait", "skipped", "upstream_failed"]


class TriggerRule(StrEnum):
    """The names an author may give as `trigger_rule`."""

    ALL_SUCCESS = "all_success"
    ALL_FAILED = "all_failed"
    ALL_DONE = "all_done"
    ALL_DONE_MIN_ONE_SUCCESS = "all_done_min_one_success"
    ALL_DONE_SETUP_SUCCESS = "all_done_setup_success"
    ONE_SUCCESS = "one_success"
    ONE_FAILED = "one_failed"
    ONE_DONE = "one_done"
    NONE_FAILED = "none_failed"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    NONE_SKIPPED = "none_skipped"
    ALL_SKIPPED = "all_skipped"
    ALWAYS = "always"
    DUMMY = "dummy"
    NONE_FAILED_OR_SKIPPED = "none_failed_or_skipped"

    @classmethod
    def is_valid(cls, name: str) -> bool:
        return name in cls._value2member_map_

    @classmethod
    def all_triggers(cls) -> set[str]:
        return {rule.value for rule in cls}


_OLD_NAMES = {"dummy": "always", "none_failed_or_skipped": "none_failed_min_one_success"}


def canonical(rule: str) -> str:
    """The present name of a rule; ValueError for a name that is none."""
    name = str(getattr(rule, "value", rule)).lower()
    name = _OLD_NAMES.get(name, name)
    if not TriggerRule.is_valid(name):
        known = ", ".join(rule.value for rule in TriggerRule if rule.value not in _OLD_NAMES)
        raise ValueError(f"{rule!r} is no trigger rule; choose one of {known}")
    return name


def decide(
    rule: str,
    total: int,
    success: int,
    failed: int,
    skipped: int,
    upstream_failed: int,
    removed: int,
    done: int,
) -> Decision:
    """Whether a task may run, given how many of its `total` direct upstream task instances are in which state.

    `done` counts all finished ones, removed ones included. A decision falls as soon as no later upstream state can
    change it (all_success: on the first failure or skip; one_failed: on the first failure). Removed instances count as
    if they were not there. A task without upstream tasks runs, whatever its rule.
    """
    if total == 0 or rule in ("always", "dummy"):
        return "run"
    total -= removed
    all_done = done - removed >= total
    broken = failed + upstream_failed
    if rule == "all_success":
        if broken:
            return "upstream_failed"
        if skipped:
            return "skipped"
        return "run" if success >= total else "wait"
    if rule in ("all_done", "all_done_setup_success"):
        return "run" if all_done else "wait"  # which setups have succeeded is the run's to judge
    if rule == "all_done_min_one_success":
        if skipped:
            return "skipped"
        if not all_done:
            return "wait"
        return "run" if success else "upstream_failed"
    if rule == "one_success":
        if success:
            return "run"
        if not all_done:
            return "wait"
        return "skipped" if skipped == total else "upstream_failed"
    if rule == "one_failed":
        if broken:
            return "run"
        return "skipped" if all_done else "wait"
    if rule == "one_done":
        if success or failed:
            return "run"
        return "skipped" if all_done else "wait"
    if rule == "none_failed":
        if broken:
            return "upstream_failed"
        return "run" if all_done else "wait"
    if rule in ("none_failed_min_one_success", "none_failed_or_skipped"):
        if broken:
            return "upstream_failed"
        if skipped >= total:
            return "skipped"
        return "run" if all_done else "wait"
    if rule == "all_failed":
        if success or skipped:
            return "skipped"
        return "run" if all_done else "wait"
    if rule == "none_skipped":
        if skipped:
            return "skipped"
        return "run" if all_done else "wait"
    if rule == "all_skipped":
        if success or broken:
            return "skipped"
        return "run" if all_done else "wait"
    raise ValueError(f"{rule!r} is no trigger rule")
