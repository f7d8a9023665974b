"""Pages and API of operations, with real processes of opskit behind them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from opskit.core.metastore import audit
from opskit.core.metastore.engine import reading
from tests.conftest import Opskit
from tests.operations_site import OperationsSite, operations_site
from tests.waiting import wait_until

API = "/opskit/v1"


@pytest.fixture
def site(home: Path, databases: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[OperationsSite]:
    """On SQLite: what verbs do on other databases is tested with them."""
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", databases.migrated("sqlite"))
    with operations_site(home) as made:
        yield made


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    assert " style=" not in answer.text
    body = re.sub(r"<[^>]+>", " ", answer.text[answer.text.index('id="flash"') : answer.text.index("</main>")])
    return re.sub(r"\s+", " ", html.unescape(body))


def run_job(client: httpx.Client, verb: str, parameter: str = "") -> dict[str, Any]:
    """Start it by the API, and wait for its end."""
    begun = client.post(f"{API}/jobs", json={"verb": verb, "parameter": parameter})
    assert begun.status_code == 202, begun.text

    def ended() -> dict[str, Any]:
        job: dict[str, Any] = client.get(f"{API}/jobs/{begun.json()['id']}", params={"wait": 20}).json()
        return job if job["state"] in ("done", "failed") else {}

    return wait_until(ended, 90)


def test_a_backup_is_taken_by_the_page_listed_proven_and_planned_for_a_restore(site: OperationsSite) -> None:
    with site.as_role("Op") as client:
        assert "The store is" not in text_of(client.get("/operations/backups"))
        text = text_of(client.post("/operations/start", data={"verb": "backup", "back": "/operations/backups"}))
        assert "opskit backup was started." in text
        started = site.verbs.last("backup")
        assert started is not None
        job = site.verbs.wait(started.id, 90)
        assert (job.state, job.exit_code, job.by) == ("done", 0, "op"), job.message
        backup_id = job.report["backup_id"]

        listed = client.get(f"{API}/backups").json()
        assert [(one["id"], one["state"]) for one in listed["backups"]] == [(backup_id, "verified")]
        text = text_of(client.get("/operations/backups"))
        assert backup_id in text
        assert "✓ verified" in text
        assert client.get(f"{API}/backups/{backup_id}").json()["receipt"]["ok"] is True
        assert client.get(f"{API}/backups/{backup_id}/restore-plan").status_code == 404

        plan = run_job(client, "restore-plan", backup_id)
        assert plan["report"]["backup_id"] == backup_id
        page = text_of(client.get(f"/operations/backups/{backup_id}"))
        assert "✓ restored and equal" in page
        assert "What it would do restore " in page
        assert f"opskit restore {backup_id} --plan" in page
        shown = client.get(f"{API}/backups/{backup_id}/restore-plan").json()
        assert shown["steps"] == plan["report"]["steps"]
        assert shown["command"] == f"opskit restore {backup_id}"

        home = client.get(f"{API}/overview").json()
        assert home["backups"]["proven_id"] == backup_id
        assert backup_id in client.get("/").text
    with reading(site.engine) as connection:
        lines = audit.read(connection, event="operations start")
    assert [(line.owner, line.extra["command"]) for line in lines] == [
        ("op", f"opskit restore from --plan {backup_id}"),
        ("op", "opskit backup"),
    ]


def test_reports_of_verbs_that_ran_elsewhere_are_shown(site: OperationsSite, opskit: Opskit) -> None:
    (site.home / "dags" / "orders.py").write_text("x = 1\n")
    logs = site.home / "logs"
    logs.mkdir()
    opskit("logs", "clean")
    opskit("dags-drift", check=False)
    opskit("watchdog", "--no-start", check=False)
    with site.as_role("Op") as client:
        clean = client.get(f"{API}/clean-up").json()
        assert [(run["exit_code"], run["report"]["dry_run"]) for run in clean["logs"]] == [(0, True)]
        assert clean["metastore"] == []
        text = text_of(client.get("/operations/clean-up"))
        assert "Would go 0 logs" in text
        assert "No clean-up of the metastore has run on this host." in text
        drift = client.get(f"{API}/drift").json()["runs"][0]
        assert drift["report"]["hosts"][0]["host"] == "local"
        text = text_of(client.get("/operations/drift"))
        assert drift["report"]["hosts"][0]["state"] in text
        watchdog = client.get(f"{API}/watchdog").json()
        assert watchdog["last_look"]["verdict"] == watchdog["history"][0]["verdict"]
        text = text_of(client.get("/operations/watchdog"))
        assert watchdog["history"][0]["evidence"][0] in text
        assert "local" in text_of(client.get("/operations/deployments"))


def test_the_doctor_examines_when_asked_and_the_page_shows_what_helps(site: OperationsSite) -> None:
    with site.as_role("Op") as client:
        assert "has not examined this cluster yet" in text_of(client.get("/operations/doctor"))
        assert client.get(f"{API}/doctor").status_code == 404
        job = run_job(client, "doctor")
        assert (job["state"], job["exit_code"]) == ("done", 4)
        text = text_of(client.get("/operations/doctor"))
        assert "no scheduler runs here" in text
        assert "opskit watchdog --dry-run --explain" in text
        found = client.get(f"{API}/doctor").json()
        assert (found["exit_code"], len(found["report"]["findings"])) == (4, 20)
        assert "opskit doctor" in text_of(client.get("/operations/jobs"))
        assert '"findings"' in text_of(client.get(f"/operations/jobs/{job['id']}"))


def test_a_store_that_can_not_be_read_is_named_on_the_page_and_502_in_the_api(
    site: OperationsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSKIT__BACKUP__OBJECT_LOCK_MODE", "GOVERNANCE")  # and no days: the store can't be opened
    with site.as_role("Op") as client:
        answer = client.get(f"{API}/backups")
        assert answer.status_code == 502
        assert "object_lock_days belong together" in answer.json()["detail"]
        assert "The store could not be read." in text_of(client.get("/operations/backups"))
        started = len([job for job in site.verbs.jobs() if job.verb == "backup-list"])
        client.get("/operations/backups")
        assert len([job for job in site.verbs.jobs() if job.verb == "backup-list"]) == started


PAGES = ["backups", "deployments", "drift", "clean-up", "watchdog", "doctor", "jobs"]


def test_who_may_not_read_operations_sees_none_of_it_and_starts_nothing(site: OperationsSite) -> None:
    with site.as_role("User") as client:
        for name in PAGES:
            assert client.get(f"/operations/{name}").status_code == 403, name
        for name in (
            "backups",
            "watchdog",
            "deployments",
            "drift",
            "clean-up",
            "permissions",
            "doctor",
            "jobs",
            "verbs",
        ):
            assert client.get(f"{API}/{name}").status_code == 403, name
        assert client.post(f"{API}/jobs", json={"verb": "doctor"}).status_code == 403
        assert client.post("/operations/start", data={"verb": "doctor"}).status_code == 403
        assert client.get(f"{API}/health").status_code == 200
        seen = client.get(f"{API}/overview").json()
    assert (seen["backups"], seen["disks"]) == (None, None)
    assert seen["work"]["dags"] == {"active": 0, "paused": 0}
    assert site.verbs.jobs() == []


def test_what_removes_or_replaces_can_not_be_started(site: OperationsSite) -> None:
    with site.as_role("Admin") as client:
        for verb in ("restore", "db", "logs clean", "backup-list", "rollback"):
            assert client.post(f"{API}/jobs", json={"verb": verb}).status_code == 400, verb
        for parameter in ("--yes", "latest --yes", ""):
            refused = client.post(f"{API}/jobs", json={"verb": "restore-plan", "parameter": parameter})
            assert refused.status_code == 400, parameter
        page = client.post("/operations/start", data={"verb": "restore", "back": "https://elsewhere.example/"})
        assert page.url.path == "/operations/jobs"
        assert "'restore' can't be run from here" in text_of(page)
        assert client.delete(f"{API}/jobs/unknown").status_code == 404
        assert client.get(f"{API}/backups/20260101T000000Z-00000000").status_code == 404
        assert client.get("/operations/backups/..%2F..%2Fetc").status_code == 404
    assert [job.verb for job in site.verbs.jobs() if job.by] == []
