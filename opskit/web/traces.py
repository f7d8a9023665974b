"""What verbs have left for those who look: kept reports, records of deployments, verdicts of the watchdog, proofs.

All of it is read from the metastore and from OPSKIT_HOME of this host; only the store of backups is asked by a process
(`verbs`), because it may be far away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from opskit.core.metastore.audit import AuditLine
from opskit.core.metastore.browsing import home
from opskit.errors import NotFound, OpskitError
from opskit.system import deployed
from opskit.telemetry import reports
from opskit.telemetry.reports import KeptReport
from opskit.web.overview import Deployment, Watchdog, deployments_of, watchdog_of
from opskit.web.store import Store
from opskit.web.verbs import Job, Verbs

FRESH_SECONDS = 60.0
"""So old an answer of the store of backups may be before it is asked again."""
_JUST_READ_SECONDS = 3.0
_BACKUP_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup as its store shows it."""

    id: str
    taken_at: datetime
    tier: str
    """full: the whole metastore; config: connections, variables, pools and pause states."""
    state: str
    """verified (a drill restored it), unverified (none did yet), failed (the drill found it wrong), damaged."""
    rows: int | None
    size_bytes: int | None
    encrypted: bool | None
    drilled_at: datetime | None
    drill_seconds: float | None
    problem: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The receipt of a drill."""

    backup_id: str
    drilled_at: datetime
    ok: bool
    genuine: bool | None
    """Whether its signature fits; None: it has none, or its key is not here."""
    seconds: float
    rows: int
    secrets_read: int
    hostname: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The backups, as they were at a time."""

    backups: Sequence[Backup]
    read_at: datetime | None
    """None: the store has not answered yet."""
    reading: bool
    """It is being asked now."""
    problem: str
    """Why the last question had no answer; empty: it had one."""


@dataclass(frozen=True, slots=True)
class HostRelease:
    """What one host should have, by the last deployment from here, and what the last comparison found."""

    host: str
    release: str
    source: str
    deployed_at: datetime | None
    state: str
    """Of the last drift check: in sync, drifted, other release, unreachable, repaired; empty: not compared yet."""
    differences: Mapping[str, Sequence[str]]
    """missing, extra, edited, modes → paths."""
    error: str


@dataclass(frozen=True, slots=True)
class Deployments:
    hosts: Sequence[HostRelease]
    compared_at: datetime | None
    history: Sequence[Deployment]
    problem: str
    """Why the records of this host can't be read."""


@dataclass(frozen=True, slots=True)
class Watching:
    """The watchdog: on this host, and what it did on all of them."""

    here: Watchdog
    deeds: Sequence[AuditLine]
    """Of all hosts, from the audit log: what was restarted, and why."""


def backups(verbs: Verbs, *, fresh_for: float = FRESH_SECONDS, patience: float = 0.0) -> Catalog:
    """The backups of the store, the newest first. What is known is given at once, and asked anew when it is old."""
    verbs.answer("backup-list", fresh_for=_fresh(verbs, "backup-list", fresh_for), patience=patience)
    known, last = verbs.newest("backup-list"), verbs.last("backup-list")
    failed = last is not None and last.has_ended and (known is None or last.id != known.id)
    return Catalog(
        [_backup(row) for row in known.report] if known else (),
        known.ended_at if known else None,
        verbs.under_way("backup-list") is not None,
        _last_words(last) if failed and last else "",
    )


def backup(verbs: Verbs, identifier: str, *, patience: float = 0.0) -> tuple[Backup | None, Catalog]:
    """One backup, and the list that it stands in; None while the store is being read, or can't be.

    NotFound when the store does not have it, and for what is no id.
    """
    if not _BACKUP_ID.fullmatch(identifier):
        raise NotFound(f"{identifier!r} is no id of a backup", hint="see the list of backups")
    catalog = backups(verbs, patience=patience)
    found = _of(catalog, identifier)
    if found is None and not catalog.reading:
        catalog = backups(verbs, fresh_for=_JUST_READ_SECONDS, patience=patience)  # it may be new
        found = _of(catalog, identifier)
    if found is None and not catalog.reading and not catalog.problem:
        raise NotFound(f"there is no backup {identifier!r}", hint="see the list of backups")
    return found, catalog


def _of(catalog: Catalog, identifier: str) -> Backup | None:
    return next((one for one in catalog.backups if one.id == identifier), None)


def proofs(verbs: Verbs, *, fresh_for: float = FRESH_SECONDS, patience: float = 0.0) -> dict[str, Proof]:
    """By backup; empty until they are read."""
    verbs.answer("drill-list", fresh_for=_fresh(verbs, "drill-list", fresh_for), patience=patience)
    known = verbs.newest("drill-list")
    return {row["backup_id"]: _proof(row) for row in known.report} if known else {}


def deployments(store: Store, limit: int = 30) -> Deployments:
    """Hosts and releases by this host's records, deployments by the audit log (and this host's records, where there is
    no line)."""
    folder, problem = deployed.folder_of(store.config.home), ""
    with store.reading() as connection:
        history = deployments_of(home.newest_lines(connection, ("deploy-dag",), limit))
    try:
        released = deployed.released(folder)
        if not history:
            history = [_deployment(line) for line in deployed.history(folder, limit)]
    except OpskitError as error:
        released, problem = {}, error.message
    report = newest_report(store, "dags_drift")
    found = {str(row.get("host")): row for row in _rows(report, "hosts")}
    hosts = [_host_release(host, released.get(host), found.get(host)) for host in sorted({*released, *found})]
    return Deployments(hosts, report.at if report else None, history, problem)


def watching(store: Store, limit: int = 50) -> Watching:
    """Verdicts and deeds, the newest first."""
    with store.reading() as connection:
        deeds = home.newest_lines(connection, ("watchdog",), limit)
    return Watching(watchdog_of(store.config, datetime.now(UTC), limit), deeds)


def newest_report(store: Store, verb: str) -> KeptReport | None:
    """The newest run of a verb on this host that came to a report."""
    return next((run for run in reports.kept(store.config.home, verb) if run.report is not None), None)


def moment(text: Any) -> datetime | None:
    """Of ISO 8601, as reports have it."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _fresh(verbs: Verbs, name: str, seconds: float) -> float:
    """0 when what was read is known to be old: a backup or a drill has ended since."""
    read = verbs.last(name)
    writers = (verbs.last("backup"), verbs.last("drill"))
    ends = [job.ended_at for job in writers if job is not None and job.ended_at is not None]
    return 0.0 if read is not None and any(end > read.asked_at for end in ends) else seconds


def _backup(row: Mapping[str, Any]) -> Backup:
    return Backup(
        id=str(row["id"]),
        taken_at=datetime.fromisoformat(row["taken_at"]),
        tier=str(row["tier"]),
        state=str(row["state"]),
        rows=row["rows"],
        size_bytes=row["size_bytes"],
        encrypted=row["encrypted"],
        drilled_at=moment(row["drilled_at"]),
        drill_seconds=row["drill_seconds"],
        problem=str(row["problem"] or ""),
    )


def _proof(row: Mapping[str, Any]) -> Proof:
    return Proof(
        backup_id=str(row["backup_id"]),
        drilled_at=datetime.fromisoformat(row["drilled_at"]),
        ok=bool(row["ok"]),
        genuine=row["genuine"],
        seconds=float(row["seconds"]),
        rows=int(row["rows"]),
        secrets_read=int(row["secrets_read"]),
        hostname=str(row["hostname"]),
        problems=tuple(map(str, row["problems"])),
    )


def _deployment(line: Mapping[str, Any]) -> Deployment:
    hosts = line.get("hosts")
    return Deployment(
        moment(line.get("at")) or datetime.fromtimestamp(0, UTC),
        str(line.get("by") or ""),
        str(line.get("action") or "deploy"),
        str(line.get("source") or ""),
        {str(host): str(state) for host, state in hosts.items()} if isinstance(hosts, Mapping) else {},
        str(line.get("failed") or ""),
    )


def _host_release(host: str, entry: deployed.Released | None, found: Mapping[str, Any] | None) -> HostRelease:
    found = found or {}
    kinds = ("missing", "extra", "edited", "modes")
    return HostRelease(
        host,
        entry.release if entry else str(found.get("release") or ""),
        entry.source if entry else "",
        moment(entry.at) if entry else None,
        str(found.get("state") or ""),
        {kind: tuple(map(str, found[kind])) for kind in kinds if found.get(kind)},
        str(found.get("error") or ""),
    )


def _rows(report: KeptReport | None, name: str) -> list[Mapping[str, Any]]:
    rows = report.report.get(name) if report and isinstance(report.report, Mapping) else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _last_words(job: Job) -> str:
    return job.message or f"{job.command} ended with {job.exit_code}"
