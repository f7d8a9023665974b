"""What the pages of a DAG ask the metastore, and what their forms change in it, on each kind of database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from opskit.core.metastore import runs, tables
from opskit.core.metastore.engine import reading
from opskit.web.links import dag_url, run_url, task_url
from tests.dag_page_sample import DAG_ID, MAPPED, START
from tests.dag_page_site import FAILED, Site, add_large, check, dag_pages, urls_of
from tests.databases import KINDS, Databases


@pytest.fixture(scope="module", params=KINDS)
def site(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    url = databases.migrated(request.param)
    with dag_pages(url, tmp_path_factory.mktemp("home")) as made:
        yield made
    databases.drop(url)


def test_every_page_is_small_and_asks_a_fixed_number_of_questions(site: Site) -> None:
    alike = (
        "dag folded",
        "dag graph downwards",
        "dag details of a task",
        "task details",
        "task rendered",
        "run details",
    )
    for name, url in urls_of(site.newest).items():
        if name in alike and site.engine.dialect.name != "sqlite":
            continue  # they ask what others ask
        html = site.get(url)
        check(name, html)
        # What the schedulers would decide is read in one go, too, but it is more than a page's own few queries.
        limit = 20 if name == "task why" else 12
        assert len(site.statements) <= limit, (name, site.statements)


def test_runs_are_filtered_and_paged(site: Site) -> None:
    def shown(**query: Any) -> list[str]:
        return re.findall(r'data-run-id="([^"]+)"', site.get(dag_url(DAG_ID, **query)))

    ids = [run.run_id for run in site.runs]
    assert shown() == ids
    assert shown(state="failed") == [ids[1]]
    assert shown(run_type="manual") == [ids[0], ids[3]]
    day = (START + timedelta(days=2)).date()
    assert shown(start=day, end=day) == [ids[2]]
    assert shown(runs=2) == ids[-2:]
    older = shown(runs=2, before=site.runs[-2].logical_date.isoformat())
    assert older == ids[2:4]
    assert shown(runs=2, after=site.runs[3].logical_date.isoformat()) == ids[-2:]
    listed = re.findall(r'data-key="run-(\d+)"', site.get(dag_url(DAG_ID, "runs", state="success")))
    assert listed == [str(site.runs[number].id) for number in (4, 3, 2, 0)]
    html = site.get(dag_url(DAG_ID, runs=2))
    assert "← Older" in html and "Newer →" not in html


def test_instances_of_a_mapped_task_are_filtered_and_counted(site: Site) -> None:
    url = task_url(DAG_ID, site.newest.run_id, MAPPED)
    assert len(re.findall(r'data-key="i\d+"', site.get(url))) == 40
    assert re.findall(r'data-key="i(\d+)"', site.get(url + "?state=failed")) == ["7", "8"]
    site.get(task_url(DAG_ID, site.newest.run_id, MAPPED, 40), 404)


def test_clearing_shows_first_what_it_will_do_and_then_does_that(site: Site) -> None:
    run = site.newest
    before = site.states(run)
    url = run_url(DAG_ID, run.run_id, "clear")
    html = site.get(url + f"?task_id={FAILED}&downstream=1")
    assert "3 task instances would be cleared" in html
    assert site.states(run) == before
    assert 'name="downstream" value="1"' in html and f'name="task_id" value="{FAILED}"' in html
    assert site.post(url, task_id=FAILED, downstream="1") == task_url(DAG_ID, run.run_id, FAILED)
    after = site.states(run)
    changed = {key[0] for key in before if before[key] != after[key]}
    assert changed == {FAILED, "load", "report"}
    assert all(after[task_id, -1] is None for task_id in changed)
    assert "5 task instances" not in site.get(url + "?only_failed=1")
    with reading(site.engine) as connection:
        line = connection.execute(
            select(tables.log).where(tables.log.c.event == "tasks clear").order_by(tables.log.c.id.desc())
        ).first()
    assert line is not None and (line.owner, line.dag_id) == ("ann <b>", DAG_ID)


def test_clearing_reaches_over_runs(site: Site) -> None:
    html = site.get(run_url(DAG_ID, site.runs[1].run_id, "clear", task_id="load", past=True))
    assert "2 task instances would be cleared" in html and "In 2 runs" in html
    site.get(run_url(DAG_ID, site.runs[1].run_id, "clear", task_id="no such task"), 404)
    site.get(run_url(DAG_ID, site.runs[1].run_id, "clear", only_failed=True, only_running=True), 400)


def test_one_instance_of_a_mapped_task_is_marked_alone(site: Site) -> None:
    run = site.newest
    url = run_url(DAG_ID, run.run_id, "mark")
    assert "1 task instance would change" in site.get(url + f"?state=success&task_id={MAPPED}&map_index=7")
    site.post(url, state="success", task_id=MAPPED, map_index="7")
    after = site.states(run)
    assert (after[MAPPED, 7], after[MAPPED, 8]) == ("success", "failed")
    site.get(url + "?state=<b>", 400)
    site.post(url, 400, state="running", task_id=MAPPED)


def test_a_whole_run_is_marked_noted_and_deleted(site: Site) -> None:
    run = site.runs[2]
    url = run_url(DAG_ID, run.run_id)
    assert "0 task instances would change" in site.get(url + "/mark?state=failed")
    assert site.post(url + "/mark", state="failed") == url
    with reading(site.engine) as connection:
        assert runs.get_run(connection, DAG_ID, run.run_id).state == "failed"
    site.post(url + "/note", note="look at <b>this</b>")
    assert "look at &lt;b&gt;this&lt;/b&gt;" in site.get(url)
    assert site.post(url + "/delete") == dag_url(DAG_ID)
    site.get(url, 404)


def test_a_run_with_many_mapped_instances_is_summed_up_by_the_database(site: Site) -> None:
    dag_id = "mapped_much"
    add_large(site, dag_id, 3, 1, mapped=3_000)
    run_id = f"manual__{START.isoformat()}"
    for url in (dag_url(dag_id), run_url(dag_id, run_id), task_url(dag_id, run_id, "group_0.task_0")):
        html = site.get(url)
        assert "3,000" in html or "3k" in html
        assert len(html) < 80_000
        assert len(site.statements) <= 12
