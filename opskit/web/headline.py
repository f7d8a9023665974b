"""Whether everything is well, in one sentence: a pure judgement over what the home page has seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from opskit.core.metastore.browsing.health import InstanceHealth
from opskit.system.machine import Disk
from opskit.web.formats import ago, plural, size
from opskit.web.overview import DAY, Operations, Overview, Work

GOOD, WARN, BAD = "good", "warn", "bad"
_SIGNS = {GOOD: "✓", WARN: "!", BAD: "✕"}
_WORDS = {GOOD: "All well", WARN: "Look", BAD: "Act now"}
_NEEDED = {
    "scheduler": (BAD, "No scheduler runs: nothing starts"),
    "worker": (BAD, "No worker runs: no task can run"),
    "dag_processor": (WARN, "No DAG processor runs: changed DAG files are not loaded"),
}
_NAMES = {"dag_processor": "DAG processor"}
_BACKUP_WARN, _BACKUP_BAD = timedelta(hours=26), timedelta(days=3)
"""As the doctor judges: nightly backups, with some room."""
_YOUNG = timedelta(days=2)
_DRIFT_OLD = timedelta(hours=26)
_WATCHDOG_LATE = timedelta(minutes=10)
_SILENT_FOR = DAY
_GIB = 1 << 30
_DRIFTED = 5
"""The exit code of a drift check that found something."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is not as it should be."""

    level: str
    """warn or bad."""
    text: str
    url: str
    """The page that shows more."""


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict. Sign and word say what the colour says."""

    level: str
    """good, warn or bad."""
    sentence: str
    reasons: tuple[Reason, ...] = ()

    @property
    def sign(self) -> str:
        return _SIGNS[self.level]

    @property
    def word(self) -> str:
        return _WORDS[self.level]


def headline(seen: Overview) -> Headline:
    """The worst comes first. What the person may not see is not judged, and the sentence says so."""
    found = [*_components(seen)]
    if seen.work is not None:
        found += _work(seen.work, seen.at)
    if seen.operations is not None:
        found += _operations(seen.operations, seen)
    reasons = tuple(sorted(found, key=lambda reason: reason.level != BAD))
    if not reasons:
        partly = seen.work is None or seen.operations is None
        return Headline(GOOD, "Everything that you may see is well." if partly else "Everything is well.")
    rest = len(reasons) - 1
    more = f", and {plural(rest, 'more thing')}" if rest else ""
    return Headline(reasons[0].level, f"{reasons[0].text}{more}.", reasons)


def _components(seen: Overview) -> Iterator[Reason]:
    url = "/operations/watchdog" if seen.operations else "/#components"
    living = {one.kind for one in seen.components if one.state in ("running", "slow", "stuck")}
    for kind, (level, text) in _NEEDED.items():
        if kind not in living:
            yield Reason(level, f"{text}{_since(seen, kind)}", url)
    for one in seen.components:
        name = f"The {_NAMES.get(one.kind, one.kind)} on {one.hostname}"
        if one.state == "stuck":
            yield Reason(BAD, f"{name} is alive and has made no progress since {_clock(one.progress_at, seen.at)}", url)
        elif one.state == "slow":
            yield Reason(WARN, f"{name} is slow: no progress since {_clock(one.progress_at, seen.at)}", url)
        elif one.state == "silent" and one.kind in living and seen.at - one.heartbeat_at < _SILENT_FOR:
            yield Reason(WARN, f"{name} has been silent since {_clock(one.heartbeat_at, seen.at)}", url)
    versions = {one.version for one in seen.components if one.state in ("running", "slow", "stuck")}
    if len(versions) > 1:
        yield Reason(WARN, f"Components run different versions: {', '.join(sorted(versions))}", url)


def _since(seen: Overview, kind: str) -> str:
    last = max((one.heartbeat_at for one in seen.components if one.kind == kind), default=None)
    return f" (last seen {ago(last, seen.at)})" if last else ""


def _work(work: Work, now: datetime) -> Iterator[Reason]:
    if work.held is not None:
        count = plural(work.held.count, "DAG")
        yield Reason(WARN, f"{count} stand still: {work.held.owner} paused all of them {ago(work.held.at, now)}", "/")
    if work.waiting_runs:
        since = f" (the oldest was queued {ago(work.waiting_since, now)})" if work.waiting_since else ""
        yield Reason(BAD, f"{plural(work.waiting_runs, 'run')} should have begun{since}", "/dags")
    if work.failed_runs_count:
        yield Reason(WARN, f"{plural(work.failed_runs_count, 'run')} failed in the last 24 hours", "/#failed")
    if work.broken_files_count:
        yield Reason(WARN, f"{plural(work.broken_files_count, 'DAG file')} can't be loaded", "/import-errors")


def _operations(operations: Operations, seen: Overview) -> Iterator[Reason]:
    yield from _backups(operations, seen)
    for disk in operations.disks:
        level = disk_level(disk)
        if level != GOOD:
            free = f"{size(disk.free_bytes)} ({disk.free_bytes / max(1, disk.size_bytes):.0%})"
            if disk.inodes and disk.free_inodes / disk.inodes < 0.05:
                free = f"{disk.free_inodes:,} inodes"
            yield Reason(level, f"The disk of {disk.path} on {seen.hostname} has {free} left", "/operations/clean-up")
    yield from _drift(operations, seen.at)
    if operations.deployments and operations.deployments[0].failed:
        last = operations.deployments[0]
        yield Reason(
            WARN, f"The last {last.action} of DAG files failed {ago(last.at, seen.at)}", "/operations/deployments"
        )
    watchdog = operations.watchdog
    url = "/operations/watchdog"
    if watchdog.pause is not None:
        yield Reason(WARN, f"The watchdog is {watchdog.pause}", url)
    elif watchdog.last is not None and seen.at - watchdog.last.at > _WATCHDOG_LATE:
        yield Reason(
            WARN, f"The watchdog looked last {ago(watchdog.last.at, seen.at)}: nobody restarts what hangs", url
        )


def _backups(operations: Operations, seen: Overview) -> Iterator[Reason]:
    url, backups = "/operations/backups", operations.backups
    if backups.proven_taken_at is None:
        young = seen.at - seen.home_since < _YOUNG
        if not young:
            yield Reason(BAD, "There is no backup that a restore has proven", url)
        elif backups.newest_problem:
            yield Reason(WARN, f"The newest backup failed: {backups.newest_problem}", url)
        return
    level = backup_level(backups.proven_taken_at, seen.at)
    if level != GOOD:
        yield Reason(level, f"The newest proven backup was taken {ago(backups.proven_taken_at, seen.at)}", url)
    elif backups.newest_problem:
        yield Reason(WARN, f"The newest backup failed: {backups.newest_problem}", url)


def backup_level(taken_at: datetime, now: datetime) -> str:
    """Of the age of the newest proven backup; one from the future is no better than an old one."""
    age = now - taken_at
    if age > _BACKUP_BAD:
        return BAD
    return WARN if age > _BACKUP_WARN or age < -timedelta(minutes=10) else GOOD


def disk_level(disk: Disk) -> str:
    """As the doctor judges a disk."""
    share = disk.free_bytes / max(1, disk.size_bytes)
    if share < 0.03 or disk.free_bytes < _GIB // 2 or (disk.inodes and disk.free_inodes / disk.inodes < 0.05):
        return BAD
    return WARN if share < 0.1 and disk.free_bytes < 20 * _GIB else GOOD


def _drift(operations: Operations, now: datetime) -> Iterator[Reason]:
    url, drift = "/operations/drift", operations.drift
    if not operations.deploys:
        return
    if drift is None:
        yield Reason(WARN, "Nobody has compared the hosts with what was deployed", url)
    elif drift.exit_code == _DRIFTED:
        yield Reason(BAD, f"Hosts differ from what was deployed: {drift.error or 'see the report'}", url)
    elif drift.exit_code:
        yield Reason(WARN, f"The last drift check ended with {drift.exit_code}: {drift.error or 'see its report'}", url)
    elif now - drift.at > _DRIFT_OLD:
        yield Reason(WARN, f"The hosts were compared last {ago(drift.at, now)}", url)


def _clock(moment: datetime, now: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC ({ago(moment, now)})"


def states_in_words(components: Sequence[InstanceHealth]) -> str:
    """`2 schedulers, 3 workers`, of those that live."""
    counts: dict[str, int] = {}
    for one in components:
        if one.state in ("running", "slow", "stuck"):
            name = _NAMES.get(one.kind, one.kind)
            counts[name] = counts.get(name, 0) + 1
    return ", ".join(plural(count, name) for name, count in counts.items()) or "no process"
