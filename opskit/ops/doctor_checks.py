"""The twenty things that hurt people who operate a workflow cluster, as pure judgements over what was seen.

Each check takes the facts and says ok, advice (nothing is wrong yet), warning or critical, with evidence and the
command that helps. The order, and the numbers, are those of the complaints that operators have filed most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from opskit.ops.doctor_facts import Facts

OK, ADVICE, WARNING, CRITICAL, UNKNOWN = "ok", "advice", "warning", "critical", "unknown"

_DAY = timedelta(days=1)
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: str
    evidence: tuple[str, ...]
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    complaint: str
    needs: tuple[str, ...]
    """Parts of the facts without which nothing can be said."""
    judge: Callable[[Facts], Judgement]


def _ok(evidence: str) -> Judgement:
    return Judgement(OK, (evidence,))


def _some(items: Sequence[str], most: int = 5) -> tuple[str, ...]:
    rest = len(items) - most
    return (*items[:most], f"and {rest} more") if rest > 0 else tuple(items)


def _ago(then: datetime, now: datetime) -> str:
    seconds = (now - then).total_seconds()
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} seconds ago"


def _older_than(facts: Facts, age: timedelta) -> bool:
    """Whether this installation has been there for so long: a new one has not had the time for everything."""
    return facts.files is not None and facts.files.home_since is not None and facts.now - facts.files.home_since > age


def _not_run(facts: Facts, verb: str, within: timedelta) -> str:
    """Why the verb counts as not run, or an empty text."""
    run = facts.runs.get(verb)
    if run is None or run.at is None:
        return f"opskit {verb.replace('_', ' ')} has left no trace of a run" if _older_than(facts, within) else ""
    if run.succeeded_at is None:
        return f"opskit {verb.replace('_', ' ')} has never succeeded, its last run ended with {run.exit_code}"
    if facts.now - run.succeeded_at > within:
        return f"opskit {verb.replace('_', ' ')} succeeded last {_ago(run.succeeded_at, facts.now)}"
    return ""


def stuck_tasks(facts: Facts) -> Judgement:
    assert facts.cluster and facts.work
    limit = float(facts.config.get("watchdog", "work_stuck_after"))
    found, worst = [], 0.0
    for backlog in facts.cluster.observation.backlogs:
        waited = (facts.now - backlog.oldest).total_seconds() if backlog.oldest else 0.0
        worst = max(worst, waited)
        found.append(f"{backlog.count} {backlog.what}, the oldest for {waited:.0f} s")
    found += [f"pool {name} is full, and task instances wait for it" for name in facts.work.full_pools]
    if not found:
        return _ok("nothing waits for longer than it should")
    verdict = CRITICAL if worst > limit else WARNING if worst else ADVICE
    return Judgement(verdict, _some(found), "opskit watchdog --explain; for a full pool: opskit pools list")


def idle_scheduler(facts: Facts) -> Judgement:
    assert facts.cluster
    decision = facts.cluster.decision
    if decision.verdict == "healthy":
        return _ok("every component is alive and makes progress")
    verdict = WARNING if decision.verdict in ("slow", "upgrading") else CRITICAL
    return Judgement(verdict, _some(decision.evidence), "opskit watchdog --dry-run --explain, then: opskit watchdog")


def lost_attempts(facts: Facts) -> Judgement:
    assert facts.work
    lost = facts.work.lost
    if not lost:
        return _ok(f"none of {facts.work.attempts} attempts of the last day was lost")
    shown = [f"{item.dag_id}.{item.task_id} at {item.at:%Y-%m-%d %H:%M}: {item.reason}" for item in lost]
    share = len(lost) / max(1, facts.work.attempts)
    return Judgement(
        WARNING if len(lost) >= 3 or share > 0.01 else ADVICE,
        (f"{len(lost)} of {facts.work.attempts} attempts of the last day were lost with their worker", *_some(shown)),
        "see why workers end: journalctl -u opskit-worker, and memory limits (core.task_memory_limit)",
    )


def growing_metastore(facts: Facts) -> Judgement:
    assert facts.store
    keep = timedelta(days=float(facts.config.get("cleanup", "max_age_days")))
    oldest = facts.store.oldest_ended
    size = f"{(facts.store.size_bytes or 0) / _GIB:.2f} GiB"
    found = []
    # The last run of a DAG stays for ever, so an old one alone proves nothing.
    if oldest is not None and facts.now - oldest > keep + timedelta(days=10):
        why = _not_run(facts, "db_clean", timedelta(days=10))
        if why:
            found.append(f"the oldest run ended {_ago(oldest, facts.now)}, kept are {keep.days} days; {why}")
    if facts.store.size_bytes and facts.store.size_bytes > 20 * _GIB:
        found.append(f"the metastore has {size}: backups and upgrades take long")
    if not found:
        return _ok(f"{size}, history within {keep.days} days")
    return Judgement(WARNING, tuple(found), "opskit db clean --dry-run, then: opskit db clean")


def ready_for_upgrade(facts: Facts) -> Judgement:
    assert facts.cluster
    state = facts.cluster.observation.database.state
    if state.startswith("schema"):
        message = facts.cluster.observation.database.message
        return Judgement(CRITICAL, (message,), "opskit backup, then: opskit db migrate (older), or a newer opskit")
    versions = facts.store.versions if facts.store else ()
    if len({version for _, version in versions}) > 1:
        return Judgement(
            WARNING,
            _some([f"{who}: opskit {version}" for who, version in versions], 10),
            "restart the components that still run the other version",
        )
    return _ok("the schema is current, and all components run one version")


def full_disk(facts: Facts) -> Judgement:
    assert facts.files
    verdict, found = OK, []
    for disk in facts.files.disks:
        share = disk.free_bytes / max(1, disk.size_bytes)
        left = f"{disk.path}: {disk.free_bytes / _GIB:.1f} GiB free ({share:.0%})"
        if share < 0.03 or disk.free_bytes < _GIB // 2:
            verdict = CRITICAL
            found.append(left)
        elif share < 0.1 and disk.free_bytes < 20 * _GIB:
            verdict = WARNING if verdict == OK else verdict
            found.append(left)
        if disk.inodes and disk.free_inodes / disk.inodes < 0.05:
            verdict = CRITICAL
            found.append(f"{disk.path}: {disk.free_inodes} inodes free of {disk.inodes}")
    why = _not_run(facts, "logs_clean", timedelta(days=8))
    if why:
        verdict = WARNING if verdict == OK else verdict
        found.append(why)
    if verdict == OK:
        return _ok(", ".join(f"{disk.free_bytes / _GIB:.0f} GiB free at {disk.path}" for disk in facts.files.disks))
    return Judgement(verdict, tuple(found), "opskit logs clean --dry-run, then: opskit logs clean")


def proven_backup(facts: Facts) -> Judgement:
    assert facts.backups
    newest = facts.backups.newest_verified
    fix = "opskit backup (it proves itself by a restore); nightly: opskit units install"
    if newest is None:
        young = not _older_than(facts, 2 * _DAY)
        what = f"{facts.backups.count} backups in {facts.backups.where}, none proven by a restore"
        return Judgement(ADVICE if young and not facts.backups.count else CRITICAL, (what,), fix)
    age = facts.now - newest
    shown = f"the newest proven backup in {facts.backups.where} was taken {_ago(newest, facts.now)}"
    if age < timedelta(0):
        return Judgement(WARNING, (f"the newest proven backup is dated {newest:%Y-%m-%d %H:%M}: the future",), "date")
    if age > timedelta(days=3):
        return Judgement(CRITICAL, (shown,), fix)
    if age > timedelta(hours=26) or facts.backups.newest_state in ("failed", "damaged"):
        newer = "" if facts.backups.newest_state == "verified" else f"; the newest one is {facts.backups.newest_state}"
        return Judgement(WARNING, (shown + newer,), fix)
    return _ok(shown)


def same_code_everywhere(facts: Facts) -> Judgement:
    if not facts.config.get("deploy", "groups"):
        return _ok("DAG files are deployed to no other host")
    run = facts.runs.get("dags_drift")
    if run is not None and run.exit_code == 5:
        return Judgement(
            CRITICAL, (f"hosts differ from the release ({_ago(run.at or facts.now, facts.now)})",), "opskit dags-drift"
        )
    why = _not_run(facts, "dags_drift", timedelta(hours=26))
    if why or run is None:
        return Judgement(
            WARNING if why else ADVICE,
            (why or "nobody has compared the hosts yet",),
            "opskit dags-drift, hourly: opskit units install",
        )
    return _ok("all hosts had the released DAG files when they were compared last")


def fresh_dags(facts: Facts) -> Judgement:
    assert facts.work and facts.files
    broken = [file for file in facts.work.files if file.error]
    slow = [file for file in facts.work.files if not file.error and file.seconds > 5]
    found = [f"{file.path} can't be loaded: {(file.error or '').strip().splitlines()[-1][:200]}" for file in broken]
    found += [f"{path} has changed, and the DAG processor has not loaded it" for path in facts.files.changed]
    found += [f"{file.path} takes {file.seconds:.0f} s to load" for file in slow]
    if not found:
        return _ok(f"{len(facts.work.files)} DAG files are loaded as they are")
    return Judgement(WARNING, _some(found), "opskit dags list-import-errors; a slow file does its work at import")


def vanished_dags(facts: Facts) -> Judgement:
    assert facts.work
    if not facts.work.vanished:
        return _ok("every DAG that is not paused is in its file")
    folder = facts.config.dags_folder
    found = [
        f"{dag_id}: {path} " + ("no longer defines it" if (folder / path).exists() else "has gone")
        for dag_id, path in facts.work.vanished
    ]
    return Judgement(
        WARNING, _some(found), "deploy the file again, or pause the DAG; to forget it: opskit dags delete DAG_ID"
    )


def growing_processes(facts: Facts) -> Judgement:
    assert facts.processes is not None
    found, verdict = [], OK
    for process in facts.processes:
        if process.resident_bytes > min(4 * _GIB, facts.ram_bytes // 2):
            verdict = CRITICAL
        elif process.resident_bytes > _GIB:
            verdict = WARNING if verdict == OK else verdict
        else:
            continue
        found.append(f"{process.label} uses {process.resident_bytes / _GIB:.1f} GiB")
    if not found:
        largest = max((process.resident_bytes for process in facts.processes), default=0)
        return _ok(f"the largest of {len(facts.processes)} processes uses {largest >> 20} MiB")
    return Judgement(verdict, tuple(found), "restart it: no attempt is lost by that")


def database_connections(facts: Facts) -> Judgement:
    assert facts.store
    used, limit = facts.store.connections, facts.store.connections_limit
    if used is None or not limit:
        return _ok("this database has no limit of connections, or does not tell it")
    share = used / limit
    if share < 0.8:
        return _ok(f"{used} of {limit} connections are in use")
    return Judgement(
        CRITICAL if share >= 0.95 else WARNING,
        (f"{used} of {limit} connections of the database server are in use",),
        "see who holds them (pg_stat_activity, SHOW PROCESSLIST), or raise max_connections",
    )


def database_locks(facts: Facts) -> Judgement:
    assert facts.store
    found = [f"waits for a lock: {wait}" for wait in facts.store.lock_waits]
    found += [f"an old transaction holds its locks: {session}" for session in facts.store.long_transactions]
    if not found:
        return _ok("no session waits for a lock, no transaction is older than ten minutes")
    return Judgement(WARNING, _some(found), "end that session: pg_terminate_backend(pid), or KILL id")


def maintenance_mode(facts: Facts) -> Judgement:
    assert facts.cluster and facts.work
    found = []
    pause = facts.cluster.pause
    if pause is not None and pause.active(facts.now):
        since = datetime.fromisoformat(pause.since)
        if pause.until is None and facts.now - since > _DAY:
            found.append(f"the watchdog is {pause}: it does nothing until someone resumes it")
    found += [f"{dag_id} is paused, and its run {run_id} waits in it" for dag_id, run_id in facts.work.stranded_runs]
    if not found:
        return _ok("nothing was left paused")
    return Judgement(WARNING, _some(found), "opskit watchdog --resume; opskit dags unpause DAG_ID")


def somebody_is_told(facts: Facts) -> Judgement:
    mail = facts.config.get("alerts", "email_to")
    pings = facts.config.get("alerts", "ping_urls")
    if not mail and not pings:
        return Judgement(
            ADVICE, ("no alert goes to anybody",), "set alerts.email_to or alerts.ping_urls, then: opskit alert test"
        )
    ways = ["mail"] * bool(mail) + [f"a dead man's switch for {', '.join(sorted(pings))}"] * bool(pings)
    return _ok(" and ".join(ways))


def numbers_for_monitoring(facts: Facts) -> Judgement:
    folder = str(facts.config.get("metrics", "textfile_directory"))
    if not folder:
        return Judgement(
            ADVICE, ("metrics.textfile_directory is empty",), "set it to the folder that node_exporter reads"
        )
    broken = [
        f"opskit {verb.replace('_', ' ')} ended with {run.exit_code} {_ago(run.at, facts.now)}"
        for verb, run in sorted(facts.runs.items())
        if run.at and run.exit_code not in (0, 5, 11, None) and verb != "doctor"
    ]
    if broken:
        return Judgement(WARNING, _some(broken), "run it again, and read what it says")
    return _ok(f"{len(facts.runs)} verbs leave their numbers in {folder}")


def readable_logs(facts: Facts) -> Judgement:
    assert facts.files and facts.work
    missing = facts.files.missing_logs
    if not missing:
        return _ok(f"the logs of {len(facts.work.recent_logs)} attempts that ended here lately are there")
    return Judgement(
        WARNING,
        _some([f"no log: {what}" for what in missing]),
        "see logging.base_log_folder of worker and web server, and who else deletes there",
    )


def readable_secrets(facts: Facts) -> Judgement:
    assert facts.undecipherable is not None
    found = [f"{what} can't be decrypted" for what in facts.undecipherable]
    fix = "opskit fernet audit, then: opskit fernet repair"
    exposed = facts.files.exposed if facts.files else ()
    if exposed:
        found += exposed
        fix = "opskit permissions fix" if not facts.undecipherable else f"{fix}; opskit permissions fix"
    if not found:
        return _ok("every secret can be decrypted, and no file gives them away")
    return Judgement(CRITICAL, _some(found), fix)


def watched(facts: Facts) -> Judgement:
    assert facts.cluster
    run = facts.runs.get("watchdog")
    found = []
    if run is not None and run.at is not None and facts.now - run.at > timedelta(minutes=10):
        found.append(f"the watchdog looked last {_ago(run.at, facts.now)}")
    elif run is None and _older_than(facts, timedelta(hours=1)):
        found.append("no watchdog has ever looked")
    restarts = facts.cluster.restarts_last_hour
    if restarts >= 2:
        found.append(f"the watchdog restarted something {restarts} times within the last hour")
    if not found:
        return _ok("the watchdog looks, and restarts nothing" if run else "too new to have been watched")
    return Judgement(WARNING, tuple(found), "opskit units install; from cron: * * * * * opskit watchdog --quiet")


def units_in_order(facts: Facts) -> Judgement:
    assert facts.units
    if not facts.units.running:
        return _ok("systemd does not run here")
    if not facts.units.installed:
        return Judgement(ADVICE, ("no unit of opskit is installed",), "opskit units install")
    if facts.units.differing:
        return Judgement(
            WARNING,
            _some([f"{name} is not as this version ships it" for name in facts.units.differing]),
            "opskit units install --dry-run; your own changes belong into drop-ins",
        )
    return _ok(f"{len(facts.units.installed)} units are as this version ships them")


CHECKS = (
    Check("stuck-tasks", "tasks stuck in queued or scheduled", ("cluster", "work"), stuck_tasks),
    Check("idle-scheduler", "a scheduler that is alive and does nothing", ("cluster",), idle_scheduler),
    Check("lost-attempts", "healthy tasks killed or lost", ("work",), lost_attempts),
    Check("metastore-size", "a metastore that grows for ever", ("store",), growing_metastore),
    Check("upgrade", "upgrades that stop half-way", ("cluster",), ready_for_upgrade),
    Check("disk", "a disk full of logs, no inodes", ("files",), full_disk),
    Check("backup", "no backup that was proven", ("backups",), proven_backup),
    Check("same-code", "workers on other DAG code than the scheduler", (), same_code_everywhere),
    Check("fresh-dags", "a new DAG that takes minutes to appear", ("work", "files"), fresh_dags),
    Check("vanished-dags", "DAGs that vanish by themselves", ("work",), vanished_dags),
    Check("memory", "processes that grow", ("processes",), growing_processes),
    Check("connections", "database connections exhausted", ("store",), database_connections),
    Check("locks", "deadlocks and locks", ("store",), database_locks),
    Check("maintenance", "a pause that nobody ended", ("cluster", "work"), maintenance_mode),
    Check("alerts", "nobody is told", (), somebody_is_told),
    Check("metrics", "no numbers, or verbs that fail silently", (), numbers_for_monitoring),
    Check("logs", "logs that can't be seen", ("files", "work"), readable_logs),
    Check("secrets", "secrets unreadable, or readable by all", ("undecipherable",), readable_secrets),
    Check("watchdog", "no watchdog, or one that makes it worse", ("cluster",), watched),
    Check("units", "units out of date", ("units",), units_in_order),
)
