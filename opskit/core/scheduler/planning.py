"""Asks DAG files what their schedules say, where the scheduler can't know: an author's own timetables, and `run_if`.

Part of the DAG processor, which has processes that load DAG files. It compares plans with what has happened since, and
stores the answers as new plans (`dag_plans`); the scheduler makes a run of a plan when it is approved and due.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from opskit.config import Config
from opskit.core.dag import timetables
from opskit.core.dag.asked_timetable import pending_run
from opskit.core.metastore import dag_plans
from opskit.core.metastore.dag_plans import Planned
from opskit.core.metastore.engine import Engine, reading, transaction
from opskit.core.scheduler.next_runs import interval_text
from opskit.system.wake import wake

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 120.0
"""A question whose file could not be loaded is asked again after this time."""

Question = dict[str, Any]


class Planner:
    """Which DAGs have to be asked, and what they answered. `ask(path, questions)` has a file loaded with questions."""

    def __init__(self, config: Config, engine: Engine, ask: Callable[[str, Sequence[Question]], None]) -> None:
        self._config = config
        self._engine = engine
        self._ask = ask
        self._catchup: dict[str, bool] = {}
        """dag_id → catchup, of the DAGs that have to be asked."""
        self._first_next: set[str] = set()
        self._run_if: set[str] = set()
        self._asked: dict[str, tuple[float, Planned]] = {}
        """dag_id → when, and what was known then."""
        self._answers: dict[str, dict[str, Any]] = {}
        self._signs: dict[str, tuple[Any, ...]] = {}
        self._known: dict[str, Planned] = {}
        self._look_at = 0.0

    def learn(self, dags: Iterable[Mapping[str, Any]]) -> None:
        """Take note of the DAGs of a good load."""
        by_default = bool(self._config.get("scheduler", "catchup_by_default"))
        first_run = str(self._config.get("scheduler", "first_run"))
        for data in dags:
            dag_id = str(data["dag_id"])
            self._catchup.pop(dag_id, None)
            self._first_next.discard(dag_id)
            self._run_if.discard(dag_id)
            self._signs.pop(dag_id, None)
            if not timetables.is_asked(data["timetable"]):
                continue
            self._catchup[dag_id] = bool(data.get("catchup", by_default))
            if data.get("first_run", first_run) == "next":
                self._first_next.add(dag_id)
            if "run_if" in data["timetable"]:
                self._run_if.add(dag_id)
            self._look_at = 0.0

    def sleep_until(self) -> float | None:
        """When to call `turn`, by the monotonic clock; None: there is nothing to ask."""
        return self._look_at if self._catchup else None

    def look_soon(self) -> None:
        self._look_at = 0.0

    def turn(self, clock: float) -> None:
        """Ask what has to be asked."""
        if not self._catchup or clock < self._look_at:
            return
        self._look_at = clock + _LOOK_SECONDS
        with reading(self._engine) as connection:
            signs = dag_plans.signs(connection, list(self._catchup))
            changed = [dag_id for dag_id, sign in signs.items() if self._is_due(dag_id, sign)]
            found = dag_plans.read(connection, changed) if changed else []
        self._signs = signs
        self._known.update({known.dag_id: known for known in found})
        questions: dict[str, list[Question]] = {}
        now = datetime.now(UTC)
        for known in found:
            at, before = self._asked.get(known.dag_id, (0.0, None))
            if before is not None and clock < at + _PATIENCE_SECONDS and known.version_hash == before.version_hash:
                continue
            if _is_open(known, known.dag_id in self._run_if, now):
                self._asked[known.dag_id] = (clock, known)
                questions.setdefault(known.fileloc, []).append(self._question(known, now))
        for path, asked in questions.items():
            self._ask(path, asked)

    def _is_due(self, dag_id: str, sign: tuple[Any, ...]) -> bool:
        """Whether to look closely: something has changed, or a time has come."""
        if self._signs.get(dag_id) != sign or dag_id in self._asked:
            return True
        known = self._known.get(dag_id)
        if known is None or known.plan is None:
            return True
        moments = [known.plan["again_at"], known.run and known.run["run_after"]]
        now = datetime.now(UTC)
        return any(text is not None and datetime.fromisoformat(text) <= now for text in moments)

    def take(self, answers: Mapping[str, dict[str, Any]]) -> None:
        """Answers of a file that was loaded; `store` writes them."""
        self._answers.update(answers)

    def store(self) -> None:
        """Write the answers, and wake the scheduler."""
        plans: dict[str, dict[str, Any]] = {}
        for dag_id, answer in self._answers.items():
            _, known = self._asked.get(dag_id, (0.0, None))
            if known is None:
                continue
            passed = answer["passed"]
            if passed is None and known.plan is not None:
                passed = known.plan["passed"]
            plans[dag_id] = {
                **answer,
                "passed": passed,
                "version": known.version_hash,
                "after": interval_text(known.last),
                "asked_at": datetime.now(UTC).isoformat(),
            }
            warning = answer["warning"]
            if warning and (known.plan is None or known.plan["warning"] != warning):
                log.warning("DAG %s: %s", dag_id, warning)
        if plans:
            with transaction(self._engine) as connection:
                dag_plans.store(connection, plans, datetime.now(UTC))
            wake(self._config.run_folder, "scheduler")
        for dag_id in self._answers:
            self._asked.pop(dag_id, None)
        self._answers.clear()
        if plans:
            self._look_at = min(self._look_at, time.monotonic() + 0.05)

    def _question(self, known: Planned, now: datetime) -> Question:
        after = interval_text(known.last)
        plan = known.plan
        if plan is not None:
            if plan["passed"] is not None and (after is None or plan["passed"] > after):
                after = plan["passed"]
            if known.run is not None and known.run_exists:
                after = [known.run["start"], known.run["end"]]
        question = {
            "dag_id": known.dag_id,
            "after": after,
            "catchup": self._catchup[known.dag_id],
            "now": now.isoformat(),
            "paused": known.is_paused,
        }
        if known.dag_id in self._first_next:
            question["since"] = (known.unpaused_at or now).isoformat()
        return question


def _is_open(known: Planned, has_run_if: bool, now: datetime) -> bool:
    """Whether the plan is not, or no longer, the answer."""
    plan = known.plan
    if plan is None or plan["version"] != known.version_hash:
        return True
    is_known, run = pending_run(plan, interval_text(known.last))
    if not is_known:
        return True
    if known.is_paused:
        return False
    asked_at = datetime.fromisoformat(plan["asked_at"])
    if known.run_exists or (known.unpaused_at is not None and asked_at < known.unpaused_at):
        return True
    if plan["again_at"] is not None:
        return datetime.fromisoformat(plan["again_at"]) <= now
    # Its predicate is asked when the time has come, not before.
    due = run is not None and datetime.fromisoformat(run["run_after"]) <= now
    return due and has_run_if and not plan["approved"]
