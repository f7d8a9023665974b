"""Airflow's API for what administrators keep: who sees what, what is masked, what stays when something is changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete, insert, select, update

from opskit.core.metastore import tables
from opskit.core.metastore.engine import reading, transaction
from opskit.web import connection_trial
from tests.api_site import BROKEN, CONSUMER, DAG_ID, URI, ApiSite, api_site
from tests.dag_page_sample import START
from tests.databases import Databases

QUEUE = f"/api/v1/dags/{CONSUMER}/datasets/queuedEvent"


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    url = databases.migrated("sqlite")
    environment = {
        "OPSKIT__WEBSERVER__EXPOSE_CONFIG": "non-sensitive-only",
        "OPSKIT__CORE__TEST_CONNECTION": "Enabled",
        "OPSKIT__API__MAXIMUM_PAGE_LIMIT": "3",
        "OPSKIT__SMTP__SMTP_PASSWORD": "hunter2",
    }
    with api_site(tmp_path_factory.mktemp("home"), url, environment) as made:
        yield made
    databases.drop(url)


@pytest.fixture
def http(site: ApiSite) -> Iterator[httpx.Client]:
    with site.http() as made:
        yield made


def test_lists_come_in_parts_no_longer_than_the_setting_allows(http: httpx.Client) -> None:
    for number in range(5):
        http.post("/api/v1/variables", json={"key": f"v{number}", "value": str(number)}).raise_for_status()
    first = http.get("/api/v1/variables?order_by=-key&limit=100").json()
    assert [one["key"] for one in first["variables"]] == ["v4", "v3", "v2"]
    rest = http.get("/api/v1/variables?order_by=-key&offset=3&limit=0").json()
    assert [one["key"] for one in rest["variables"]] == ["v1", "v0"]
    assert first["total_entries"] == rest["total_entries"] == 5
    for number in range(5):
        assert http.delete(f"/api/v1/variables/v{number}").status_code == 204


def test_each_change_leaves_an_audit_line_without_its_secrets(http: httpx.Client, site: ApiSite) -> None:
    connection = {"connection_id": "crm", "conn_type": "http", "password": "hunter3", "extra": '{"token": "hunter4"}'}
    http.post("/api/v1/connections", json=connection).raise_for_status()
    http.patch("/api/v1/connections/crm", json={"password": "hunter5"}).raise_for_status()
    http.delete("/api/v1/connections/crm").raise_for_status()
    lines = http.get("/api/v1/eventLogs?included_events=connections add,connections edit,connections delete").json()
    assert [one["event"] for one in lines["event_logs"]] == [
        "connections add",
        "connections edit",
        "connections delete",
    ]
    assert {one["owner"] for one in lines["event_logs"]} == {"ada"}
    assert json.loads(lines["event_logs"][1]["extra"]) == {"by": "api", "conn_id": "crm", "fields": ["password"]}
    with reading(site.engine) as database:
        everything = " ".join(database.execute(select(tables.log.c.extra)).scalars())
    assert "hunter" not in everything


def test_what_no_key_decrypts_is_told_and_can_still_be_changed_and_deleted(http: httpx.Client, site: ApiSite) -> None:
    http.post("/api/v1/connections", json={"connection_id": "old", "conn_type": "http"}).raise_for_status()
    http.post("/api/v1/variables", json={"key": "old", "value": "1"}).raise_for_status()
    with transaction(site.engine) as database:
        lost = {"password": "gAAAAA-of-another-key", "extra": "gAAAAA-of-another-key"}
        database.execute(update(tables.connection).where(tables.connection.c.conn_id == "old").values(**lost))
        database.execute(update(tables.variable).where(tables.variable.c.key == "old").values(val="gAAAAA"))

    assert http.patch("/api/v1/connections/old", json={"password": "hunter6"}).json()["extra"] is None
    refused = http.get("/api/v1/connections/old")
    assert (refused.status_code, "connection 'old', extra" in refused.json()["detail"]) == (409, True)
    assert http.patch("/api/v1/connections/old", json={"extra": '{"a": "***"}'}).status_code == 409
    assert http.patch("/api/v1/connections/old", json={"extra": '{"a": 1}'}).json()["extra"] == '{"a": 1}'
    assert http.get("/api/v1/variables").json()["variables"] == [{"key": "old", "value": None, "description": None}]
    assert http.get("/api/v1/variables/old").status_code == 409
    assert http.patch("/api/v1/variables/old", json={"value": "2"}).json()["value"] == "2"
    assert http.delete("/api/v1/connections/old").status_code == 204
    assert http.delete("/api/v1/variables/old").status_code == 204


def test_a_trial_of_a_connection_says_what_came_of_it_without_its_password(http: httpx.Client, site: ApiSite) -> None:
    good = {"conn_type": "sqlite", "host": str(site.home / "there.db")}
    assert http.post("/api/v1/connections/test", json=good).json()["status"] is True
    bad = {"conn_type": "nothing-like-it", "password": "hunter7"}
    answer = http.post("/api/v1/connections/test", json=bad).json()
    assert answer["status"] is False
    assert "nothing-like-it" in answer["message"]
    assert "hunter7" not in answer["message"]


def test_a_trial_that_hangs_ends_with_its_process(
    http: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow"
    slow.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
    slow.chmod(0o755)
    monkeypatch.setattr(connection_trial, "_SECONDS", 0.2)
    monkeypatch.setattr(connection_trial.sys, "executable", str(slow))
    answer = http.post("/api/v1/connections/test", json={"conn_type": "sqlite"}).json()
    assert answer == {"status": False, "message": "no answer within 0 s"}


def test_somebody_who_sees_one_dag_sees_no_import_error_of_others(http: httpx.Client, site: ApiSite) -> None:
    def permissions(*dag_ids: str) -> list[dict[str, object]]:
        wanted = [("can_read", "ImportError"), *(("can_read", f"DAG:{dag_id}") for dag_id in dag_ids)]
        return [{"action": {"name": action}, "resource": {"name": resource}} for action, resource in wanted]

    http.post("/api/v1/roles", json={"name": "One DAG", "actions": permissions(DAG_ID)}).raise_for_status()
    http.patch("/api/v1/users/viola", json={"roles": [{"name": "One DAG"}]}).raise_for_status()
    everything = http.get("/api/v1/importErrors").json()["import_errors"][0]
    assert everything["filename"] == str(site.config.dags_folder / BROKEN)
    path = f"/api/v1/importErrors/{everything['import_error_id']}"
    with site.http("viola") as theirs:
        assert theirs.get("/api/v1/importErrors").json()["total_entries"] == 0
        assert theirs.get(path).status_code == 404
        http.patch("/api/v1/roles/One DAG", json={"actions": permissions(CONSUMER)}).raise_for_status()
        assert theirs.get(path).json() == everything
        with transaction(site.engine) as database:
            both = json.dumps([CONSUMER, DAG_ID])
            database.execute(update(tables.dag_file).where(tables.dag_file.c.path == BROKEN).values(dag_ids=both))
        assert "SyntaxError" not in theirs.get(path).text
    http.patch("/api/v1/users/viola", json={"roles": [{"name": "Viewer"}]}).raise_for_status()


def test_the_configuration_comes_as_json_or_as_text_and_never_with_its_secrets(http: httpx.Client) -> None:
    as_json = http.get("/api/v1/config?section=smtp").json()
    options = {one["key"]: one["value"] for one in as_json["sections"][0]["options"]}
    assert options["smtp_password"] == "< hidden >"
    as_text = http.get("/api/v1/config", headers={"accept": "text/plain"})
    assert as_text.headers["content-type"].startswith("text/plain")
    assert "[scheduler]\n" in as_text.text
    assert "hunter2" not in as_text.text
    best = {"accept": "text/plain;q=0.2, application/json;q=0.9"}
    assert http.get("/api/v1/config/section/api/option/maximum_page_limit", headers=best).json() == {
        "sections": [{"name": "api", "options": [{"key": "maximum_page_limit", "value": "3"}]}]
    }
    assert http.get("/api/v1/config", headers={"accept": "image/png"}).status_code == 406
    assert http.get("/api/v1/config?section=nothing").status_code == 404
    with_viewer = httpx.Client(base_url=http.base_url, auth=("viola", "correct horse battery"), verify=False)
    with with_viewer:
        assert with_viewer.get("/api/v1/config").status_code == 403


def test_a_pool_in_use_keeps_its_name_and_its_existence(http: httpx.Client, site: ApiSite) -> None:
    http.post("/api/v1/pools", json={"name": "busy", "slots": 4}).raise_for_status()
    claimed = tables.task_instance
    with transaction(site.engine) as database:
        values = {"dag_run_id": site.run.id, "task_id": "extra", "map_index": -1, "pool": "busy", "pool_slots": 2}
        database.execute(insert(claimed).values(state="running", **values))
    shown = http.get("/api/v1/pools/busy").json()
    assert (shown["running_slots"], shown["queued_slots"], shown["include_deferred"]) == (2, 0, False)
    assert http.delete("/api/v1/pools/busy").status_code == 409
    assert http.patch("/api/v1/pools/busy", json={"name": "idle", "slots": 4}).status_code == 409
    with transaction(site.engine) as database:
        database.execute(delete(claimed).where(claimed.c.task_id == "extra"))
    assert http.patch("/api/v1/pools/busy", json={"name": "idle", "slots": 4}).json()["name"] == "idle"
    assert http.patch("/api/v1/pools/idle", json={"name": "default_pool", "slots": 4}).status_code == 400
    assert http.patch("/api/v1/pools/default_pool", json={"name": "other", "slots": 4}).status_code == 409
    assert http.delete("/api/v1/pools/default_pool").status_code == 400
    assert http.delete("/api/v1/pools/idle").status_code == 204


def test_of_the_events_that_wait_only_the_old_ones_can_be_taken_back(http: httpx.Client, site: ApiSite) -> None:
    waiting = http.get(QUEUE).json()["queued_events"]
    assert waiting == [{"uri": URI, "dag_id": CONSUMER, "created_at": START.isoformat()}]
    between = {"before": (START + timedelta(minutes=30)).isoformat()}
    assert http.delete(QUEUE, params={"before": START.isoformat()}).status_code == 404
    assert http.delete(QUEUE, params=between).status_code == 204
    left = http.get(QUEUE).json()["queued_events"]
    assert [one["created_at"] for one in left] == [(START + timedelta(hours=1)).isoformat()]
    made = http.post("/api/v1/datasets/events", json={"dataset_uri": URI, "extra": {"by": "hand"}}).json()
    assert made["extra"] == {"by": "hand", "from_rest_api": True}
    assert made["source_dag_id"] is None
    with reading(site.engine) as database:
        woken = database.execute(select(tables.dag.c.revision).where(tables.dag.c.dag_id == CONSUMER)).scalar_one()
    assert woken > 0
    assert http.delete(QUEUE).status_code == 204
    assert http.get(QUEUE).status_code == 404


def test_who_may_not_change_something_learns_nothing_of_what_a_body_must_hold(site: ApiSite) -> None:
    with site.http("viola") as http:
        for path in ("connections", "connections/test", "variables", "pools", "users", "roles"):
            assert http.post(f"/api/v1/{path}", json={}).status_code == 403, path
        for path in ("connections/x", "variables/x", "pools/x", "users/ada", "roles/Op"):
            assert http.patch(f"/api/v1/{path}", json={"nothing": 1}).status_code == 403, path


# --- health ---


def test_health_is_that_of_a_cluster_without_a_scheduler(site: ApiSite) -> None:
    with site.http(None) as http:
        health = http.get("/health").json()
        assert health == http.get("/api/v1/health").json()
    assert health == {
        "metadatabase": {"status": "healthy"},
        "scheduler": {"status": "unhealthy", "latest_scheduler_heartbeat": None},
        "triggerer": {"status": None, "latest_triggerer_heartbeat": None},
        "dag_processor": {"status": None, "latest_dag_processor_heartbeat": None},
    }


@pytest.mark.parametrize(
    ("heartbeat_age", "progress_age", "ended", "status"),
    [
        (1, 1, False, "healthy"),
        (1, 20, False, "healthy"),
        (1, 3600, False, "unhealthy"),
        (3600, 3600, False, "unhealthy"),
        (1, 1, True, "unhealthy"),
    ],
)
def test_a_scheduler_is_healthy_while_it_beats_and_gets_on(
    site: ApiSite, heartbeat_age: int, progress_age: int, ended: bool, status: str
) -> None:
    now = datetime.now(UTC)
    row = {
        "id": "the-scheduler",
        "kind": "scheduler",
        "hostname": "h",
        "home": "/h",
        "pid": 1,
        "pid_started": 1.0,
        "version": "1",
        "started_at": now - timedelta(hours=2),
        "heartbeat_at": now - timedelta(seconds=heartbeat_age),
        "progress_at": now - timedelta(seconds=progress_age),
        "ended_at": now if ended else None,
    }
    with transaction(site.engine) as database:
        database.execute(insert(tables.instance).values(**row))
    try:
        with site.http(None) as http:
            found = http.get("/health").json()["scheduler"]
    finally:
        with transaction(site.engine) as database:
            database.execute(delete(tables.instance))
    assert found == {"status": status, "latest_scheduler_heartbeat": row["heartbeat_at"].isoformat()}


def test_liveness_asks_nobody_and_readiness_asks_the_metastore(databases: Databases, tmp_path: Path) -> None:
    url = databases.migrated("sqlite")
    with api_site(tmp_path, url) as site, site.http(None) as http:
        assert (http.get("/livez").status_code, http.get("/readyz").status_code) == (200, 200)
        assert (http.head("/livez").status_code, http.head("/health").content) == (200, b"")
        with transaction(site.engine) as database:
            database.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
        old = http.get("/readyz")
        assert (old.status_code, "schema" in old.json()["detail"]) == (503, True)
        site.engine.dispose()
        Path(url.removeprefix("sqlite:///")).rename(tmp_path / "away.db")
        gone = http.get("/readyz")
        assert (gone.status_code, gone.json()["detail"]) == (503, "the metastore is not reachable")
        assert str(tmp_path) not in gone.text
        assert http.get("/livez").status_code == 200
        assert http.get("/health").json()["metadatabase"] == {"status": "unhealthy"}
        assert http.get("/api/v1/pools", auth=("ada", "correct horse battery")).status_code == 503
