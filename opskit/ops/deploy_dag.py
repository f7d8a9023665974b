"""Deploys DAG files to hosts as one transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.errors import DagInvalid, VerificationFailed
from opskit.ops import dag_checks, dag_sources, health_gate
from opskit.ops.dag_advice import Advice, advise
from opskit.ops.dag_sources import Payload, Source
from opskit.ops.deploy_records import Records
from opskit.ops.deploy_report import DeployReport
from opskit.ops.deploy_run import configured_groups, run
from opskit.ops.deployment import Deployment, Progress, Target
from opskit.ops.node_check import environment
from opskit.ops.node_tree import manifest_hash
from opskit.ops.releases import Policy, expected_files, plan_release, refuse_duplicates, rolling_groups
from opskit.platforms import Platform

_LITTLE_BYTES = 256 * 1024


def deploy(
    platform: Platform,
    paths: Sequence[Path],
    hosts: Sequence[str],
    *,
    now: datetime,
    into: str = "",
    description: str = "",
    dry_run: bool = False,
    quorum: str = "",
    rolling: str = "",
    gate: str | None = None,
    strict: bool | None = None,
    progress: Progress = lambda *_: None,
) -> DeployReport:
    """Deploy FILEs (on top of what each host has) or one FOLDER (instead of it) to all hosts or to none.

    `quorum`: so many hosts are enough (`all`, `any`, a number, a percentage); the report has the errors of the others.
    `rolling`: they switch in groups (`groups`, a number, a percentage), and the health gate is asked after each.
    `gate`: `scheduler`, or a command; empty: none. `strict`: a warning is an error. What is not given comes from
    [deploy].

    Raises DagInvalid before anything is staged, else DeployFailed with a report per host.
    """

    def take() -> Source:
        return dag_sources.take(paths, into=into, dags_folder=platform.config.dags_folder, description=description)

    get = platform.config.get
    gate = str(get("deploy", "gate")) if gate is None else gate
    strict = bool(get("deploy", "strict")) if strict is None else strict
    gate_seconds = float(get("deploy", "gate_timeout"))
    work = DeployWork(platform, take, dry_run=dry_run, rolling=rolling, gate=gate, strict=strict, progress=progress)
    patience = gate_seconds * len(hosts) if rolling else gate_seconds
    return run(platform, hosts, work, now=now, quorum=quorum, patience=patience, progress=progress)


class DeployWork:
    """A deployment of one source to hosts."""

    done_state = "deployed"

    def __init__(
        self,
        platform: Platform,
        take: Callable[[], Source],
        *,
        dry_run: bool,
        rolling: str = "",
        gate: str = "",
        strict: bool = False,
        action: str = "deploy",
        progress: Progress = lambda *_: None,
    ) -> None:
        self.action = action
        self.dry_run = dry_run
        self.dag_ids: Mapping[str, Sequence[str]] = {}
        self.advice = Advice()
        self.source = Source({}, True, "", {})
        self._strict = strict
        self._platform = platform
        self._take = take
        self._rolling = rolling
        self._gate = gate
        self._progress = progress
        self._timeout = float(platform.config.get("deploy", "timeout"))
        self._every = platform.config.get("deploy", "parse") == "every"
        self._payloads: dict[frozenset[str], Payload] = {}
        self._packing = threading.Lock()

    @property
    def description(self) -> str:
        return self.source.description

    def prepare(self) -> None:
        self._progress("check", 0, 1)
        self.source = self._take()
        # Known files are not looked at again: nobody would be warned of them.
        records = None if self.dry_run or self._strict else Records(self._platform.config)
        checked = dag_checks.check_source(self._platform, self.source, records)
        self.dag_ids = checked.dag_ids
        self.advice = advise(self._platform, checked.loaded)
        if self._strict and self.advice.warnings:
            raise dag_checks.doubtful(self.advice.warnings)
        self._progress("check", 1, 1)

    def carry_out(self, deployment: Deployment, policy: Policy) -> None:
        deployment.each("plan", deployment.alive, lambda target: self._plan(deployment, target, policy))
        deployment.settle()
        changing = [target for target in deployment.alive if target.state != "unchanged"]
        names = [target.name for target in changing]
        groups = rolling_groups(names, self._rolling, list(configured_groups(deployment.config).values()))
        if self.dry_run:
            for target in changing:
                target.state = "planned"
            return
        deployment.each("stage", changing, self._stage)
        deployment.settle()
        changing = [target for target in changing if target.error is None]
        self._check_on_hosts(deployment, changing)
        deployment.settle()
        by_name = {target.name: target for target in changing if target.error is None}
        gate = health_gate.make(self._platform, self._gate, self.source.files, self.dag_ids)
        for group in groups:
            members = [by_name[name] for name in group if name in by_name]
            if not members:
                continue
            if len(groups) > 1:
                self._progress(f"switch {', '.join(target.name for target in members)}", 0, 1)
            deployment.commit(members, gate=gate)
            for target in members:
                if target.state == "switched":
                    target.state = self.done_state

    def remember(self, deployment: Deployment, records: Records, *, failed: bool) -> None:
        recorded = records.released()
        hosts: dict[str, dict[str, Any]] = {}
        for target in deployment.targets:
            if target.state == self.done_state:
                hosts[target.name] = target.manifest
            elif target.state == "unchanged":
                hosts[target.name] = {**target.manifest, "dags": dict(target.seen.dag_ids)}
        by_hash = {manifest["hash"]: manifest for manifest in hosts.values()}
        for target in deployment.targets:
            if failed or not hosts or target.error is None or target.state == self.done_state:
                continue
            entry = recorded.get(target.name)
            before = records.manifest(entry.release) if entry else None
            files = expected_files(before and before["files"], self.source.files, whole_tree=self.source.whole_tree)
            if files is None:
                target.notes.append("nobody knows what it should have: deploy to it again when it is back")
                continue
            some = next(iter(by_hash.values()))
            digest = manifest_hash(files, some["policy"])
            hosts[target.name] = by_hash.get(digest) or {**some, "hash": digest, "files": files, "dags": {}}
            target.notes.append("it gets this release by `opskit dags-drift --repair`")
        records.remember(hosts, self.source, deployment.id)

    # -- per host

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
            differences: dict[str, list[str]] = {}
            if not view.sealed:
                differences = target.session.ask("inspect", files=plan.files, deep=True)["differences"]
            if not differences:
                target.state = "unchanged"
                target.release = view.current or ""
            else:
                text = shown_differences(differences)
                target.notes.append(f"the release there was changed by hand and is made anew: {text}")

    def _stage(self, target: Target) -> None:
        """The release lies on the host, each byte of it hashed there."""
        session, view, plan = target.session, target.seen, target.plan
        assert plan is not None
        missing = {entry[0] for entry in plan.files.values()}
        reuse: dict[str, str] = {}
        if view.sealed:
            reuse = {entry[0]: path for path, entry in view.files.items() if entry[0] in missing}
            missing -= set(reuse)
        unread = view.kind != "absent" and not view.sealed
        elsewhere = view.partial or any(name != view.current for name in view.releases)
        sizes = {entry[0]: entry[1] for entry in self.source.files.values()}
        # Little is sent sooner than it is looked for in earlier releases.
        little = missing <= set(sizes) and sum(sizes[digest] for digest in missing) < _LITTLE_BYTES
        if missing and (unread or (elsewhere and not little)):
            answer = session.ask("need", wanted=sorted(missing), current=not view.sealed)
            missing = set(answer["missing"])
        unknown = missing - {entry[0] for entry in self.source.files.values()}
        if unknown:
            path = next(path for path, entry in sorted(plan.files.items()) if entry[0] in unknown)
            raise VerificationFailed(
                f"{target.name}: {path} is not what its release says, and is not among the files to deploy",
                hint="deploy the whole DAG folder, or `opskit dags-drift --repair` first",
            )
        payload = self._pack(frozenset(missing))
        session.ask(
            "stage",
            hash=plan.hash,
            files=plan.files,
            sending=payload.order,
            reuse=reuse,
            size=payload.size,
            payload=payload.chunks,
        )
        target.sent_files, target.sent_bytes = len(missing), payload.size

    def _pack(self, digests: frozenset[str]) -> Payload:
        # Most hosts lack the same files: they share one archive.
        with self._packing:
            if digests not in self._payloads:
                self._payloads[digests] = dag_sources.pack(self.source, digests)
            return self._payloads[digests]

    # -- loading on the hosts

    def _check_on_hosts(self, deployment: Deployment, targets: Sequence[Target]) -> None:
        """Load the files once in each environment: on one host of those with the same interpreter and distributions
        that get the same release. This machine's own verdict holds for hosts with its environment."""
        here = environment() if self.source.whole_tree and not self._every else ""
        groups: dict[tuple[str, ...], list[Target]] = {}
        for target in targets:
            if target.seen.environment == here:
                target.check = "import"
                python_files = (path for path in self.source.files if path.endswith(".py"))
                target.manifest["dags"] = {path: list(self.dag_ids.get(path, ())) for path in python_files}
                continue
            key = (target.seen.environment, target.release, target.name if self._every else "")
            groups.setdefault(key, []).append(target)
        while groups:
            deployment.each("parse", [members[0] for members in groups.values()], self._parse)
            groups = {key: rest for key, members in groups.items() if (rest := _share_verdict(members))}

    def _parse(self, target: Target) -> None:
        plan = target.plan
        assert plan is not None
        concerned = set(self.source.files) | set(plan.added) | set(plan.changed)
        load, _ = dag_checks.to_load(plan.files, concerned, self.dag_ids)
        read = [path for path in plan.files if path.endswith(".py")]
        read = [path for path in read if path in concerned or path not in plan.kept_dag_ids]
        limit = self._timeout * 0.9
        answer = target.session.ask(
            "parse", files=plan.files, load=load, read=read, known=dict(self.dag_ids), timeout=limit
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


def _share_verdict(members: Sequence[Target]) -> list[Target]:
    """Give the verdict of the first host to the others; those that still need one, when it was lost instead."""
    first, others = members[0], list(members[1:])
    if first.error is not None and not isinstance(first.error, DagInvalid):
        return others
    for target in others:
        target.phase = "parse"
        target.check = first.check
        target.manifest["dags"] = first.manifest["dags"]
        if first.error is not None:
            target.error = DagInvalid(str(first.error), hint=first.error.hint)
    return []


def shown_differences(differences: Mapping[str, Sequence[str]]) -> str:
    """`edited: a.py, b.py; missing: c.py`, the first few of each."""
    parts = []
    for kind, paths in differences.items():
        more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
        parts.append(f"{kind}: {', '.join(paths[:5])}{more}")
    return "; ".join(parts)
