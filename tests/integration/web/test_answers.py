"""What tasks ask people, answered by page and by API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import insert, select, update

from opskit.core.metastore import questions
from opskit.core.metastore.engine import reading, transaction
from opskit.core.metastore.runs import Run
from opskit.core.metastore.tables import dag, log, question, task_instance, xcom
from opskit.web import topics
from opskit.web.links import task_url
from tests.dag_page_sample import DAG_ID
from tests.dag_page_site import Site, dag_pages, person
from tests.databases import Databases

TASK = "report"
ASKS: dict[str, Any] = {
    "subject": "Ship <it>?",
    "body": "The **numbers** are in [the report](https://example.org/r).\n\n<script>alert(1)</script>",
    "options": ["Ship", "Wait"],
    "defaults": None,
    "multiple": False,
    "params": {
        "n": {"value": 3, "description": "How many", "schema": {"type": "integer", "minimum": 1}},
        "why": {"value": None, "description": None, "schema": {"type": "string"}, "required": True},
    },
    "assigned_users": [],
}


@pytest.fixture(scope="module")
def site(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    url = databases.migrated("sqlite")
    with dag_pages(url, tmp_path_factory.mktemp("home")) as made:
        yield made
    databases.drop(url)


@pytest.fixture
def asked(site: Site) -> Iterator[Run]:
    """The run whose task TASK waits for an answer; other questions are gone."""
    site.who = person("Admin")
    yield ask(site)
    site.who = person("Admin")


def ask(site: Site, timeout_at: datetime | None = None, **changed: Any) -> Run:
    run, now = site.newest, datetime.now(UTC)
    frame: dict[str, Any] = {"class": "m:T", "kwargs": {}, "method": "execute_complete", "method_kwargs": {}}
    frame |= {"timeout_at": timeout_at and timeout_at.isoformat(), "question": {**ASKS, **changed}}
    key = {"dag_run_id": run.id, "task_id": TASK, "map_index": -1}
    with transaction(site.engine) as connection:
        for table in (question, xcom):
            connection.execute(table.delete().where(table.c.dag_run_id == run.id, table.c.task_id == TASK))
        waits = (task_instance.c.dag_run_id == run.id, task_instance.c.task_id == TASK)
        connection.execute(update(task_instance).where(*waits).values(state="deferred", try_number=1))
        connection.execute(insert(xcom).values(**key, key="__deferral__", value=json.dumps(frame), created_at=now))
        one = SimpleNamespace(key=(TASK, -1), try_number=1, deferral=frame)
        questions.keep(connection, [(run.id, cast(Any, one))], now)
    return run


def path(run: Run) -> str:
    return f"/opskit/v1/dags/{DAG_ID}/dagRuns/{run.run_id}/taskInstances/{TASK}/-1/hitlDetails"


def page(run: Run, name: str = "") -> str:
    return task_url(DAG_ID, run.run_id, TASK, page=name, number=run.id)


def send(site: Site, run: Run, chosen: str = "", status: int = 400, **params: str) -> str:
    """Post the form; the page that answers."""
    fields: Any = {f"param:{name}": text for name, text in params.items()}
    return site.post(page(run, "answer"), status, **fields, **({"chosen_options": chosen} if chosen else {}))


def event(site: Site, run: Run) -> Any:
    """What the task goes on with."""
    with reading(site.engine) as connection:
        found = connection.execute(select(xcom.c.value).where(xcom.c.dag_run_id == run.id, xcom.c.task_id == TASK))
        return json.loads(found.scalar_one()).get("event")


def test_an_answer_by_page_lets_the_task_go_on_and_leaves_an_audit_line(site: Site, asked: Run) -> None:
    shown = site.get(page(asked))
    assert "Ship &lt;it&gt;?" in shown and "<strong>numbers</strong>" in shown and "<script>alert" not in shown
    with reading(site.engine) as connection:
        before = connection.execute(select(dag.c.revision).where(dag.c.dag_id == DAG_ID)).scalar_one()
    fields: Any = {"chosen_options": "Ship", "param:n": "5", "param:why": "all is well"}
    assert site.post(page(asked, "answer"), **fields) == page(asked) + "?tab=answer"
    said = event(site, asked)["answer"]
    assert (said["chosen_options"], said["params_input"]) == (["Ship"], {"n": 5, "why": "all is well"})
    assert said["responded_by_user"]["id"] == site.who.username
    assert site.states(asked)[TASK, -1] == "scheduled"
    with reading(site.engine) as connection:
        assert connection.execute(select(dag.c.revision).where(dag.c.dag_id == DAG_ID)).scalar_one() == before + 1
        line = connection.execute(select(log).where(log.c.event == "tasks answer")).one()
    assert (line.owner, line.run_id, line.task_id) == (site.who.username, asked.run_id, TASK)
    assert json.loads(line.extra)["chosen_options"] == ["Ship"] and "well" not in line.extra
    shown = site.get(page(asked) + "?tab=answer")
    assert "all is well" in shown and 'name="chosen_options"' not in shown
    assert "has answered it already" in site.post(page(asked, "answer"), 409, **fields)


def test_what_is_wrong_in_an_answer_is_shown_where_it_is(site: Site, asked: Run) -> None:
    wrong = send(site, asked, "Wait", n="0", why="x")
    assert "0 is less than the minimum of 1" in wrong and 'value="Wait" checked' in wrong
    assert "choose an option" in send(site, asked, n="1", why="x")
    wrong = send(site, asked, "Burn", n="1", why="x")
    assert "&#39;Burn&#39; can&#39;t be chosen" in wrong
    assert event(site, asked) is None and site.states(asked)[TASK, -1] == "deferred"


def test_the_list_shows_what_waits_and_what_is_past(site: Site, asked: Run) -> None:
    shown = site.get("/answers")
    assert "Ship &lt;it&gt;?" in shown and page(asked) in shown
    assert len(site.statements) < 12
    assert "Ship" not in site.get("/answers?show=past")
    send(site, asked, "Wait", 303, n="1", why="x")
    assert "Ship" not in site.get("/answers")
    past = site.get("/answers?show=past")
    assert "Ship &lt;it&gt;?" in past and "Wait" in past


def test_the_list_hears_of_new_questions_and_of_answers(site: Site, asked: Run) -> None:
    def pulse() -> str:
        with reading(site.engine) as connection:
            return topics.fingerprints(connection, [topics.read("answers")])[topics.read("answers")]

    before = pulse()
    assert pulse() == before
    send(site, asked, "Wait", 303, n="1", why="x")
    answered = pulse()
    ask(site)
    assert len({before, answered, pulse()}) == 3


def test_a_link_chooses_and_fills_in_beforehand(site: Site, asked: Run) -> None:
    shown = site.get(page(asked) + "?tab=answer&_options=Wait&n=7&why=from%20a%20mail&n2=x")
    assert 'value="Wait" checked' in shown and 'value="7"' in shown and 'value="from a mail"' in shown
    assert 'value="3"' in site.get(page(asked) + "?tab=answer&n=no+number")


def test_who_may_only_read_sees_the_question_and_can_not_answer(site: Site, asked: Run) -> None:
    site.who = person("Viewer")
    assert "Ship &lt;it&gt;?" in site.get(page(asked)) and "Send the answer" not in site.get(page(asked))
    send(site, asked, "Ship", 403, why="x")
    assert site.client.patch(path(asked), json={"chosen_options": ["Ship"]}).status_code == 403
    assert site.client.get(path(asked)).json()["waits"] is True
    assert event(site, asked) is None


def test_only_those_who_are_asked_can_answer(site: Site) -> None:
    run = ask(site, assigned_users=[{"id": "somebody", "name": "Some Body"}])
    assert "Some Body" in site.get(page(run)) and "Send the answer" not in site.get(page(run))
    answer = site.client.patch(path(run), json={"chosen_options": ["Ship"], "params_input": {"why": "x"}})
    assert answer.status_code == 403 and "waits for an answer of Some Body" in answer.json()["detail"]
    run = ask(site, assigned_users=[{"id": site.who.username, "name": "I"}])
    assert "Send the answer" in site.get(page(run))


def test_an_answer_by_api_has_the_fields_of_airflow(site: Site, asked: Run) -> None:
    found = site.client.get("/opskit/v1/hitlDetails?waits=true").json()
    assert [one["subject"] for one in found["hitl_details"]] == ["Ship <it>?"] and found["total_entries"] == 1
    body = {"chosen_options": ["Ship"], "params_input": {"why": "ok"}}
    answer = site.client.patch(path(asked), json=body)
    assert answer.status_code == 200, answer.text
    one = answer.json()
    assert one["params_input"] == {"n": 3, "why": "ok"} and one["chosen_options"] == ["Ship"]
    assert one["responded_by_user"]["id"] == site.who.username and one["response_received"] and not one["waits"]
    assert one["params"]["n"] == {"value": 3, "description": "How many", "schema": {"type": "integer", "minimum": 1}}
    assert site.client.patch(path(asked), json=body).status_code == 409
    assert site.client.get(path(asked) + "/tries/1").json() == one
    assert site.client.get(path(asked) + "/tries/2").status_code == 404
    for query, count in (("waits=true", 0), ("waits=false", 1), ("response_received=true", 1), ("dag_id=x", 0)):
        assert site.client.get(f"/opskit/v1/hitlDetails?{query}").json()["total_entries"] == count, query


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"chosen_options": []}, "chosen_options"),
        ({"chosen_options": ["Ship"]}, "why"),
        ({"chosen_options": ["Ship"], "params_input": {"why": 5}}, "why"),
        ({"chosen_options": ["Ship"], "params_input": {"why": "x", "z": 1}}, "there is no param z"),
        ({"chosen_options": ["Ship", "Wait"], "params_input": {"why": "x"}}, "only one option"),
    ],
)
def test_an_answer_by_api_that_does_not_fit_is_refused(site: Site, asked: Run, body: Any, message: str) -> None:
    answer = site.client.patch(path(asked), json=body)
    assert answer.status_code == 400 and message in answer.json()["detail"]
    assert event(site, asked) is None


def test_why_a_task_waits_names_whose_answer_and_until_when(site: Site) -> None:
    run = ask(site, timeout_at=datetime.now(UTC) + timedelta(days=1), assigned_users=[{"id": "mia", "name": "Mia M"}])
    assert "it waits for an answer of Mia M" in site.get(page(run) + "?tab=why")
    assert "fails" in site.get(page(run) + "?tab=answer")


def test_a_task_that_asked_nobody_has_no_such_page(site: Site) -> None:
    other = task_url(DAG_ID, site.newest.run_id, "load", number=site.newest.id)
    site.post(task_url(DAG_ID, site.newest.run_id, "load", page="answer", number=site.newest.id), 404)
    assert "tab=answer" not in site.get(other)
