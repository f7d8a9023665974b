"""Logs that clean-up has archived, by API and by page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from opskit import platforms
from opskit.core.metastore import passwords, runs
from opskit.core.metastore.engine import reading
from opskit.core.metastore.runs import Run
from opskit.ops import logs
from opskit.web.links import task_url
from tests import dag_page_sample as sample
from tests.api_site import ApiSite, api_site
from tests.databases import Databases
from tests.web_site import CHEAP

TASK = "transform.deep.join"
LINES = "".join(f"line {number} of a löng log ☂\n" for number in range(60_000))


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    """The log of try 1 of TASK in an older run is in the archive; in the newest one that of try 3 is in the log folder,
    and that of try 1 nowhere."""
    home = tmp_path_factory.mktemp("home")
    # In the file, because the command that reads the archive looks there.
    (home / "opskit.toml").write_text(f'[logs]\narchive_to = "{home.parent / "archive"}"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_METHOD", CHEAP)
        with api_site(home, databases.migrated("sqlite")) as made:
            path = made.config.logs_folder / sample.write_log(made.config.logs_folder, older(made), TASK, 1, LINES)
            old = (datetime.now(UTC) - timedelta(days=400)).timestamp()
            os.utime(path, (old, old))
            report = logs.clean(platforms.find(made.config), now=datetime.now(UTC), dry_run=False, force=True)
            assert report.archived_logs == 1 and not path.exists()
            yield made


@pytest.fixture
def http(site: ApiSite) -> Iterator[httpx.Client]:
    with site.http() as made:
        yield made


def older(site: ApiSite) -> Run:
    with reading(site.engine) as connection:
        return min(runs.list_runs(connection, dag_id=sample.DAG_ID), key=lambda run: run.logical_date)


def url(run: Run, attempt: int) -> str:
    return f"/api/v1/dags/{sample.DAG_ID}/dagRuns/{run.run_id}/taskInstances/{TASK}/logs/{attempt}"


def test_an_archived_log_is_answered_as_text(site: ApiSite, http: httpx.Client) -> None:
    answer = http.get(url(older(site), 1), headers={"Accept": "text/plain"})
    assert answer.status_code == 200 and answer.text == LINES


def test_an_archived_log_comes_in_pieces_that_cut_no_character(site: ApiSite, http: httpx.Client) -> None:
    http.headers["Accept"] = "application/json"
    parts, token = [], None
    while True:
        answer = http.get(url(older(site), 1), params={"token": token} if token else {}).json()
        if not answer["content"]:
            break
        parts.append(answer["content"])
        token = answer["continuation_token"]
    assert len(parts) == 2 and "".join(parts) == LINES
    assert http.get(url(older(site), 1), params={"full_content": "true"}).json()["content"] == LINES


def test_what_is_nowhere_is_not_found_and_what_is_still_here_is_not_looked_for(
    site: ApiSite, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = http.get(url(site.run, 1))
    assert answer.status_code == 404 and "neither in the log folder nor in the archive" in answer.json()["detail"]
    monkeypatch.setattr("opskit.web.archived_logs.subprocess.Popen", None)
    assert http.get(url(site.run, 3)).status_code == 200
    assert http.get(url(site.run, 0)).status_code == 404  # nobody has begun such a try: no process is started for it
    later = http.get(url(site.run, 3).replace(TASK, "notify").replace("logs/3", "logs/1"))
    assert later.status_code == 404 and "its state is None" in later.json()["hint"]


def test_the_page_reads_the_same_archive(site: ApiSite, http: httpx.Client) -> None:
    page = task_url(sample.DAG_ID, older(site).run_id, TASK, tab="log", try_number=1, archived=True)
    shown = http.get(page).text
    assert "line 59999 of a löng log ☂" in shown and "The end of the archived log" in shown
