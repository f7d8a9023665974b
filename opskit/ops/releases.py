"""Decisions of a deployment, pure: what a release changes, where a rollback leads, how an interrupted one ends."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from opskit.errors import DagInvalid, GuardRefused, NotFound, UsageError, VerificationFailed
from opskit.ops.node_tree import Files, manifest_hash

FORWARD = "forward"
"""Every host was ready and the switch was ordered: finish it."""
BACK = "back"
"""The switch failed somewhere, or was never ordered: undo it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Owner, group and modes of what is deployed. An empty owner or group is left to the login user."""

    owner: str
    group: str
    file_mode: str
    dir_mode: str

    def as_dict(self) -> dict[str, str]:
        return {"owner": self.owner, "group": self.group, "file_mode": self.file_mode, "dir_mode": self.dir_mode}


@dataclass(frozen=True, slots=True)
class Journal:
    """A deployment that a node was prepared for and that was never finished there."""

    deployment: str
    who: str
    at: str
    hosts: tuple[str, ...]
    switched: bool


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node tells about its DAG folder."""

    user: str
    dags: str
    kind: str
    """absent, folder (a plain one, never deployed to), or link (to a release)."""
    current: str | None
    """Name of the current release."""
    current_hash: str | None
    current_deployment: str | None
    """Id of the deployment that made it."""
    files: Files
    dag_ids: Mapping[str, Sequence[str]]
    problems: Mapping[str, str]
    """Entries of a plain folder that no release can hold."""
    releases: tuple[str, ...]
    """Their names, oldest first."""
    journal: Journal | None
    environment: str = ""
    """Hosts with the same one load DAG files alike: interpreter and installed distributions."""
    sealed: bool = False
    """Nobody has touched the current release since it was verified."""
    partial: bool = False
    """Contents of a broken transfer lie there."""


def read_view(answer: Mapping[str, Any]) -> NodeView:
    """The answer of a node's `hello` or `look`. VerificationFailed for a manifest that is no JSON."""
    manifest: dict[str, Any] = {"files": answer["files"] or {}, "hash": None, "dags": {}}
    if answer["manifest"] is not None:
        manifest = _read_manifest(answer["manifest"])
    found = answer["journal"]
    journal = found and Journal(
        found["deployment"], found["who"], found["at"], tuple(found["hosts"]), bool(found["switched"])
    )
    return NodeView(
        user=answer["user"],
        dags=answer["dags"],
        kind=answer["kind"],
        current=answer["current"],
        current_hash=manifest["hash"],
        current_deployment=manifest.get("deployment"),
        files=manifest["files"],
        dag_ids=manifest["dags"],
        problems=answer["problems"],
        releases=tuple(answer["releases"]),
        journal=journal,
        environment=answer["environment"],
        sealed=answer["sealed"],
        partial=answer["partial"],
    )


@lru_cache(maxsize=8)
def _read_manifest(text: str) -> dict[str, Any]:
    # Most hosts have the same one.
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise VerificationFailed(
            f"the manifest of a release is damaged: {error}", hint="deploy the whole DAG folder again"
        ) from error
    return found


def required_hosts(quorum: str, count: int) -> int:
    """How many of so many hosts must take a release: `all`, `any`, a number or a percentage (rounded up).

    UsageError for anything else, and for more hosts than there are.
    """
    number, percent = quorum.rstrip("%"), quorum.endswith("%")
    if quorum == "all":
        return count
    if quorum == "any":
        return 1
    if not number.isascii() or not number.isdigit() or (percent and int(number) > 100) or int(number) == 0:
        raise UsageError(f"{quorum!r} is no quorum", hint="all, any, a number of hosts, or a percentage such as 75%")
    required = -(-count * int(number) // 100) if percent else int(number)
    if required > count:
        raise UsageError(f"a quorum of {required} hosts can't be reached by {count}")
    return required


def rolling_groups(hosts: Sequence[str], rolling: str, groups: Sequence[Sequence[str]] = ()) -> list[list[str]]:
    """The hosts in the order in which they switch. Empty: all at once; `groups`: group by group; else so many, or such
    a percentage, at a time. UsageError for anything else."""
    if not rolling:
        return [list(hosts)]
    if rolling == "groups":
        rest = dict.fromkeys(hosts)
        found = []
        for group in groups:
            found.append([host for host in dict.fromkeys(group) if host in rest])
            for host in found[-1]:
                del rest[host]
        return [group for group in [*found, list(rest)] if group]
    number, percent = rolling.rstrip("%"), rolling.endswith("%")
    if not number.isascii() or not number.isdigit() or int(number) == 0 or (percent and int(number) > 100):
        raise UsageError(f"--rolling {rolling!r}", hint="groups, a number of hosts, or a percentage such as 25%")
    step = max(1, len(hosts) * int(number) // 100) if percent else int(number)
    return [list(hosts[start : start + step]) for start in range(0, len(hosts), step)]


def expected_files(recorded: Files | None, files: Files, *, whole_tree: bool) -> Files | None:
    """What a host that could not be reached should have after this deployment; None when nobody can know, because these
    files go on top of a tree that was never recorded."""
    if whole_tree:
        return dict(files)
    return None if recorded is None else {**recorded, **files}


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """What one host will get. Paths are sorted."""

    files: Files
    hash: str
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    is_current: bool
    """The host has this release already (whether it is undamaged is for the host to verify)."""
    kept_dag_ids: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """DAGs of the files that stay as they are."""


def plan_release(view: NodeView, files: Files, policy: Policy, *, whole_tree: bool) -> ReleasePlan:
    """The release that a host gets: these files alone, or its current ones with these on top.

    GuardRefused where files should go on top of a plain folder that holds something no release can hold.
    """
    if whole_tree:
        result = dict(files)
    else:
        if view.problems:
            path, what = next(iter(view.problems.items()))
            raise GuardRefused(
                f"{view.dags}/{path} is {what}: it can't become part of a release",
                hint="deploy the whole DAG folder once, or remove it there",
            )
        result = {**view.files, **files}
        for path in files:
            parents = path.split("/")[:-1]
            for count in range(1, len(parents) + 1):
                if "/".join(parents[:count]) in result:
                    raise GuardRefused(f"{'/'.join(parents[:count])} is a file there, and {path} needs a folder")
            if any(other.startswith(f"{path}/") for other in view.files):
                raise GuardRefused(f"{path} is a folder there, and a file here")
    old = view.files
    digest = manifest_hash(result, policy.as_dict())
    return ReleasePlan(
        files=result,
        hash=digest,
        added=tuple(sorted(path for path in result if path not in old)),
        changed=tuple(sorted(path for path in result if path in old and result[path] != old[path])),
        removed=tuple(sorted(path for path in old if path not in result)),
        is_current=view.kind == "link" and view.current_hash == digest,
        kept_dag_ids={path: ids for path, ids in view.dag_ids.items() if result.get(path) == old.get(path)},
    )


def choose_rollback(view: NodeView, to: str | None) -> str:
    """The name of the release to go back to: the one before the current one, or the one whose hash begins with `to`."""
    if view.kind != "link":
        raise UsageError(f"{view.dags} has no releases yet", hint="the first `opskit deploy-dag` makes one")
    names = view.releases
    if to is not None:
        matching = [name for name in names if name.startswith(to)]
        if len({release_hash(name) for name in matching}) > 1:
            raise UsageError(f"{to!r} fits several releases: {', '.join(matching)}")
        if not matching:
            raise NotFound(f"no release {to!r} is kept", hint=f"there are: {', '.join(names) or 'none'}")
        return matching[-1]
    at = names.index(view.current) if view.current in names else 0
    if at == 0:
        raise NotFound(f"no release before {view.current} is kept", hint="[deploy] keep_releases says how many are")
    return names[at - 1]


def release_hash(name: str) -> str:
    """The hash in the name of a release: the same on all hosts, also where a damaged one was made again."""
    return name.partition(".")[0]


def check_rollback_is_one(views: Mapping[str, NodeView], to: str | None) -> None:
    """Refuse to take "the last deployment" back on hosts that run neither the same release nor releases of the same
    deployment."""
    if to is not None:
        return
    hashes = {view.current_hash for view in views.values()}
    deployments = {view.current_deployment for view in views.values()}
    if len(hashes) > 1 and (len(deployments) > 1 or None in deployments):
        text = ", ".join(f"{host}: {(view.current or 'none')[:12]}" for host, view in views.items())
        raise GuardRefused(f"the hosts run different releases ({text})", hint="name fewer hosts, or the release (--to)")


def find_duplicates(dag_ids: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """dag_id → the files that define it, for those that more than one defines."""
    where: dict[str, list[str]] = {}
    for path, ids in sorted(dag_ids.items()):
        for dag_id in ids:
            where.setdefault(dag_id, []).append(path)
    return {dag_id: paths for dag_id, paths in where.items() if len(paths) > 1}


def refuse_duplicates(dag_ids: Mapping[str, Sequence[str]], concerned: Collection[str], where: str) -> None:
    """DagInvalid when a file of this deployment and another file define the same DAG."""
    for dag_id, paths in find_duplicates(dag_ids).items():
        if any(path in concerned for path in paths):
            raise DagInvalid(
                f"{where}: the DAG {dag_id!r} is defined by {' and by '.join(dict.fromkeys(paths))}",
                hint="give one of them another dag_id, or deploy the whole folder if a file has moved",
            )


def decide_recovery(
    journals: Mapping[str, Journal], ordered: Mapping[str, Mapping[str, str]]
) -> dict[str, tuple[str, str]]:
    """How deployments that were interrupted end: host → (FORWARD or BACK, reason).

    `journals`: what the nodes remember, by host. `ordered`: deployment → host → direction, as this machine wrote it
    down before it gave the order. Without such an order (another machine's deployment) a switched host proves it.
    """
    decided: dict[str, tuple[str, str]] = {}
    switched = {journal.deployment for journal in journals.values() if journal.switched}
    for host, journal in journals.items():
        direction = ordered.get(journal.deployment, {}).get(host)
        if direction == FORWARD:
            decided[host] = (FORWARD, "all hosts were ready and the switch was ordered")
        elif direction == BACK:
            decided[host] = (BACK, "the switch had failed on another host")
        elif journal.deployment in switched:
            decided[host] = (FORWARD, "another host has switched, so all were ready")
        else:
            decided[host] = (BACK, "the switch was never ordered")
    return decided
