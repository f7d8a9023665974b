"""Deploys DAG files to hosts as one transaction, and takes a deployment back."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.config import Config
from opskit.errors import (
    ConfigError,
    LockHeld,
    MetastoreUnavailable,
    NotFound,
    OpskitError,
    UsageError,
    VerificationFailed,
)
from opskit.ops import dag_checks, dag_sources
from opskit.ops.dag_sources import Payload, Source
from opskit.ops.deployment import Deployment, Progress, Target
from opskit.ops.releases import (
    Policy,
    check_rollback_is_one,
    choose_rollback,
    plan_release,
    refuse_duplicates,
)
from opskit.platforms import Platform
from opskit.system.locks import locked
from opskit.system.ssh import LOCAL
from opskit.system.wake import wake


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
    """How the host checked the files: import (by opskit's loader there) or syntax."""
    sent_files: int = 0
    sent_bytes: int = 0
    failed_in: str = ""
    error: str = ""
    hint: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeployReport:
    action: str
    """deploy or rollback."""
    deployment: str
    dry_run: bool
    source: str
    dag_ids: tuple[str, ...]
    """The DAGs of the files that were given, as loaded here."""
    hosts: tuple[HostReport, ...]
    switch_spread_seconds: float = 0.0
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def failed(self) -> tuple[HostReport, ...]:
        return tuple(host for host in self.hosts if host.error)


class DeployFailed(OpskitError):
    """A deployment that did not happen; `report` tells it per host. The exit code is that of its cause."""

    def __init__(self, cause: OpskitError, report: DeployReport) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.exit_code = cause.exit_code
        self.report = report


def choose_hosts(
    config: Config, hosts: Sequence[str] = (), groups: Sequence[str] = (), everyone: bool = False
) -> list[str]:
    """The hosts that are meant, each once: those named, those of the groups, or without either all of [deploy.groups].
    Where no groups are configured that is this machine, `local`.

    NotFound for a group that is not configured; ConfigError for groups that are no lists of hosts.
    """
    configured: dict[str, Any] = config.get("deploy", "groups")
    for name, members in configured.items():
        if not isinstance(members, list) or not all(isinstance(member, str) and member for member in members):
            raise ConfigError(f"[deploy.groups] {name} must be a list of hosts")
    chosen = list(hosts)
    for group in groups:
        if group not in configured:
            known = ", ".join(sorted(configured)) or "none"
            raise NotFound(f"there is no host group {group!r}", hint=f"[deploy.groups] has: {known}")
        chosen += configured[group]
    if everyone or (not hosts and not groups):
        chosen += [member for members in configured.values() for member in members]
        if not chosen:
            if everyone:
                raise UsageError("no hosts are configured", hint='add [deploy.groups] workers = ["host1", "host2"]')
            chosen = [LOCAL]
    return list(dict.fromkeys(chosen))


def deploy(
    platform: Platform,
    paths: Sequence[Path],
    hosts: Sequence[str],
    *,
    now: datetime,
    into: str = "",
    description: str = "",
    dry_run: bool = False,
    best_effort: bool = False,
    progress: Progress = lambda *_: None,
) -> DeployReport:
    """Deploy FILEs (on top of what each host has) or one FOLDER (instead of it) to all hosts or to none.

    Raises DagInvalid before any host is reached, else DeployFailed with a report per host. With `best_effort` hosts
    that fail are left out, and the report has their errors.
    """
    with tempfile.TemporaryDirectory(prefix="opskit-deploy-") as workspace:
        snapshot, overlay = Path(workspace, "snapshot"), Path(workspace, "tree")
        snapshot.mkdir()
        overlay.mkdir()
        progress("check", 0, 1)
        source = dag_sources.take(
            paths, into=into, dags_folder=platform.config.dags_folder, snapshot=snapshot, description=description
        )
        dag_ids = dag_checks.check_source(platform, source, overlay)
        progress("check", 1, 1)
        work = _Deploy(platform, source, dag_ids, dry_run, Path(workspace))
        return _run(platform, hosts, work, now, best_effort, progress)


def roll_back(
    platform: Platform,
    hosts: Sequence[str],
    *,
    now: datetime,
    to: str | None = None,
    dry_run: bool = False,
    best_effort: bool = False,
    progress: Progress = lambda *_: None,
) -> DeployReport:
    """Switch all hosts back to the release before, or to the one whose hash begins with `to`; all or none.

    Raises DeployFailed with a report per host.
    """
    return _run(platform, hosts, _Rollback(platform, to, dry_run), now, best_effort, progress)


def _run(
    platform: Platform,
    hosts: Sequence[str],
    work: _Deploy | _Rollback,
    now: datetime,
    best_effort: bool,
    progress: Progress,
) -> DeployReport:
    config = platform.config
    if not hosts:
        raise UsageError("no hosts to deploy to")
    if work.dry_run:
        return _run_locked(platform, hosts, work, now, best_effort, progress)
    with locked(config.run_folder, "deploy-dag"):
        return _run_locked(platform, hosts, work, now, best_effort, progress)


def _run_locked(
    platform: Platform,
    hosts: Sequence[str],
    work: _Deploy | _Rollback,
    now: datetime,
    best_effort: bool,
    progress: Progress,
) -> DeployReport:
    config = platform.config
    who = f"{_user()}@{socket.gethostname()} (pid {os.getpid()})"
    deployment = Deployment(
        config,
        hosts,
        deployment=f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
        who=who,
        now=now,
        best_effort=best_effort,
        progress=progress,
    )
    try:
        policy = _policy(config)
        deployment.connect(policy, lock=not work.dry_run)
        work.carry_out(deployment, policy)
    except LockHeld as error:
        raise DeployFailed(error, _report(work, deployment)) from error
    except OpskitError as error:
        if any(target.prepared for target in deployment.targets):
            _audit(platform, deployment, work, now, failed=str(error))
        raise DeployFailed(error, _report(work, deployment)) from error
    finally:
        deployment.close()
    if not work.dry_run and any(target.state == work.done_state for target in deployment.targets):
        _audit(platform, deployment, work, now)
        if any(target.name == LOCAL for target in deployment.alive):
            wake(config.run_folder, "dag_processor")
    return _report(work, deployment)


class _Deploy:
    action = "deploy"
    done_state = "deployed"

    def __init__(
        self,
        platform: Platform,
        source: Source,
        dag_ids: dict[str, tuple[str, ...]],
        dry_run: bool,
        workspace: Path,
    ) -> None:
        self.source = source
        self.workspace = workspace
        self.dag_ids = dag_ids
        self.dry_run = dry_run
        self._timeout = float(platform.config.get("deploy", "timeout"))
        self._payloads: dict[frozenset[str], Payload] = {}
        self._packing = threading.Lock()

    @property
    def description(self) -> str:
        return self.source.description

    def carry_out(self, deployment: Deployment, policy: Policy) -> None:
        deployment.each("plan", deployment.alive, lambda target: self._plan(deployment, target, policy))
        deployment.settle()
        changing = [target for target in deployment.alive if target.state != "unchanged"]
        if self.dry_run:
            for target in changing:
                target.state = "planned"
            return
        deployment.each("stage", changing, self._stage)
        deployment.settle()
        changing = [target for target in changing if target.error is None]
        if changing:
            deployment.commit(changing)
            for target in changing:
                if target.state == "switched":
                    target.state = self.done_state

    def _plan(self, deployment: Deployment, target: Target, policy: Policy) -> None:
        view = target.seen
        plan = plan_release(view, self.source.files, policy, whole_tree=self.source.whole_tree)
        target.plan = plan
        target.release = plan.hash
        target.manifest = {
            "hash": plan.hash,
            "policy": policy.as_dict(),
            "files": plan.files,
            "dags": {},
            "at": deployment.at,
            "by": deployment.who,
            "source": self.description,
            "deployment": deployment.id,
        }
        if plan.is_current:
            differences = target.session.ask("verify", current=True)["differences"]
            if differences:
                target.notes.append(f"the release there was changed by hand and is made anew: {'; '.join(differences)}")
            else:
                target.state = "unchanged"
                target.release = view.current or ""

    def _stage(self, target: Target) -> None:
        """Everything on one host up to the point where it could switch."""
        session, plan = target.session, target.plan
        assert plan is not None
        missing = session.ask("need", files=plan.files)["missing"]
        unknown = set(missing) - {entry[0] for entry in self.source.files.values()}
        if unknown:
            path = next(path for path, entry in sorted(plan.files.items()) if entry[0] in unknown)
            raise VerificationFailed(
                f"{target.name}: {path} is not what its release says, and is not among the files to deploy",
                hint="deploy the whole DAG folder to make it right again",
            )
        payload = self._pack(frozenset(missing)) if missing else None
        target.phase = "stage"
        session.ask(
            "stage",
            manifest=target.manifest,
            size=payload.size if payload else 0,
            payload=payload.chunks if payload else None,
        )
        target.sent_files, target.sent_bytes = len(missing), payload.size if payload else 0
        target.phase = "verify"
        differences = session.ask("verify", manifest=target.manifest)["differences"]
        if differences:
            raise VerificationFailed(f"{target.name}: the staged files are not what was sent: {'; '.join(differences)}")
        target.phase = "parse"
        self._parse(target)

    def _parse(self, target: Target) -> None:
        plan = target.plan
        assert plan is not None
        concerned = set(self.source.files) | set(plan.added) | set(plan.changed)
        load, _ = dag_checks.to_load(plan.files, concerned, self.dag_ids)
        read = [path for path in plan.files if path.endswith(".py")]
        read = [path for path in read if path in concerned or path not in plan.kept_dag_ids]
        limit = self._timeout * 0.9
        answer = target.session.ask(
            "parse", manifest=target.manifest, load=load, read=read, known=self.dag_ids, timeout=limit
        )
        target.check = answer["check"]
        errors: dict[str, str] = answer["errors"]
        others = [path for path in errors if path not in concerned]
        if others:
            # A file of somebody else that was broken before is no reason to stop this deployment.
            before = target.session.ask("parse", current=True, load=others, read=others, timeout=limit)["errors"]
            for path in others:
                if path in before:
                    target.notes.append(f"{path} can't be used, as before: {dag_checks.gist(errors.pop(path))}")
        if errors:
            raise dag_checks.invalid(target.name, errors)
        known = {path: list(ids) for path, ids in plan.kept_dag_ids.items()}
        dag_ids: dict[str, list[str]] = {**known, **answer["dags"]}
        refuse_duplicates(dag_ids, concerned, target.name)
        target.manifest["dags"] = dag_ids

    def _pack(self, digests: frozenset[str]) -> Payload:
        # Most hosts lack the same files: they share one archive.
        with self._packing:
            if digests not in self._payloads:
                path = self.workspace / f"payload{len(self._payloads)}.tar.gz"
                self._payloads[digests] = dag_sources.pack(self.source, digests, path)
            return self._payloads[digests]


class _Rollback:
    action = "rollback"
    done_state = "rolled back"
    dag_ids: dict[str, tuple[str, ...]] = {}

    def __init__(self, platform: Platform, to: str | None, dry_run: bool) -> None:
        self.to = to
        self.dry_run = dry_run

    @property
    def description(self) -> str:
        return self.to or "the release before"

    def carry_out(self, deployment: Deployment, policy: Policy) -> None:
        check_rollback_is_one({target.name: target.seen for target in deployment.alive}, self.to)
        deployment.each("plan", deployment.alive, lambda target: self._choose(target, policy))
        deployment.settle()
        changing = [target for target in deployment.alive if target.state != "unchanged"]
        if self.dry_run:
            for target in changing:
                target.state = "planned"
            return
        deployment.each("verify", changing, self._verify)
        deployment.settle()
        changing = [target for target in changing if target.error is None]
        if changing:
            deployment.commit(changing, rollback=True)
            for target in changing:
                if target.state == "switched":
                    target.state = self.done_state

    def _choose(self, target: Target, policy: Policy) -> None:
        release = choose_rollback(target.seen, self.to)
        target.release = release["name"]
        target.manifest = {"hash": release["hash"], "policy": policy.as_dict()}
        if release["name"] == target.seen.current:
            target.state = "unchanged"

    def _verify(self, target: Target) -> None:
        target.session.ask("choose", name=target.release)
        differences = target.session.ask("verify")["differences"]
        if differences:
            raise VerificationFailed(
                f"{target.name}: the release {target.release} was changed by hand: {'; '.join(differences)}",
                hint="choose another one (--to), or deploy the files again",
            )


def _report(work: _Deploy | _Rollback, deployment: Deployment) -> DeployReport:
    return DeployReport(
        action=work.action,
        deployment=deployment.id,
        dry_run=work.dry_run,
        source=work.description,
        dag_ids=tuple(sorted({dag_id for ids in work.dag_ids.values() for dag_id in ids})),
        hosts=tuple(_host_report(target) for target in deployment.targets),
        switch_spread_seconds=deployment.spread_seconds,
        notes=tuple(deployment.notes),
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


def _audit(
    platform: Platform, deployment: Deployment, work: _Deploy | _Rollback, now: datetime, failed: str = ""
) -> None:
    extra = {
        "deployment": deployment.id,
        "action": work.action,
        "source": work.description,
        "hosts": {target.name: f"{target.state} {target.release}".strip() for target in deployment.targets},
        **({"failed": failed} if failed else {}),
    }
    try:
        platform.audit.write("deploy-dag", now, extra)
    except MetastoreUnavailable as error:
        # A machine that only deploys has no metastore; each node keeps who deployed what in its manifests.
        deployment.notes.append(f"no audit line was written: {error}")


def _policy(config: Config) -> Policy:
    modes = {}
    for key in ("file_mode", "dir_mode"):
        text = str(config.get("deploy", key))
        if not text or set(text) - set("01234567") or int(text, 8) > 0o7777:
            raise ConfigError(f"deploy.{key} is {text!r}, which is no octal mode", hint='for example "0640"')
        modes[key] = text
    if not int(modes["file_mode"], 8) & 0o400 or int(modes["dir_mode"], 8) & 0o500 != 0o500:
        raise ConfigError("deploy.file_mode and dir_mode would keep the owner from reading the DAG files")
    return Policy(owner=str(config.get("deploy", "owner")), group=str(config.get("deploy", "group")), **modes)


def _user() -> str:
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
