"""Decides what is wrong with a cluster and what the least helpful deeds are. Pure: no clock, no process, no file."""

from __future__ import annotations

from opskit.ops.watchdog_components import judge, missing_scheduler
from opskit.ops.watchdog_findings import (
    BLIND,
    DEAD,
    HEALTHY,
    PAUSED,
    SLOW,
    STUCK,
    UPGRADING,
    Decision,
    Finding,
    Notes,
    Policy,
)
from opskit.ops.watchdog_memory import Memory
from opskit.ops.watchdog_work import judge_work
from opskit.platforms.health import KINDS, Observation
from opskit.platforms.watching import Pause

_WEIGHT = {HEALTHY: 0, SLOW: 1, STUCK: 2, DEAD: 3}


def decide(observation: Observation, memory: Memory, pause: Pause | None, policy: Policy, boot_now: float) -> Decision:
    """The verdict and the plan. `boot_now`: boot seconds of the observation."""
    notes = Notes()
    now = observation.at
    if pause and pause.active(now):
        notes("an operator's pause wins over everything", str(pause), PAUSED)
        return Decision(PAUSED, (str(pause),), rules=tuple(notes.rules))
    notes("an operator's pause wins over everything", str(pause or "no run/paused"), "go on")

    gate = _gate_of_database(observation, memory, policy, boot_now, notes)
    if gate:
        return gate

    findings = [
        finding
        for component in observation.components
        if (finding := judge(component, observation, memory, policy, boot_now, notes))
    ]
    missing = missing_scheduler(observation, findings, policy, notes)
    if missing:
        findings.append(missing)
    if not any(finding.kind == "scheduler" and finding.verdict in (STUCK, DEAD) for finding in findings):
        findings += judge_work(observation, memory, policy, boot_now, notes)
    findings = [_with_brakes(finding, memory, policy, boot_now, notes) for finding in findings]
    # A frozen supervisor first: it may restart the others by itself.
    findings.sort(key=lambda finding: (not KINDS[finding.kind].supervises, -_WEIGHT[finding.verdict]))
    verdict = max((finding.verdict for finding in findings), key=_WEIGHT.__getitem__, default=HEALTHY)
    evidence = [finding.evidence for finding in findings] or [_all_well(observation)]
    if abs(observation.database.clock_difference_seconds) > policy.lease / 2:
        evidence.append(
            f"the database's clock differs from this host's by {observation.database.clock_difference_seconds:.1f} s"
        )
    if memory.trouble:
        evidence.append(memory.trouble)
    if memory.disturbed_at is not None and boot_now - memory.disturbed_at <= policy.prove_within:
        evidence.append(f"{memory.disturbance} {boot_now - memory.disturbed_at:.0f} s ago")
    return Decision(verdict, tuple(evidence), tuple(findings), tuple(notes.rules))


def _gate_of_database(
    observation: Observation, memory: Memory, policy: Policy, boot_now: float, notes: Notes
) -> Decision | None:
    database = observation.database
    rule = "without a readable metastore nothing is known, and a restart would not help"
    values = f"metastore: {database.state}" + (f" ({database.message})" if database.message else "")
    if database.state == "ok":
        notes(rule, f"{values}, {database.seconds * 1000:.0f} ms", "go on")
        return None
    if database.state in ("schema_older", "schema_newer", "migrating"):
        lasted = 0.0 if memory.upgrading_since is None else boot_now - memory.upgrading_since
        overdue = lasted > policy.upgrade_within
        rule = "another schema, or a migration that holds its tables, is an upgrade"
        notes(rule, f"{values}, for {lasted:.0f} s", UPGRADING)
        evidence = [f"the metastore's {database.message}" if database.state != "migrating" else database.message]
        if overdue and database.state == "migrating":
            evidence.append(f"for {lasted:.0f} s already: look what it waits for (opskit doctor), or end it")
        elif overdue:
            evidence.append(f"for {lasted:.0f} s already: run `opskit db migrate`, or install the version that fits")
        return Decision(UPGRADING, tuple(evidence), rules=tuple(notes.rules), overdue=overdue)
    notes(rule, values, BLIND)
    says = f"the metastore can't be read ({database.state}): {database.message}"
    evidence = [says, *_processes(observation)]
    if database.state in ("absent", "no_schema"):
        evidence.append("`opskit db migrate` makes the metastore")
    return Decision(BLIND, tuple(evidence), rules=tuple(notes.rules))


def _with_brakes(finding: Finding, memory: Memory, policy: Policy, boot_now: float, notes: Notes) -> Finding:
    """Cut restarts and starts out of the plan while the cap or the back-off forbids them."""
    if not any(step.deed in ("restart", "start") for step in finding.plan):
        return finding
    recent = memory.recent(boot_now)
    wait = memory.next_restart_at - boot_now
    if len(recent) >= policy.max_restarts_per_hour:
        held = f"{len(recent)} restarts within the last hour, at most {policy.max_restarts_per_hour} are allowed"
    elif recent and wait > 0:
        held = f"back-off: the next restart may come in {wait:.0f} s"
    else:
        notes("restarts are few and far between", f"{len(recent)} in the last hour, no back-off", "allowed")
        return finding
    notes("restarts are few and far between", held, "no restart")
    harmless = tuple(step for step in finding.plan if step.deed not in ("restart", "start"))
    return Finding(
        finding.kind, finding.component, finding.verdict, finding.cause, finding.evidence, harmless, held=held
    )


def _processes(observation: Observation) -> list[str]:
    return [
        f"{component.label}: process {component.process}"
        for component in observation.components
        if component.local and component.ended_at is None
    ]


def _all_well(observation: Observation) -> str:
    alive = [c for c in observation.components if c.ended_at is None and c.process != "gone"]
    schedulers = [c for c in alive if c.kind == "scheduler"]
    turns = ", ".join(f"{c.label} at loop {c.progress}" for c in schedulers[:3])
    return f"{len(alive)} components alive; {turns or 'a scheduler starts'}"
