"""Compares owners, groups, modes and access lists with a policy on one or many hosts, and writes what differs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from opskit.config import Config
from opskit.errors import (
    ConfigError,
    GuardRefused,
    LockHeld,
    MetastoreUnavailable,
    OpskitError,
    RemoteError,
    UsageError,
)
from opskit.ops import permissions_node, permissions_policy, permissions_tree
from opskit.ops.permissions_remote import ask
from opskit.ops.permissions_rules import Refused, user_name
from opskit.ops.progress import OnProgress, Progress, silent
from opskit.platforms.base import Platform
from opskit.system.locks import locked
from opskit.system.ssh import LOCAL
from opskit.telemetry import metrics

SHOWN = 1000
"""Differences, refusals and obstacles that a report names per host; all are counted."""
_AT_ONCE = 16
_KINDS: dict[str, type[OpskitError]] = {
    "config": ConfigError,
    "usage": UsageError,
    "guard": GuardRefused,
    "lock": LockHeld,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """An entry that is not as the policy says, since when (Unix time of its last change), and what it should be."""

    path: str
    text: str
    """For people: `mode 0644, should be 0640; owner root, should be airflow`."""
    since: float
    old: dict[str, Any]
    new: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Left:
    """An entry that was not touched or could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class HostReport:
    """What was found on one host. `denied`: differences that this user has not the right to remove."""

    host: str
    entries: int = 0
    differing: int = 0
    changed: int = 0
    refused: int = 0
    denied: int = 0
    obstacle_count: int = 0
    differences: tuple[Difference, ...] = ()
    refusals: tuple[Left, ...] = ()
    denials: tuple[Left, ...] = ()
    obstacles: tuple[Left, ...] = ()
    undo: str = ""
    """The undo file, on that host."""
    stopped: bool = False
    """--max-changes was reached."""
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PermissionsReport:
    """The sum of all hosts, and each host."""

    entries: int
    differing: int
    changed: int
    refused: int
    denied: int
    obstacle_count: int
    hosts: tuple[HostReport, ...]
    audited: bool = True
    """False: the metastore could not be reached to write down the change."""
    privileged_command: str = ""
    """What has the rights that this user has not; empty when none are missing."""

    @property
    def failed(self) -> tuple[HostReport, ...]:
        return tuple(host for host in self.hosts if host.error)

    @property
    def stopped(self) -> bool:
        return any(host.stopped for host in self.hosts)


class PermissionsFailed(OpskitError):
    """Hosts could not be looked at; `report` tells it per host. The exit code is that of the first cause."""

    def __init__(self, cause: OpskitError, report: PermissionsReport) -> None:
        super().__init__(cause.message, hint=cause.hint)
        self.exit_code = cause.exit_code
        self.report = report


def check(
    platform: Platform, hosts: Sequence[str] = (LOCAL,), *, on_progress: OnProgress = silent
) -> PermissionsReport:
    """Compare only. ConfigError for a policy that makes no sense, GuardRefused for a protected path; PermissionsFailed
    when a host can't be reached."""
    request = _request(platform.config, "run")
    return _finish(platform.config, "check", _each(platform.config, hosts, request, on_progress))


def fix(
    platform: Platform,
    hosts: Sequence[str] = (LOCAL,),
    *,
    now: datetime,
    dry_run: bool = False,
    max_changes: int = 0,
    on_progress: OnProgress = silent,
) -> PermissionsReport:
    """Write what differs, and nothing else: a tree that is as it should be sees no write.

    Each host keeps an undo file of what it changed. With `max_changes` each stops after so many. Raises as `check`.
    """
    config = platform.config
    request = _request(config, "run", now, write=not dry_run, max_changes=max_changes)
    with locked(config.run_folder, "permissions"):
        return _finish(config, "fix", _each(config, hosts, request, on_progress), platform, now)


def undo(
    platform: Platform,
    hosts: Sequence[str] = (LOCAL,),
    *,
    now: datetime,
    name: str = "",
    dry_run: bool = False,
    on_progress: OnProgress = silent,
) -> PermissionsReport:
    """Give back what is still as a repair left it: the repair of this undo file, else the newest one of this user."""
    config = platform.config
    request = _request(config, "undo", now, undo=name, dry_run=dry_run)
    with locked(config.run_folder, "permissions"):
        return _finish(config, "undo", _each(config, hosts, request, on_progress), platform, now)


def _request(config: Config, op: str, now: datetime | None = None, **more: Any) -> dict[str, Any]:
    return {
        "op": op,
        "home": str(config.home),
        "rules": permissions_policy.parse(config.get("permissions", "policy")),
        "write": False,
        "at": f"{now:%Y%m%dT%H%M%SZ}" if now else "",
        "who": f"{user_name(os.geteuid())} (pid {os.getpid()})",
        "shown": SHOWN,
        "max_changes": 0,
        "per_second": config.get("permissions", "changes_per_second"),
        "owner": None,
        "undo": "",
        "dry_run": False,
        **more,
    }


def _whose_policy(config: Config) -> int | None:
    """For root, and whoever has his right to give files away: the user who can write the policy. He must own what it
    names outside of his own OPSKIT_HOME, else he could have himself given anything."""
    if not permissions_tree.capabilities() & 1 or config.origins["permissions.policy"] != str(config.path):
        return None
    status = config.path.stat()
    if status.st_uid == 0 and status.st_mode & 0o022:
        raise GuardRefused(
            f"{config.path} is root's, and others can write to it: root follows no policy that anybody can change",
            hint=f"chmod go-w {config.path}",
        )
    return status.st_uid or None


def _each(
    config: Config, hosts: Sequence[str], request: Mapping[str, Any], on_progress: OnProgress
) -> list[tuple[HostReport, OpskitError | None]]:
    done = 0

    def one(host: str) -> tuple[HostReport, OpskitError | None]:
        nonlocal done
        try:
            found = _local(config, request, on_progress) if host == LOCAL else ask(config, host, request)
            return _host_report(host, found), None
        except Refused as refused:
            prefix = "" if host == LOCAL else f"{host}: "
            error = _KINDS[refused.kind](prefix + refused.message, hint=refused.hint or None)
        except OpskitError as trouble:
            error = trouble
        finally:
            done += 1
            if len(hosts) > 1:
                on_progress(Progress("hosts", done, len(hosts)))
        return HostReport(host, error=error.message, hint=error.hint or ""), error

    if len(hosts) == 1:
        return [one(hosts[0])]
    with ThreadPoolExecutor(min(_AT_ONCE, len(hosts))) as pool:
        return list(pool.map(one, hosts))


def _local(config: Config, request: Mapping[str, Any], on_progress: OnProgress) -> dict[str, Any]:
    return permissions_node.answer(
        {**request, "owner": _whose_policy(config)},
        lambda entries: on_progress(Progress("compare", entries, 0, "entries")),
    )


def _host_report(host: str, found: Mapping[str, Any]) -> HostReport:
    values = {item.name: found[item.name] for item in fields(HostReport) if item.name in found}
    values["differences"] = tuple(Difference(**row) for row in found["differences"])
    for name in ("refusals", "denials", "obstacles"):
        values[name] = tuple(Left(**row) for row in found[name])
    return HostReport(host, **values)


def _finish(
    config: Config,
    verb: str,
    found: Sequence[tuple[HostReport, OpskitError | None]],
    platform: Platform | None = None,
    now: datetime | None = None,
) -> PermissionsReport:
    hosts = tuple(report for report, _ in found)
    names = ("entries", "differing", "changed", "refused", "denied", "obstacle_count")
    sums = {name: sum(getattr(host, name) for host in hosts) for name in names}
    audited = True
    if platform is not None and now is not None and sums["changed"]:
        extra = {name: sums[name] for name in ("changed", "refused")}
        undo_files = {host.host: host.undo for host in hosts if host.changed}
        try:
            platform.audit.write(f"permissions {verb}", now, {**extra, "undo": undo_files})
        except MetastoreUnavailable:
            # A metastore with wrong permissions is one of the things that are repaired here.
            audited = False
    for host in hosts:
        if not host.error:
            left = host.differing - host.changed
            metrics.gauge("opskit_permissions_differing_entries", left, host=host.host)
            metrics.gauge("opskit_permissions_changed_entries", host.changed, host=host.host)
            metrics.gauge("opskit_permissions_entries", host.entries, host=host.host)
    command = _privileged_command(config, verb) if any(host.denied for host in hosts if host.host == LOCAL) else ""
    report = PermissionsReport(**sums, hosts=hosts, audited=audited, privileged_command=command)
    errors = [error for _, error in found if error is not None]
    if errors and len(errors) == len(found):
        raise errors[0] if len(found) == 1 else PermissionsFailed(RemoteError("no host answered"), report)
    return report


def _privileged_command(config: Config, verb: str) -> str:
    """What to call instead: the unit where it is installed (it writes below OPSKIT_HOME only), else root with no more
    rights than are needed."""
    from opskit.system import systemd

    if verb == "fix" and systemd.unit_state("opskit-permissions.service").load == "loaded":
        return "systemctl start opskit-permissions.service"
    beside = os.path.join(os.path.dirname(sys.executable), "opskit")
    program = [beside] if os.access(beside, os.X_OK) else [sys.executable, "-m", "opskit"]
    home = f"OPSKIT_HOME={shlex.quote(str(config.home))}"
    rights = "-all,+chown,+fowner,+fsetid,+dac_read_search,+dac_override"
    return f"sudo {home} setpriv --bounding-set {rights} {shlex.join(program)} permissions {verb}"
