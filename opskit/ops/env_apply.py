"""Carries a plan out in one transaction, after a snapshot; and takes it back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.errors import GuardRefused, NotFound, OpskitError
from opskit.ops import env_document
from opskit.ops.env_plan import Plan, digest
from opskit.ops.env_secrets import Fingerprints, canonical, from_json
from opskit.platforms.base import Platform
from opskit.platforms.configuration import Fields, Objects, Write
from opskit.system.locks import locked
from opskit.telemetry import metrics

FORMAT = "opskit-env-undo/1"
KEPT_SNAPSHOTS = 50
_FEW = 10
"""So many changes are never too many."""


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What was done. `snapshot` is what `env undo` takes; empty when there was nothing to do."""

    snapshot: str
    created: int
    updated: int
    deleted: int
    unchanged: int
    blocked: tuple[str, ...]
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class UndoEntry:
    """A snapshot that was taken before an apply."""

    id: str
    at: str
    what: str
    """apply or undo."""
    source: str
    target: str
    objects: int
    undone_at: str | None


def refusals(plan: Plan, *, allow: str = "", max_percent: float = 50.0) -> list[str]:
    """What forbids a plan. `allow`: the name (or the label) of a protected environment that is meant."""
    found = []
    foreign = plan.source_environment != plan.target_environment or not plan.target_environment
    if plan.protected and foreign and allow not in {plan.target_environment, plan.target} - {""}:
        source = plan.source_environment or plan.source
        found.append(
            f"{plan.target_environment or plan.target} is protected, and this comes from {source}: "
            f"name it with --allow-prod {plan.target_environment or plan.target}"
        )
    touched = plan.count("update") + plan.count("delete")
    if touched > _FEW and touched * 100 > max_percent * plan.present:
        found.append(
            f"{touched} of {plan.present} objects would be changed or deleted, more than {max_percent:g} %: "
            "look at the plan, then allow it with --max-percent"
        )
    return found


def apply(
    platform: Platform,
    plan: Plan,
    fingerprints: Fingerprints,
    now: datetime,
    *,
    allow: str = "",
    max_percent: float | None = None,
    dry_run: bool = False,
) -> ApplyReport:
    """Write what a plan says: all of it, or nothing. GuardRefused for what `refusals` finds, and for a plan that is
    stale: an object that it changes is not as it was. What is blocked is left out and named in the report."""
    limit = float(platform.config.get("env", "max_percent")) if max_percent is None else max_percent
    if found := refusals(plan, allow=allow, max_percent=limit):
        raise GuardRefused(found[0].partition(": ")[0], hint=found[0].partition(": ")[2])
    snapshot = ""
    if not dry_run and plan.changes:
        with locked(platform.config.run_folder, "env"):
            writes = [Write(change.kind, change.name, change.after) for change in plan.changes]
            seen = {(change.kind, change.name): change.before_digest for change in plan.changes}
            counts = {action: plan.count(action) for action in ("create", "update", "delete")}
            snapshot = _write(platform, writes, seen, fingerprints, now, "apply", plan.source, counts)
    for action in ("create", "update", "delete"):
        metrics.gauge("opskit_env_apply_objects_count", 0 if dry_run else plan.count(action), action=action)
    return ApplyReport(
        snapshot,
        plan.count("create"),
        plan.count("update"),
        plan.count("delete"),
        plan.unchanged,
        tuple(plan.blocked),
        dry_run,
    )


def _write(
    platform: Platform,
    writes: Sequence[Write],
    seen: dict[tuple[str, str], str],
    fingerprints: Fingerprints,
    now: datetime,
    what: str,
    source: str,
    counts: dict[str, int],
    force: bool = False,
) -> str:
    """Snapshot, then write; the id of the snapshot. It is removed again when nothing was written."""
    target = platform.configuration
    before = _objects(target.read({write.kind for write in writes}), writes)

    def accept(kind: str, name: str, fields: Fields | None) -> bool:
        # What the snapshot holds must be what is replaced, and what the decision was made for.
        held = digest(fingerprints, before.get((kind, name)))
        return digest(fingerprints, fields) == held and (force or held == seen[kind, name])

    moved = [f"{kind}/{name}" for kind, name in seen if not accept(kind, name, before.get((kind, name)))]
    if moved:
        raise GuardRefused(
            f"{len(moved)} objects have changed since this was decided: {', '.join(moved[:_FEW])}",
            hint="nothing was written; decide again: opskit env plan, or opskit env undo --force",
        )
    snapshot = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    path = _folder(platform) / f"{snapshot}.json"
    items = [
        {"kind": write.kind, "name": write.name, "before": before.get((write.kind, write.name)), "after": write.fields}
        for write in writes
    ]
    header = {
        "format": FORMAT,
        "id": snapshot,
        "at": now.isoformat(),
        "what": what,
        "source": source,
        "target": target.where,
        "objects": len(items),
        "undone_at": None,
        "sealed": target.seal(canonical(items)),
    }
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    env_document.write_file(path, env_document.json_text(header).encode())
    try:
        target.write(writes, accept, now, f"env {what}", {"from": source, "snapshot": snapshot, **counts})
    except BaseException as error:
        # After a COMMIT whose answer was lost nobody knows, and the snapshot may be needed.
        if isinstance(error, GuardRefused) or not _may_be_written(target, writes, before):
            path.unlink()
        raise
    _forget_old(path.parent)
    return snapshot


def _may_be_written(target: Any, writes: Sequence[Write], before: dict[tuple[str, str], Fields | None]) -> bool:
    try:
        return _objects(target.read({write.kind for write in writes}), writes) != before
    except Exception:  # noqa: BLE001 -- unknown is a yes here
        return True


def _objects(objects: Objects, writes: Sequence[Write]) -> dict[tuple[str, str], Fields | None]:
    return {(write.kind, write.name): objects.get(write.kind, {}).get(write.name) for write in writes}


# --- undo ---


def list_undo(platform: Platform) -> list[UndoEntry]:
    """Snapshots of this target, the newest first."""
    where = platform.configuration.where
    entries = [_entry(data) for _, data in _snapshots(_folder(platform))]
    return [entry for entry in reversed(entries) if entry.target == where]


def undo(
    platform: Platform,
    fingerprints: Fingerprints,
    now: datetime,
    *,
    snapshot: str = "",
    force: bool = False,
    dry_run: bool = False,
) -> tuple[UndoEntry, ApplyReport]:
    """Take back the newest apply that was not taken back, or that of a snapshot.

    GuardRefused when an object has changed since (`force`: it goes back all the same); NotFound when there is nothing
    to take back.
    """
    with locked(platform.config.run_folder, "env"):
        path, data = _chosen(platform, snapshot)
        entry = _entry(data)
        target = platform.configuration
        items = json.loads(target.unseal(data["sealed"], f"snapshot {entry.id}"))
        for item in items:
            item["before"], item["after"] = from_json(item["before"]), from_json(item["after"])
        now_there = target.read({item["kind"] for item in items})
        writes = [
            Write(item["kind"], item["name"], item["before"])
            for item in items
            if canonical(now_there[item["kind"]].get(item["name"])) != canonical(item["before"])
            and (item["kind"] != "dags" or item["name"] in now_there["dags"])
        ]
        touched = {(write.kind, write.name) for write in writes}
        seen = {
            (item["kind"], item["name"]): digest(fingerprints, item["after"])
            for item in items
            if (item["kind"], item["name"]) in touched
        }
        moved = [
            f"{kind}/{name}"
            for kind, name in seen
            if digest(fingerprints, now_there[kind].get(name)) != seen[kind, name]
        ]
        if moved and not force:
            raise GuardRefused(
                f"{len(moved)} objects have changed since then: {', '.join(moved[:_FEW])}",
                hint="--force takes them back all the same",
            )
        counts = {
            "created": sum(w.fields is not None and now_there[w.kind].get(w.name) is None for w in writes),
            "deleted": sum(w.fields is None for w in writes),
        }
        counts["updated"] = len(writes) - sum(counts.values())
        taken = ""
        if writes and not dry_run:
            taken = _write(platform, writes, seen, fingerprints, now, "undo", entry.id, counts, force=force)
        if not dry_run:
            done = {**data, "undone_at": now.isoformat()}
            env_document.write_file(path, env_document.json_text(done).encode(), force=True)
    unchanged = len(items) - len(writes)
    report = ApplyReport(taken, counts["created"], counts["updated"], counts["deleted"], unchanged, (), dry_run)
    return entry, report


def reseal(platform: Platform) -> int:
    """Bring the snapshots under the newest key; how many can't be read any more."""
    target, lost = platform.configuration, 0
    for path, data in _snapshots(_folder(platform)):
        try:
            content = target.unseal(data["sealed"], f"snapshot {data['id']}")
        except OpskitError:
            lost += 1
            continue
        fresh = {**data, "sealed": target.seal(content)}
        env_document.write_file(path, env_document.json_text(fresh).encode(), force=True)
    return lost


def _chosen(platform: Platform, snapshot: str) -> tuple[Path, dict[str, Any]]:
    where = platform.configuration.where
    for path, data in reversed(_snapshots(_folder(platform))):
        wanted = data["id"] == snapshot if snapshot else data["what"] == "apply" and data["undone_at"] is None
        if wanted and data["target"] == where:
            return path, data
    raise NotFound(
        f"there is no snapshot {snapshot!r}" if snapshot else f"no apply to {where} can be taken back",
        hint="opskit env undo --list shows all",
    )


def _folder(platform: Platform) -> Path:
    return platform.config.home / "env" / "undo"


def _snapshots(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in sorted(folder.glob("[0-9]*.json")):
        content, _ = env_document.read_bytes(path, ())
        data = env_document.parse_json(content, str(path))
        if isinstance(data, dict) and data.get("format") == FORMAT:
            found.append((path, data))
    return sorted(found, key=lambda pair: str(pair[1]["at"]))


def _entry(data: dict[str, Any]) -> UndoEntry:
    return UndoEntry(
        data["id"], data["at"], data["what"], data["source"], data["target"], data["objects"], data["undone_at"]
    )


def _forget_old(folder: Path) -> None:
    for path, _ in _snapshots(folder)[:-KEPT_SNAPSHOTS]:
        path.unlink(missing_ok=True)
