"""Judges each component by its process, its heartbeat and its progress. Pure: no clock, no process, no file."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from opskit.ops.watchdog_findings import DEAD, HEALTHY, SLOW, STUCK, Finding, Notes, Policy, Step
from opskit.ops.watchdog_memory import HOUR, Memory
from opskit.platforms.health import KINDS, Component, Observation

_IDLE_CPU = 0.1
"""A process that has used less of the time than this does not work: it waits."""


class Finder(Protocol):
    def __call__(self, verdict: str, cause: str, evidence: str, *plan: Step, held: str = "") -> Finding: ...


def judge(
    component: Component, observation: Observation, memory: Memory, policy: Policy, boot_now: float, notes: Notes
) -> Finding | None:
    """What is wrong with one component of this host, if anything."""
    kind, traits = component.kind, KINDS[component.kind]
    if not traits.supervises and kind not in policy.components:
        return None
    if not component.local:
        return _judge_remote(component, observation, policy, notes)

    def finding(verdict: str, cause: str, evidence: str, *plan: Step, held: str = "") -> Finding:
        notes(component.label, evidence, f"{verdict}: {cause}")
        return Finding(kind, component, verdict, cause, f"{component.label} {evidence}", plan, held)

    if component.process == "gone":
        if component.ended_at is not None:
            return None
        if traits.supervises or _is_replaced(component, observation):
            notes(component.label, "its process is gone, but it was replaced or it only supervised", "ignored")
            return None
        start = Step("start", policy.prove_within, "its process is gone")
        return finding(DEAD, "killed", "is gone without a goodbye", start)

    restart = Step("restart", policy.prove_within, "nothing less has helped")
    if component.process == "frozen":
        resume = Step("resume", policy.second_look, "a stopped process needs a SIGCONT, no more")
        if not traits.holds_attempts and not traits.supervises:
            return finding(STUCK, "frozen", "is stopped by a signal (state T)", resume, restart)
        # Killing a worker would kill its attempts; a supervisor holds no work of its own.
        return finding(STUCK, "frozen", "is stopped by a signal (state T)", resume)
    if not traits.beats or (component.heartbeat_at is None and not traits.registers):
        notes(component.label, f"process {component.process}", HEALTHY)
        return None

    age = (observation.at - component.started_at).total_seconds()
    if component.heartbeat_at is None or component.progress_at is None:
        if age <= policy.prove_within:
            notes(component.label, f"started {age:.0f} s ago, not in the metastore yet", "starting")
            return None
        return finding(STUCK, "unregistered", f"runs for {age:.0f} s, but not in the metastore", restart)
    if component.ended_at is not None:
        since = (observation.at - component.ended_at).total_seconds()
        if since <= policy.stuck_after:
            notes(component.label, f"ended {since:.0f} s ago, its process still lives", "stopping")
            return None
        return finding(STUCK, "disowned", f"counts as ended for {since:.0f} s, but its process lives", restart)

    return _judge_pulse(component, observation, memory, policy, boot_now, finding, notes)


def _judge_pulse(
    component: Component,
    observation: Observation,
    memory: Memory,
    policy: Policy,
    boot_now: float,
    finding: Finder,
    notes: Notes,
) -> Finding | None:
    """What heartbeat and progress of a living process tell."""
    assert component.heartbeat_at is not None and component.progress_at is not None
    silent = (observation.at - component.heartbeat_at).total_seconds()
    stands = _idle_by_counter(component, memory, boot_now)
    idle = max((observation.at - component.progress_at).total_seconds(), stands)
    late = max(silent, idle)
    values = f"heartbeat {silent:.1f} s old, progress {component.progress} for {idle:.1f} s"
    quick = 0 < policy.quick_after < late and _rests(component, memory, boot_now)
    if late <= policy.slow_after and not quick:
        notes(component.label, values, HEALTHY)
        return None
    # A clock that was set forward, or a machine that slept, makes everything look old; a database that was away, too.
    why = _excuse(observation, memory, policy, boot_now)
    if why:
        return finding(SLOW, "recovering", f"recovers, {why}: {values}")
    if component.held_back:
        held = "a restart would not end what it waits for"
        what = f"waits for the database: {component.held_back}; {values}"
        return finding(STUCK if late > policy.stuck_after else SLOW, "held", what, held=held)
    if late <= policy.stuck_after and not quick:
        return finding(SLOW, "slow", f"takes its time: {values}")
    if component.process == "traced":
        return finding(STUCK, "traced", f"is held by a debugger: {values}", held="whoever debugs it must let it go")
    where = " (in an uninterruptible wait: disk or network file system)" if component.process == "blocked" else ""
    cause = "silent" if silent > policy.stuck_after else "wedged"
    what = "sends no heartbeat" if cause == "silent" else "has a pulse, but its loop does not turn"
    if quick:
        # Whoever looks that often has woken it long ago.
        what = "does not get on, and neither the processor nor the database works for it"
        restart = Step("restart", policy.prove_within, "it was woken, and nothing less has helped")
        return finding(STUCK, cause, f"{what}: {values}", restart)
    # The first rung is a nudge and a second look: only a counter that does not move then leads on to the restart.
    nudge = Step("nudge", policy.second_look, "it may only have missed a wake-up; and a second look tells")
    restart = Step("restart", policy.prove_within, "nothing less has helped")
    return finding(STUCK, cause, f"{what}{where}: {values}", nudge, restart)


def _excuse(observation: Observation, memory: Memory, policy: Policy, boot_now: float) -> str:
    """Why everything may look old although nothing is wrong; empty: no reason."""
    back = _database_is_back_for(observation, memory, boot_now)
    if back is not None and back <= policy.prove_within:
        return f"the database is back for {back:.0f} s"
    if memory.disturbed_at is not None and boot_now - memory.disturbed_at <= policy.prove_within:
        return f"{memory.disturbance} {boot_now - memory.disturbed_at:.0f} s ago"
    return ""


def _rests(component: Component, memory: Memory, boot_now: float) -> bool:
    """Whether the process waits for something that is neither the processor nor the disk nor the database."""
    seen = memory.progress.get(component.instance_id)
    if component.process != "running" or component.held_back or seen is None or seen[0] != component.progress:
        return False
    return component.cpu_seconds - seen[2] < _IDLE_CPU * max(boot_now - seen[1], 1.0)


def _judge_remote(component: Component, observation: Observation, policy: Policy, notes: Notes) -> Finding | None:
    """Another host's component: told of, never touched. Its own watchdog sees its processes."""
    beats = KINDS[component.kind].beats or policy.cluster  # a worker's heartbeat is written by its scheduler
    if not beats or component.heartbeat_at is None or component.ended_at is not None:
        return None
    silent = (observation.at - component.heartbeat_at).total_seconds()
    if silent <= policy.stuck_after:
        notes(component.label, f"another host's, heartbeat {silent:.1f} s old", HEALTHY)
        return None
    if silent > HOUR or _is_replaced(component, observation):
        notes(component.label, f"another host's, heartbeat {silent:.0f} s old", "ignored: replaced or long gone")
        return None
    evidence = f"sends no heartbeat for {silent:.0f} s"
    verdict = STUCK if policy.cluster else SLOW
    notes(component.label, evidence, verdict)
    held = f"the watchdog of {component.hostname} must look after it"
    return Finding(component.kind, component, verdict, "remote", f"{component.label} {evidence}; {held}", held=held)


def missing_scheduler(
    observation: Observation, findings: list[Finding], policy: Policy, notes: Notes
) -> Finding | None:
    if "scheduler" not in policy.components or any(finding.kind == "scheduler" for finding in findings):
        return None
    schedulers = [component for component in observation.components if component.kind == "scheduler"]
    for component in schedulers:
        if component.local and component.process != "gone":
            return None
        if not component.local and component.ended_at is None and _fresh(component, observation, policy):
            notes("a scheduler must run here", f"none here, {component.label} runs", "enough")
            return None
    for component in observation.components:
        age = (observation.at - component.started_at).total_seconds()
        if component.kind == "standalone" and component.process == "running" and age <= policy.prove_within:
            notes("a scheduler must run here", f"{component.label} started {age:.0f} s ago", "starting")
            return None
    stopped = max((c.ended_at for c in schedulers if c.local and c.ended_at), default=None)
    if stopped and (since := (observation.at - stopped).total_seconds()) <= policy.missing_after:
        notes("a scheduler must run here", f"the last one was stopped {since:.0f} s ago", "not missed yet")
        return None
    evidence = (
        f"no scheduler runs here; the last one was stopped at {stopped:%H:%M:%S} UTC"
        if stopped
        else ("no scheduler runs here, and none was started in the last hour")
    )
    notes("a scheduler must run here", evidence, DEAD)
    if not policy.start_missing:
        return Finding("scheduler", None, DEAD, "missing", evidence, held="--no-start forbids it")
    step = Step("start", policy.prove_within, "a scheduler must run here")
    return Finding("scheduler", None, DEAD, "missing", evidence, (step,))


def _idle_by_counter(component: Component, memory: Memory, boot_now: float) -> float:
    """How long the counter stands still by the clock that no one can set; 0 when it has moved since the last run."""
    seen = memory.progress.get(component.instance_id)
    return boot_now - seen[1] if seen and seen[0] == component.progress else 0.0


def _database_is_back_for(observation: Observation, memory: Memory, boot_now: float) -> float | None:
    """Seconds since the database was last known to be away; None when it was not."""
    known = [observation.database.uptime_seconds]
    known.append(None if memory.blind_at is None else boot_now - memory.blind_at)
    return min((seconds for seconds in known if seconds is not None), default=None)


def _is_replaced(component: Component, observation: Observation) -> bool:
    """Whether another one of its kind was started after its last sign of life."""
    last = component.heartbeat_at or component.started_at
    return any(
        other.kind == component.kind
        and other.instance_id != component.instance_id
        and other.started_at > last
        and other.hostname == component.hostname
        and other.process != "gone"
        for other in observation.components
    )


def _fresh(component: Component, observation: Observation, policy: Policy) -> bool:
    heartbeat: datetime | None = component.heartbeat_at
    return heartbeat is not None and (observation.at - heartbeat).total_seconds() <= policy.lease
