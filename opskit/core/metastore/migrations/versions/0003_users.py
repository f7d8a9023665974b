"""Who may use the web UI and the REST API: users, roles, sessions, tokens; notes on task instances."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, sqlite

from opskit.core.metastore.tables import UtcDateTime

revision = "0003"
down_revision = "0002"

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
        "dag",
        sa.Column(
            "access_control",
            _LONG,
            nullable=True,
            comment="JSON: what its file gives to roles: role, resource, actions",
        ),
    )
    op.create_table(
        "task_instance_note",
        sa.Column("dag_run_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("map_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("username", _ID, nullable=False, comment="who wrote it"),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("dag_run_id", "task_id", "map_index", name=op.f("pk_task_instance_note")),
        comment="what people write on task instances",
        **_OPTIONS,
    )
    op.create_table(
        "web_user",
        sa.Column("id", _BIG, autoincrement=True, nullable=False),
        sa.Column("username", _ID, nullable=False),
        sa.Column("first_name", sa.String(length=250), nullable=False),
        sa.Column("last_name", sa.String(length=250), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column(
            "password",
            sa.String(length=500),
            nullable=True,
            comment="a hash, with how it was made; NULL: signs in elsewhere",
        ),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False, comment="JSON list of names"),
        sa.Column(
            "identity",
            sa.String(length=64),
            nullable=True,
            comment="SHA-256 of who vouches for this person, and of whom",
        ),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("last_sign_in_at", _TIME, nullable=True),
        sa.Column("sign_ins", sa.Integer(), nullable=False),
        sa.Column("failed_sign_ins", sa.Integer(), nullable=False, comment="since the last one that went well"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_user")),
        sa.UniqueConstraint("identity", name=op.f("uq_web_user_identity")),
        sa.UniqueConstraint("username", name=op.f("uq_web_user_username")),
        comment="who may use the web UI and the REST API",
        **_OPTIONS,
    )
    op.create_table(
        "web_role",
        sa.Column("name", _ID, nullable=False),
        sa.Column("permissions", _LONG, nullable=False, comment="JSON list of [action, resource]"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_web_role")),
        comment="roles that people made, and what they added to those that are always there",
        **_OPTIONS,
    )
    op.create_table(
        "web_session",
        sa.Column("hash", sa.String(length=64), nullable=False, comment="SHA-256 of the cookie"),
        sa.Column("user_id", _BIG, nullable=False),
        sa.Column("stamp", sa.String(length=64), nullable=False, comment="of the password that it was begun with"),
        sa.Column("by", sa.String(length=10), nullable=False, comment="password, oidc"),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=250), nullable=False, comment="what the browser calls itself"),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("seen_at", _TIME, nullable=False, comment="to the minute"),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_web_session")),
        **_OPTIONS,
    )
    op.create_index(op.f("ix_web_session_user_id"), "web_session", ["user_id"])
    op.create_index(op.f("ix_web_session_expires_at"), "web_session", ["expires_at"])
    op.create_table(
        "web_token",
        sa.Column("id", _BIG, autoincrement=True, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="SHA-256 of the token"),
        sa.Column("user_id", _BIG, nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False, comment="JSON list: all, read, or action:resource"),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=True, comment="NULL: never"),
        sa.Column("used_at", _TIME, nullable=True, comment="to the minute"),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_web_token_hash")),
        **_OPTIONS,
    )
    op.create_index(op.f("ix_web_token_user_id"), "web_token", ["user_id"])
    op.create_table(
        "web_sign_in_limit",
        sa.Column("key", sa.String(length=64), nullable=False, comment="SHA-256 of a username or an address"),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", _TIME, nullable=False),
        sa.Column("blocked_until", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_web_sign_in_limit")),
        comment="wrong passwords of the last time, and until when no more are looked at",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_web_sign_in_limit_last_at"), "web_sign_in_limit", ["last_at"])
