"""A webserver in a thread of the test, on a metastore with a DAG, runs, datasets and all else that the API tells of."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy import insert, update

from opskit import config as settings
from opskit.config import Config
from opskit.core.metastore import asset_events, asset_rows, audit, dag_loads, passwords, tables, users
from opskit.core.metastore.engine import Connection, Engine, open_engine, transaction
from opskit.core.metastore.runs import Run
from opskit.web.app import make_app
from tests import dag_page_sample as sample
from tests.metastore_rows import dag_data, loaded_file
from tests.waiting import wait_until

PASSWORD = "correct horse battery"
_HASHED = passwords.hashed(PASSWORD)
DAG_ID, CONSUMER, URI = sample.DAG_ID, "orders_report", "s3://lake/orders/2026"
BROKEN = "broken.py"


@dataclass
class ApiSite:
    """A running webserver. `run` is the newest run of DAG_ID. Users: ada (Admin), viola (Viewer), all with PASSWORD."""

    home: Path
    config: Config
    engine: Engine
    url: str
    run: Run
    app: Any

    def http(self, username: str | None = "ada") -> httpx.Client:
        """A client for paths below `url`."""
        return httpx.Client(
            base_url=self.url, auth=(username, PASSWORD) if username else None, timeout=30, verify=False
        )


@contextmanager
def api_site(home: Path, url: str, environment: dict[str, str] | None = None) -> Iterator[ApiSite]:
    """`url`: of a migrated metastore. `environment`: settings, OPSKIT__SECTION__KEY."""
    config = settings.load(home, {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url, **(environment or {})})
    engine = open_engine(config, pool_size=5)
    try:
        with transaction(engine) as connection:
            run = _fill(connection)
        sample.write_log(config.logs_folder, run, "transform.deep.join", 3, "the newest attempt\n")
        sample.write_log(config.logs_folder, run, sample.MAPPED, 1, "the seventh\n", map_index=7)
        (config.dags_folder).mkdir(parents=True, exist_ok=True)
        app = make_app(config, engine)
        with serving(app) as address:
            yield ApiSite(home, config, engine, address, run, app)
    finally:
        engine.dispose()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The URL of an application that answers in a thread of this process."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, 30)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive()


def _fill(connection: Connection) -> Run:
    now = sample.START
    for name, role in (("ada", "Admin"), ("viola", "Viewer")):
        users.create_user(
            connection,
            name,
            now,
            roles=[role],
            password_hash=_HASHED,
            first_name=name.title(),
            last_name="Example",
            email=f"{name}@example.org",
        )
    run = sample.fill(connection, many_runs=3)[-1]
    _add_datasets(connection, run, now)
    connection.execute(
        insert(tables.dag_file).values(
            path_hash=hashlib.sha256(BROKEN.encode()).hexdigest(),
            path=BROKEN,
            content_hash="1" * 64,
            dag_ids=json.dumps([CONSUMER]),
            parsed_at=now,
            parse_seconds=0.1,
            import_error="SyntaxError: invalid syntax",
        )
    )
    audit.write(connection, "dags trigger", now, owner="ada", dag_id=DAG_ID, run_id=run.run_id, extra={"by": "web"})
    return run


def _add_datasets(connection: Connection, run: Run, now: datetime) -> None:
    dag_loads.store_loaded_files(connection, [loaded_file(f"{CONSUMER}.py", dag_data(CONSUMER))], now)
    leaf = {"asset": {"name": URI, "uri": URI, "group": "asset"}}
    connection.execute(
        update(tables.dag).where(tables.dag.c.dag_id == CONSUMER).values(asset_condition=json.dumps({"all": [leaf]}))
    )
    asset_rows.ensure_assets(connection, [asset_rows.NewAsset(URI, URI, "asset", {"team": "data"})], now)
    rows = [(CONSUMER, "", asset_rows.SCHEDULE), (DAG_ID, "report", asset_rows.OUTLET)]
    connection.execute(
        insert(tables.asset_reference),
        [
            {
                "dag_id": dag_id,
                "task_id": task_id,
                "role": role,
                "hash": asset_rows.asset_hash(URI, URI),
                "kind": "asset",
                "name": URI,
                "uri": URI,
            }
            for dag_id, task_id, role in rows
        ],
    )
    source = (DAG_ID, "report", run.run_id, -1)
    events = [asset_events.NewEvent(URI, URI, "asset", {"rows": 3}, source=source)]
    asset_events.record(connection, events, now)
    events = [asset_events.NewEvent(URI, URI, "asset", {"rows": 4}, source=source)]
    asset_events.record(connection, events, now + timedelta(hours=1))
