"""Partitions of assets; what tasks keep for their next tries, and about assets."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, sqlite

from opskit.core.metastore.tables import UtcDateTime

revision = "0002"
down_revision = "0001"

_ID = sa.String(250).with_variant(mysql.VARCHAR(250, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
_BIG = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
_LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_TIME = UtcDateTime()
_OPTIONS: dict[str, Any] = {
    f"{kind}_{option}": value
    for kind in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}


def upgrade() -> None:
    op.add_column(
        "dag_run", sa.Column("partition_key", _ID, nullable=True, comment="of assets that come in partitions")
    )
    op.add_column(
        "dag_run",
        sa.Column("partition_date", _TIME, nullable=True, comment="when that partition begins, where its key tells"),
    )
    op.add_column("asset_event", sa.Column("partition_key", _ID, nullable=True))
    op.create_table(
        "asset_partition_queue",
        sa.Column("event_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("dag_id", _ID, nullable=False),
        sa.Column("partition_key", _ID, nullable=False, comment="of the run that the event is for"),
        sa.Column("asset_id", _BIG, nullable=False),
        sa.Column("source_key", _ID, nullable=False, comment="partition of the event"),
        sa.Column(
            "partition_date",
            _TIME,
            nullable=True,
            comment="of the run that made the event, where the mapper carries it",
        ),
        sa.PrimaryKeyConstraint("event_id", "dag_id", "partition_key", name=op.f("pk_asset_partition_queue")),
        comment="events of partitions that no run of this DAG has been made of yet",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_asset_partition_queue_dag_id"), "asset_partition_queue", ["dag_id"])
    op.create_table(
        "task_state",
        sa.Column("dag_run_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("map_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", _ID, nullable=False),
        sa.Column("value", _LONG, nullable=False, comment="JSON"),
        sa.Column("expires_at", _TIME, nullable=True, comment="NULL: never"),
        sa.PrimaryKeyConstraint("dag_run_id", "task_id", "map_index", "key", name=op.f("pk_task_state")),
        comment="what a task instance keeps for its next tries",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_task_state_expires_at"), "task_state", ["expires_at"])
    op.create_table(
        "asset_state",
        sa.Column("asset_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("key", _ID, nullable=False),
        sa.Column("value", _LONG, nullable=False, comment="JSON"),
        sa.PrimaryKeyConstraint("asset_id", "key", name=op.f("pk_asset_state")),
        comment="what tasks keep about an asset",
        **_OPTIONS,
    )
