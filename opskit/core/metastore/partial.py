"""What a restore of parts does to a metastore, as plain values: verbs show them without loading SQLAlchemy."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one item of the live metastore."""

    kind: str
    """connection, variable, pool, user, role or dag-pause."""
    name: str
    action: str
    """create, update, delete; keep: it differs, and stays as it is."""
    fields: tuple[str, ...] = ()
    """That differ. Values are never told."""
    reason: str = ""


@dataclass(slots=True)
class Brought:
    """What was inserted of a DAG's history (or would be), and what was left out and why."""

    rows: dict[str, int] = field(default_factory=dict)
    """By table."""
    skipped: dict[str, int] = field(default_factory=dict)
    """DagRuns by reason."""

    def count(self, table: str, rows: int) -> None:
        if rows:
            self.rows[table] = self.rows.get(table, 0) + rows

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
