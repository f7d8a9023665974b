"""DAGs, runs, task instances, logs and XComs over Airflow's API: what is answered, refused, changed and left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from opskit.core.metastore import audit, dag_loads, roles, tables, task_instances, users
from opskit.core.metastore.engine import reading, transaction
from opskit.telemetry import rendered_fields, task_logs
from tests import dag_page_sample as sample
from tests.api_site import CONSUMER, DAG_ID, PASSWORD, ApiSite, api_site
from tests.databases import Databases
from tests.metastore_rows import dag_data, loaded_file

TASK, MAPPED = "transform.deep.join", sample.MAPPED


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    url = databases.migrated("sqlite")
    with api_site(tmp_path_factory.mktemp("home"), url) as made:
        with transaction(made.engine) as connection:
            data = dag_data("strict", {"a": []}, params={"rows": 1, "name": None, "api_token": "hunter3"})
            data["param_rules"] = {
                "rows": {"schema": {"type": "integer", "minimum": 1}},
                "name": {"schema": {"type": "string"}, "required": True},
            }
            dag_loads.store_loaded_files(connection, [loaded_file("strict.py", data)], sample.START)
            # Somebody who may see and change one DAG.
            everywhere = [("can_read", "DAG Runs"), ("can_read", "Task Instances"), ("can_edit", "Task Instances")]
            everywhere += [("can_create", "DAG Runs"), ("can_read", "XComs"), ("can_read", "DAG Warnings")]
            own = [("can_read", f"DAG:{DAG_ID}"), ("can_edit", f"DAG:{DAG_ID}")]
            roles.create_role(connection, "Clerk", [*everywhere, *own])
            hashed = users.credentials(connection, "ada")
            assert hashed is not None
            users.create_user(
                connection, "carl", sample.START, roles=["Clerk"], password_hash=hashed[1],
                first_name="Carl", last_name="Example", email="carl@example.org",
            )  # fmt: skip
        yield made
    databases.drop(url)


@pytest.fixture
def http(site: ApiSite) -> Iterator[httpx.Client]:
    with client_of(site) as made:
        yield made


def client_of(site: ApiSite, username: str = "ada") -> httpx.Client:
    return httpx.Client(base_url=f"{site.url}/api/v1", auth=(username, PASSWORD), timeout=30, verify=False)


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in answer.text


def states(site: ApiSite, run_id: str) -> dict[tuple[str, int], str | None]:
    with reading(site.engine) as connection:
        return task_instances.task_states(connection, DAG_ID, run_id)


def lines(site: ApiSite, event: str) -> list[Any]:
    with reading(site.engine) as connection:
        return audit.read(connection, event=event)


def run_url(site: ApiSite) -> str:
    return f"/dags/{DAG_ID}/dagRuns/{site.run.run_id}"


# --- DAGs ---


def test_a_list_of_dags_can_be_narrowed_to_some_fields_and_to_one_page(http: httpx.Client) -> None:
    answer = http.get("/dags", params={"fields": ["dag_id", "schedule_interval"], "limit": 2, "order_by": "-dag_id"})
    assert answer.json() == {
        "dags": [
            {"dag_id": "strict", "schedule_interval": None},
            {"dag_id": CONSUMER, "schedule_interval": None},
        ],
        "total_entries": 3,
    }
    one = http.get(f"/dags/{DAG_ID}", params={"fields": "schedule_interval,tags"}).json()
    assert one["schedule_interval"] == {"__type": "CronExpression", "value": "30 6 * * *"}
    refused(http.get(f"/dags/{DAG_ID}", params={"fields": "nothing"}), 400, "nothing")
    refused(http.get("/dags", params={"order_by": "fileloc"}), 400, "dag_id")
    refused(http.get("/dags/nope"), 404, "nope")


def test_details_tell_params_with_their_rules_and_no_secret_default(http: httpx.Client) -> None:
    params = http.get("/dags/strict/details").json()["params"]
    assert params["rows"]["schema"] == {"type": "integer", "minimum": 1}
    assert params["rows"]["value"] == 1
    assert params["api_token"]["value"] == "***"
    tasks = http.get(f"/dags/{DAG_ID}/tasks", params={"order_by": "-task_id"}).json()
    assert tasks["total_entries"] == len(sample.TASKS)
    assert tasks["tasks"][0]["task_id"] == "wait_for_file"
    refused(http.get(f"/dags/{DAG_ID}/tasks/lod"), 404, "load")


def test_only_pausing_can_be_patched_and_a_pattern_pauses_what_it_matches(http: httpx.Client, site: ApiSite) -> None:
    refused(http.patch("/dags/strict", json={"description": "x"}), 400, "is_paused")
    refused(http.patch("/dags/strict?update_mask=tags", json={"is_paused": True}), 400, "is_paused")
    assert http.patch("/dags/strict", json={"is_paused": True}).json()["is_paused"] is True
    refused(http.patch("/dags", json={"is_paused": True}), 400, "dag_id_pattern")
    found = http.patch("/dags", params={"dag_id_pattern": "stri%"}, json={"is_paused": False}).json()
    assert [(one["dag_id"], one["is_paused"]) for one in found["dags"]] == [("strict", False)]
    assert [line.extra for line in lines(site, "dags pause")] == [{"by": "api"}]


def test_the_source_of_a_dag_comes_by_a_token_that_nobody_can_forge(http: httpx.Client, site: ApiSite) -> None:
    token = http.get(f"/dags/{DAG_ID}").json()["file_token"]
    assert "with DAG" in http.get(f"/dagSources/{token}", headers={"Accept": "application/json"}).json()["content"]
    assert "with DAG" in http.get(f"/dagSources/{token}", headers={"Accept": "text/plain"}).text
    refused(http.get(f"/dagSources/{token}", headers={"Accept": "image/png"}), 406)
    name, fingerprint, signature = token.split(".")
    forged = ["", ".", "x", name, f"{name}.{fingerprint}.{'0' * 64}", f"{name}x.{fingerprint}.{signature}", "ü.ü.ü"]
    for wrong in forged[2:]:
        refused(http.get(f"/dagSources/{wrong}"), 404)
        refused(http.put(f"/parseDagFile/{wrong}"), 404)
    with client_of(site, "carl") as carl:  # may not read code
        refused(carl.get(f"/dagSources/{token}"), 403, "DAG Code")
    assert http.put(f"/parseDagFile/{token}").status_code == 201
    with reading(site.engine) as connection:
        rows = connection.execute(select(tables.dag_file.c.path)).scalars().all()
    assert f"{DAG_ID}.py" not in rows  # so the DAG processor loads it again
    assert lines(site, "dags reparse")[0].extra["dags"] == [DAG_ID]


# --- runs ---


def test_a_run_is_started_only_with_a_conf_that_fits(http: httpx.Client, site: ApiSite) -> None:
    runs = "/dags/strict/dagRuns"
    refused(http.post(runs, json={}), 400, "param name")
    refused(http.post(runs, json={"conf": {"name": "x", "rows": 0}}), 400, "param rows", "minimum")
    refused(http.post(runs, json={"conf": {"name": "x", "rows": "1"}}), 400, "param rows")
    refused(http.post(runs, json={"conf": ["x"]}), 400, "conf")
    refused(http.post(runs, json={"state": "success"}), 400, "state")
    refused(http.post(runs, json={"dag_run_id": "a/b", "conf": {"name": "x"}}), 400, "run_id")
    refused(http.post("/dags/nope/dagRuns", json={}), 404, "nope")
    made = http.post(
        runs,
        json={
            "dag_run_id": "r1",
            "logical_date": "2026-05-01T00:00:00Z",
            "conf": {"name": "x", "rows": 2, "more": [1], "api_token": "hunter4"},
            "note": " why ",
        },
    ).json()
    assert made["conf"] == {"name": "x", "rows": 2, "more": [1], "api_token": "***"}
    assert (made["state"], made["run_type"], made["external_trigger"], made["note"]) == (
        "queued",
        "manual",
        True,
        "why",
    )
    again = {"dag_run_id": "r1", "conf": {"name": "x"}}
    refused(http.post(runs, json=again), 409, "r1")
    refused(http.post(runs, json={"logical_date": "2026-05-01T00:00:00+00:00", "conf": {"name": "x"}}), 409)
    two = {"logical_date": "2026-05-02T00:00:00Z", "execution_date": "2026-05-03T00:00:00Z", "conf": {"name": "x"}}
    refused(http.post(runs, json=two), 400, "mean the same")
    refused(http.post(runs, json={"data_interval_start": "2026-05-02T00:00:00Z"}), 400, "together")
    line = lines(site, "dags trigger")[0]
    assert (line.owner, line.run_id, line.extra["conf_keys"]) == ("ada", "r1", ["api_token", "more", "name", "rows"])
    assert "hunter" not in str(line)


def test_runs_are_noted_marked_and_deleted(http: httpx.Client, site: ApiSite) -> None:
    made = http.post(f"/dags/{DAG_ID}/dagRuns", json={"dag_run_id": "mine"}).json()
    url = f"/dags/{DAG_ID}/dagRuns/mine"
    assert http.patch(f"{url}/setNote", json={"note": "look"}).json()["note"] == "look"
    assert http.patch(f"{url}/setNote", json={"note": ""}).json()["note"] is None
    refused(http.patch(f"{url}/setNote", json={"note": "x" * 1001}), 400, "note")
    refused(http.patch(url, json={"state": "running"}), 400, "state")
    ended = http.patch(url, json={"state": "failed"}).json()
    assert (ended["state"], ended["logical_date"]) == ("failed", made["logical_date"])
    assert http.patch(url, json={"state": "queued"}).json()["state"] == "running"
    refused(http.get(f"/dags/{DAG_ID}/dagRuns/mina"), 404, "mine")
    busy = http.delete(run_url(site))
    refused(busy, 409, "in flight")
    assert http.delete(url).status_code == 204
    refused(http.delete(url), 404)


def test_lists_of_runs_know_states_ranges_and_orders(http: httpx.Client, site: ApiSite) -> None:
    answer = http.get("/dags/~/dagRuns", params={"state": ["running", "failed"], "order_by": "-execution_date"}).json()
    assert {run["state"] for run in answer["dag_runs"]} <= {"running", "failed"}
    assert answer["dag_runs"][0]["dag_run_id"] == site.run.run_id
    refused(http.get("/dags/~/dagRuns", params={"state": "nothing"}), 400, "state")
    refused(http.get("/dags/~/dagRuns", params={"start_date_gte": "yesterday"}), 400, "start_date_gte")
    body = {"dag_ids": [DAG_ID, "nope"], "order_by": "-start_date", "page_limit": 1, "page_offset": 1}
    batch = http.post("/dags/~/dagRuns/list", json=body).json()
    assert (len(batch["dag_runs"]), batch["total_entries"]) == (1, 3)
    refused(http.post("/dags/~/dagRuns/list", json={"order_by": "x"}), 400, "x")
    stats = http.get("/dagStats", params={"dag_ids": f"{DAG_ID},nope"}).json()
    assert stats["total_entries"] == 1
    assert {one["state"]: one["count"] for one in stats["dags"][0]["stats"]}["running"] == 1


def test_clearing_a_run_only_tells_what_it_would_do_unless_it_is_said(http: httpx.Client, site: ApiSite) -> None:
    before = states(site, site.run.run_id)
    told = http.post(f"{run_url(site)}/clear", json={}).json()
    assert {one["task_id"] for one in told["task_instances"]} == {task for task, _ in before if before[task, _]}
    told = http.post(f"/dags/{DAG_ID}/clearTaskInstances", json={"dag_run_id": site.run.run_id}).json()
    assert {one["task_id"] for one in told["task_instances"]} == {MAPPED, TASK, "load", "report"}
    assert states(site, site.run.run_id) == before
    clear = f"/dags/{DAG_ID}/clearTaskInstances"
    refused(http.post(clear, json={"only_running": True}), 400, "only_failed")
    refused(http.post(clear, json={"task_ids": []}), 400, "task_ids")
    refused(http.post(clear, json={"task_ids": ["lod"]}), 404, "load")
    refused(http.post(clear, json={"dag_run_id": "x", "end_date": "2026-01-01T00:00:00Z"}), 400, "exclude")


# --- task instances ---


def test_a_task_instance_tells_its_note_its_tries_and_what_was_rendered(http: httpx.Client, site: ApiSite) -> None:
    url = f"{run_url(site)}/taskInstances/{TASK}"
    path = sample.write_log(site.config.logs_folder, site.run, TASK, 3, "é" * 700_000)
    rendered_fields.write(site.config.logs_folder, path, {"bash_command": "echo 2026-03-03"})
    assert http.patch(f"{url}/setNote", json={"note": "disk was full"}).json()["note"] == "disk was full"
    found = http.get(url).json()
    assert (found["state"], found["try_number"], found["note"]) == ("failed", 3, "disk was full")
    assert found["rendered_fields"] == {"bash_command": "echo 2026-03-03"}
    tries = http.get(f"{url}/tries", params={"order_by": "-try_number", "limit": 2}).json()
    assert ([one["try_number"] for one in tries["task_instances"]], tries["total_entries"]) == ([3, 2], 3)
    assert http.get(f"{url}/tries/1").json()["pid"] == 4711
    refused(http.get(f"{url}/tries/9"), 404, "1, 2, 3")
    (why,) = http.get(f"{url}/dependencies").json()["dependencies"]
    assert why["name"] == "Task Instance State"
    assert http.get(f"{url}/links").json() == {"extra_links": []}
    refused(http.patch(f"{url}/setNote", json={}), 400, "note")


def test_task_instances_are_listed_by_state_over_all_runs_and_marked_over_some(
    http: httpx.Client, site: ApiSite
) -> None:
    waiting = http.get(f"/dags/{DAG_ID}/dagRuns/~/taskInstances", params={"state": "none"}).json()
    assert [one["task_id"] for one in waiting["task_instances"]] == ["notify"]
    everything = http.get("/dags/~/dagRuns/~/taskInstances", params={"limit": 1, "offset": 3}).json()
    assert (len(everything["task_instances"]), everything["total_entries"]) == (1, 3 * 51)
    body = {"task_ids": ["load"], "state": ["success", None], "dag_ids": [DAG_ID]}
    batch = http.post("/dags/~/dagRuns/~/taskInstances/list", json=body).json()
    assert batch["total_entries"] == 2
    assert http.post("/dags/~/dagRuns/~/taskInstances/list", json={"executor": ["Kubernetes"]}).json() == {
        "task_instances": [],
        "total_entries": 0,
    }
    mark = f"/dags/{DAG_ID}/updateTaskInstancesState"
    wanted = {"task_id": "load", "new_state": "failed", "dag_run_id": site.run.run_id, "include_past": True}
    told = http.post(mark, json=wanted).json()["task_instances"]
    assert len(told) == 3
    refused(http.post(mark, json={**wanted, "execution_date": "2026-03-01T06:30:00Z"}), 400, "exactly one")
    refused(http.post(mark, json={**wanted, "task_id": "lod"}), 404, "lod")
    first = http.get(f"/dags/{DAG_ID}/dagRuns", params={"limit": 1}).json()["dag_runs"][0]
    del wanted["dag_run_id"], wanted["include_past"]
    by_date = {**wanted, "execution_date": first["logical_date"], "dry_run": False}
    done = http.post(mark, json=by_date).json()["task_instances"]
    assert [(one["dag_run_id"], one["task_id"]) for one in done] == [(first["dag_run_id"], "load")]
    assert states(site, first["dag_run_id"])["load", -1] == "failed"


def test_a_mapped_task_is_told_by_its_instances(http: httpx.Client, site: ApiSite) -> None:
    url = f"{run_url(site)}/taskInstances/{MAPPED}"
    refused(http.get(url), 404, "mapped", "map_index")
    listed = http.get(f"{url}/listMapped", params={"state": "failed", "order_by": "-map_index"}).json()
    assert [one["map_index"] for one in listed["task_instances"]] == [8, 7]
    assert http.get(f"{url}/7").json()["state"] == "failed"
    refused(http.get(f"{url}/99"), 404, "99")
    refused(http.get(f"{run_url(site)}/taskInstances/load/listMapped"), 404, "not mapped")
    assert http.get(f"{url}/7/tries").json()["total_entries"] == 1
    changed = http.patch(f"{url}/7", json={"new_state": "skipped"})
    assert changed.json()["task_id"] == MAPPED
    assert states(site, site.run.run_id)[MAPPED, 7] == "failed"  # it was a dry run
    http.patch(f"{url}/7", json={"new_state": "skipped", "dry_run": False}).raise_for_status()
    now = states(site, site.run.run_id)
    assert (now[MAPPED, 7], now[MAPPED, 8]) == ("skipped", "failed")
    refused(http.patch(f"{url}/7", json={"new_state": "running"}), 400, "new_state")


# --- logs and XComs ---


def test_a_log_comes_in_pieces_that_hang_together_or_as_text(http: httpx.Client, site: ApiSite) -> None:
    sample.write_log(site.config.logs_folder, site.run, TASK, 3, text := "aé" * 700_000)
    url = f"{run_url(site)}/taskInstances/{TASK}/logs/3"
    json = {"Accept": "application/json"}
    pieces, token = [], ""
    while True:
        piece = http.get(url, params={"token": token} if token else {}, headers=json).json()
        token = piece["continuation_token"]
        if not piece["content"]:
            break
        pieces.append(piece["content"])
    assert (len(pieces), "".join(pieces)) == (3, text)
    whole = http.get(url, params={"full_content": True}, headers=json).json()
    assert whole["content"] == text
    with (Path(site.config.logs_folder) / _log_path(site)).open("a") as file:
        file.write("more")
    later = http.get(url, params={"token": whole["continuation_token"]}, headers=json).json()
    assert later["content"] == "more"
    assert http.get(url, headers={"Accept": "text/plain"}).text == text + "more"
    other = f"{run_url(site)}/taskInstances/{MAPPED}/logs/1"
    assert http.get(other, params={"map_index": 7}).text == "the seventh\n"
    refused(http.get(other, params={"map_index": 7, "token": token}), 400, "token")
    refused(http.get(url, params={"token": token[:-1]}), 400, "token")
    refused(http.get(url.replace("logs/3", "logs/2")), 404, "3")
    refused(http.get(url, headers={"Accept": "image/*"}), 406)


def _log_path(site: ApiSite) -> str:
    return task_logs.log_path(DAG_ID, site.run.run_id, TASK, -1, 3)


def test_an_xcom_comes_as_text_or_as_its_value(http: httpx.Client, site: ApiSite) -> None:
    url = f"{run_url(site)}/taskInstances/extract.orders/xcomEntries"
    assert {one["key"] for one in http.get(url).json()["xcom_entries"]} == {"return_value", "large"}
    assert http.get(f"{url}/return_value").json()["value"] == '{"rows": 12, "html": "<img src=x>"}'
    assert http.get(f"{url}/return_value", params={"stringify": False}).json()["value"]["rows"] == 12
    refused(http.get(f"{url}/return_value", params={"deserialize": True}), 400, "deserialized")
    refused(http.get(f"{url}/other"), 404, "other")
    everywhere = http.get("/dags/~/dagRuns/~/taskInstances/~/xcomEntries", params={"xcom_key": "large"}).json()
    assert everywhere["total_entries"] == 1


# --- permissions ---


def test_somebody_who_may_see_one_dag_sees_and_changes_no_other(site: ApiSite) -> None:
    with client_of(site, "carl") as http:
        assert [one["dag_id"] for one in http.get("/dags").json()["dags"]] == [DAG_ID]
        assert {run["dag_id"] for run in http.get("/dags/~/dagRuns").json()["dag_runs"]} == {DAG_ID}
        listed = http.get("/dags/~/dagRuns/~/taskInstances").json()
        assert {one["dag_id"] for one in listed["task_instances"]} == {DAG_ID}
        assert http.post("/dags/~/dagRuns/list", json={"dag_ids": ["strict"]}).json()["total_entries"] == 0
        refused(http.post("/dags/~/dagRuns/~/taskInstances/list", json={"dag_ids": ["strict"]}), 403, "strict")
        assert http.get("/dagStats", params={"dag_ids": f"strict,{DAG_ID}"}).json()["total_entries"] == 1
        for path in ("/dags/strict", "/dags/strict/details", "/dags/strict/tasks", "/dags/strict/dagRuns"):
            refused(http.get(path), 403, "strict")
        refused(http.get("/dagWarnings", params={"dag_id": "strict"}), 403)
        refused(http.post("/dags/strict/dagRuns", json={}), 403)
        refused(http.patch("/dags/strict", json={"is_paused": True}), 403)
        refused(http.patch("/dags", params={"dag_id_pattern": "~"}, json={}), 400)
        refused(http.delete(f"/dags/{DAG_ID}"), 403, "can_delete")
        refused(http.get(f"{run_url(site)}/taskInstances/{TASK}/logs/3"), 403, "Task Logs")
        found = http.patch("/dags", params={"dag_id_pattern": "~"}, json={"is_paused": False}).json()
        assert [one["dag_id"] for one in found["dags"]] == [DAG_ID]


def test_a_viewer_changes_nothing_of_dags_runs_and_tasks(site: ApiSite) -> None:
    one = f"{run_url(site)}/taskInstances/{TASK}"
    before = states(site, site.run.run_id)
    with client_of(site, "viola") as http:
        for method, path, body in (
            ("PATCH", f"/dags/{DAG_ID}", {"is_paused": True}),
            ("PATCH", "/dags?dag_id_pattern=~", {"is_paused": True}),
            ("DELETE", f"/dags/{DAG_ID}", None),
            ("POST", f"/dags/{DAG_ID}/dagRuns", {}),
            ("PATCH", run_url(site), {"state": "failed"}),
            ("DELETE", run_url(site), None),
            ("POST", f"{run_url(site)}/clear", {"dry_run": False}),
            ("PATCH", f"{run_url(site)}/setNote", {"note": "x"}),
            ("POST", f"/dags/{DAG_ID}/clearTaskInstances", {"dry_run": False}),
            (
                "POST",
                f"/dags/{DAG_ID}/updateTaskInstancesState",
                {"task_id": "load", "new_state": "failed", "dag_run_id": site.run.run_id},
            ),
            ("PATCH", one, {"new_state": "success", "dry_run": False}),
            ("PATCH", f"{one}/setNote", {"note": "x"}),
        ):
            refused(http.request(method, path, json=body), 403, "viola")
        assert http.get(one).status_code == 200
    assert states(site, site.run.run_id) == before
