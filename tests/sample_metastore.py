"""Fills a metastore with rows whose values are hard to copy, and reads all of them back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select

from opskit.core.metastore import tables
from opskit.core.metastore.engine import open_engine, reading, transaction

START = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
AWKWARD = [
    "",
    " ",
    "Zürich ☂ 𝄞",
    'it\'s "quoted" `back`',
    "100 % %s %(x)s",
    "a\\b\\0\\n",
    "tab\tline\nend\r\n",
    "NULL",
    "\\N",
]


def fill(url: str, *, runs: int = 12, encrypt: Any = None, filler_bytes: int = 0) -> None:
    """Rows in every table. `encrypt(text)` encrypts the secrets; None: they stay plain."""
    engine = open_engine(url)
    hide = encrypt or (lambda text: text)
    try:
        with transaction(engine) as connection:
            add = lambda table, rows: connection.execute(insert(table), rows)  # noqa: E731
            add(
                tables.dag,
                [
                    {
                        "dag_id": f"dag {number} {AWKWARD[number]}",
                        "fileloc": "x.py",
                        "is_paused": number == 1,
                        "is_active": True,
                        "version_hash": "0" * 64,
                        "next_run_after": START,
                        "lease_owner": "a scheduler",
                        "lease_epoch": 7,
                        "revision": 3,
                    }
                    for number in range(3)
                ],
            )
            add(
                tables.dag_run,
                [
                    {
                        "id": number + 1,
                        "dag_id": f"dag 0 {AWKWARD[0]}",
                        "run_id": f"run {number}",
                        "run_type": "manual",
                        "state": "running" if number == 0 else "success",
                        "logical_date": START + timedelta(days=number),
                        "data_interval_start": START,
                        "data_interval_end": START,
                        "queued_at": START,
                        "conf": json.dumps({"text": AWKWARD[number % len(AWKWARD)]}),
                        "note": AWKWARD[number % len(AWKWARD)],
                    }
                    for number in range(runs)
                ],
            )
            add(
                tables.task_instance,
                [
                    {
                        "dag_run_id": run + 1,
                        "task_id": f"task_{task}",
                        "map_index": -1,
                        "state": [None, "queued", "running", "running", "success"][task] if run == 0 else "success",
                        "try_number": 1,
                        "max_tries": 1 if task == 2 else 0,
                        "dispatches": 1,
                        "pool": "default_pool",
                        "start_date": START if task else None,
                        "worker_id": "w" if task else None,
                        "reason": AWKWARD[task] if task % 2 else None,
                    }
                    for run in range(runs)
                    for task in range(5)
                ],
            )
            add(
                tables.xcom,
                [
                    {
                        "dag_run_id": run + 1,
                        "task_id": "task_1",
                        "map_index": -1,
                        "key": f"key {text}",
                        "value": json.dumps(text),
                        "created_at": START,
                    }
                    for run in range(runs)
                    for text in AWKWARD[2:7]
                ],
            )
            add(
                tables.asset,
                [
                    {
                        "hash": f"{number:064d}",
                        "name_hash": f"{number:064d}",
                        "uri_hash": f"{number:064d}",
                        "name": text or "-",
                        "uri": f"s3://lake/{number}",
                        "extra": json.dumps({"text": text}),
                        "created_at": START,
                    }
                    for number, text in enumerate(AWKWARD)
                ],
            )
            add(
                tables.asset_event,
                [{"asset_id": 1, "at": START, "extra": json.dumps({"text": text})} for text in AWKWARD],
            )
            add(tables.asset_queue, [{"event_id": 1, "dag_id": "dag_0", "asset_id": 1, "counts": True}])
            add(tables.asset_event_run, [{"event_id": 2, "dag_run_id": 1}])
            waiting = {"event_id": 3, "dag_id": "dag_0", "partition_key": "2026-01", "source_key": "1", "asset_id": 1}
            add(tables.asset_partition_queue, [{**waiting, "partition_date": START}])
            add(tables.asset_state, [{"asset_id": 1, "key": text or "-", "value": "1"} for text in AWKWARD[2:7]])
            kept = {"dag_run_id": 1, "task_id": "task_1", "map_index": -1, "value": '"☂"'}
            add(tables.task_state, [{**kept, "key": "page", "expires_at": None}])
            written = {"dag_run_id": 1, "task_id": "task_1", "map_index": -1, "at": START}
            add(tables.task_instance_note, [{**written, "note": "".join(AWKWARD[2:]), "username": "mia"}])
            asked = {"dag_run_id": 1, "task_id": "task_1", "map_index": -1, "try_number": 1, "is_open": True}
            add(tables.question, [{**asked, "subject": "".join(AWKWARD[2:]), "asked": "{}", "created_at": START}])
            people = [{"username": f"u{number}", "first_name": text} for number, text in enumerate(AWKWARD)]
            add(tables.web_user, [{**one, "password": "scrypt:2:1:1$salt$00", "roles": '["Op"]'} for one in people])
            add(tables.web_role, [{"name": "Öps", "permissions": '[["can_read", "DAG:d 1"]]'}])
            dates = {"created_at": START, "expires_at": START}
            browser = {"stamp": "0" * 64, "by": "password", "address": "::1", "agent": "☂", "seen_at": START}
            add(tables.web_session, [{"hash": "1" * 64, "user_id": 1, **browser, **dates}])
            add(tables.web_token, [{"hash": "2" * 64, "user_id": 1, "name": "☂", "scopes": '["read"]', **dates}])
            blocked = {"failures": 3, "last_at": START, "blocked_until": START}
            add(tables.web_sign_in_limit, [{"key": "3" * 64, **blocked}])
            add(
                tables.variable,
                [
                    {"key": f"v{number} {text.strip()}", "val": hide(text or "-"), "is_encrypted": encrypt is not None}
                    for number, text in enumerate(AWKWARD)
                ],
            )
            add(
                tables.connection,
                [
                    {
                        "conn_id": f"conn {number}",
                        "conn_type": "http",
                        "host": text,
                        "password": hide(f"secret-{number}-{text}"),
                        "port": number or None,
                        "extra": hide(json.dumps({"token": text})) if number % 2 else None,
                        "is_encrypted": encrypt is not None,
                    }
                    for number, text in enumerate(AWKWARD)
                ],
            )
            add(
                tables.instance,
                [
                    {
                        "id": "an old scheduler",
                        "kind": "scheduler",
                        "hostname": "elsewhere",
                        "home": "/",
                        "pid": 1,
                        "pid_started": 0.1 + 0.2,
                        "version": "0",
                        "started_at": START,
                        "heartbeat_at": START,
                        "progress_at": START,
                    }
                ],
            )
            for start in range(0, filler_bytes, 1_000_000):
                add(
                    tables.log,
                    [
                        {"at": START, "owner": "x", "event": "filler", "extra": f"{start + n:09d}" * 111}
                        for n in range(0, 1_000_000, 1_000)
                    ],
                )
    finally:
        engine.dispose()


def everything(url: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, ordered by primary key."""
    engine = open_engine(url)
    try:
        with reading(engine) as connection:
            return {
                table.name: [
                    dict(row._mapping) for row in connection.execute(select(table).order_by(*table.primary_key.columns))
                ]
                for table in tables.metadata.sorted_tables
            }
    finally:
        engine.dispose()


def drop_kept(url: str) -> None:
    """Drop the databases that restores kept beside this one."""
    if url.startswith("sqlite"):
        return  # files of the test's own folder
    server, _, name = url.rpartition("/")
    postgres = url.startswith("postgres")
    engine = open_engine(f"{server}/{'postgres' if postgres else 'information_schema'}")
    names = "SELECT datname FROM pg_database" if postgres else "SELECT schema_name FROM schemata"
    quote = '"' if postgres else "`"
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for other in connection.exec_driver_sql(names).scalars().all():
                if str(other).startswith(f"{name[:30]}_before_"):
                    connection.exec_driver_sql(f"DROP DATABASE {quote}{other}{quote}")
    finally:
        engine.dispose()
