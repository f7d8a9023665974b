"""Game day: breaks one thing on purpose, measures who notices when, and what was lost. It always undoes what it did."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from opskit.errors import GuardRefused, OpskitError, Unhealthy, UsageError
from opskit.ops import watchdog_findings as rules
from opskit.ops.watchdog import Run, check
from opskit.ops.watchdog_findings import Policy
from opskit.ops.watchdog_memory import boot_seconds, read_memory
from opskit.platforms.health import KINDS

if TYPE_CHECKING:
    from opskit.platforms import Platform
    from opskit.platforms.health import Component, Observation

_LOOK_EVERY_SECONDS = 0.25
_PRODUCTION = ("prod", "production")


@dataclass(frozen=True, slots=True)
class Experiment:
    """One way to break something."""

    name: str
    kind: str
    """Which component; empty: the metastore."""
    signal: int
    what: str
    expects: str


EXPERIMENTS = {
    one.name: one
    for one in (
        Experiment("stop-scheduler", "scheduler", signal.SIGTERM, "stop it cleanly", "it is started again"),
        Experiment("kill-scheduler", "scheduler", signal.SIGKILL, "kill it", "it is started again, no attempt is lost"),
        Experiment("freeze-scheduler", "scheduler", signal.SIGSTOP, "freeze it", "it is resumed, no attempt is lost"),
        Experiment("kill-dag-processor", "dag_processor", signal.SIGKILL, "kill it", "it is started again"),
        Experiment("freeze-dag-processor", "dag_processor", signal.SIGSTOP, "freeze it", "it is resumed"),
        Experiment(
            "kill-worker", "worker", signal.SIGKILL, "kill it with its attempts", "it is started again; retries"
        ),
        Experiment("freeze-worker", "worker", signal.SIGSTOP, "freeze it", "it is resumed, no attempt is lost"),
        Experiment("block-database", "", 0, "lock the metastore's tables", "nothing is restarted, no attempt is lost"),
    )
}


@dataclass(slots=True)
class Report:
    """What was broken, and what came of it. Times are seconds after the deed (block-database: after its end)."""

    experiment: str
    target: str
    plan: str
    expects: str
    dry_run: bool = False
    detected_seconds: float | None = None
    """When a watchdog wrote that something is wrong; None: none did (a supervisor may have been quicker)."""
    recovered_seconds: float | None = None
    in_flight: int = 0
    lost: list[str] = field(default_factory=list)
    restarts: int = 0
    """By a watchdog, during the experiment."""
    verdicts: list[str] = field(default_factory=list)
    """What the watchdogs wrote meanwhile."""
    undone: str = ""
    passed: bool = False

    @property
    def exit_code(self) -> int:
        return 0 if self.passed or self.dry_run else Unhealthy.exit_code


def run(
    platform: Platform,
    name: str,
    *,
    dry_run: bool = False,
    yes_really: str = "",
    within_seconds: float = 180.0,
    hold_seconds: float = 20.0,
    repair: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Do one experiment on this host. `repair`: be the watchdog as well, where none runs.

    Raises UsageError for an unknown name, GuardRefused on production unless `yes_really` names the environment, and for
    a cluster that is not healthy to begin with; LockHeld during another one.
    """
    if name not in EXPERIMENTS:
        raise UsageError(f"there is no experiment {name}", hint=f"choose one of {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[name]
    _refuse_production(platform, name, yes_really)
    before = platform.health.observe(datetime.now(UTC))
    component = _target(platform, experiment, before)
    target = component.label if component else "the metastore"
    hold = f" for {hold_seconds:g} s" if component is None else ""
    plan = f"{experiment.what}{hold}: {target}; then wait up to {within_seconds:g} s until all is well"
    report = Report(name, target, plan, experiment.expects, dry_run)
    if dry_run:
        return report
    from opskit.system.locks import locked

    with locked(platform.config.run_folder, "chaos"):
        game = _Game(platform, experiment, component, before, report, repair, on_progress)
        platform.audit.write("chaos", datetime.now(UTC), {"experiment": name, "target": target, "does": "begins"})
        game.play(within_seconds, hold_seconds)
        result = {"recovered_seconds": report.recovered_seconds, "lost": report.lost, "passed": report.passed}
        platform.audit.write("chaos", datetime.now(UTC), {"experiment": name, "target": target, **result})
    _measure(report)
    return report


def _refuse_production(platform: Platform, name: str, yes_really: str) -> None:
    label = str(platform.config.get("env", "name"))
    if yes_really and yes_really != label:
        raise UsageError(f"--yes-really names {yes_really!r}, this environment is called {label!r} (env.name)")
    if label.lower() in _PRODUCTION and yes_really != label:
        raise GuardRefused(
            f"this is {label}: {name} would break something there on purpose",
            hint=f"if you mean it: --yes-really {label}",
        )


def _target(platform: Platform, experiment: Experiment, before: Observation) -> Component | None:
    verdict = check(platform, dry_run=True)
    if verdict.verdict != rules.HEALTHY:
        raise GuardRefused(
            f"the cluster is {verdict.verdict} before anything was broken: {verdict.evidence[0]}",
            hint="an experiment tells something about a healthy cluster alone: opskit watchdog --explain",
        )
    if not experiment.kind:
        return None
    for one in before.components:
        if one.kind == experiment.kind and one.local and one.process == "running" and one.ended_at is None:
            return one
    raise GuardRefused(f"no {experiment.kind.replace('_', '-')} runs on this host", hint="start one, or choose another")


class _Game:
    def __init__(
        self,
        platform: Platform,
        experiment: Experiment,
        component: Component | None,
        before: Observation,
        report: Report,
        repair: bool,
        on_progress: Callable[[str], None],
    ) -> None:
        self._platform = platform
        self._experiment = experiment
        self._component = component
        self._before = before
        self._report = report
        self._repair = repair
        self._say = on_progress
        self._policy = Policy.of(platform.config)
        self._run_folder = platform.config.run_folder
        self._began = 0.0
        self._began_at = datetime.now(UTC)

    def play(self, within_seconds: float, hold_seconds: float) -> None:
        report, health = self._report, self._platform.health
        attempts = health.in_flight()
        report.in_flight = len(attempts)
        self._say(report.plan)
        self._began, self._began_at = boot_seconds(), datetime.now(UTC)
        if self._component is None:
            with self._platform.services.block_metastore(hold_seconds) as what:
                self._say(f"holds {what}")
                self._watch_until(lambda: boot_seconds() - self._began >= hold_seconds)
            report.undone = "the lock is given back"
            released = boot_seconds()
            self._began_at = datetime.now(UTC)
            if self._watch_until(self._is_well, released + within_seconds):
                report.recovered_seconds = round(boot_seconds() - released, 2)
        else:
            try:
                self._platform.services.send(self._component, self._experiment.signal)
                if self._watch_until(self._is_well, self._began + within_seconds):
                    report.recovered_seconds = round(boot_seconds() - self._began, 2)
            finally:
                self._undo()
        report.lost = health.lost(attempts)
        report.restarts = sum(1 for one in read_memory(self._run_folder).restarts if one.at >= self._began)
        report.passed = report.recovered_seconds is not None and self._is_as_expected()

    def _undo(self) -> None:
        """Nothing stays frozen, whatever ends the experiment."""
        if self._experiment.signal != signal.SIGSTOP or self._component is None:
            return
        with suppress(OpskitError):
            self._platform.services.send(self._component, signal.SIGCONT)
            self._report.undone = "SIGCONT was sent"

    def _is_as_expected(self) -> bool:
        if self._component is None:
            same = {one.instance_id for one in self._before.components if one.local and one.process == "running"}
            after = self._platform.health.observe(datetime.now(UTC))
            alive = {one.instance_id for one in after.components if one.process == "running" and one.ended_at is None}
            return not self._report.restarts and not self._report.lost and same <= alive
        # A worker that is killed takes its attempts with it, and retry rules apply.
        dies_with_it = KINDS[self._component.kind].holds_attempts and self._experiment.signal == signal.SIGKILL
        return dies_with_it or not self._report.lost

    def _watch_until(self, done: Callable[[], bool], deadline: float | None = None) -> bool:
        """Look until `done`; False when the deadline came first. Notes what the watchdogs write."""
        while True:
            if self._repair:
                with suppress(OpskitError):  # another watchdog is at it
                    check(self._platform)
            self._note()
            if done():
                return True
            if deadline is not None and boot_seconds() >= deadline:
                return False
            time.sleep(_LOOK_EVERY_SECONDS)

    def _note(self) -> None:
        memory, report = read_memory(self._run_folder), self._report
        wrong = memory.verdict not in ("", rules.HEALTHY) and memory.verdict_at >= self._began
        acted = [one.at for one in memory.restarts if one.at >= self._began]
        if (wrong or acted) and report.detected_seconds is None:
            at = min([*acted, *([memory.verdict_at] if wrong else [])])
            report.detected_seconds = round(at - self._began, 2)
            self._say(f"noticed after {report.detected_seconds:.1f} s")
        if wrong and (not report.verdicts or report.verdicts[-1] != memory.verdict):
            report.verdicts.append(memory.verdict)

    def _is_well(self) -> bool:
        """Whether what was broken moves again, and nothing else is wrong."""
        now = self._platform.health.observe(datetime.now(UTC))
        run = Run(self._platform, self._policy, replace(read_memory(self._run_folder), progress={}))
        if run.decide(now).verdict not in (rules.HEALTHY, rules.SLOW):
            return False
        kinds = [self._component.kind] if self._component else ["scheduler"]
        return all(any(self._moves(one) for one in now.components if one.kind == kind) for kind in kinds)

    def _moves(self, one: Component) -> bool:
        if not one.local or one.process != "running" or one.ended_at is not None:
            return False
        broken = self._component
        same = broken is not None and one.instance_id == broken.instance_id
        if same and self._experiment.signal in (signal.SIGKILL, signal.SIGTERM):
            return False
        if not KINDS[one.kind].beats:
            return True
        known = {before.instance_id: before.progress for before in self._before.components}
        fresh = one.heartbeat_at is not None and one.heartbeat_at > self._began_at
        return fresh and one.progress > known.get(one.instance_id, 0)


def _measure(report: Report) -> None:
    from opskit.telemetry import metrics

    label = report.experiment
    metrics.gauge("opskit_chaos_passed", report.passed, experiment=label)
    metrics.gauge("opskit_chaos_lost_attempts", len(report.lost), experiment=label)
    if report.detected_seconds is not None:
        metrics.gauge("opskit_chaos_detected_seconds", report.detected_seconds, experiment=label)
    if report.recovered_seconds is not None:
        metrics.gauge("opskit_chaos_recovered_seconds", report.recovered_seconds, experiment=label)
