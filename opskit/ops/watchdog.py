"""The watchdog: looks whether the cluster moves, and does the least that makes it move again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.errors import MetastoreUnavailable, OpskitError, Unhealthy
from opskit.ops import watchdog_rules as rules
from opskit.ops.watchdog_memory import (
    Memory,
    after_restart,
    boot_seconds,
    read_memory,
    read_pause,
    write_memory,
)
from opskit.ops.watchdog_rules import Decision, Finding, Policy, Rule, Step, decide

if TYPE_CHECKING:
    from opskit.platforms import Platform
    from opskit.platforms.health import Observation
    from opskit.telemetry.alerts import Alert

_LOOK_EVERY_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was done, and whether the component moved after it."""

    deed: str
    target: str
    outcome: str
    helped: bool


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
    def sentence(self) -> str:
        """The cycle in one sentence."""
        done = "; ".join(f"{deed.outcome} ({'helped' if deed.helped else 'did not help'})" for deed in self.deeds)
        state = f"{self.verdict}, repaired" if self.repaired else self.verdict
        return f"{state}: {'; '.join(self.evidence)}" + (f". Done: {done}" if done else "")


def check(platform: Platform, *, dry_run: bool = False, start_missing: bool = True) -> Report:
    """One run: observe, decide, and unless `dry_run`, apply, prove and tell.

    Raises LockHeld when another watchdog of this OPSKIT_HOME is at it.
    """
    if dry_run:
        return _Run(platform, start_missing=start_missing).go(apply=False)
    from opskit.system.locks import locked

    with locked(platform.config.run_folder, "watchdog"):
        return _Run(platform, start_missing=start_missing).go(apply=True)


class _Run:
    def __init__(self, platform: Platform, *, start_missing: bool) -> None:
        self._platform = platform
        self._config = platform.config
        self._policy = Policy.of(platform.config, start_missing=start_missing)
        self._memory = read_memory(platform.config.run_folder)

    def go(self, *, apply: bool) -> Report:
        began = time.monotonic()
        observation = self._observe()
        decision = self._decide(observation)
        report = Report(
            verdict=decision.verdict,
            evidence=list(decision.evidence),
            checked_at=observation.at,
            hostname=observation.hostname,
            planned=[sentence for finding in decision.findings for sentence in _plan(finding)],
            dry_run=not apply,
            overdue=decision.overdue,
            rules=list(decision.rules),
        )
        if apply:
            self._memory = _remember(self._memory, observation, decision, boot_seconds())
            if any(finding.plan for finding in decision.findings):
                self._apply(observation, decision, report)
            self._tell(decision, report)
            write_memory(self._config.run_folder, self._memory)
        report.seconds = round(time.monotonic() - began, 3)
        return report

    def _observe(self) -> Observation:
        return self._platform.health.observe(datetime.now(UTC))

    def _decide(self, observation: Observation) -> Decision:
        pause = read_pause(self._config.run_folder)
        return decide(observation, self._memory, pause, self._policy, boot_seconds())

    # --- apply ---

    def _apply(self, observation: Observation, decision: Decision, report: Report) -> None:
        helped = [
            self._climb(finding, observation, report) for finding in decision.findings if finding.verdict != rules.SLOW
        ]
        after = self._decide(self._observe())
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
            try:
                outcome = self._do(step, finding, report)
            except OpskitError as error:
                report.deeds.append(Deed(step.deed, _target(finding), error.message, helped=False))
                continue
            helped = self._prove(finding, step, before, began)
            report.deeds.append(Deed(step.deed, _target(finding), outcome, helped))
            if helped:
                if finding.component and step.deed != "nudge":
                    self._platform.services.forget(finding.component)
                return True
        return False

    def _do(self, step: Step, finding: Finding, report: Report) -> str:
        services = self._platform.services
        component = finding.component
        if step.deed in ("restart", "start"):
            import random

            # Before the deed: a watchdog that is killed in the middle has restarted, too.
            self._memory = after_restart(
                self._memory,
                finding.kind,
                finding.cause,
                boot_seconds(),
                self._config.get("watchdog", "backoff"),
                random.random(),
            )
            write_memory(self._config.run_folder, self._memory)
        if component is None or step.deed == "start":
            if component is not None:
                report.evidence_files.append(services.capture(component, report.evidence))
            return services.start(finding.kind, component, step.within_seconds)
        if step.deed == "nudge":
            return services.nudge(component)
        if step.deed == "resume":
            return services.resume(component)
        report.evidence_files.append(services.capture(component, report.evidence))
        ended = services.stop(component, self._config.get("watchdog", "term_grace"))
        return f"{ended}; {services.start(finding.kind, component, step.within_seconds)}"

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
        if state == self._memory.alerted:
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
        self._memory = replace(self._memory, alerted=rules.HEALTHY if report.repaired else state)


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
        if component.kind not in ("scheduler", "dag_processor"):
            return True
        turned = component.progress > known.get(component.instance_id, 0)
        beats = component.heartbeat_at is not None and component.heartbeat_at >= min(began, before.at)
        if turned and beats and (finding.cause != "work" or _work_moved(before, after)):
            return True
    return False


def _work_moved(before: Observation, after: Observation) -> bool:
    """Whether of each backlog there is less, or its oldest is another one."""
    now = {backlog.what: backlog for backlog in after.backlogs}
    return all(
        backlog.what not in now or now[backlog.what].count < backlog.count or now[backlog.what].oldest != backlog.oldest
        for backlog in before.backlogs
    )


def _remember(memory: Memory, observation: Observation, decision: Decision, now: float) -> Memory:
    """The memory after a look: since when each counter stands at its value, and since when the metastore is away."""
    progress = {}
    for component in observation.components:
        if not component.local or component.process == "gone" or component.progress_at is None:
            continue
        seen = memory.progress.get(component.instance_id)
        progress[component.instance_id] = seen if seen and seen[0] == component.progress else (component.progress, now)
    upgrading = decision.verdict == rules.UPGRADING
    known = memory.upgrading_since
    return replace(
        memory,
        # While nothing can be read, what was known before stays.
        progress=progress if observation.database.state == "ok" else {},
        upgrading_since=(now if known is None else known) if upgrading else None,
        blind_at=now if decision.verdict == rules.BLIND else memory.blind_at,
        trouble="",
    )


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
