"""Compares the DAG folder of every host with the release it should have, and brings it back to that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from opskit.errors import OpskitError, VerificationFailed
from opskit.ops.dag_sources import Source
from opskit.ops.deploy_dag import DeployWork
from opskit.ops.deploy_records import Records
from opskit.ops.deploy_report import DeployFailed, DeployReport
from opskit.ops.deploy_run import read_policy, run
from opskit.ops.deployment import Deployment, Progress, Target
from opskit.ops.releases import release_hash
from opskit.platforms import Platform
from opskit.system.deployed import Released
from opskit.system.locks import locked
from opskit.telemetry import metrics

IN_SYNC = "in sync"
DRIFTED = "drifted"
OTHER_RELEASE = "other release"
UNREACHABLE = "unreachable"
NO_FOLDER = "no DAG folder"
REPAIRED = "repaired"


@dataclass(frozen=True, slots=True)
class HostDrift:
    host: str
    state: str
    """in sync, drifted, other release, unreachable, no DAG folder (and no release that should be there), or
    repaired."""
    release: str
    """What the host has; empty: no release."""
    expected: str
    """Hash of what it should have, by the last deployment from here; empty: none is recorded, and it was compared with
    its own manifest."""
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class DriftReport:
    hosts: tuple[HostDrift, ...]
    repairs: tuple[DeployReport, ...] = ()

    def of(self, *states: str) -> list[HostDrift]:
        return [host for host in self.hosts if host.state in states]


def judge(host: str, release: str, expected: str, differences: Mapping[str, Sequence[str]]) -> HostDrift:
    """The state of a host that answered. `differences`: kind → paths, against what is expected."""
    if expected and release_hash(release) != expected:
        state = OTHER_RELEASE
    else:
        state = DRIFTED if any(differences.values()) else IN_SYNC
    missing, extra, edited, modes = (
        tuple(differences.get(kind, ())) for kind in ("missing", "extra", "edited", "modes")
    )
    return HostDrift(host, state, release, expected, missing, extra, edited, modes)


def drift(
    platform: Platform,
    hosts: Sequence[str],
    *,
    now: datetime,
    repair: bool = False,
    progress: Progress = lambda *_: None,
) -> DriftReport:
    """Hash every file of every host's DAG folder against the release it should have. With `repair`, hosts that differ
    get that release by the steps of a deployment, each release to all of its hosts that can be reached."""
    if not repair:
        return _measured(_observe(platform, hosts, now, progress))
    with locked(platform.config.run_folder, "deploy-dag"):
        return _measured(_repair(platform, _observe(platform, hosts, now, progress), now, progress))


def _observe(platform: Platform, hosts: Sequence[str], now: datetime, progress: Progress) -> DriftReport:
    config, records = platform.config, Records(platform.config)
    released = records.released()
    manifests = {entry.release: records.manifest(entry.release) for entry in released.values()}
    deployment = Deployment(config, hosts, deployment="", who="dags-drift", now=now, quorum="any", progress=progress)
    found: dict[str, HostDrift] = {}

    def inspect(target: Target) -> None:
        found[target.name] = _inspect(target, released.get(target.name), manifests)

    try:
        deployment.begin_to_connect(read_policy(config), lock=False)
        try:
            deployment.connect(read_policy(config))
        except OpskitError:
            pass  # every host has its error, and the report shows it
        deployment.each("compare", deployment.alive, inspect)
        for target in deployment.targets:
            if target.error is not None:
                entry = released.get(target.name)
                expected = entry.release if entry else ""
                found[target.name] = HostDrift(target.name, UNREACHABLE, "", expected, error=str(target.error))
    finally:
        deployment.close()
    return DriftReport(tuple(found[host] for host in hosts))


def _inspect(target: Target, entry: Released | None, manifests: Mapping[str, dict[str, Any] | None]) -> HostDrift:
    view = target.seen
    manifest = manifests.get(entry.release) if entry else None
    expected = entry.release if entry and manifest else ""
    if view.kind == "absent" and not manifest:
        why = f"there is no DAG folder {view.dags}, and no deployment to it is recorded here: nothing to compare"
        return HostDrift(target.name, NO_FOLDER, "", "", error=why)
    files = manifest["files"] if manifest else view.files
    answer = target.session.ask("inspect", files=files, deep=True)
    return judge(target.name, view.current or "", expected, answer["differences"])


def _repair(platform: Platform, seen: DriftReport, now: datetime, progress: Progress) -> DriftReport:
    records = Records(platform.config)
    wanted: dict[str, list[str]] = {}
    for different in seen.of(DRIFTED, OTHER_RELEASE):
        wanted.setdefault(different.expected, []).append(different.host)
    reports: list[DeployReport] = []
    states: dict[str, str] = {}
    for release, hosts in sorted(wanted.items()):
        manifest = records.manifest(release) if release else None
        if manifest is None:
            for host in hosts:
                states[host] = "no deployment from here is recorded: deploy the DAG folder to it"
            continue
        try:
            source = _source(platform, manifest, [host.host for host in seen.of(IN_SYNC)], now)
            report = run(
                platform,
                hosts,
                _RepairWork(platform, source, manifest),
                now=now,
                quorum="any",
                progress=progress,
                is_locked=True,
            )
            states.update({host.host: host.error for host in report.hosts})
        except DeployFailed as error:
            report = error.report
            states.update({host.host: host.error or str(error) for host in report.hosts})
        except VerificationFailed as error:
            states.update(dict.fromkeys(hosts, str(error)))
            continue
        reports.append(report)
    after = [
        replace(host, state=host.state if states[host.host] else REPAIRED, error=states[host.host])
        if host.host in states
        else host
        for host in seen.hosts
    ]
    return DriftReport(tuple(after), tuple(reports))


def _source(platform: Platform, manifest: Mapping[str, Any], in_sync: Sequence[str], now: datetime) -> Source:
    """The contents of a release: those kept here, and those that came from elsewhere out of a host that is in sync."""
    digests = {entry[0] for entry in manifest["files"].values()}
    contents = Records(platform.config).contents(digests)
    lacking = sorted(digests - set(contents))
    for host in in_sync if lacking else ():
        contents.update(_fetch(platform, host, lacking, now))
        lacking = sorted(digests - set(contents))
        if not lacking:
            break
    if lacking:
        path = next(path for path, entry in sorted(manifest["files"].items()) if entry[0] in lacking)
        raise VerificationFailed(
            f"{path} of the release {manifest['hash'][:12]} is kept neither here nor on a host that is in sync",
            hint="deploy the DAG folder again",
        )
    return Source(dict(manifest["files"]), True, f"repair of {manifest['source']}", {}, contents=contents)


def _fetch(platform: Platform, host: str, digests: Sequence[str], now: datetime) -> dict[str, bytes]:
    import hashlib
    import zlib

    deployment = Deployment(platform.config, [host], deployment="", who="dags-drift", now=now)
    try:
        policy = read_policy(platform.config)
        deployment.begin_to_connect(policy, lock=False)
        deployment.connect(policy)
        answer = deployment.targets[0].session.ask("fetch", digests=list(digests))["contents"]
    except OpskitError:
        return {}
    finally:
        deployment.close()
    found = {digest: zlib.decompress(bytes.fromhex(text)) for digest, text in answer.items()}
    return {digest: data for digest, data in found.items() if hashlib.sha256(data).hexdigest() == digest}


class _RepairWork(DeployWork):
    """A deployment of a release that was checked when it was deployed first."""

    def __init__(self, platform: Platform, source: Source, manifest: Mapping[str, Any]) -> None:
        super().__init__(platform, lambda: source, dry_run=False, action="repair")
        self.source = source
        self.dag_ids = {path: tuple(ids) for path, ids in manifest["dags"].items() if ids}

    def prepare(self) -> None:
        pass


def _measured(report: DriftReport) -> DriftReport:
    for state in (IN_SYNC, DRIFTED, OTHER_RELEASE, UNREACHABLE, REPAIRED):
        metrics.gauge("opskit_dags_drift_hosts_count", len(report.of(state)), state=state)
    return report
