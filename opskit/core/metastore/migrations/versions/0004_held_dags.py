"""DAGs that were paused all at once, and ways to find audit lines by event, ended runs by time."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from opskit.core.metastore.tables import UtcDateTime

revision = "0004"
down_revision = "0003"

_ID = sa.String(250).with_variant(mysql.VARCHAR(250, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
_OPTIONS: dict[str, Any] = {
    f"{kind}_{option}": value
    for kind in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def upgrade() -> None:
    op.create_table(
        "held_dag",
        sa.Column("dag_id", _ID, nullable=False),
        sa.Column("owner", sa.String(length=500), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("dag_id", name=op.f("pk_held_dag")),
        comment="DAGs that somebody paused all at once: resuming unpauses these",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_log_event_at"), "log", ["event", "at"])
    op.create_index(op.f("ix_dag_run_state_end_date"), "dag_run", ["state", "end_date"])
    op.drop_index(op.f("ix_dag_run_state"), "dag_run")
