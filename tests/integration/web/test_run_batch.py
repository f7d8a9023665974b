"""Several runs at once, by page: what a preview tells, what happens, and to whom it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import insert, select, update

from opskit.core.metastore import runs, tables
from opskit.core.metastore.engine import reading, transaction
from opskit.web.identity import DELETE, ROLES, Who
from opskit.web.links import dag_url
from tests.dag_page_sample import DAG_ID
from tests.dag_page_site import Site, dag_pages, person
from tests.databases import Databases


@pytest.fixture(scope="module")
def made(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    url = databases.migrated("sqlite")
    with dag_pages(url, tmp_path_factory.mktemp("home")) as made:
        yield made
    databases.drop(url)


@pytest.fixture
def site(made: Site) -> Site:
    """Its runs: each test has its own."""
    made.who = person("Admin")
    return made


def change(site: Site, action: str, numbers: list[int], status: int = 303) -> str:
    """Post the form; where it leads."""
    data = {"action": action, "run": [str(number) for number in numbers]}
    answer = site.client.post(dag_url(DAG_ID, "change-runs"), data=data)
    assert answer.status_code == status, answer.text[:2000]
    return str(answer.headers.get("location", answer.text))


def states(site: Site) -> dict[int, str]:
    with reading(site.engine) as connection:
        return {one.id: one.state for one in runs.list_runs(connection, dag_id=DAG_ID)}


def audit(site: Site, event: str) -> list[str | None]:
    with reading(site.engine) as connection:
        found = connection.execute(select(tables.log).where(tables.log.c.event == event)).all()
    assert all(json.loads(line.extra)["by"] == "web" and line.owner == site.who.username for line in found)
    return sorted((line.run_id for line in found), key=str)


def test_runs_are_chosen_looked_at_and_marked_each_with_its_audit_line(site: Site) -> None:
    two = [run.id for run in site.runs[-2:]]
    listed = site.get(dag_url(DAG_ID, "runs"))
    assert all(f'name="run" value="{number}"' in listed for number in two)
    shown = site.get(dag_url(DAG_ID, "change-runs", action="failed", run=two))
    assert all(f'type="hidden" name="run" value="{number}"' in shown or "left out" in shown for number in two)
    before = states(site)
    change(site, "success", two)
    after = states(site)
    assert {after[number] for number in two} == {"success"}
    assert {key: value for key, value in after.items() if key not in two} == {
        key: value for key, value in before.items() if key not in two
    }
    assert audit(site, "dags mark") == sorted(run.run_id for run in site.runs[-2:])


def test_what_failed_in_several_runs_is_cleared(site: Site) -> None:
    with transaction(site.engine) as connection:
        for run in site.runs[:2]:
            each = (tables.task_instance.c.dag_run_id == run.id, tables.task_instance.c.task_id == "load")
            connection.execute(update(tables.task_instance).where(*each).values(state="failed"))
    numbers = [run.id for run in site.runs[:3]]
    shown = site.get(dag_url(DAG_ID, "change-runs", action="clear_failed", run=numbers))
    assert "2 task instances of 2 runs would change" in shown and shown.count("nothing would change") == 1
    change(site, "clear_failed", numbers[:2])
    assert {site.states(run)["load", -1] for run in site.runs[:2]} == {None}
    assert site.states(site.runs[0])["start", -1] == "success"
    assert len(audit(site, "tasks clear")) == 2


def test_a_run_with_attempts_in_flight_stays_and_the_others_are_deleted(site: Site) -> None:
    old, busy = site.runs[0], site.runs[1]
    with transaction(site.engine) as connection:
        each = (tables.task_instance.c.dag_run_id == busy.id, tables.task_instance.c.task_id == "load")
        connection.execute(update(tables.task_instance).where(*each).values(state="running"))
    shown = site.get(dag_url(DAG_ID, "change-runs", action="delete", run=[old.id, busy.id]))
    assert "left out: 1 task instance is in flight" in shown and "Delete 1 run<" in shown
    assert f'name="run" value="{old.id}"' in shown and f'name="run" value="{busy.id}"' not in shown
    change(site, "delete", [old.id, busy.id])
    assert old.id not in states(site) and busy.id in states(site)
    said = site.get(dag_url(DAG_ID, "runs"))
    assert "1 run deleted; not so:" in said and busy.run_id in said
    assert audit(site, "dags delete-run") == [old.run_id]


def test_nothing_chosen_changes_nothing_and_other_dags_runs_are_not_reached(site: Site) -> None:
    assert site.client.get(dag_url(DAG_ID, "change-runs", action="delete")).status_code == 303
    assert "Choose runs first" in site.get(dag_url(DAG_ID, "runs"))
    with transaction(site.engine) as connection:
        row = dict(
            connection.execute(select(tables.dag_run).where(tables.dag_run.c.id == site.newest.id)).one()._mapping
        )
        connection.execute(insert(tables.dag_run).values({**row, "id": 900, "dag_id": "another"}))
    change(site, "delete", [900])
    with reading(site.engine) as connection:
        assert connection.execute(select(tables.dag_run.c.id).where(tables.dag_run.c.id == 900)).scalar() == 900
    assert "not there any more" in site.get(dag_url(DAG_ID, "runs"))
    site.get(dag_url(DAG_ID, "change-runs", action="burn", run=[1]), 400)
    assert len(change(site, "delete", list(range(1, 102)), 400))


def test_who_may_not_change_runs_is_offered_nothing_and_refused(site: Site) -> None:
    before = states(site)
    site.who = person("Viewer")
    assert 'name="run"' not in site.get(dag_url(DAG_ID, "runs"))
    for action in ("success", "failed", "clear", "clear_failed", "delete"):
        site.get(dag_url(DAG_ID, "change-runs", action=action, run=[site.newest.id]), 403)
        change(site, action, [site.newest.id], 403)
    site.who = Who("ann", ("x",), ROLES["User"] - {(DELETE, "DAG Runs")})
    offered = site.get(dag_url(DAG_ID, "runs"))
    assert 'value="clear"' in offered and 'value="delete"' not in offered
    change(site, "delete", [site.newest.id], 403)
    assert states(site) == before


def test_a_dag_is_deleted_from_the_list_after_a_page_that_says_what_goes(site: Site) -> None:
    page = dag_url(DAG_ID, "delete")
    assert f'href="{page}"' in site.get("/dags") and f'href="{page}"' in site.get(dag_url(DAG_ID, "details"))
    with transaction(site.engine) as connection:
        each = tables.task_instance.c.dag_run_id == site.newest.id
        connection.execute(update(tables.task_instance).where(each).values(state="running"))
    count = sum(1 for _ in states(site))
    shown = site.get(page)
    assert f"{count} runs" in shown and "in flight" in shown and "Delete the DAG" not in shown
    assert "in flight" in site.post(page, 409)
    with transaction(site.engine) as connection:
        connection.execute(update(tables.task_instance).values(state="success"))
    site.statements.clear()
    assert "Delete the DAG" in site.get(page)
    assert len(site.statements) < 10
    assert site.post(page) == "/dags"
    assert states(site) == {} and audit(site, "dags delete") == [None]
    assert page not in site.get("/dags")


def test_who_may_not_delete_a_dag_sees_no_button_and_no_page(site: Site) -> None:
    site.who = person("Viewer")
    assert dag_url(DAG_ID, "delete") not in site.get("/dags")
    site.get(dag_url(DAG_ID, "delete"), 403)
