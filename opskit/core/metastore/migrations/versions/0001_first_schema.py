"""The first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, sqlite

from opskit.core.metastore.tables import UtcDateTime

revision = "0001"
down_revision = None

# A migration never follows later changes of tables.py, so its types stand here.
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
        "asset",
        sa.Column("id", _BIG, autoincrement=True, nullable=False),
        sa.Column(
            "hash", sa.String(length=64), nullable=False, comment="of name and URI, which are too long for a key"
        ),
        sa.Column("name_hash", sa.String(length=64), nullable=False),
        sa.Column("uri_hash", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=1500), nullable=False),
        sa.Column("uri", sa.String(length=1500), nullable=False),
        sa.Column("asset_group", sa.String(length=1500), nullable=False),
        sa.Column("extra", _LONG, nullable=False, comment="JSON"),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset")),
        sa.UniqueConstraint("hash", name=op.f("uq_asset_hash")),
        **_OPTIONS,
    )
    op.create_index(op.f("ix_asset_name_hash"), "asset", ["name_hash"])
    op.create_index(op.f("ix_asset_uri_hash"), "asset", ["uri_hash"])
    op.create_table(
        "asset_alias",
        sa.Column("asset_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("name_hash", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=1500), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("asset_id", "name_hash", name=op.f("pk_asset_alias")),
        comment="the assets that tasks have linked to an alias",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_asset_alias_name_hash"), "asset_alias", ["name_hash"])
    op.create_table(
        "asset_event",
        sa.Column("id", _BIG, autoincrement=True, nullable=False),
        sa.Column("asset_id", _BIG, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("extra", _LONG, nullable=False, comment="JSON"),
        sa.Column("aliases", _LONG, nullable=False, comment="JSON list: names of the aliases it came through"),
        sa.Column("source_dag_id", _ID, nullable=True),
        sa.Column("source_task_id", _ID, nullable=True),
        sa.Column("source_run_id", _ID, nullable=True),
        sa.Column("source_map_index", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset_event")),
        **_OPTIONS,
    )
    op.create_index(op.f("ix_asset_event_asset_id_at"), "asset_event", ["asset_id", "at"])
    op.create_index(op.f("ix_asset_event_at"), "asset_event", ["at"])
    op.create_table(
        "asset_event_run",
        sa.Column("event_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("dag_run_id", _BIG, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("event_id", "dag_run_id", name=op.f("pk_asset_event_run")),
        comment="the runs that an event has made",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_asset_event_run_dag_run_id"), "asset_event_run", ["dag_run_id"])
    op.create_table(
        "asset_queue",
        sa.Column("event_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("dag_id", _ID, nullable=False),
        sa.Column("asset_id", _BIG, nullable=False),
        sa.Column("counts", sa.Boolean(), nullable=False, comment="false: the DAG was paused at the time"),
        sa.PrimaryKeyConstraint("event_id", "dag_id", name=op.f("pk_asset_queue")),
        comment="events that no run of this DAG has been made of yet",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_asset_queue_dag_id"), "asset_queue", ["dag_id"])
    op.create_table(
        "asset_reference",
        sa.Column("dag_id", _ID, nullable=False),
        sa.Column("task_id", _ID, nullable=False, comment="empty: the schedule of the DAG"),
        sa.Column("role", sa.String(length=10), nullable=False, comment="schedule, outlet, inlet"),
        sa.Column("hash", sa.String(length=64), nullable=False, comment="of kind, name and URI"),
        sa.Column(
            "kind",
            sa.String(length=10),
            nullable=False,
            comment="asset, alias; name, uri: an asset that is defined elsewhere",
        ),
        sa.Column("name", sa.String(length=1500), nullable=False),
        sa.Column("uri", sa.String(length=1500), nullable=False),
        sa.Column("watchers", sa.Text(), nullable=False, comment="JSON list: names of the watchers it declares"),
        sa.PrimaryKeyConstraint("dag_id", "task_id", "role", "hash", name=op.f("pk_asset_reference")),
        comment="which DAGs and tasks name which assets and aliases, by the current version of each DAG",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_asset_reference_hash_role"), "asset_reference", ["hash", "role"])
    op.create_table(
        "attempt_result",
        sa.Column("id", _BIG, autoincrement=True, nullable=False),
        sa.Column("dag_id", _ID, nullable=False),
        sa.Column("worker_id", sa.String(length=36), nullable=False),
        sa.Column("payload", _LONG, nullable=False, comment="JSON: the result message of ARCHITECTURE.md, 'Wire'"),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt_result")),
        comment="results of workers that can't reach the scheduler; the DAG's owner takes and deletes them",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_attempt_result_dag_id"), "attempt_result", ["dag_id"])
    op.create_table(
        "connection",
        sa.Column("conn_id", _ID, nullable=False),
        sa.Column("conn_type", sa.String(length=500), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("host", sa.String(length=500), nullable=True),
        sa.Column("schema", sa.String(length=500), nullable=True),
        sa.Column("login", sa.Text(), nullable=True),
        sa.Column("password", sa.Text(), nullable=True, comment="encrypted"),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("extra", _LONG, nullable=True, comment="encrypted"),
        sa.Column("is_encrypted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("conn_id", name=op.f("pk_connection")),
        **_OPTIONS,
    )
    op.create_table(
        "dag",
        sa.Column("dag_id", _ID, nullable=False),
        sa.Column("fileloc", sa.String(length=2000), nullable=False, comment="path below the DAG folder"),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False, comment="its file still defines it"),
        sa.Column("version_hash", sa.String(length=64), nullable=False, comment="dag_version that new runs use"),
        sa.Column(
            "release",
            sa.String(length=100),
            comment="release of the DAG folder that it was loaded from; NULL: a plain folder",
        ),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("owners", sa.String(length=2000), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False, comment="JSON list"),
        sa.Column("schedule", sa.Text(), nullable=False, comment="as text, for people"),
        sa.Column("last_parsed_at", _TIME, nullable=True),
        sa.Column("next_logical_date", _TIME, nullable=True),
        sa.Column("next_interval_start", _TIME, nullable=True),
        sa.Column("next_interval_end", _TIME, nullable=True),
        sa.Column("next_run_after", _TIME, nullable=True, comment="when the next scheduled run may be created"),
        sa.Column("unpaused_at", _TIME, nullable=True, comment="NULL: it never was"),
        sa.Column(
            "plan",
            _LONG,
            nullable=True,
            comment="JSON: the answer of the DAG file, where only it can tell the next run",
        ),
        sa.Column(
            "asset_condition", _LONG, nullable=True, comment="JSON: the events of assets that make a run; NULL: none do"
        ),
        sa.Column(
            "wake_at", _TIME, nullable=True, comment="earliest time at which a scheduler should look; NULL: never"
        ),
        sa.Column("revision", _BIG, nullable=False, comment="raised by every change from outside"),
        sa.Column(
            "lease_owner",
            sa.String(length=36),
            nullable=True,
            comment="instance.id of the scheduler that decides for this DAG",
        ),
        sa.Column("lease_epoch", _BIG, nullable=False, comment="raised by every claim"),
        sa.PrimaryKeyConstraint("dag_id", name=op.f("pk_dag")),
        **_OPTIONS,
    )
    op.create_index(op.f("ix_dag_lease_owner"), "dag", ["lease_owner"])
    op.create_index(op.f("ix_dag_wake_at"), "dag", ["wake_at"])
    op.create_table(
        "dag_file",
        sa.Column(
            "path_hash",
            sa.String(length=64),
            nullable=False,
            comment="SHA-256 of path: paths are longer than a key may be",
        ),
        sa.Column("path", sa.String(length=2000), nullable=False, comment="below the DAG folder"),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("dag_ids", sa.Text(), nullable=False, comment="JSON list of the last good load"),
        sa.Column("parsed_at", _TIME, nullable=False),
        sa.Column("parse_seconds", sa.Double(), nullable=False),
        sa.Column("import_error", _LONG, nullable=True, comment="NULL: the last load was good"),
        sa.PrimaryKeyConstraint("path_hash", name=op.f("pk_dag_file")),
        **_OPTIONS,
    )
    op.create_table(
        "dag_run",
        sa.Column("id", _BIG, autoincrement=True, nullable=False),
        sa.Column("dag_id", _ID, nullable=False),
        sa.Column("run_id", _ID, nullable=False),
        sa.Column(
            "run_type",
            sa.String(length=20),
            nullable=False,
            comment="scheduled, manual, backfill, asset_triggered, dataset_triggered",
        ),
        sa.Column("state", sa.String(length=20), nullable=False, comment="queued, running, success, failed"),
        sa.Column("logical_date", _TIME, nullable=False),
        sa.Column("data_interval_start", _TIME, nullable=False),
        sa.Column("data_interval_end", _TIME, nullable=False),
        sa.Column("conf", _LONG, nullable=False, comment="JSON"),
        sa.Column(
            "version_hash",
            sa.String(length=64),
            nullable=True,
            comment="dag_version that its task instances were made from",
        ),
        sa.Column("queued_at", _TIME, nullable=False),
        sa.Column("start_date", _TIME, nullable=True),
        sa.Column("end_date", _TIME, nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dag_run")),
        sa.UniqueConstraint("dag_id", "logical_date", name=op.f("uq_dag_run_dag_id_logical_date")),
        sa.UniqueConstraint("dag_id", "run_id", name=op.f("uq_dag_run_dag_id_run_id")),
        **_OPTIONS,
    )
    op.create_index(op.f("ix_dag_run_dag_id_state"), "dag_run", ["dag_id", "state"])
    op.create_index(op.f("ix_dag_run_state"), "dag_run", ["state"])
    op.create_table(
        "dag_version",
        sa.Column("hash", sa.String(length=64), nullable=False, comment="SHA-256 of data"),
        sa.Column("dag_id", _ID, nullable=False),
        sa.Column("fileloc", sa.String(length=2000), nullable=False),
        sa.Column("data", _LONG, nullable=False, comment="JSON, see core/dag/serialized.py"),
        sa.Column("source", _LONG, nullable=True, comment="text of the DAG file"),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_dag_version")),
        **_OPTIONS,
    )
    op.create_index(op.f("ix_dag_version_dag_id"), "dag_version", ["dag_id"])
    op.create_table(
        "instance",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False, comment="scheduler, worker, dag_processor, gateway"),
        sa.Column("hostname", sa.String(length=250), nullable=False),
        sa.Column("home", sa.String(length=2000), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column(
            "pid_started", sa.Double(), nullable=False, comment="process start, seconds since boot: tells a reused pid"
        ),
        sa.Column("version", sa.String(length=50), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("heartbeat_at", _TIME, nullable=False),
        sa.Column("progress", _BIG, nullable=False, comment="loops that ended well"),
        sa.Column("progress_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True, comment="set when it stopped, or was found dead"),
        sa.Column("detail", sa.Text(), nullable=False, comment="JSON"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        **_OPTIONS,
    )
    op.create_index(op.f("ix_instance_kind_ended_at"), "instance", ["kind", "ended_at"])
    op.create_table(
        "log",
        sa.Column("id", _BIG, autoincrement=True, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("owner", sa.String(length=500), nullable=False),
        sa.Column("event", sa.String(length=100), nullable=False),
        sa.Column("dag_id", _ID, nullable=True),
        sa.Column("run_id", _ID, nullable=True),
        sa.Column("task_id", _ID, nullable=True),
        sa.Column("extra", _LONG, nullable=False, comment="JSON"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log")),
        comment="the audit log: one line per change that a person or a verb made",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_log_at"), "log", ["at"])
    op.create_table(
        "slot_pool",
        sa.Column("pool", _ID, nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("used_slots", sa.Integer(), nullable=False, comment="kept by the wave's transaction"),
        sa.Column("description", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_slot_pool")),
        **_OPTIONS,
    )
    op.create_table(
        "variable",
        sa.Column("key", _ID, nullable=False),
        sa.Column("val", _LONG, nullable=False),
        sa.Column("is_encrypted", sa.Boolean(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_variable")),
        **_OPTIONS,
    )
    op.create_table(
        "task_attempt",
        sa.Column("dag_run_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("map_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("try_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=20), nullable=True),
        sa.Column("start_date", _TIME, nullable=True),
        sa.Column("end_date", _TIME, nullable=True),
        sa.Column("hostname", sa.String(length=250), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("dag_run_id", "task_id", "map_index", "try_number", name=op.f("pk_task_attempt")),
        comment="tries that a retry or a clear has superseded; the newest try is in task_instance",
        postgresql_partition_by="RANGE (dag_run_id)",
        **_OPTIONS,
    )
    op.create_table(
        "task_instance",
        sa.Column("dag_run_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("map_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=20), nullable=True),
        sa.Column("try_number", sa.Integer(), nullable=False, comment="tries begun; 0: none yet"),
        sa.Column("max_tries", sa.Integer(), nullable=False, comment="retries allowed, as in Airflow"),
        sa.Column("dispatches", sa.Integer(), nullable=False, comment="raised by every claim, never reused"),
        sa.Column("operator", sa.String(length=250), nullable=False),
        sa.Column("pool", _ID, nullable=False),
        sa.Column("pool_slots", sa.Integer(), nullable=False),
        sa.Column("priority_weight", sa.Integer(), nullable=False),
        sa.Column("queued_at", _TIME, nullable=True),
        sa.Column("start_date", _TIME, nullable=True),
        sa.Column("end_date", _TIME, nullable=True),
        sa.Column("next_at", _TIME, nullable=True, comment="when a retry or a reschedule is due"),
        sa.Column(
            "first_poke_at", _TIME, nullable=True, comment="start of the first poke of this try, for sensor timeouts"
        ),
        sa.Column(
            "worker_id",
            sa.String(length=36),
            nullable=True,
            comment="instance.id of the worker that was given the attempt",
        ),
        sa.Column("hostname", sa.String(length=250), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column(
            "reason", sa.Text(), nullable=True, comment="why it is in this state, where a process did not say so itself"
        ),
        sa.PrimaryKeyConstraint("dag_run_id", "task_id", "map_index", name=op.f("pk_task_instance")),
        postgresql_partition_by="RANGE (dag_run_id)",
        **_OPTIONS,
    )
    op.create_index(op.f("ix_task_instance_state_pool"), "task_instance", ["state", "pool"])
    op.create_table(
        "xcom",
        sa.Column("dag_run_id", _BIG, autoincrement=False, nullable=False),
        sa.Column("task_id", _ID, nullable=False),
        sa.Column("map_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", _ID, nullable=False),
        sa.Column("value", _LONG, nullable=False, comment="JSON"),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("dag_run_id", "task_id", "map_index", "key", name=op.f("pk_xcom")),
        postgresql_partition_by="RANGE (dag_run_id)",
        **_OPTIONS,
    )
