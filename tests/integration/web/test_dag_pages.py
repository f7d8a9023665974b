"""The pages of a DAG, a run and a task instance: what they show and to whom, and that no name, conf or log is taken
for HTML. (test_dag_page_queries.py has what depends on the database.)"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import insert, update

from opskit.core.metastore import dag_loads, runs, tables
from opskit.core.metastore.engine import transaction
from opskit.telemetry import rendered_fields
from opskit.web.identity import READ, Who, one_dag
from opskit.web.links import dag_url, run_url, task_url
from tests.dag_page_sample import DAG_ID, MAPPED, START, sample_data, write_log
from tests.dag_page_site import FAILED, Site, add_large, check, dag_pages, person, urls_of
from tests.databases import Databases
from tests.metastore_rows import dag_data, loaded_file


@pytest.fixture(scope="module")
def made(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    url = databases.migrated("sqlite")
    with dag_pages(url, tmp_path_factory.mktemp("home")) as made:
        yield made
    databases.drop(url)


@pytest.fixture
def site(made: Site) -> Site:
    made.who = person("Admin")
    return made


def test_the_grid_shows_states_counts_of_mapped_tasks_and_what_failed(site: Site) -> None:
    html = site.get(dag_url(DAG_ID))
    assert html.count("data-run=") == 6
    row = html[html.index(f'data-task="{MAPPED}"') :].split("<tr", 1)[0]
    assert 'class=state-failed data-words="2 failed, 4 running, 34 success">2' in row
    assert row.count("<td class=state-success") == 5
    assert f">{FAILED}</a>" in html[html.index("What failed") :]
    assert "Re-run from what failed" in html
    folded = site.get(dag_url(DAG_ID, fold=["transform"]))
    assert f'data-task="{MAPPED}"' not in folded and 'data-task="transform"' in folded


def test_a_place_in_the_grid_leads_to_its_task_instance(site: Site) -> None:
    url = dag_url(DAG_ID, f"at/{site.newest.id}/{FAILED}")
    answer = site.client.get(url, follow_redirects=False)
    assert answer.headers["location"] == task_url(DAG_ID, site.newest.run_id, FAILED)
    said = site.client.get(url + "?brief=1").json()
    assert "try 3" in said and "exit code 1: <no> file" in said
    site.get(dag_url(DAG_ID, "at/999999/load"), 404)
    site.get(dag_url(DAG_ID, f"at/{site.newest.id}/nothing?brief=1"), 404)


def test_a_run_tells_first_what_failed_in_it(site: Site) -> None:
    html = site.get(run_url(DAG_ID, site.newest.run_id))
    failures = html[html.index("What failed") : html.index("task-search")]
    assert FAILED in failures and "2 of 40 instances" in failures
    assert "exit code 1: &lt;no&gt; file" in failures
    assert "upstream" not in failures
    only = site.get(run_url(DAG_ID, site.newest.run_id, state="failed"))
    assert re.findall(r'data-key="task-([^"]+)"', only) == [MAPPED, FAILED]
    assert re.findall(r'data-key="task-([^"]+)"', site.get(run_url(DAG_ID, site.newest.run_id, q="EXTR"))) == [
        "extract.orders",
        "extract.customers",
    ]


def test_a_run_leads_to_those_beside_it(site: Site) -> None:
    html = site.get(run_url(DAG_ID, site.runs[3].run_id))
    beside = re.findall(r'rel="(prev|next)" href="([^"]+)"', html)
    assert beside == [("prev", run_url(DAG_ID, site.runs[2].run_id)), ("next", run_url(DAG_ID, site.runs[4].run_id))]
    others = site.get(task_url(DAG_ID, site.runs[3].run_id, "load", tab="history"))
    assert f'href="{task_url(DAG_ID, site.runs[0].run_id, "load")}"' in others


def test_the_gantt_has_a_bar_for_each_try(site: Site) -> None:
    html = site.get(run_url(DAG_ID, site.newest.run_id, "gantt"))
    row = html[html.index(f'{FAILED}"') :].split("</a>", 1)[0]
    assert row.count('class="state-failed earlier"') == 2
    assert row.count('<rect class="state-failed"') == 2  # the lamp, and the newest try
    assert "try 3: failed, 35 s" in row


def test_the_gantt_of_a_dag_is_that_of_its_newest_run(site: Site) -> None:
    answer = site.client.get(dag_url(DAG_ID, "gantt"))
    assert answer.headers["location"] == run_url(DAG_ID, site.newest.run_id, "gantt")


def test_params_and_conf_are_shown_without_their_secrets(site: Site) -> None:
    html = site.get(run_url(DAG_ID, site.newest.run_id, "details"))
    assert "&lt;i&gt;x&lt;/i&gt;" in html
    assert "hunter2" not in html and "***" in html
    assert "hunter2" not in site.get(dag_url(DAG_ID, "details"))


def test_xcoms_are_cut_off_and_escaped(site: Site) -> None:
    html = site.get(task_url(DAG_ID, site.newest.run_id, "extract.orders", tab="xcom"))
    assert "&lt;img src=x&gt;" in html
    assert "Only the beginning is shown." in html
    assert len(html) < 40_000


def test_a_task_that_waits_says_why(site: Site) -> None:
    html = site.get(task_url(DAG_ID, site.newest.run_id, "notify"))
    why = html[html.index('class="why"') :]
    assert "no scheduler is alive" in why
    assert "wait_for_file" in why


def test_fields_are_shown_as_a_try_had_them(site: Site) -> None:
    url = task_url(DAG_ID, site.newest.run_id, FAILED, tab="rendered")
    assert "echo transform.deep.join {{ ds }} &lt;b&gt;" in site.get(url)
    path = write_log(site.logs, site.newest, FAILED, 2, "x\n")
    rendered_fields.write(site.logs, path, {"bash_command": "echo <i>", "env": {"password": "hunter2"}})
    html = site.get(url + "&try_number=2")
    assert "echo &lt;i&gt;" in html and "hunter2" not in html


def test_a_note_on_a_task_instance_is_kept_and_shown(site: Site) -> None:
    url = task_url(DAG_ID, site.newest.run_id, MAPPED, page="note")
    back = site.post(url, note="ask <ann>", map_index="7")
    assert back == task_url(DAG_ID, site.newest.run_id, MAPPED, 7, tab="details")
    assert "ask &lt;ann&gt;" in site.get(back)
    assert "ask &lt;ann&gt;" not in site.get(task_url(DAG_ID, site.newest.run_id, MAPPED, 8))
    site.post(url, 404, note="x", map_index="99")
    site.post(url, 400, note="x" * 1001, map_index="7")


def _log(site: Site, text: str, attempt: int = 3, task_id: str = FAILED) -> str:
    write_log(site.logs, site.newest, task_id, attempt, text)
    return task_url(DAG_ID, site.newest.run_id, task_id, tab="log", try_number=attempt)


def test_a_log_is_shown_from_its_end_in_bounded_pieces(site: Site) -> None:
    lines = [f"line {number} <b>&\n" for number in range(40_000)]
    url = _log(site, "".join(lines))
    html = site.get(url)
    check("log", html)
    assert "line 39999 &lt;b&gt;&amp;" in html and "line 1 " not in html
    first = site.get(url + "&offset=0")
    assert "line 0 " in first
    following = re.search(r'href="([^"]+)">the part after', first)
    assert following is not None
    last_shown = int(re.findall(r"line (\d+) ", first)[-1])
    assert f"line {last_shown + 1} " in site.get(following[1].replace("&amp;", "&"))
    whole = site.client.get(task_url(DAG_ID, site.newest.run_id, FAILED, page="log/file", try_number=3))
    assert whole.text == "".join(lines)
    assert whole.headers["content-disposition"] == f'attachment; filename="{FAILED}.attempt-3.log"'


def test_the_stream_of_a_log_gives_the_rest_and_ends_with_the_attempt(site: Site) -> None:
    text = "one\ntwo <script>\nno newline"
    _log(site, text, 2)
    url = task_url(DAG_ID, site.newest.run_id, FAILED, page="log/stream", try_number=2, offset=4)
    answer = site.client.get(url)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [part.split("\n") for part in answer.text.split("\n\n") if "data:" in part]
    assert events[0][:2] == ["event: lines", f"id: {len(text)}"]
    data = json.loads(events[0][2].removeprefix("data: "))
    assert data["end"] == len(text)
    assert "two &lt;script&gt;" in data["html"] and "no newline" in data["html"] and "one" not in data["html"]
    assert events[-1][0] == "event: end"
    resumed = site.client.get(url, headers={"Last-Event-ID": str(len(text))})
    assert "event: lines" not in resumed.text and "event: end" in resumed.text


def test_a_log_that_is_not_there_says_so(site: Site) -> None:
    url = task_url(DAG_ID, site.newest.run_id, "load", tab="log", try_number=9)
    assert "There is no log of try 9" in site.get(url)
    # It has ended, and its log was cleaned: nobody waits for it.
    html = site.get(task_url(DAG_ID, site.runs[0].run_id, "load", tab="log"))
    assert "There is no log of try 1" in html and "data-stream" not in html
    assert "data-stream" in site.get(task_url(DAG_ID, site.newest.run_id, "wait_for_file", tab="log"))
    site.get(task_url(DAG_ID, site.newest.run_id, "load", page="log/file", try_number=9), 404)


def test_a_run_with_attempts_in_flight_is_not_deleted(site: Site) -> None:
    url = run_url(DAG_ID, site.newest.run_id, "delete")
    assert "are in flight" in site.get(url)
    site.post(url, 409)
    site.get(run_url(DAG_ID, site.newest.run_id))


def test_a_viewer_is_offered_nothing_and_may_do_nothing(site: Site) -> None:
    site.who = person("Viewer")
    run = site.newest
    for name, url in urls_of(run).items():
        if name in ("clear", "mark", "mark a task", "delete"):
            site.get(url, 403)
            continue
        if name.startswith("task") and name != "task details":
            continue
        forms = re.findall(r'<form[^>]*method="post"[^>]*action="([^"]*)"', site.get(url))
        assert [action for action in forms if action != "/logout"] == [], name
    page = site.get(run_url(DAG_ID, run.run_id))
    assert "Re-run" not in page and "/clear" not in page and "/mark?" not in page
    before = site.states(run)
    url = run_url(DAG_ID, run.run_id)
    for action, fields in (
        ("clear", {}),
        ("clear", {"task_id": FAILED}),
        ("mark", {"state": "failed"}),
        ("mark", {"state": "success", "task_id": FAILED}),
        ("delete", {}),
        ("note", {"note": "x"}),
        ("tasks/load/note", {"note": "x"}),
    ):
        site.post(f"{url}/{action}", 403, **fields)
    assert site.states(run) == before


def test_who_may_read_one_dag_sees_no_other_and_no_code_or_log_without_the_right(site: Site) -> None:
    with transaction(site.engine) as connection:
        dag_loads.store_loaded_files(connection, [loaded_file("other.py", dag_data("other_dag"))], START)
    rights = frozenset({(READ, one_dag("other_dag")), (READ, "DAG Runs"), (READ, "Task Instances")})
    site.who = Who("bob", ("Some",), rights)
    assert ">Code<" not in site.get(dag_url("other_dag"))
    site.get(dag_url("other_dag", "code"), 403)
    for url in urls_of(site.newest).values():
        site.get(url, 403)
    site.who = Who("bob", ("Some",), rights | {(READ, one_dag(DAG_ID))})
    page = site.get(task_url(DAG_ID, site.newest.run_id, FAILED))
    assert "task-log" not in page and ">XCom<" not in page
    for part in ("log/file", "log/stream"):
        site.get(task_url(DAG_ID, site.newest.run_id, FAILED, page=part, try_number=3), 403)


def test_a_log_that_is_gone_is_looked_for_by_the_command_that_reads_the_archive(site: Site) -> None:
    assert "Look in the archive" in site.get(task_url(DAG_ID, site.runs[0].run_id, "load", tab="log"))
    # (The command looks into the log folder first: what is in an archive is the business of its own tests.)
    write_log(site.logs, site.runs[1], "load", 1, "kept <b>\n")
    html = site.get(task_url(DAG_ID, site.runs[1].run_id, "load", tab="log", try_number=1, archived=True))
    assert "kept &lt;b&gt;" in html and "data-stream" not in html
    gone = task_url(DAG_ID, site.runs[1].run_id, "report", page="log/file", try_number=1, archived=True)
    assert "neither in the log folder nor in the archive" in site.get(gone, 404)


def test_names_that_look_like_markup_are_text_everywhere(site: Site) -> None:
    dag_id, task_id = '<img src=x onerror="alert(1)">&', '"><script>alert(2)'
    data = {**sample_data(dag_id), "owners": ["<u>o</u>"], "tags": ["<u>t</u>"], "description": "<u>d</u>"}
    data["groups"] = [{"group_id": "<u>g</u>", "parent": None, "tooltip": "<u>tip</u>"}]
    data["tasks"] = [
        {"task_id": task_id, "operator": "<u>op</u>", "group": "<u>g</u>", "downstream": ["b"]},
        {"task_id": "b", "operator": "X", "upstream": [task_id], "ui": {"doc_md": "<u>x</u>"}},
    ]
    data["ui"] = {"edges": {task_id: {"b": {"label": "<u>l</u>"}}}, "owner_links": {"<u>o</u>": "javascript:alert(3)"}}
    with transaction(site.engine) as connection:
        dag_loads.store_loaded_files(connection, [loaded_file("hostile.py", data)], START)
        run = runs.trigger(connection, dag_id, START, logical_date=START)
        names = {"run_id": "../<u>r</u>", "note": "<u>n</u>", "conf": json.dumps({"<u>k</u>": "<u>v</u>"})}
        connection.execute(update(tables.dag_run).where(tables.dag_run.c.id == run.id).values(**names))
        row = {"dag_run_id": run.id, "map_index": -1, "state": "failed", "try_number": 1, "reason": "<u>why</u>"}
        row |= {"hostname": "<u>h</u>", "start_date": START, "end_date": START}
        connection.execute(insert(tables.task_instance), [{**row, "task_id": one} for one in (task_id, "b")])
        run = runs.get_run(connection, dag_id, "../<u>r</u>")
    pages = {url for name, url in urls_of(site.newest).items() if name.startswith("dag ") and "task" not in name}
    pages = {url.replace(f"/dags/{DAG_ID}", dag_url(dag_id)) for url in pages}
    own = [
        run_url(dag_id, run.run_id, page, number=run.id)
        for page in ("", "graph", "gantt", "details", "clear", "delete")
    ]
    own += [
        task_url(dag_id, run.run_id, task_id, number=run.id, tab=tab)
        for tab in ("log", "attempts", "history", "details")
    ]
    for url in [*pages, *own]:
        html = site.get(url)
        assert "<u>" not in html and "<script>" not in html and "<img" not in html, url
        assert 'href="javascript' not in html, url
    assert "@" in own[0]


def test_bad_parameters_get_a_clear_answer(site: Site) -> None:
    for url, status, words in (
        (dag_url(DAG_ID, state="gone"), 400, "state"),
        (dag_url(DAG_ID, start="yesterday"), 400, "start"),
        (dag_url(DAG_ID, runs=1000), 400, "runs"),
        (dag_url(DAG_ID, "graph", arrange="round"), 400, "arrange"),
        (dag_url(DAG_ID, "graph", run="no"), 404, "no"),
        (dag_url(DAG_ID, "calendar", year=1), 400, "year"),
        (dag_url(DAG_ID, "code", version="0"), 404, "version"),
        (dag_url(DAG_ID, "durations", task="no"), 404, "no"),
        (dag_url(DAG_ID, "details", task="loat"), 404, "load"),
        (dag_url("no_dag"), 404, "no_dag"),
        (run_url(DAG_ID, "nothing"), 404, "nothing"),
        (run_url(DAG_ID, "@77777"), 404, "@77777"),
        (task_url(DAG_ID, site.newest.run_id, "load", tab="no"), 400, "tab"),
    ):
        assert words in site.get(url, status), url


def test_pages_of_large_dags_stay_small(site: Site) -> None:
    dag_id = "large"
    add_large(site, dag_id, 500, 25)
    groups = [f"group_{number}" for number in range(25)]
    run = f"manual__{START.isoformat()}"
    for url in (
        dag_url(dag_id),
        dag_url(dag_id, open=groups),
        dag_url(dag_id, open=groups, rows_page=2),
        dag_url(dag_id, "graph"),
        dag_url(dag_id, "graph", open=groups),
        dag_url(dag_id, "durations"),
        run_url(dag_id, run),
        run_url(dag_id, run, "clear"),
    ):
        check(url, site.get(url))
        assert len(site.statements) <= 12, url
