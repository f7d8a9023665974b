"""The tables of the metastore. `migrations/` builds the same; a test proves them equal.

Keys are natural where they are short, so that the scheduler knows them without asking. Times are aware UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

ID = String(250).with_variant(mysql.VARCHAR(250, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
"""dag_id, task_id, run_id, keys: Airflow's own limit; compared byte by byte on every database."""
_BIG = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
_LONG = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in and out, stored as UTC. A naive one is refused: it would be a guess."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_HISTORY: dict[str, Any] = {"postgresql_partition_by": "RANGE (dag_run_id)"}
"""The children of dag_run lie in partitions (partitions.py). They have no foreign key: MariaDB and MySQL allow none
there, and on PostgreSQL its triggers cost more than all else of a deletion. Whoever deletes a run deletes them too
(history.delete_runs)."""

dag = Table(
    "dag",
    metadata,
    Column("dag_id", ID, primary_key=True),
    Column("fileloc", String(2000), nullable=False, comment="path below the DAG folder"),
    Column("is_paused", Boolean(create_constraint=False), nullable=False),
    Column("is_active", Boolean(create_constraint=False), nullable=False, comment="its file still defines it"),
    Column("version_hash", String(64), nullable=False, comment="dag_version that new runs use"),
    Column("release", String(100), comment="release of the DAG folder that it was loaded from; NULL: a plain folder"),
    Column("description", Text),
    Column("owners", String(2000), nullable=False, default=""),
    Column("tags", Text, nullable=False, default="[]", comment="JSON list"),
    Column("schedule", Text, nullable=False, default="", comment="as text, for people"),
    Column("last_parsed_at", UtcDateTime),
    Column("next_logical_date", UtcDateTime),
    Column("next_interval_start", UtcDateTime),
    Column("next_interval_end", UtcDateTime),
    Column("next_run_after", UtcDateTime, comment="when the next scheduled run may be created"),
    Column("unpaused_at", UtcDateTime, comment="NULL: it never was"),
    Column("plan", _LONG, comment="JSON: the answer of the DAG file, where only it can tell the next run"),
    Column("asset_condition", _LONG, comment="JSON: the events of assets that make a run; NULL: none do"),
    # --- the protocol: see ARCHITECTURE.md, "Leases" ---
    Column("wake_at", UtcDateTime, comment="earliest time at which a scheduler should look; NULL: never"),
    Column("revision", _BIG, nullable=False, default=0, comment="raised by every change from outside"),
    Column("lease_owner", String(36), comment="instance.id of the scheduler that decides for this DAG"),
    Column("lease_epoch", _BIG, nullable=False, default=0, comment="raised by every claim"),
    Column("access_control", _LONG, comment="JSON: what its file gives to roles: role, resource, actions"),
    Index(None, "wake_at"),
    Index(None, "lease_owner"),
)

dag_version = Table(
    "dag_version",
    metadata,
    Column("hash", String(64), primary_key=True, comment="SHA-256 of data"),
    Column("dag_id", ID, nullable=False, index=True),
    Column("fileloc", String(2000), nullable=False),
    Column("data", _LONG, nullable=False, comment="JSON, see core/dag/serialized.py"),
    Column("source", _LONG, comment="text of the DAG file"),
    Column("created_at", UtcDateTime, nullable=False),
)

dag_file = Table(
    "dag_file",
    metadata,
    Column(
        "path_hash",
        String(64),
        primary_key=True,
        comment="SHA-256 of path: paths are longer than a key may be",
    ),
    Column("path", String(2000), nullable=False, comment="below the DAG folder"),
    Column("content_hash", String(64), nullable=False),
    Column("dag_ids", Text, nullable=False, default="[]", comment="JSON list of the last good load"),
    Column("parsed_at", UtcDateTime, nullable=False),
    Column("parse_seconds", Double, nullable=False),
    Column("import_error", _LONG, comment="NULL: the last load was good"),
)

dag_run = Table(
    "dag_run",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("dag_id", ID, nullable=False),
    Column("run_id", ID, nullable=False),
    Column(
        "run_type",
        String(20),
        nullable=False,
        comment="scheduled, manual, backfill, asset_triggered, dataset_triggered",
    ),
    Column("state", String(20), nullable=False, comment="queued, running, success, failed"),
    Column("logical_date", UtcDateTime, nullable=False),
    Column("data_interval_start", UtcDateTime, nullable=False),
    Column("data_interval_end", UtcDateTime, nullable=False),
    Column("conf", _LONG, nullable=False, default="{}", comment="JSON"),
    Column("version_hash", String(64), comment="dag_version that its task instances were made from"),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("start_date", UtcDateTime),
    Column("end_date", UtcDateTime),
    Column("note", Text),
    Column("partition_key", ID, comment="of assets that come in partitions"),
    Column("partition_date", UtcDateTime, comment="when that partition begins, where its key tells"),
    UniqueConstraint("dag_id", "run_id"),
    UniqueConstraint("dag_id", "logical_date"),
    Index(None, "dag_id", "state"),
    Index(None, "state", "end_date"),
)

task_instance = Table(
    "task_instance",
    metadata,
    Column("dag_run_id", _BIG, primary_key=True, autoincrement=False),
    Column("task_id", ID, primary_key=True),
    Column("map_index", Integer, primary_key=True, default=-1, autoincrement=False),
    Column("state", String(20)),
    Column("try_number", Integer, nullable=False, default=0, comment="tries begun; 0: none yet"),
    Column("max_tries", Integer, nullable=False, default=0, comment="retries allowed, as in Airflow"),
    Column("dispatches", Integer, nullable=False, default=0, comment="raised by every claim, never reused"),
    Column("operator", String(250), nullable=False, default=""),
    Column("pool", ID, nullable=False, default="default_pool"),
    Column("pool_slots", Integer, nullable=False, default=1),
    Column("priority_weight", Integer, nullable=False, default=1),
    Column("queued_at", UtcDateTime),
    Column("start_date", UtcDateTime),
    Column("end_date", UtcDateTime),
    Column("next_at", UtcDateTime, comment="when a retry or a reschedule is due"),
    Column("first_poke_at", UtcDateTime, comment="start of the first poke of this try, for sensor timeouts"),
    Column("worker_id", String(36), comment="instance.id of the worker that was given the attempt"),
    Column("hostname", String(250)),
    Column("pid", Integer),
    Column("reason", Text, comment="why it is in this state, where a process did not say so itself"),
    Index(None, "state", "pool"),
    **_HISTORY,
)

task_attempt = Table(
    "task_attempt",
    metadata,
    Column("dag_run_id", _BIG, primary_key=True, autoincrement=False),
    Column("task_id", ID, primary_key=True),
    Column("map_index", Integer, primary_key=True, autoincrement=False),
    Column("try_number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(20)),
    Column("start_date", UtcDateTime),
    Column("end_date", UtcDateTime),
    Column("hostname", String(250)),
    Column("pid", Integer),
    Column("reason", Text),
    comment="tries that a retry or a clear has superseded; the newest try is in task_instance",
    **_HISTORY,
)

xcom = Table(
    "xcom",
    metadata,
    Column("dag_run_id", _BIG, primary_key=True, autoincrement=False),
    Column("task_id", ID, primary_key=True),
    Column("map_index", Integer, primary_key=True, default=-1, autoincrement=False),
    Column("key", ID, primary_key=True),
    Column("value", _LONG, nullable=False, comment="JSON"),
    Column("created_at", UtcDateTime, nullable=False),
    **_HISTORY,
)

attempt_result = Table(
    "attempt_result",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("dag_id", ID, nullable=False, index=True),
    Column("worker_id", String(36), nullable=False),
    Column("payload", _LONG, nullable=False, comment="JSON: the result message of ARCHITECTURE.md, 'Wire'"),
    Column("created_at", UtcDateTime, nullable=False),
    comment="results of workers that can't reach the scheduler; the DAG's owner takes and deletes them",
)

instance = Table(
    "instance",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(20), nullable=False, comment="scheduler, worker, dag_processor, gateway"),
    Column("hostname", String(250), nullable=False),
    Column("home", String(2000), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", Double, nullable=False, comment="process start, seconds since boot: tells a reused pid"),
    Column("version", String(50), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("heartbeat_at", UtcDateTime, nullable=False),
    Column("progress", _BIG, nullable=False, default=0, comment="loops that ended well"),
    Column("progress_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime, comment="set when it stopped, or was found dead"),
    Column("detail", Text, nullable=False, default="{}", comment="JSON"),
    Index(None, "kind", "ended_at"),
)

pool = Table(
    "slot_pool",
    metadata,
    Column("pool", ID, primary_key=True),
    Column("slots", Integer, nullable=False),
    Column("used_slots", Integer, nullable=False, default=0, comment="kept by the wave's transaction"),
    Column("description", Text),
)

variable = Table(
    "variable",
    metadata,
    Column("key", ID, primary_key=True),
    Column("val", _LONG, nullable=False),
    Column("is_encrypted", Boolean(create_constraint=False), nullable=False),
    Column("description", Text),
)

connection = Table(
    "connection",
    metadata,
    Column("conn_id", ID, primary_key=True),
    Column("conn_type", String(500), nullable=False, default=""),
    Column("description", Text),
    Column("host", String(500)),
    Column("schema", String(500)),
    Column("login", Text),
    Column("password", Text, comment="encrypted"),
    Column("port", Integer),
    Column("extra", _LONG, comment="encrypted"),
    Column("is_encrypted", Boolean(create_constraint=False), nullable=False),
)

log = Table(
    "log",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("owner", String(500), nullable=False),
    Column("event", String(100), nullable=False),
    Column("dag_id", ID),
    Column("run_id", ID),
    Column("task_id", ID),
    Column("extra", _LONG, nullable=False, default="{}", comment="JSON"),
    Index(None, "event", "at"),
    comment="the audit log: one line per change that a person or a verb made",
)

held_dag = Table(
    "held_dag",
    metadata,
    Column("dag_id", ID, primary_key=True),
    Column("owner", String(500), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    comment="DAGs that somebody paused all at once: resuming unpauses these",
)

asset = Table(
    "asset",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("hash", String(64), nullable=False, unique=True, comment="of name and URI, which are too long for a key"),
    Column("name_hash", String(64), nullable=False, index=True),
    Column("uri_hash", String(64), nullable=False, index=True),
    Column("name", String(1500), nullable=False),
    Column("uri", String(1500), nullable=False),
    Column("asset_group", String(1500), nullable=False, default="asset"),
    Column("extra", _LONG, nullable=False, default="{}", comment="JSON"),
    Column("created_at", UtcDateTime, nullable=False),
)

asset_alias = Table(
    "asset_alias",
    metadata,
    Column("asset_id", _BIG, primary_key=True, autoincrement=False),
    Column("name_hash", String(64), primary_key=True),
    Column("name", String(1500), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "name_hash"),
    comment="the assets that tasks have linked to an alias",
)

asset_reference = Table(
    "asset_reference",
    metadata,
    Column("dag_id", ID, primary_key=True),
    Column("task_id", ID, primary_key=True, comment="empty: the schedule of the DAG"),
    Column("role", String(10), primary_key=True, comment="schedule, outlet, inlet"),
    Column("hash", String(64), primary_key=True, comment="of kind, name and URI"),
    Column("kind", String(10), nullable=False, comment="asset, alias; name, uri: an asset that is defined elsewhere"),
    Column("name", String(1500), nullable=False),
    Column("uri", String(1500), nullable=False),
    Column("watchers", Text, nullable=False, default="[]", comment="JSON list: names of the watchers it declares"),
    Index(None, "hash", "role"),
    comment="which DAGs and tasks name which assets and aliases, by the current version of each DAG",
)

asset_event = Table(
    "asset_event",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("asset_id", _BIG, nullable=False),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("extra", _LONG, nullable=False, default="{}", comment="JSON"),
    Column("aliases", _LONG, nullable=False, default="[]", comment="JSON list: names of the aliases it came through"),
    Column("source_dag_id", ID),
    Column("source_task_id", ID),
    Column("source_run_id", ID),
    Column("source_map_index", Integer, nullable=False, default=-1),
    Column("partition_key", ID),
    Index(None, "asset_id", "at"),
)

asset_queue = Table(
    "asset_queue",
    metadata,
    Column("event_id", _BIG, primary_key=True, autoincrement=False),
    Column("dag_id", ID, primary_key=True),
    Column("asset_id", _BIG, nullable=False),
    Column("counts", Boolean(create_constraint=False), nullable=False, comment="false: the DAG was paused at the time"),
    Index(None, "dag_id"),
    comment="events that no run of this DAG has been made of yet",
)

asset_event_run = Table(
    "asset_event_run",
    metadata,
    Column("event_id", _BIG, primary_key=True, autoincrement=False),
    Column("dag_run_id", _BIG, primary_key=True, autoincrement=False),
    Index(None, "dag_run_id"),
    comment="the runs that an event has made",
)

asset_partition_queue = Table(
    "asset_partition_queue",
    metadata,
    Column("event_id", _BIG, primary_key=True, autoincrement=False),
    Column("dag_id", ID, primary_key=True),
    Column("partition_key", ID, primary_key=True, comment="of the run that the event is for"),
    Column("asset_id", _BIG, nullable=False),
    Column("source_key", ID, nullable=False, comment="partition of the event"),
    Column("partition_date", UtcDateTime, comment="of the run that made the event, where the mapper carries it"),
    Index(None, "dag_id"),
    comment="events of partitions that no run of this DAG has been made of yet",
)

task_state = Table(
    "task_state",
    metadata,
    Column("dag_run_id", _BIG, primary_key=True, autoincrement=False),
    Column("task_id", ID, primary_key=True),
    Column("map_index", Integer, primary_key=True, autoincrement=False),
    Column("key", ID, primary_key=True),
    Column("value", _LONG, nullable=False, comment="JSON"),
    Column("expires_at", UtcDateTime, index=True, comment="NULL: never"),
    comment="what a task instance keeps for its next tries",
)

asset_state = Table(
    "asset_state",
    metadata,
    Column("asset_id", _BIG, primary_key=True, autoincrement=False),
    Column("key", ID, primary_key=True),
    Column("value", _LONG, nullable=False, comment="JSON"),
    comment="what tasks keep about an asset",
)

task_instance_note = Table(
    "task_instance_note",
    metadata,
    Column("dag_run_id", _BIG, primary_key=True, autoincrement=False),
    Column("task_id", ID, primary_key=True),
    Column("map_index", Integer, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("username", ID, nullable=False, comment="who wrote it"),
    Column("at", UtcDateTime, nullable=False),
    comment="what people write on task instances",
)

question = Table(
    "hitl_detail",
    metadata,
    Column("dag_run_id", _BIG, primary_key=True, autoincrement=False),
    Column("task_id", ID, primary_key=True),
    Column("map_index", Integer, primary_key=True, autoincrement=False),
    Column("try_number", Integer, primary_key=True, autoincrement=False),
    Column("asked", _LONG, nullable=False, comment="JSON: the question, see core/dag/human_input.py"),
    Column("subject", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("timeout_at", UtcDateTime, comment="when the defaults are taken; NULL: it waits for ever"),
    Column("is_open", Boolean(create_constraint=False), nullable=False, comment="nobody has answered yet"),
    Column("responded_at", UtcDateTime, comment="by a person, or when the time was over"),
    Column("responded_by", ID, comment="username; NULL: nobody answered in time"),
    Column("responded_by_name", String(500)),
    Column("answer", _LONG, comment="JSON: chosen_options, params_input; NULL: there is none"),
    Index(None, "is_open", "created_at"),
    Index(None, "created_at"),
    comment="what tasks ask people, and the answers",
)

web_user = Table(
    "web_user",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("username", ID, nullable=False, unique=True),
    Column("first_name", String(250), nullable=False, default=""),
    Column("last_name", String(250), nullable=False, default=""),
    Column("email", String(320), nullable=False, default=""),
    Column("password", String(500), comment="a hash, with how it was made; NULL: signs in elsewhere"),
    Column("is_active", Boolean(create_constraint=False), nullable=False, default=True),
    Column("roles", Text, nullable=False, default="[]", comment="JSON list of names"),
    Column("identity", String(64), unique=True, comment="SHA-256 of who vouches for this person, and of whom"),
    Column("created_at", UtcDateTime, nullable=False, default=lambda: datetime.now(UTC)),
    Column("changed_at", UtcDateTime, nullable=False, default=lambda: datetime.now(UTC)),
    Column("last_sign_in_at", UtcDateTime),
    Column("sign_ins", Integer, nullable=False, default=0),
    Column("failed_sign_ins", Integer, nullable=False, default=0, comment="since the last one that went well"),
    comment="who may use the web UI and the REST API",
)

web_role = Table(
    "web_role",
    metadata,
    Column("name", ID, primary_key=True),
    Column("permissions", _LONG, nullable=False, default="[]", comment="JSON list of [action, resource]"),
    comment="roles that people made, and what they added to those that are always there",
)

web_session = Table(
    "web_session",
    metadata,
    Column("hash", String(64), primary_key=True, comment="SHA-256 of the cookie"),
    Column("user_id", _BIG, nullable=False, index=True),
    Column("stamp", String(64), nullable=False, comment="of the password that it was begun with"),
    Column("by", String(10), nullable=False, comment="password, oidc"),
    Column("address", String(64), nullable=False),
    Column("agent", String(250), nullable=False, comment="what the browser calls itself"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False, comment="to the minute"),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)

web_token = Table(
    "web_token",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("hash", String(64), nullable=False, unique=True, comment="SHA-256 of the token"),
    Column("user_id", _BIG, nullable=False, index=True),
    Column("name", String(250), nullable=False),
    Column("scopes", Text, nullable=False, default="[]", comment="JSON list: all, read, or action:resource"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, comment="NULL: never"),
    Column("used_at", UtcDateTime, comment="to the minute"),
    Column("revoked_at", UtcDateTime),
)

web_sign_in_limit = Table(
    "web_sign_in_limit",
    metadata,
    Column("key", String(64), primary_key=True, comment="SHA-256 of a username or an address"),
    Column("failures", Integer, nullable=False),
    Column("last_at", UtcDateTime, nullable=False, index=True),
    Column("blocked_until", UtcDateTime, nullable=False),
    comment="wrong passwords of the last time, and until when no more are looked at",
)

for _table in metadata.tables.values():
    # Whatever the defaults of a MariaDB or MySQL server are: all of Unicode, compared byte by byte, with transactions.
    for _kind in ("mysql", "mariadb"):
        _table.dialect_options[_kind]["engine"] = "InnoDB"
        _table.dialect_options[_kind]["charset"] = "utf8mb4"
        _table.dialect_options[_kind]["collate"] = "utf8mb4_bin"
