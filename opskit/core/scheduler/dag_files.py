"""Decides from a listing of the DAG folder what is to be read, and which files are gone for sure. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from opskit.core.scheduler.dag_folder import Content, Listing, Signature

CONFIRM_GONE = timedelta(seconds=1)
"""An editor that saves by renaming, or a release that is being switched, takes files away for moments."""
CONFIRM_MANY_GONE = timedelta(seconds=60)
"""More than half of all DAG files missing at once looks like a sync that is under way."""


@dataclass(slots=True)
class KnownFile:
    """A file that was seen, or that the metastore remembers (then without signature)."""

    signature: Signature | None = None
    content: Content | None = None
    has_dags: bool = False
    """The metastore has a dag_file row of it."""
    missing_since: datetime | None = None


@dataclass(slots=True)
class Decision:
    """What to do after a listing. Each reason is a sentence for the log."""

    read: list[str] = field(default_factory=list)
    """New files, and those whose signature changed."""
    gone: dict[str, str] = field(default_factory=dict)
    """Path → reason: its DAGs are to be deactivated."""
    missing: list[str] = field(default_factory=list)
    """Files that are not there now, but may come back."""
    back: list[str] = field(default_factory=list)
    """Files that were missing and are there again."""
    look_again_at: datetime | None = None
    doubts: list[str] = field(default_factory=list)
    """Why absence proves nothing now."""


def decide(listing: Listing, known: Mapping[str, KnownFile], now: datetime) -> Decision:
    """Compare a listing with what was known."""
    decision = Decision(
        read=[
            path for path, signature in listing.files.items() if path not in known or known[path].signature != signature
        ],
        back=[path for path in listing.files if path in known and known[path].missing_since is not None],
    )
    absent = [path for path in known if path not in listing.files]
    with_dags = sum(file.has_dags for file in known.values())
    lost = [path for path in absent if known[path].has_dags]
    if not listing.complete:
        decision.doubts = [*listing.problems]
    elif listing.entries == 0 and with_dags:
        decision.doubts = ["the DAG folder is empty, and it had DAG files before: not mounted, or not synced?"]
    if decision.doubts:
        return decision
    many = len(lost) > 1 and 2 * len(lost) > with_dags
    patience = CONFIRM_MANY_GONE if many else CONFIRM_GONE
    for path in absent:
        since = known[path].missing_since
        if not known[path].has_dags:
            decision.gone[path] = "removed"
        elif since is None:
            decision.missing.append(path)
        elif now - since >= patience:
            decision.gone[path] = f"not in the DAG folder since {since:%H:%M:%S}"
    waiting = [known[path].missing_since or now for path in lost if path not in decision.gone]
    if waiting:
        decision.look_again_at = min(waiting) + patience
    return decision
