"""A read-only check of everything that hurts operators: verdict, evidence and fix for each."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from opskit.ops.doctor_checks import ADVICE, CHECKS, CRITICAL, OK, UNKNOWN, WARNING, Judgement
from opskit.ops.doctor_facts import Facts, look
from opskit.platforms import Platform
from opskit.telemetry import metrics

_SECONDS = 9.0
"""For looking, so that the whole command ends within ten."""


@dataclass(frozen=True, slots=True)
class Finding:
    number: int
    name: str
    complaint: str
    verdict: str
    """ok, advice (nothing is wrong yet), warning, critical, unknown (it could not be seen)."""
    evidence: tuple[str, ...]
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    at: datetime
    seconds: float
    findings: tuple[Finding, ...]
    verdicts: dict[str, int] = field(default_factory=dict)
    """How many findings have which verdict."""

    @property
    def exit_code(self) -> int:
        """0: nothing is wrong (advice does not count); 4: something is, or could not be seen."""
        return 4 if any(self.verdicts.get(verdict) for verdict in (WARNING, CRITICAL, UNKNOWN)) else 0


def examine(platform: Platform, now: datetime, *, seconds: float = _SECONDS) -> Report:
    """Look at everything and judge it. Never raises for a cluster that is ill: that is what it reports."""
    began = time.monotonic()
    report = judge(look(platform, now, seconds=seconds), time.monotonic() - began)
    for verdict in (OK, ADVICE, WARNING, CRITICAL, UNKNOWN):
        metrics.gauge("opskit_doctor_findings", report.verdicts.get(verdict, 0), verdict=verdict)
    return report


def judge(facts: Facts, seconds: float = 0.0) -> Report:
    """All checks over what was seen."""
    findings = []
    for number, check in enumerate(CHECKS, 1):
        blind = [part for part in check.needs if getattr(facts, part) is None]
        if blind:
            why = "; ".join(dict.fromkeys(facts.unseen.get(part, "it was not looked at") for part in blind))
            found = Judgement(UNKNOWN, (f"could not be seen: {why}",), "opskit watchdog --dry-run --explain")
        else:
            found = check.judge(facts)
        findings.append(Finding(number, check.name, check.complaint, found.verdict, found.evidence, found.fix))
    return Report(facts.now, round(seconds, 3), tuple(findings), dict(Counter(item.verdict for item in findings)))
