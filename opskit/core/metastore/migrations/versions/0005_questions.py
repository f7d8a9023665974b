"""What tasks ask people, and the answers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, sqlite

from opskit.core.metastore.tables import UtcDateTime

revision = "0005"
down_revision = "0004"

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
    op.create_table(
        "hitl_detail",
        sa.Column("dag_run_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("map_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("try_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("asked", _LONG, nullable=False, comment="JSON: the question, see core/dag/human_input.py"),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("timeout_at", _TIME, nullable=True, comment="when the defaults are taken; NULL: it waits for ever"),
        sa.Column("is_open", sa.Boolean(), nullable=False, comment="nobody has answered yet"),
        sa.Column("responded_at", _TIME, nullable=True, comment="by a person, or when the time was over"),
        sa.Column("responded_by", _ID, nullable=True, comment="username; NULL: nobody answered in time"),
        sa.Column("responded_by_name", sa.String(length=500), nullable=True),
        sa.Column("answer", _LONG, nullable=True, comment="JSON: chosen_options, params_input; NULL: there is none"),
        sa.PrimaryKeyConstraint("dag_run_id", "task_id", "map_index", "try_number", name=op.f("pk_hitl_detail")),
        comment="what tasks ask people, and the answers",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_hitl_detail_is_open_created_at"), "hitl_detail", ["is_open", "created_at"])
    op.create_index(op.f("ix_hitl_detail_created_at"), "hitl_detail", ["created_at"])
