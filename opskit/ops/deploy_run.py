"""Carries out a deployment, a rollback or a repair: lock, hosts, report, records. What is done is the `Work`'s."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from opskit.config import Config
from opskit.errors import ConfigError, LockHeld, NotFound, OpskitError, UsageError
from opskit.ops.deploy_records import Records
from opskit.ops.deploy_report import DeployFailed, DeployReport, Work, report, write_down
from opskit.ops.deployment import Deployment, Progress
from opskit.ops.releases import Policy
from opskit.platforms import Platform
from opskit.system.locks import locked
from opskit.system.ssh import LOCAL
from opskit.system.wake import wake


def choose_hosts(
    config: Config, hosts: Sequence[str] = (), groups: Sequence[str] = (), everyone: bool = False
) -> list[str]:
    """The hosts that are meant, each once: those named, those of the groups, or without either all of [deploy.groups].
    Where no groups are configured that is this machine, `local`.

    NotFound for a group that is not configured; ConfigError for groups that are no lists of hosts.
    """
    configured = configured_groups(config)
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


def configured_groups(config: Config) -> dict[str, list[str]]:
    configured: dict[str, Any] = config.get("deploy", "groups")
    for name, members in configured.items():
        if not isinstance(members, list) or not all(isinstance(member, str) and member for member in members):
            raise ConfigError(f"[deploy.groups] {name} must be a list of hosts")
    return configured


def run(
    platform: Platform,
    hosts: Sequence[str],
    work: Work,
    *,
    now: datetime,
    quorum: str = "",
    patience: float = 0.0,
    progress: Progress = lambda *_: None,
    is_locked: bool = False,
) -> DeployReport:
    """Do the work on the hosts under the lock of this home (unless the caller holds it). DeployFailed with a report per
    host; what is wrong with the files themselves is raised as it is, before anything is staged anywhere."""
    config = platform.config
    if not hosts:
        raise UsageError("no hosts to deploy to")
    policy = read_policy(config)
    deployment = Deployment(
        config,
        hosts,
        deployment=f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
        who=f"{_user()}@{socket.gethostname()} (pid {os.getpid()})",
        now=now,
        quorum=quorum or str(config.get("deploy", "quorum")),
        patience=patience,
        progress=progress,
    )
    records = Records(config)
    unlocked = work.dry_run or is_locked
    try:
        with nullcontext() if unlocked else locked(config.run_folder, "deploy-dag"):
            _run_locked(platform, deployment, work, policy, records, now)
    finally:
        deployment.close()
    return report(work, deployment)


def _run_locked(
    platform: Platform, deployment: Deployment, work: Work, policy: Policy, records: Records, now: datetime
) -> None:
    deployment.begin_to_connect(policy, lock=not work.dry_run)
    work.prepare()
    try:
        deployment.connect(policy)
        work.carry_out(deployment, policy)
    except LockHeld as error:
        raise DeployFailed(error, report(work, deployment)) from error
    except OpskitError as error:
        if any(target.prepared for target in deployment.targets):
            # With --rolling, groups that switched before the one that failed stay where they are.
            work.remember(deployment, records, failed=True)
            write_down(platform, records, deployment, work, now, failed=str(error))
        raise DeployFailed(error, report(work, deployment)) from error
    if work.dry_run:
        return
    work.remember(deployment, records, failed=False)
    if any(target.state == work.done_state or target.error is not None for target in deployment.targets):
        write_down(platform, records, deployment, work, now)
    if any(target.name == LOCAL and target.state == work.done_state for target in deployment.targets):
        wake(platform.config.run_folder, "dag_processor")


def read_policy(config: Config) -> Policy:
    """[deploy] owner, group and modes. ConfigError for modes that are none, or that would lock the owner out."""
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
