"""What the watchdog's rules have in common: limits, findings, ladders, and the decision that comes of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from opskit.config import Config
from opskit.platforms.health import Component

HEALTHY, SLOW, STUCK, DEAD, BLIND = "healthy", "slow", "stuck", "dead", "blind"
PAUSED, UPGRADING = "paused", "upgrading"
VERDICTS = (HEALTHY, SLOW, STUCK, DEAD, BLIND, PAUSED, UPGRADING)


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
    components: tuple[str, ...] = ("scheduler", "dag_processor", "worker", "webserver", "triggerer")
    start_missing: bool = True
    """Start a scheduler where none was left by a crash: one that was stopped, or never started here."""
    missing_after: float = 0.0
    """One that was stopped is missed after this time: whoever stays must not race with a restart by hand."""
    quick_after: float = 0.0
    """Without progress for so long and without work for the processor or the database: stuck. 0: never that soon."""
    cluster: bool = False
    """Judge other hosts' components like ours. (They are never touched.)"""

    @classmethod
    def of(cls, config: Config, *, start_missing: bool = True) -> Policy:
        return cls(
            **{name: config.get("watchdog", name) for name in _FROM_SETTINGS},
            lease=config.get("scheduler", "scheduler_health_check_threshold"),
            components=tuple(name.replace("-", "_") for name in config.get("watchdog", "components")),
            start_missing=start_missing,
        )


_FROM_SETTINGS = (
    *("slow_after", "stuck_after", "work_slow_after", "work_stuck_after", "second_look", "prove_within"),
    *("upgrade_within", "max_restarts_per_hour"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One rung of a ladder: do it, and go on to the next one unless the component moves `within_seconds`."""

    deed: str
    """nudge, resume, reset (of waiting work), restart, start."""
    within_seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one component, why we think so, and the ladder of deeds against it."""

    kind: str
    component: Component | None
    verdict: str
    cause: str
    """A word: killed, missing, frozen, traced, silent, wedged, held, unregistered, disowned, work, idle, no_worker,
    remote, recovering, slow."""
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
class Notes:
    rules: list[Rule] = field(default_factory=list)

    def __call__(self, rule: str, values: str, outcome: str) -> None:
        self.rules.append(Rule(rule, values, outcome))
