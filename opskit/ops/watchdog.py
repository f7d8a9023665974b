"""The watchdog: looks whether the cluster moves, and does the least that makes it move again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.errors import LockHeld, MetastoreUnavailable, OpskitError, Unhealthy
from opskit.ops import watchdog_findings as rules
from opskit.ops.watchdog_findings import Decision, Finding, Policy, Rule, Step
from opskit.ops.watchdog_memory import (
    Clocks,
    Memory,
    after_restart,
    boot_seconds,
    noticed,
    read_memory,
    write_memory,
)
from opskit.ops.watchdog_rules import decide
from opskit.platforms.health import KINDS, RunsAlready
from opskit.platforms.watching import VerdictChange, append_change, read_pause

if TYPE_CHECKING:
    from opskit.platforms import Platform
    from opskit.platforms.health import Observation
    from opskit.telemetry.alerts import Alert

_LOOK_EVERY_SECONDS = 0.25
_TURN_MARGIN_SECONDS = 30.0
_STRICT = {rules.SLOW: 20, rules.STUCK: 21, rules.DEAD: 22, rules.PAUSED: 23, rules.UPGRADING: 24}
_REPAIRED = 25


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was done, and whether the component moved after it."""

    deed: str
    target: str
    outcome: str
    helped: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """One component as it was judged."""

    kind: str
    instance_id: str
    hostname: str
    pid: int
    process: str
    verdict: str
    progress: int
    heartbeat_age_seconds: float | None
    progress_age_seconds: float | None


@dataclass(slots=True)
class Report:
    """What one run of the watchdog saw, thought and did."""

    verdict: str
    evidence: list[str]
    checked_at: datetime
    hostname: str
    planned: list[str] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    repaired: bool = False
    dry_run: bool = False
    overdue: bool = False
    evidence_files: list[Path] = field(default_factory=list)
    alert: str = ""
    """Whether an alert was sent, or why not; empty: there was nothing new to tell."""
    rules: list[Rule] = field(default_factory=list)
    components: list[Watched] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 healthy, slow, paused, upgrading, or repaired; 4 stuck or dead; 12 blind, or an upgrade without an end."""
        if self.verdict == rules.BLIND or self.overdue:
            return MetastoreUnavailable.exit_code
        if self.verdict in (rules.STUCK, rules.DEAD) and not self.repaired:
            return Unhealthy.exit_code
        return 0

    @property
    def strict_exit_code(self) -> int:
        """Each verdict's own: as `exit_code`, but 20 slow, 21 stuck, 22 dead, 23 paused, 24 upgrading, 25 repaired."""
        if self.repaired:
            return _REPAIRED
        return self.exit_code if self.verdict == rules.BLIND or self.overdue else _STRICT.get(self.verdict, 0)

    @property
    def sentence(self) -> str:
        """The cycle in one sentence."""
        done = "; ".join(f"{deed.outcome} ({'helped' if deed.helped else 'did not help'})" for deed in self.deeds)
        state = f"{self.verdict}, repaired" if self.repaired else self.verdict
        return f"{state}: {'; '.join(self.evidence)}" + (f". Done: {done}" if done else "")


def check(platform: Platform, *, dry_run: bool = False, start_missing: bool = True, cluster: bool = False) -> Report:
    """One run: observe, decide, and unless `dry_run`, apply, prove and tell.

    `cluster` judges the components of all hosts alike, and only looks: it repairs nothing.
    Raises LockHeld when another watchdog of this OPSKIT_HOME is at it.
    """
    policy = replace(Policy.of(platform.config, start_missing=start_missing), cluster=cluster)
    run_folder = platform.config.run_folder
    if dry_run or cluster:
        return Run(platform, policy, read_memory(run_folder)).go(apply=False)
    from opskit.system.locks import locked

    with locked(run_folder, "watchdog"):
        return Run(platform, policy, read_memory(run_folder)).go(apply=True)


class Run:
    """One run with what it remembers. Whoever applies holds the lock `watchdog`."""

    def __init__(self, platform: Platform, policy: Policy, memory: Memory, term_grace: float | None = None) -> None:
        self.memory = memory
        self._platform = platform
        self._config = platform.config
        self._policy = policy
        self._term_grace = platform.config.get("watchdog", "term_grace") if term_grace is None else term_grace

    def go(self, *, apply: bool) -> Report:
        began = time.monotonic()
        before = self.memory.verdict
        observation = self._observe()
        clocks = Clocks.read()
        self.memory = noticed(self.memory, clocks)
        decision = self.decide(observation)
        report = Report(
            verdict=decision.verdict,
            evidence=list(decision.evidence),
            checked_at=observation.at,
            hostname=observation.hostname,
            planned=[sentence for finding in decision.findings for sentence in _plan(finding)],
            dry_run=not apply,
            overdue=decision.overdue,
            rules=list(decision.rules),
            components=_watched(observation, decision),
        )
        if apply:
            self.memory = remember(self.memory, observation, decision, clocks.boot)
            if any(finding.plan for finding in decision.findings):
                self._apply(observation, decision, report)
            self._tell(decision, report)
            self._audit(report)
            self._note(report, before)
            write_memory(self._config.run_folder, self.memory)
        report.seconds = round(time.monotonic() - began, 3)
        _measure(report, self.memory)
        return report

    def _observe(self) -> Observation:
        return self._platform.health.observe(datetime.now(UTC))

    def decide(self, observation: Observation) -> Decision:
        pause = read_pause(self._config.run_folder)
        return decide(observation, self.memory, pause, self._policy, boot_seconds())

    # --- apply ---

    def _apply(self, observation: Observation, decision: Decision, report: Report) -> None:
        helped = [
            self._climb(finding, observation, report) for finding in decision.findings if finding.verdict != rules.SLOW
        ]
        after = self.decide(self._observe())
        if after.verdict == rules.BLIND:
            report.verdict = rules.BLIND
            report.evidence += after.evidence
            return
        report.repaired = all(helped) and after.verdict in (rules.HEALTHY, rules.SLOW)
        if all(helped) and not report.repaired:
            report.evidence += [f"afterwards: {sentence}" for sentence in after.evidence]

    def _climb(self, finding: Finding, before: Observation, report: Report) -> bool:
        """Do the steps of a ladder until one of them helps."""
        for step in finding.plan:
            began = datetime.now(UTC)
            if step.deed in ("restart", "start"):
                now = self._observe()
                if now.database.state != "ok":
                    outcome = "not done: the metastore went away"
                    report.deeds.append(Deed(step.deed, _target(finding), outcome, helped=False))
                    return False
                if _moves(finding, before, now, began):
                    report.deeds.append(Deed("none", _target(finding), "it came back by itself", helped=True))
                    return True
                if held := self._now_held(finding, now):
                    report.deeds.append(Deed("none", _target(finding), f"not done: {held}", helped=False))
                    return False
            try:
                outcome = self._do(step, finding, report)
            except (LockHeld, MetastoreUnavailable) as error:
                # Another host is restarting something, or nobody can tell whether it is.
                report.deeds.append(Deed(step.deed, _target(finding), f"not done: {error.message}", helped=False))
                return False
            except RunsAlready as error:
                # One that came up since we looked is as good, if it moves; another one that was there all along is not.
                if error.pid in {component.pid for component in before.components}:
                    report.deeds.append(Deed(step.deed, _target(finding), error.message, helped=False))
                    continue
                outcome = error.message
            except OpskitError as error:
                report.deeds.append(Deed(step.deed, _target(finding), error.message, helped=False))
                continue
            helped = self._prove(finding, step, before, began)
            report.deeds.append(Deed(step.deed, _target(finding), outcome, helped))
            if helped:
                if finding.component and step.deed in ("restart", "start"):
                    self._platform.services.forget(finding.component)
                return True
        return False

    def _now_held(self, finding: Finding, now: Observation) -> str:
        """Why what was planned a moment ago must not be done: what a process waits for may show only now and then."""
        for other in self.decide(now).findings:
            same = (
                other.component and finding.component and other.component.instance_id == finding.component.instance_id
            )
            if same and other.cause != finding.cause and other.held:
                return other.held
        return ""

    def _do(self, step: Step, finding: Finding, report: Report) -> str:
        services = self._platform.services
        component = finding.component
        if step.deed == "nudge" and component is not None:
            return services.nudge(component)
        if step.deed == "resume" and component is not None:
            return services.resume(component)
        if step.deed == "reset":
            self.memory = replace(self.memory, reset_at=boot_seconds())
            write_memory(self._config.run_folder, self.memory)
            return services.reset_work()
        longest = self._term_grace + step.within_seconds + _TURN_MARGIN_SECONDS
        with services.turn(f"{step.deed} {_target(finding)}", longest):
            import random

            # Before the deed: a watchdog that is killed in the middle has restarted, too.
            self.memory = after_restart(
                self.memory,
                finding.kind,
                finding.cause,
                boot_seconds(),
                self._config.get("watchdog", "backoff"),
                random.random(),
            )
            write_memory(self._config.run_folder, self.memory)
            ended = ""
            if component is not None:
                report.evidence_files.append(services.capture(component, report.evidence))
                if step.deed == "restart":
                    ended = f"{services.stop(component, self._term_grace)}; "
            return ended + services.start(finding.kind, component, step.within_seconds)

    def _prove(self, finding: Finding, step: Step, before: Observation, began: datetime) -> bool:
        """Whether the component moves within the time of the step."""
        deadline = time.monotonic() + step.within_seconds
        while True:
            if _moves(finding, before, self._observe(), began):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_EVERY_SECONDS)

    # --- telling ---

    def _audit(self, report: Report) -> None:
        done = [deed for deed in report.deeds if deed.deed not in ("none", "nudge")]
        if not done or report.verdict == rules.BLIND:
            return
        extra = {"verdict": report.verdict, "repaired": report.repaired, "evidence": report.evidence}
        extra["deeds"] = [f"{deed.deed} {deed.target}: {deed.outcome}" for deed in done]
        try:
            self._platform.audit.write("watchdog", datetime.now(UTC), extra)
        except MetastoreUnavailable as error:
            report.evidence.append(f"no audit line could be written: {error.message}")

    def _note(self, report: Report, before: str) -> None:
        """Add a line to the history of this host when the verdict is news, or something was done."""
        deeds = tuple(f"{deed.deed} {deed.target}: {deed.outcome}" for deed in report.deeds if deed.deed != "none")
        if report.verdict == before and not deeds:
            return
        change = VerdictChange(
            report.checked_at, report.hostname, report.verdict, report.repaired, tuple(report.evidence), deeds
        )
        try:
            append_change(self._config.run_folder, change)
        except OSError as error:
            report.evidence.append(f"the history of verdicts can't be written: {error.strerror}")

    def _tell(self, decision: Decision, report: Report) -> None:
        """Alert when there is something to tell that the last alert did not say."""
        bad = report.verdict in (rules.STUCK, rules.DEAD, rules.BLIND) or report.overdue
        state = rules.HEALTHY
        if bad:
            held = "held" if any(finding.held for finding in decision.findings) else "tried"
            outcome = "repaired" if report.repaired else held
            state = f"{report.verdict}: {decision.causes}: {outcome}"
        elif report.verdict in (rules.PAUSED, rules.UPGRADING):
            return
        if state == self.memory.alerted:
            return
        from opskit.telemetry import alerts

        failures = alerts.send(self._config, _alert(report, bad=bad))
        if failures is None:
            report.alert = "nobody is told: alerts.email_to is empty"
        elif failures:
            report.alert = "; ".join(failures)  # said again at the next run
            return
        else:
            report.alert = f"sent to {', '.join(self._config.get('alerts', 'email_to'))}"
        # A repaired incident is closed by its own alert.
        self.memory = replace(self.memory, alerted=rules.HEALTHY if report.repaired else state)


def _moves(finding: Finding, before: Observation, after: Observation, began: datetime) -> bool:
    """Whether the trouble of a finding is over: a process of its kind lives and its loop turns."""
    known = {component.instance_id: component.progress for component in before.components}
    for component in after.components:
        if component.kind != finding.kind or not component.local or component.process in ("gone", "frozen"):
            continue
        if component.ended_at is not None:
            continue
        same = finding.component is not None and component.instance_id == finding.component.instance_id
        if not same and component.started_at < before.at:
            continue  # another one, which was there all along
        if not KINDS[component.kind].beats or (component.heartbeat_at is None and not KINDS[component.kind].registers):
            return True
        turned = component.progress > known.get(component.instance_id, 0)
        beats = component.heartbeat_at is not None and component.heartbeat_at >= min(began, before.at)
        if turned and beats and (finding.cause not in ("work", "idle") or _work_moved(before, after)):
            return True
    return False


def _work_moved(before: Observation, after: Observation) -> bool:
    """Whether of each backlog there is less, or its oldest is another one."""
    now = {backlog.what: backlog for backlog in after.backlogs}
    return all(
        backlog.what not in now or now[backlog.what].count < backlog.count or now[backlog.what].oldest != backlog.oldest
        for backlog in before.backlogs
    )


def remember(memory: Memory, observation: Observation, decision: Decision, now: float) -> Memory:
    """The memory after a look: since when each counter stands at its value, and since when the metastore is away."""
    progress = {}
    for component in observation.components:
        if not component.local or component.process == "gone" or component.progress_at is None:
            continue
        seen = memory.progress.get(component.instance_id)
        same = seen is not None and seen[0] == component.progress
        progress[component.instance_id] = (
            seen if seen is not None and same else (component.progress, now, component.cpu_seconds)
        )
    upgrading = decision.verdict == rules.UPGRADING
    known = memory.upgrading_since
    return replace(
        memory,
        # While nothing can be read, nothing stands still either.
        progress=progress if observation.database.state == "ok" else {},
        upgrading_since=(now if known is None else known) if upgrading else None,
        blind_at=now if decision.verdict == rules.BLIND else memory.blind_at,
        verdict=decision.verdict,
        verdict_at=memory.verdict_at if decision.verdict == memory.verdict else now,
        trouble="",
    )


def _watched(observation: Observation, decision: Decision) -> list[Watched]:
    found = {finding.component.instance_id: finding.verdict for finding in decision.findings if finding.component}
    unknown = rules.HEALTHY if observation.database.state == "ok" else "unknown"

    def age(moment: datetime | None) -> float | None:
        return None if moment is None else round((observation.at - moment).total_seconds(), 1)

    return [
        Watched(
            kind=one.kind,
            instance_id=one.instance_id,
            hostname=one.hostname,
            pid=one.pid,
            process=one.process,
            verdict=found.get(one.instance_id, unknown),
            progress=one.progress,
            heartbeat_age_seconds=age(one.heartbeat_at),
            progress_age_seconds=age(one.progress_at),
        )
        for one in observation.components
        if one.ended_at is None
    ]


def _measure(report: Report, memory: Memory) -> None:
    from opskit.telemetry import metrics

    for verdict in rules.VERDICTS:
        metrics.gauge("opskit_watchdog_verdict", verdict == report.verdict, verdict=verdict)
    metrics.gauge("opskit_watchdog_restarts_last_hour", len(memory.recent(boot_seconds())))
    metrics.gauge("opskit_watchdog_look_seconds", report.seconds)
    metrics.gauge("opskit_watchdog_components", len(report.components))


def _plan(finding: Finding) -> list[str]:
    lines = [
        f"{step.deed} {_target(finding)}, then look for {step.within_seconds:g} s whether it moves: {step.reason}"
        for step in finding.plan
    ]
    if finding.held:
        lines.append(f"no {'further ' if lines else ''}deed on {_target(finding)}: {finding.held}")
    return lines


def _target(finding: Finding) -> str:
    return finding.component.label if finding.component else f"a {finding.kind}"


def _alert(report: Report, *, bad: bool) -> Alert:
    from opskit.telemetry.alerts import Alert

    state = f"{report.verdict}, repaired" if report.repaired else report.verdict
    body = [f"Verdict: {state}", f"Checked at: {report.checked_at.isoformat(timespec='seconds')}", "", "Evidence:"]
    body += [f"- {sentence}" for sentence in report.evidence]
    if report.deeds:
        body += ["", "Done:"]
        body += [f"- {deed.outcome} ({'helped' if deed.helped else 'did not help'})" for deed in report.deeds]
    held = [line for line in report.planned if line.startswith("no ")]
    if held:
        body += ["", "Not done:", *(f"- {line}" for line in held)]
    if report.evidence_files:
        body += ["", "Stacks and last log lines:", *(f"- {path}" for path in report.evidence_files)]
    body += ["", "More: opskit watchdog --dry-run --explain"]
    return Alert(
        subject=f"[opskit] {report.hostname}: the cluster is {state}",
        body="\n".join(body) + "\n",
        severity="info" if not bad else ("warning" if report.repaired else "critical"),
        key=f"watchdog:{report.hostname}",
    )
