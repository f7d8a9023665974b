"""What a deployment, a rollback or a repair did, per host; its audit line, its history line and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from opskit.errors import MetastoreUnavailable, OpskitError
from opskit.ops.dag_advice import Advice, DagChange
from opskit.ops.deploy_records import Records
from opskit.ops.deployment import Deployment, Target
from opskit.ops.releases import Policy
from opskit.platforms import Platform
from opskit.telemetry import metrics


@dataclass(frozen=True, slots=True)
class HostReport:
    host: str
    state: str
    """deployed, rolled back, unchanged, planned, not switched, switched back, or unknown (the connection was lost)."""
    release: str
    previous: str
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    check: str = ""
    """How the files were checked in the host's environment: import (by opskit's loader) or syntax."""
    sent_files: int = 0
    sent_bytes: int = 0
    failed_in: str = ""
    error: str = ""
    hint: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeployReport:
    action: str
    """deploy, rollback or repair."""
    deployment: str
    dry_run: bool
    source: str
    dag_ids: tuple[str, ...]
    """The DAGs of the files that were given, as loaded here."""
    hosts: tuple[HostReport, ...]
    switch_spread_seconds: float = 0.0
    """Between the first and the last host, as their clocks say; never more than what was seen from here."""
    notes: tuple[str, ...] = field(default_factory=tuple)
    dags: tuple[DagChange, ...] = ()
    """DAGs whose tasks differ from what the metastore has, of the files that were loaded for this."""
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[HostReport, ...]:
        return tuple(host for host in self.hosts if host.error)


class DeployFailed(OpskitError):
    """A deployment that did not happen; `report` tells it per host. The exit code is that of its cause."""

    def __init__(self, cause: OpskitError, report: DeployReport) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.exit_code = cause.exit_code
        self.report = report


class Work(Protocol):
    """What is to be done with the hosts of a deployment."""

    action: str
    done_state: str
    dag_ids: Mapping[str, Sequence[str]]
    advice: Advice
    dry_run: bool

    @property
    def description(self) -> str: ...

    def prepare(self) -> None:
        """What can be done here while the hosts are being reached. Raises what is wrong with the files."""
        ...

    def carry_out(self, deployment: Deployment, policy: Policy) -> None: ...

    def remember(self, deployment: Deployment, records: Records, *, failed: bool) -> None:
        """Record what each host should have from now on; when it failed as a whole, only for those that have it."""
        ...


def report(work: Work, deployment: Deployment) -> DeployReport:
    return DeployReport(
        action=work.action,
        deployment=deployment.id,
        dry_run=work.dry_run,
        source=work.description,
        dag_ids=tuple(sorted({dag_id for ids in work.dag_ids.values() for dag_id in ids})),
        hosts=tuple(_host_report(target) for target in deployment.targets),
        switch_spread_seconds=round(deployment.spread_seconds, 6),
        notes=(*work.advice.notes, *deployment.notes),
        dags=work.advice.changes,
        warnings=work.advice.warnings,
    )


def _host_report(target: Target) -> HostReport:
    plan, error = target.plan, target.error
    return HostReport(
        host=target.name,
        state=target.state,
        release=target.release,
        previous=(target.view.current or "") if target.view else "",
        added=plan.added if plan else (),
        changed=plan.changed if plan else (),
        removed=plan.removed if plan else (),
        check=target.check,
        sent_files=target.sent_files,
        sent_bytes=target.sent_bytes,
        failed_in=target.phase if error else "",
        error=str(error) if error else "",
        hint=(error.hint or "") if error else "",
        notes=tuple(target.notes),
    )


def write_down(
    platform: Platform, records: Records, deployment: Deployment, work: Work, now: datetime, failed: str = ""
) -> None:
    """One line in the metastore's audit log and one in the history of this home; the numbers for the metrics."""
    extra = {
        "deployment": deployment.id,
        "action": work.action,
        "by": deployment.who,
        "source": work.description,
        "hosts": {target.name: f"{target.state} {target.release}".strip() for target in deployment.targets},
        **({"failed": failed} if failed else {}),
    }
    records.append_history({"at": deployment.at, **extra})
    try:
        platform.audit.write("deploy-dag", now, extra)
    except MetastoreUnavailable as error:
        # A machine that only deploys has no metastore; it keeps its own history, and each node its manifests.
        deployment.notes.append(f"no audit line was written: {error}")
    states = [target.state for target in deployment.targets]
    for state in sorted(set(states)):
        metrics.gauge("opskit_deploy_dag_hosts_count", states.count(state), state=state)
    metrics.gauge("opskit_deploy_dag_sent_bytes", sum(target.sent_bytes for target in deployment.targets))
    metrics.gauge("opskit_deploy_dag_switch_spread_seconds", deployment.spread_seconds)
