"""Switches hosts back to an earlier release as one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from opskit.errors import VerificationFailed
from opskit.ops.dag_advice import Advice
from opskit.ops.deploy_dag import shown_differences
from opskit.ops.deploy_records import Records
from opskit.ops.deploy_report import DeployReport
from opskit.ops.deploy_run import run
from opskit.ops.deployment import Deployment, Progress, Target
from opskit.ops.releases import Policy, check_rollback_is_one, choose_rollback, release_hash
from opskit.platforms import Platform


def roll_back(
    platform: Platform,
    hosts: Sequence[str],
    *,
    now: datetime,
    to: str | None = None,
    dry_run: bool = False,
    quorum: str = "",
    progress: Progress = lambda *_: None,
) -> DeployReport:
    """Switch all hosts back to the release before, or to the one whose hash begins with `to`; all or none.

    `quorum` as in `deploy`. Raises DeployFailed with a report per host.
    """
    return run(platform, hosts, _Rollback(to, dry_run), now=now, quorum=quorum, progress=progress)


class _Rollback:
    action = "rollback"
    done_state = "rolled back"

    def __init__(self, to: str | None, dry_run: bool) -> None:
        self.to = to
        self.dry_run = dry_run
        self.dag_ids: Mapping[str, Sequence[str]] = {}
        self.advice = Advice()

    @property
    def description(self) -> str:
        return self.to or "the release before"

    def prepare(self) -> None:
        pass

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

    def remember(self, deployment: Deployment, records: Records, *, failed: bool) -> None:
        hosts: dict[str, dict[str, Any]] = {}
        done = [target for target in deployment.targets if target.state in (self.done_state, "unchanged")]
        for target in done:
            manifest = records.manifest(release_hash(target.release))
            if manifest is None and target.state == self.done_state:
                manifest = target.session.ask("describe", name=target.release)["manifest"]
            if manifest is not None:
                hosts[target.name] = manifest
        same = {manifest["hash"]: manifest for manifest in hosts.values()}
        for target in deployment.targets:
            if not failed and target.error is not None and len(same) == 1 and target not in done:
                hosts[target.name] = next(iter(same.values()))
                target.notes.append("it gets this release by `opskit dags-drift --repair`")
        records.remember(hosts, None, deployment.id)

    def _choose(self, target: Target, policy: Policy) -> None:
        target.release = choose_rollback(target.seen, self.to)
        target.manifest = {"hash": release_hash(target.release), "policy": policy.as_dict()}
        if target.release == target.seen.current:
            target.state = "unchanged"

    def _verify(self, target: Target) -> None:
        differences = target.session.ask("choose", name=target.release)["differences"]
        if differences:
            text = shown_differences(differences)
            raise VerificationFailed(
                f"{target.name}: the release {target.release} was changed by hand: {text}",
                hint="choose another one (--to), or deploy the files again",
            )
