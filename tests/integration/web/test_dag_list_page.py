"""The list of DAGs and the trigger form, on each database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from opskit.core.dag import serialization
from opskit.core.dag.model import DAG
from opskit.core.dag.params import Param
from opskit.core.metastore import dag_loads, tables
from opskit.core.metastore.engine import Connection, transaction
from opskit.web.identity import Who
from opskit.web.pages import dags as page
from tests.databases import KINDS, Databases
from tests.metastore_rows import NOW, dag_data, loaded_file
from tests.page_site import PageSite, page_site

MANY = 45
ONCE = pytest.mark.parametrize("site", ["sqlite"], indirect=True)  # what no database makes different


def rows_of(text: str) -> list[str]:
    return re.findall(r'<tr data-item data-key="([^"]+)"', text)


def add_runs(connection: Connection, dag_id: str, states: list[str]) -> None:
    connection.execute(
        insert(tables.dag_run),
        [
            {
                "dag_id": dag_id,
                "run_id": f"scheduled__{number}",
                "run_type": "scheduled",
                "state": state,
                "logical_date": NOW + timedelta(hours=number),
                "data_interval_start": NOW,
                "data_interval_end": NOW,
                "queued_at": NOW,
                "start_date": NOW,
                "end_date": NOW + timedelta(minutes=5) if state in ("success", "failed") else None,
            }
            for number, state in enumerate(states)
        ],
    )


def form_dag() -> dict[str, Any]:
    dag = DAG(
        "with_params",
        schedule=None,
        params={
            "region": Param("eu", enum=["eu", "us"], title="Region"),
            "count": Param(3, type="integer", minimum=1, maximum=9),
            "why": Param(type="string", minLength=3),
        },
    )
    return serialization.serialize(dag, "with_params.py")


def fill(connection: Connection) -> None:
    files = [
        loaded_file(
            f"dag_{number:02d}.py",
            dag_data(
                f"dag_{number:02d}",
                schedule="30 2 * * *",
                tags=["even" if number % 2 == 0 else "odd", "all"],
                owners=["ada" if number < 10 else "grace"],
                description=f"Number {number} <of> many",
                timezone="UTC",
                ui={"schedule": "30 2 * * *", "schedule_words": "every day at 02:30 UTC"},
            ),
        )
        for number in range(MANY)
    ]
    dag_loads.store_loaded_files(connection, [*files, loaded_file("with_params.py", form_dag())], NOW)
    connection.execute(update(tables.dag).where(tables.dag.c.dag_id == "dag_03").values(is_paused=True))
    for number in range(MANY):
        add_runs(connection, f"dag_{number:02d}", ["success"] * 16)
    add_runs(connection, "with_params", ["success", "failed", "running"])
    failed = (tables.dag_run.c.dag_id == "dag_04") & (tables.dag_run.c.run_id == "scheduled__15")
    connection.execute(update(tables.dag_run).where(failed).values(state="failed"))


@pytest.fixture(scope="module", params=KINDS)
def site(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageSite]:
    url = databases.migrated(request.param)
    home: Path = tmp_path_factory.mktemp("home")
    with page_site(home, url) as made:
        with transaction(made.engine) as connection:
            fill(connection)
        yield made
    databases.drop(url)


def test_the_url_says_which_dags_are_listed(site: PageSite) -> None:
    first, second = rows_of(site.get("/dags")), rows_of(site.get("/dags?page=2"))
    assert len(first) == page.PER_PAGE and first + second == sorted(first + second)
    assert len(first + second) == MANY + 1
    assert rows_of(site.get("/dags?page=99")) == second
    assert rows_of(site.get("/dags?search=NUMBER+17")) == ["dag_17"]
    assert rows_of(site.get("/dags?search=_17")) == ["dag_17"]
    assert rows_of(site.get("/dags?search=%25")) == []
    assert rows_of(site.get("/dags?tag=odd&tag=all&owner=ada")) == [f"dag_{n:02d}" for n in range(1, 10, 2)]
    assert rows_of(site.get("/dags?status=paused")) == ["dag_03"]
    assert rows_of(site.get("/dags?status=failed")) == ["dag_04"]
    assert rows_of(site.get("/dags?status=running")) == ["with_params"]
    assert rows_of(site.get("/dags?order=-dag_id"))[0] == "with_params"
    assert "No DAG fits" in site.get("/dags?search=nothing")


def test_a_row_tells_the_schedule_and_the_last_runs(site: PageSite) -> None:
    text = site.get("/dags?search=dag_04")
    assert "every day at 02:30 UTC" in text
    bars = re.findall(r'<rect class="state-(\w+)"', text)
    assert bars == ["success"] * 13 + ["failed"]
    assert "Number 4 &lt;of&gt; many" in text
    assert re.search(r'aria-checked="true" aria-label="dag_04 is active"', text)


def test_the_number_of_statements_does_not_depend_on_the_number_of_dags(site: PageSite) -> None:
    site.get("/dags")  # words of schedules are read once per version
    counts = []
    for path in ("/dags?search=dag_04", "/dags", "/dags?status=failed", "/dags?order=next_run&page=2"):
        site.forget()
        site.get(path)
        counts.append(len([one for one in site.statements if not one.startswith("BEGIN")]))
    assert len(set(counts)) == 1 and counts[0] <= 6


def test_pausing_goes_back_to_where_one_was_and_says_so(site: PageSite) -> None:
    answer = site.post("/dags/dag_05/pause", paused="true", next="/dags?search=dag_05")
    assert answer.headers["Location"] == "/dags?search=dag_05"
    shown = site.as_("Admin").get(answer.headers["Location"])
    assert "dag_05 is paused" in shown.text and 'aria-checked="false"' in shown.text
    assert "dag_05 is paused" not in site.get("/dags?search=dag_05"), "a message is shown once"
    assert site.post("/dags/dag_05/pause", paused="false", next="//evil.example/").headers["Location"] == "/dags"
    site.post("/dags/nothing/pause", paused="true", status=404)


@ONCE
def test_a_bar_leads_to_its_run_if_one_may_see_it(site: PageSite) -> None:
    number = re.findall(r'href="/runs/(\d+)"', site.get("/dags?search=dag_04"))[-1]
    answer = site.as_("Viewer").get(f"/runs/{number}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/dags/dag_04/runs/scheduled__15")
    site.who["few"] = Who("f", ("few",), frozenset({("can_read", "DAG:dag_07"), ("can_read", "DAG Runs")}))
    site.get(f"/runs/{number}", role="few", status=404)
    site.get("/runs/123456789", status=404)
    site.get(f"/runs/{2**70}", status=400)


@ONCE
def test_a_message_that_is_not_ours_is_not_shown(site: PageSite) -> None:
    client = site.as_("Op")
    site.post("/dags/dag_06/pause", role="Op", paused="true")
    good = client.cookies["opskit_flash"]
    client.cookies.clear()
    for forged in ("x", good.replace(good[:6], "AAAAAA"), good[:-1] + ("0" if good[-1] != "0" else "1")):
        answer = client.get("/dags", headers={"Cookie": f"opskit_flash={forged}"})
        assert answer.status_code == 200 and "dag_06 is paused" not in answer.text
    site.post("/dags/dag_06/pause", role="Op", paused="false")
    client.cookies.clear()


@ONCE
def test_one_sees_and_may_do_what_the_permissions_say(site: PageSite) -> None:
    site.who["own"] = Who("o", ("own",), frozenset({("can_read", "DAG:dag_07"), ("can_edit", "DAG:dag_08")}))
    assert rows_of(site.get("/dags", role="own")) == ["dag_07"]
    text = site.get("/dags", role="Viewer")
    assert len(rows_of(text)) == page.PER_PAGE
    assert "/pause" not in text and "/trigger" not in text
    site.post("/dags/dag_07/pause", role="own", paused="true", status=403)
    site.post("/dags/dag_07/pause", role="Viewer", paused="true", status=403)
    site.post("/dags/dag_07/delete", role="Viewer", status=403)
    site.post("/dags/with_params/trigger", role="Viewer", status=403)
    site.get("/dags/with_params/trigger", role="Viewer", status=403)
    site.get("/dags", role="Public", status=403)


def test_a_form_made_from_params_starts_a_run(site: PageSite) -> None:
    text = site.get("/dags/with_params/trigger")
    assert re.search(r'<option value="&#34;eu&#34;" selected>', text)
    assert 'min="1"' in text and 'max="9"' in text
    fields = {"param:region": '"us"', "param:count": "7", "param:why": "because", "conf": '{"more": [1]}'}
    answer = site.post("/dags/with_params/trigger", run_id="by_hand", note="a try", **fields)
    assert answer.headers["Location"] == "/dags/with_params/runs/by_hand"
    with transaction(site.engine) as connection:
        run = connection.execute(select(tables.dag_run).where(tables.dag_run.c.run_id == "by_hand")).one()
    assert json.loads(run.conf) == {"region": "us", "count": 7, "why": "because", "more": [1]}
    assert (run.run_type, run.note) == ("manual", "a try")


@ONCE
def test_what_is_wrong_stands_beside_its_field_and_nothing_is_started(site: PageSite) -> None:
    wrong = {"param:region": '"eu"', "param:count": "70", "param:why": "", "logical_date": "noon", "run_id": "never"}
    text = site.post("/dags/with_params/trigger", status=400, conf="[", **wrong).text
    for name, said in (
        ("param:count", "70 is greater than the maximum of 9"),
        ("param:why", "a value is needed"),
        ("logical_date", "no date with time"),
        ("conf", "no JSON"),
    ):
        assert re.search(rf'id="error-{name}">[^<]*{re.escape(said)}', text), name
    assert 'value="70"' in text, "what was typed is still there"
    fields = {"param:region": '"eu"', "param:count": "1", "param:why": "yes yes"}
    taken = site.post("/dags/with_params/trigger", status=400, run_id="scheduled__0", **fields).text
    assert "scheduled__0" in taken and 'role="alert"' in taken
    with transaction(site.engine) as connection:
        known = connection.execute(select(tables.dag_run.c.run_id).where(tables.dag_run.c.run_id == "never")).all()
    assert known == []


@ONCE
def test_a_paused_dag_is_unpaused_with_its_run_if_one_says_so(site: PageSite) -> None:
    def is_paused() -> bool:
        with transaction(site.engine) as connection:
            return bool(
                connection.execute(select(tables.dag.c.is_paused).where(tables.dag.c.dag_id == "dag_09")).scalar()
            )

    site.post("/dags/dag_09/pause", paused="true")
    assert "the run waits until it is unpaused" in site.get("/dags/dag_09/trigger")
    site.post("/dags/dag_09/trigger", run_id="waits", conf="")
    assert is_paused()
    site.post("/dags/dag_09/trigger", run_id="scheduled__0", unpause="true", status=400)
    assert is_paused(), "nothing was started, so nothing else happens"
    site.post("/dags/dag_09/trigger", run_id="goes", unpause="true")
    assert not is_paused()


@ONCE
def test_a_conf_in_the_url_is_put_into_the_form(site: PageSite) -> None:
    text = site.as_("Admin").get("/dags/with_params/trigger", params={"conf": '{"count": 5, "other": "<x>"}'}).text
    assert 'value="5"' in text and "&lt;x&gt;" in text
    site.get("/dags/with_params/trigger?conf=[]", status=400)
    site.get("/dags/nothing/trigger", status=404)


@ONCE
def test_a_thousand_dags_are_a_small_page_and_few_statements(site: PageSite) -> None:
    with transaction(site.engine) as connection:
        connection.execute(
            insert(tables.dag),
            [
                {
                    "dag_id": f"a_thousand_exports_to_partners_{number:04d}",
                    "fileloc": "exports/of_partners.py",
                    "is_paused": False,
                    "is_active": True,
                    "version_hash": "f" * 64,
                    "description": "Exports what one of our partners has ordered, and tells him of it " * 2,
                    "owners": f"owner_{number % 300}",
                    "tags": json.dumps(["exports", "partners", f"region_{number % 90}"]),
                    "schedule": "*/15 6-20 * * 1-5",
                }
                for number in range(1000)
            ],
        )
        for number in range(page.PER_PAGE):
            add_runs(connection, f"a_thousand_exports_to_partners_{number:04d}", ["success"] * page.RECENT)
    try:
        site.forget()
        text = site.get("/dags")  # which looks at its size, too
        assert text.count('<svg class="bars"') == page.PER_PAGE and "of 27" in text
        assert len([one for one in site.statements if not one.startswith("BEGIN")]) <= 7
    finally:
        with transaction(site.engine) as connection:
            for table in (tables.dag_run, tables.dag):
                connection.execute(delete(table).where(table.c.dag_id.startswith("a_thousand_")))
