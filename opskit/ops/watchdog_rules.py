"""Decides what is wrong with a cluster and what the least helpful deeds are. Pure: no clock, no process, no file."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from opskit.config import Config
from opskit.ops.watchdog_memory import HOUR, Memory, Pause
from opskit.platforms.health import Component, Observation

HEALTHY, SLOW, STUCK, DEAD, BLIND = "healthy", "slow", "stuck", "dead", "blind"
PAUSED, UPGRADING = "paused", "upgrading"
_WEIGHT = {HEALTHY: 0, SLOW: 1, STUCK: 2, DEAD: 3}
_LOOPING = ("scheduler", "dag_processor")
"""Components that write heartbeat and progress of a loop. A worker's proof of life is its process."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits in seconds, as the settings of the same name give them."""

    slow_after: float = 15.0
    stuck_after: float = 45.0
    lease: float = 15.0
    work_slow_after: float = 60.0
    work_stuck_after: float = 300.0
    second_look: float = 6.0
    prove_within: float = 30.0
    upgrade_within: float = 900.0
    max_restarts_per_hour: int = 4
    components: tuple[str, ...] = ("scheduler", "dag_processor", "worker")
    start_missing: bool = True
    """Start a scheduler where none was left by a crash: one that was stopped, or never started here."""

    @classmethod
    def of(cls, config: Config, *, start_missing: bool = True) -> Policy:
        names = [name for name in cls.__dataclass_fields__ if name not in ("lease", "components", "start_missing")]
        return cls(
            **{name: config.get("watchdog", name) for name in names},
            lease=config.get("scheduler", "scheduler_health_check_threshold"),
            components=tuple(name.replace("-", "_") for name in config.get("watchdog", "components")),
            start_missing=start_missing,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One rung of a ladder: do it, and go on to the next one unless the component moves `within_seconds`."""

    deed: str
    """nudge, resume, restart, start."""
    within_seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one component, why we think so, and the ladder of deeds against it."""

    kind: str
    component: Component | None
    verdict: str
    cause: str
    """A word: killed, missing, frozen, traced, silent, wedged, unregistered, disowned, work."""
    evidence: str
    plan: tuple[Step, ...] = ()
    held: str = ""
    """Why nothing (more) is done about it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as it was applied: for `--explain`."""

    rule: str
    values: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: str
    evidence: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    rules: tuple[Rule, ...] = ()
    overdue: bool = False
    """An upgrade that lasts longer than one should."""

    @property
    def causes(self) -> str:
        return ", ".join(sorted({finding.cause for finding in self.findings}))


@dataclass(slots=True)
class _Notes:
    rules: list[Rule] = field(default_factory=list)

    def __call__(self, rule: str, values: str, outcome: str) -> None:
        self.rules.append(Rule(rule, values, outcome))


def decide(observation: Observation, memory: Memory, pause: Pause | None, policy: Policy, boot_now: float) -> Decision:
    """The verdict and the plan. `boot_now`: boot seconds of the observation."""
    notes = _Notes()
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
        if (finding := _judge(component, observation, memory, policy, boot_now, notes))
    ]
    missing = _missing_scheduler(observation, findings, policy, notes)
    if missing:
        findings.append(missing)
    if not any(finding.kind == "scheduler" and finding.verdict in (STUCK, DEAD) for finding in findings):
        findings += _judge_work(observation, memory, policy, boot_now, notes)
    findings = [_with_brakes(finding, memory, policy, boot_now, notes) for finding in findings]
    # A frozen supervisor first: it may restart the others by itself.
    findings.sort(key=lambda finding: (finding.kind != "standalone", -_WEIGHT[finding.verdict]))
    verdict = max((finding.verdict for finding in findings), key=_WEIGHT.__getitem__, default=HEALTHY)
    evidence = [finding.evidence for finding in findings] or [_all_well(observation)]
    if abs(observation.database.clock_difference_seconds) > policy.lease / 2:
        evidence.append(
            f"the database's clock differs from this host's by {observation.database.clock_difference_seconds:.1f} s"
        )
    if memory.trouble:
        evidence.append(memory.trouble)
    return Decision(verdict, tuple(evidence), tuple(findings), tuple(notes.rules))


def _gate_of_database(
    observation: Observation, memory: Memory, policy: Policy, boot_now: float, notes: _Notes
) -> Decision | None:
    database = observation.database
    rule = "without a readable metastore nothing is known, and a restart would not help"
    values = f"metastore: {database.state}" + (f" ({database.message})" if database.message else "")
    if database.state == "ok":
        notes(rule, f"{values}, {database.seconds * 1000:.0f} ms", "go on")
        return None
    if database.state in ("schema_older", "schema_newer"):
        lasted = 0.0 if memory.upgrading_since is None else boot_now - memory.upgrading_since
        overdue = lasted > policy.upgrade_within
        notes("a schema of another version is an upgrade under way", f"{values}, for {lasted:.0f} s", UPGRADING)
        evidence = [f"the metastore's {database.message}"]
        if overdue:
            evidence.append(f"for {lasted:.0f} s already: run `opskit db migrate`, or install the version that fits")
        return Decision(UPGRADING, tuple(evidence), rules=tuple(notes.rules), overdue=overdue)
    notes(rule, values, BLIND)
    says = f"the metastore can't be read ({database.state}): {database.message}"
    evidence = [says, *_processes(observation)]
    if database.state in ("absent", "no_schema"):
        evidence.append("`opskit db migrate` makes the metastore")
    return Decision(BLIND, tuple(evidence), rules=tuple(notes.rules))


def _judge(
    component: Component, observation: Observation, memory: Memory, policy: Policy, boot_now: float, notes: _Notes
) -> Finding | None:
    """What is wrong with one component of this host, if anything."""
    kind = component.kind
    if kind != "standalone" and kind not in policy.components:
        return None
    if not component.local:
        return _judge_remote(component, observation, policy, notes)

    def finding(verdict: str, cause: str, evidence: str, *plan: Step, held: str = "") -> Finding:
        notes(f"{component.label}", evidence, f"{verdict}: {cause}")
        return Finding(kind, component, verdict, cause, f"{component.label} {evidence}", plan, held)

    if component.process == "gone":
        if component.ended_at is not None:
            return None
        if kind == "standalone" or _is_replaced(component, observation):
            notes(component.label, "its process is gone, but it was replaced or it only supervised", "ignored")
            return None
        start = Step("start", policy.prove_within, "its process is gone")
        return finding(DEAD, "killed", "is gone without a goodbye", start)

    restart = Step("restart", policy.prove_within, "nothing less has helped")
    if component.process == "frozen":
        resume = Step("resume", policy.second_look, "a stopped process needs a SIGCONT, no more")
        if kind in _LOOPING:
            return finding(STUCK, "frozen", "is stopped by a signal (state T)", resume, restart)
        # Killing a worker would kill its attempts; a supervisor holds no work of its own.
        return finding(STUCK, "frozen", "is stopped by a signal (state T)", resume)
    if kind not in _LOOPING:
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

    silent = (observation.at - component.heartbeat_at).total_seconds()
    idle = max((observation.at - component.progress_at).total_seconds(), _idle_by_counter(component, memory, boot_now))
    # A clock that was set forward, or a machine that slept, makes everything look old: so the first rung is a nudge and
    # a second look, and only a counter that does not move then leads on to the restart.
    back = _database_is_back_for(observation, memory, boot_now)
    nudge = Step("nudge", policy.second_look, "it may only have missed a wake-up; and a second look tells")
    values = f"heartbeat {silent:.1f} s old, progress {component.progress} for {idle:.1f} s"
    if max(silent, idle) > policy.stuck_after:
        if component.process == "traced":
            return finding(STUCK, "traced", f"is held by a debugger: {values}", held="whoever debugs it must let it go")
        if back is not None and back <= policy.prove_within:
            return finding(SLOW, "recovering", f"recovers, the database is back for {back:.0f} s: {values}")
        where = " (in an uninterruptible wait: disk or network file system)" if component.process == "blocked" else ""
        cause = "silent" if silent > policy.stuck_after else "wedged"
        what = "sends no heartbeat" if cause == "silent" else "has a pulse, but its loop does not turn"
        return finding(STUCK, cause, f"{what}{where}: {values}", nudge, restart)
    if max(silent, idle) > policy.slow_after:
        return finding(SLOW, "slow", f"takes its time: {values}")
    notes(component.label, values, HEALTHY)
    return None


def _judge_remote(component: Component, observation: Observation, policy: Policy, notes: _Notes) -> Finding | None:
    """Another host's scheduler: told of, never touched. Its own watchdog sees its processes."""
    if component.kind not in _LOOPING or component.heartbeat_at is None or component.ended_at is not None:
        return None
    silent = (observation.at - component.heartbeat_at).total_seconds()
    if silent <= policy.stuck_after:
        notes(component.label, f"another host's, heartbeat {silent:.1f} s old", HEALTHY)
        return None
    if silent > HOUR or _is_replaced(component, observation):
        notes(component.label, f"another host's, heartbeat {silent:.0f} s old", "ignored: replaced or long gone")
        return None
    evidence = f"sends no heartbeat for {silent:.0f} s"
    notes(component.label, evidence, SLOW)
    held = f"the watchdog of {component.hostname} must look after it"
    return Finding(component.kind, component, SLOW, "remote", f"{component.label} {evidence}; {held}", held=held)


def _missing_scheduler(
    observation: Observation, findings: list[Finding], policy: Policy, notes: _Notes
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


def _judge_work(
    observation: Observation, memory: Memory, policy: Policy, boot_now: float, notes: _Notes
) -> list[Finding]:
    """Work that could move and does not, whatever the schedulers' pulse says."""
    ages = {
        backlog.what: (backlog.count, (observation.at - backlog.oldest).total_seconds())
        for backlog in observation.backlogs
        if backlog.oldest
    }
    values = "; ".join(f"{count} {what}, the oldest for {age:.0f} s" for what, (count, age) in ages.items())
    oldest = max((age for _, age in ages.values()), default=0.0)
    rule = "work that could move must move"
    if oldest <= policy.work_slow_after:
        notes(rule, values or "nothing waits for long", HEALTHY)
        return []
    schedulers = [c for c in observation.components if c.kind == "scheduler" and c.local and c.process == "running"]
    if oldest <= policy.work_stuck_after or not schedulers:
        notes(rule, values, SLOW)
        return [Finding("scheduler", None, SLOW, "work", values)]
    notes(rule, values, STUCK)
    if any(restart.cause == "work" for restart in memory.recent(boot_now)):
        held = "a restart for this reason has not helped within the last hour"
        return [Finding("scheduler", schedulers[0], STUCK, "work", values, held=held)]
    plan = (
        Step("nudge", policy.second_look, "it may only have missed a wake-up"),
        Step("restart", policy.prove_within, "it turns, but the work does not move"),
    )
    return [Finding("scheduler", scheduler, STUCK, "work", values, plan) for scheduler in schedulers]


def _with_brakes(finding: Finding, memory: Memory, policy: Policy, boot_now: float, notes: _Notes) -> Finding:
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
