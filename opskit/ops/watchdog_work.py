"""Judges work that should move and does not, whatever the pulse says. Pure: no clock, no process, no file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from opskit.ops.watchdog_findings import HEALTHY, SLOW, STUCK, Finding, Notes, Policy, Step
from opskit.ops.watchdog_memory import HOUR, Memory
from opskit.platforms.health import Backlog, Component, Observation


def judge_work(
    observation: Observation, memory: Memory, policy: Policy, boot_now: float, notes: Notes
) -> list[Finding]:
    """Work that could move and does not, whatever the schedulers' pulse says."""
    rule = "work that could move must move"
    schedulers = [c for c in observation.components if c.kind == "scheduler" and c.local and c.process == "running"]
    findings = []
    for cause in ("scheduler", "idle", "no_worker"):
        backlogs = [one for one in observation.backlogs if one.cause == cause]
        age, values = _ages(backlogs, observation.at)
        if age <= policy.work_slow_after:
            continue
        if age <= policy.work_stuck_after or not schedulers:
            finding = Finding("scheduler", None, SLOW, "work", values)
        elif cause == "no_worker":
            held = "no worker is alive: start one (opskit worker); a scheduler can't help"
            finding = Finding("worker", None, STUCK, "no_worker", f"{values}, and no worker is alive", held=held)
        else:
            findings += [_stuck_work(cause, values, one, memory, policy, boot_now) for one in schedulers]
            notes(rule, values, findings[-1].verdict)
            continue
        notes(rule, finding.evidence, finding.verdict)
        findings.append(finding)
    if not findings:
        notes(rule, _ages(observation.backlogs, observation.at)[1] or "nothing waits for long", HEALTHY)
    return findings


def _stuck_work(
    cause: str, values: str, scheduler: Component, memory: Memory, policy: Policy, boot_now: float
) -> Finding:
    was_reset = memory.reset_at is not None and boot_now - memory.reset_at < HOUR
    nudge = Step("nudge", policy.second_look, "it may only have missed a wake-up")
    reset = Step("reset", policy.second_look, "what is remembered of it may be wrong: it is read again")
    if cause == "idle":
        # Limits of a DAG and depends_on_past look just the same, so a restart is never the answer.
        if was_reset:
            held = "a reset within the last hour has not helped: a limit of the DAG or depends_on_past may hold it"
            return Finding("scheduler", scheduler, SLOW, "idle", f"{values}; {held}", held=held)
        return Finding("scheduler", scheduler, STUCK, "idle", values, (nudge, reset))
    if any(restart.cause == "work" for restart in memory.recent(boot_now)):
        held = "a restart for this reason has not helped within the last hour"
        return Finding("scheduler", scheduler, STUCK, "work", values, held=held)
    restart = Step("restart", policy.prove_within, "it turns, but the work does not move")
    plan = (nudge, restart) if was_reset else (nudge, reset, restart)
    return Finding("scheduler", scheduler, STUCK, "work", values, plan)


def _ages(backlogs: Sequence[Backlog], now: datetime) -> tuple[float, str]:
    """Age of the oldest in seconds, and all of them as a sentence."""
    found = [(one, (now - one.oldest).total_seconds()) for one in backlogs if one.oldest]
    values = "; ".join(f"{one.count} {one.what}, the oldest for {age:.0f} s" for one, age in found)
    return max((age for _, age in found), default=0.0), values
