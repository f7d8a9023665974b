"""The watchdog that stays: sees the end of a process at once and a loop that stands still within seconds.

It looks with one statement a second, and hands all that is not well to the same `Run` that cron's watchdog is. The two
never act at once: whoever acts holds the lock `watchdog`.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING

from opskit.errors import LockHeld
from opskit.ops import watchdog_findings as rules
from opskit.ops.watchdog import Report, Run, remember
from opskit.ops.watchdog_findings import Policy
from opskit.ops.watchdog_memory import Clocks, Memory, noticed, read_memory
from opskit.platforms.health import KINDS
from opskit.system import daemon

if TYPE_CHECKING:
    from opskit.platforms import Platform
    from opskit.platforms.health import Observation

_LOOK_EVERY_SECONDS = 1.0
_WHOLE_LOOK_EVERY_SECONDS = 15.0
_REST_AFTER_TROUBLE_SECONDS = 5.0
"""Between two whole looks while something is wrong that no deed is planned against."""
_PING_EVERY_SECONDS = 60.0
_QUICK_SECONDS = 4.0
_QUICK_GRACE_SECONDS = 1.0
_NUDGE_AT = 0.6
"""Part of the quick time after which a component is woken, in case it sleeps through something."""


def policy_of(platform: Platform, *, start_missing: bool) -> Policy:
    """The settings, with quicker steps: who looks each second need not wait a minute to be sure.

    A scheduler beats each `scheduler_heartbeat_sec`: sooner than after two beats, nothing is known.
    """
    config = platform.config
    policy = Policy.of(config, start_missing=start_missing)
    beat = float(config.get("scheduler", "scheduler_heartbeat_sec"))
    return replace(
        policy,
        quick_after=min(max(_QUICK_SECONDS, 2 * beat), policy.stuck_after),
        missing_after=policy.stuck_after,
    )


def watch(
    platform: Platform, on_report: Callable[[Report], None], *, start_missing: bool = True, looks: int | None = None
) -> int:
    """Look until SIGTERM or SIGINT (or for so many looks), then 0.

    `on_report` is told of each change of the verdict, of each deed and of each alert.

    Raises LockHeld when another resident watchdog of this OPSKIT_HOME runs.
    """
    from opskit.system.locks import locked

    with locked(platform.config.run_folder, "watchdog-resident"):
        resident = _Resident(platform, policy_of(platform, start_missing=start_missing), on_report)
        try:
            return resident.run(looks)
        finally:
            resident.close()


@dataclass(slots=True)
class _Ends:
    """The ends of processes, as descriptors that become readable."""

    poller: select.poll
    descriptors: dict[tuple[int, float], int] = field(default_factory=dict)

    def follow(self, wanted: set[tuple[int, float]]) -> None:
        """Follow these processes `(pid, pid_started)` and no others."""
        for key in self.descriptors.keys() - wanted:
            self._drop(key)
        for key in wanted - self.descriptors.keys():
            try:
                descriptor = os.pidfd_open(key[0])
            except OSError:
                continue  # it is gone: the look has seen it, or the next one will
            if not daemon.is_alive(*key):
                os.close(descriptor)
                continue
            self.descriptors[key] = descriptor
            self.poller.register(descriptor, select.POLLIN)

    def take(self, ready: set[int]) -> bool:
        """Stop to follow those that have ended; whether there was one."""
        ended = [key for key, descriptor in self.descriptors.items() if descriptor in ready]
        for key in ended:
            self._drop(key)
        return bool(ended)

    def _drop(self, key: tuple[int, float]) -> None:
        descriptor = self.descriptors.pop(key)
        self.poller.unregister(descriptor)
        os.close(descriptor)


class _Resident:
    def __init__(self, platform: Platform, policy: Policy, on_report: Callable[[Report], None]) -> None:
        self._platform = platform
        self._config = platform.config
        self._policy = policy
        self._on_report = on_report
        self._grace = min(_QUICK_GRACE_SECONDS, self._config.get("watchdog", "term_grace"))
        # What other runs have seen long ago says nothing about how long a counter stands still now.
        self._memory = replace(read_memory(self._config.run_folder), progress={})
        self._told = ""
        self._whole_at = 0.0
        self._ping_at = 0.0
        self._glances = platform.health.glances()
        self._poller = select.poll()
        self._ends = _Ends(self._poller)
        self._signals, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poller.register(self._signals, select.POLLIN)
        self._stopped = 0
        self._wake_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}

    def close(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wake_before)
        self._ends.follow(set())
        self._glances.close()
        os.close(self._signals)
        os.close(self._wake)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._stopped = number

    def run(self, looks: int | None) -> int:
        done = 0
        while not self._stopped and (looks is None or done < looks):
            began = time.monotonic()
            self._look()
            done += 1
            if done == 1:
                daemon.notify("READY=1")
            # Only a look that came to its end is a sign of life.
            daemon.notify("WATCHDOG=1")
            self._ping()
            self._sleep(began + _LOOK_EVERY_SECONDS)
        daemon.notify("STOPPING=1")
        return 0

    def _sleep(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0 and not self._stopped:
            ready = {descriptor for descriptor, _ in self._poller.poll(left * 1000)}
            if self._ends.take(ready):
                self._whole_at = 0.0  # a process has ended: look at once, and at all
                return

    def _look(self) -> None:
        observation = self._glances.glance(datetime.now(UTC))
        clocks = Clocks.read()
        self._memory = noticed(self._memory, clocks)
        run = Run(self._platform, self._policy, self._memory, self._grace)
        decision = run.decide(observation)
        self._memory = remember(self._memory, observation, decision, clocks.boot)
        self._follow(observation)
        self._nudge(observation)
        now = time.monotonic()
        planned = any(finding.plan for finding in decision.findings)
        changed = decision.verdict != self._told
        if planned or changed or now >= self._whole_at:
            self._whole_look(now)

    def _nudge(self, observation: Observation) -> None:
        if observation.database.state != "ok":
            return
        for one in observation.components:
            if not one.local or one.process != "running" or one.progress_at is None or one.ended_at is not None:
                continue
            late = (observation.at - one.progress_at).total_seconds()
            if KINDS[one.kind].beats and late > _NUDGE_AT * self._policy.quick_after:
                self._platform.services.nudge(one)

    def _follow(self, observation: Observation) -> None:
        self._ends.follow(
            {(one.pid, one.pid_started) for one in observation.components if one.local and one.process != "gone"}
        )

    def _whole_look(self, now: float) -> None:
        from opskit.system.locks import locked

        try:
            with locked(self._config.run_folder, "watchdog"):
                run = Run(self._platform, self._policy, self._merged(), self._grace)
                report = run.go(apply=True)
        except LockHeld:
            return  # cron's watchdog is at it: the next look shows what has come of it
        self._memory = run.memory
        well = report.verdict == rules.HEALTHY or report.repaired
        self._whole_at = now + (_WHOLE_LOOK_EVERY_SECONDS if well else _REST_AFTER_TROUBLE_SECONDS)
        verdict = rules.HEALTHY if report.repaired else report.verdict
        if verdict != self._told or report.deeds or report.alert:
            self._told = verdict
            self._on_report(report)
        daemon.notify(f"STATUS={report.verdict}: {report.evidence[0]}"[:400])

    def _merged(self) -> Memory:
        """What is in the file, where others have written it, and what only who stays can know."""
        known, mine = read_memory(self._config.run_folder), self._memory
        return replace(
            known,
            progress=mine.progress,
            asleep=mine.asleep,
            clock_offset=mine.clock_offset,
            disturbed_at=mine.disturbed_at,
            disturbance=mine.disturbance,
            blind_at=mine.blind_at if known.blind_at is None else max(known.blind_at, mine.blind_at or 0.0),
        )

    def _ping(self) -> None:
        """Once a minute: the dead man's switch, the numbers, the memory."""
        now = time.monotonic()
        if now < self._ping_at:
            return
        self._ping_at = now + _PING_EVERY_SECONDS
        self._leave_numbers()
        url = str(self._config.get("alerts", "ping_urls").get("watchdog") or "")
        if url:
            from opskit.telemetry.pings import ping

            good = self._told in (rules.HEALTHY, rules.SLOW, rules.PAUSED, rules.UPGRADING)
            ping(url, "success" if good else "fail", f"opskit watchdog: {self._told}")

    def _leave_numbers(self) -> None:
        folder = str(self._config.get("metrics", "textfile_directory"))
        if not folder:
            return
        from pathlib import Path

        from opskit.telemetry import metrics

        metrics.gauge("opskit_watchdog_last_run_timestamp_seconds", time.time())
        path = Path(folder).expanduser() / "opskit_watchdog.prom"
        try:
            metrics.write(path, metrics.read(path) | metrics.take())
        except OSError:
            pass  # numbers that can't be written must not end a watch
