"""Brings connections, variables, pools and pause states back: all of them or some, as they were at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from opskit.errors import GuardRefused, MetastoreUnavailable, NotFound, OpskitError, UsageError
from opskit.ops import captures
from opskit.ops.backup_catalog import Backup
from opskit.ops.capture import capture
from opskit.ops.drill import small_set_of
from opskit.platforms import Platform
from opskit.platforms.metastore import Change
from opskit.system.locks import locked
from opskit.system.object_store import ObjectStore

KINDS = ("connection", "variable", "pool", "user", "role", "dag-pause")
_SECTIONS = {
    "connection": ("connections", "conn_id"),
    "variable": ("variables", "key"),
    "pool": ("pools", "pool"),
    "user": ("users", "username"),
    "role": ("roles", "name"),
    "dag-pause": ("pauses", "dag_id"),
}
_SEARCHED = 200
"""Captures that are looked through for one that still has what is gone."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the items come from."""

    id: str
    """Of a capture, or of a backup."""
    captured_at: datetime
    small_set: dict[str, Any]
    fernet_key_fingerprints: tuple[str, ...]
    valid_until: datetime | None = None
    """When the next different state was seen; None: it is the newest, or nobody knows."""


@dataclass(frozen=True, slots=True)
class ItemsReport:
    """What was (or, after a dry run, would be) done, item by item."""

    source: str
    captured_at: datetime
    valid_until: datetime | None
    dry_run: bool
    changes: tuple[Change, ...]
    unreadable_secrets: tuple[str, ...] = ()
    before: str = ""
    """The capture of what was there before."""
    way_back: tuple[str, ...] = ()
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


def from_captures(
    store: ObjectStore,
    at: datetime | None,
    identities: Sequence[str],
    items: Sequence[tuple[str, str]] | None = None,
    *,
    wanted: str = "",
) -> Source:
    """The state with the id `wanted`, or the one that was valid at a time (None: the newest). NotFound, naming the
    capture that last had it, when an item is not in it."""
    listed = captures.list_captures(store)
    chosen = captures.find_id(listed, wanted, store.url) if wanted else captures.find_at(listed, at, store.url)
    state = captures.read(store, chosen.key, identities)
    position = listed.index(chosen)
    until = listed[position - 1].captured_at if position else None
    for kind, name in items or ():
        if not _has(state.small_set, kind, name):
            raise NotFound(
                f"the capture of {chosen.captured_at:%Y-%m-%d %H:%M:%S} UTC has no {kind} {name!r}",
                hint=_last_seen(store, listed[position + 1 :], kind, name, identities),
            )
    return Source(state.id, state.captured_at, state.small_set, state.fernet_key_fingerprints, until)


def from_backup(
    store: ObjectStore, backup: Backup, identities: Sequence[str], items: Sequence[tuple[str, str]] | None = None
) -> Source:
    """The state that a backup holds."""
    manifest = backup.usable()
    small = small_set_of(store, manifest, identities)
    for kind, name in items or ():
        if not _has(small, kind, name):
            raise NotFound(f"backup {backup.id} has no {kind} {name!r}", hint="see: opskit backup list")
    return Source(backup.id, manifest.taken_at, small, manifest.fernet_key_fingerprints)


def parse_item(text: str) -> tuple[str, str]:
    """`connection:my_db` as (kind, name). UsageError for anything else."""
    kind, colon, name = text.partition(":")
    if not colon or not name or kind not in (*KINDS, "dag"):
        raise UsageError(
            f"{text!r} names nothing that can be restored alone",
            hint=f"write KIND:NAME, with one of the kinds {', '.join((*KINDS, 'dag'))}",
        )
    return kind, name


def restore_items(
    platform: Platform,
    store: ObjectStore,
    source: Source,
    now: datetime,
    *,
    items: Sequence[tuple[str, str]] | None = None,
    unpause: bool = False,
    exact: bool = False,
    without_key: bool = False,
    recipients: tuple[str, ...] = (),
    dry_run: bool = False,
) -> ItemsReport:
    """Write what differs into the live metastore, in one transaction, also while a scheduler runs.

    What is there now is captured first: that is the way back. No DAG is unpaused unless `unpause` or it is named;
    nothing is deleted unless `exact`. GuardRefused when the Fernet key can't read a secret that would be written
    (unless `without_key`).
    """
    started = time.monotonic()
    metastore = platform.metastore
    # Whoever names a DAG's pause state wants it.
    unpause = unpause or items is not None
    options: dict[str, Any] = {"items": items, "unpause": unpause, "exact": exact}
    planned = metastore.plan_small_set(source.small_set, **options)
    writes = {(one.kind, one.name) for one in planned if one.action in ("create", "update")}
    unreadable = metastore.secrets(_only(source.small_set, writes)).unreadable
    report = ItemsReport(
        source.id, source.captured_at, source.valid_until, dry_run, tuple(planned), unreadable_secrets=unreadable
    )
    if not dry_run and unreadable and not without_key:
        raise GuardRefused(
            f"not restored: the present Fernet key can't read {', '.join(unreadable[:3])}; they were written with the "
            f"key {', '.join(source.fernet_key_fingerprints) or 'unknown'}, present: "
            f"{', '.join(metastore.key_fingerprints()) or 'none'}",
            hint="put that key, too, into core.fernet_key, or restore them unreadable with --without-key",
        )
    if dry_run or not any(one.action != "keep" for one in planned):
        return replace(report, seconds=round(time.monotonic() - started, 3))
    with locked(platform.config.run_folder, "restore"):
        before = capture(platform, store, now, recipients=recipients)
        done = metastore.apply_small_set(source.small_set, now, **options)
        warnings = list(before.warnings)
        written = [f"{one.action} {one.kind} {one.name}" for one in done if one.action != "keep"]
        try:
            platform.audit.write("restore config", now, {"source": source.id, "before": before.id, "changes": written})
        except MetastoreUnavailable as error:
            warnings.append(f"the audit line was not written: {error.message}")
    created = any(one.action == "create" for one in done)
    return replace(
        report,
        changes=tuple(done),
        before=before.id,
        way_back=(f"opskit restore --tier config {before.id} --unpause{' --exact' if created else ''}",),
        seconds=round(time.monotonic() - started, 3),
        warnings=tuple(warnings),
    )


def _has(small_set: dict[str, Any], kind: str, name: str) -> bool:
    section, key = _SECTIONS[kind]
    return any(row[key] == name for row in small_set.get(section, ()))


def _only(small_set: dict[str, Any], items: set[tuple[str, str]]) -> dict[str, Any]:
    chosen: dict[str, Any] = {"format": small_set["format"]}
    for kind, (section, key) in _SECTIONS.items():
        chosen[section] = [row for row in small_set.get(section, ()) if (kind, row[key]) in items]
    return chosen


def _last_seen(
    store: ObjectStore, older: Sequence[captures.Capture], kind: str, name: str, identities: Sequence[str]
) -> str:
    for one in older[:_SEARCHED]:
        try:
            if _has(captures.read(store, one.key, identities).small_set, kind, name):
                return f'the last capture that has it: --at "{one.captured_at:%Y-%m-%dT%H:%M:%S}+00:00"'
        except OpskitError:
            continue  # a damaged one says nothing of the others
    return f"none of the {min(len(older), _SEARCHED)} captures before it has it either"
