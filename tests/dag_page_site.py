"""The pages of a DAG over a small metastore, as one person sees them, in a webserver in a thread of the test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import Request
from sqlalchemy import event, insert

from opskit import config as settings
from opskit.core.metastore import dag_loads, runs, tables, task_instances
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.runs import Run
from opskit.web.app import make_app
from opskit.web.gate import identify
from opskit.web.identity import ROLES, Who
from opskit.web.links import dag_url, run_url, task_url
from tests.api_site import serving
from tests.dag_page_sample import MAPPED, START, fill, sample_data
from tests.metastore_rows import loaded_file

FAILED = "transform.deep.join"
LIMIT = 200_000
"""Bytes of a page."""


@dataclass
class Site:
    """The pages as one person sees them; `runs` of DAG_ID, the oldest first."""

    client: httpx.Client
    engine: Engine
    logs: Path
    runs: list[Run]
    who: Who = field(default_factory=lambda: person("Admin"))
    statements: list[str] = field(default_factory=list)

    @property
    def newest(self) -> Run:
        return self.runs[-1]

    def get(self, url: str, status: int = 200) -> str:
        self.statements.clear()
        answer = self.client.get(url)
        assert answer.status_code == status, answer.text[:2000]
        return answer.text

    def post(self, url: str, status: int = 303, **fields: Any) -> str:
        answer = self.client.post(url, data=fields, follow_redirects=False)
        assert answer.status_code == status, answer.text[:2000]
        return str(answer.headers.get("location", answer.text))

    def states(self, run: Run) -> dict[tuple[str, int], str | None]:
        with reading(self.engine) as connection:
            return task_instances.task_states(connection, run.dag_id, run.run_id)


def person(role: str) -> Who:
    return Who("ann <b>", (role,), ROLES[role], csrf_token="token")


@contextmanager
def dag_pages(url: str, home: Path) -> Iterator[Site]:
    """`url`: of a migrated metastore."""
    archive = str(home / "archive")
    config = settings.load(home, {"OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url, "OPSKIT__LOGS__ARCHIVE_TO": archive})
    engine = open_engine(config)
    with transaction(engine) as connection:
        filled = fill(connection)
    app = make_app(config, engine)
    site = Site(httpx.Client(timeout=30, verify=False), engine, config.logs_folder, filled)

    async def me(request: Request) -> Who:
        request.state.who = site.who
        return site.who

    app.dependency_overrides[identify] = me
    event.listen(engine, "before_cursor_execute", lambda *given: site.statements.append(given[2]))
    with serving(app) as address, site.client as client:
        client.base_url = httpx.URL(address)
        yield site
    engine.dispose()


def urls_of(run: Run) -> dict[str, str]:
    def task(task_id: str, tab: str, map_index: int = -1) -> str:
        return task_url(run.dag_id, run.run_id, task_id, map_index, tab=tab)

    pages = ("", "graph", "runs", "durations", "calendar", "code", "details")
    return {
        **{f"dag {page}": dag_url(run.dag_id, page) for page in pages},
        "dag folded": dag_url(run.dag_id, fold=["transform"]),
        "dag graph downwards": dag_url(run.dag_id, "graph", arrange="TB", fold=["extract"]),
        "dag durations of a task": dag_url(run.dag_id, "durations", task="load"),
        "dag details of a task": dag_url(run.dag_id, "details", task=FAILED),
        **{f"run {page}": run_url(run.dag_id, run.run_id, page) for page in ("", "graph", "gantt", "details")},
        **{f"task {tab}": task(FAILED, tab) for tab in ("log", "attempts", "rendered", "xcom", "history", "details")},
        "task why": task("notify", "why"),
        "task instances": task(MAPPED, "instances"),
        "task of an index": task(MAPPED, "log", 7),
        "clear": run_url(run.dag_id, run.run_id, "clear", only_failed=True),
        "mark": run_url(run.dag_id, run.run_id, "mark", state="failed"),
        "mark a task": run_url(run.dag_id, run.run_id, "mark", state="success", task_id=FAILED, downstream=True),
        "delete": run_url(run.dag_id, run.run_id, "delete"),
    }


def check(name: str, html: str) -> None:
    """What holds for every page: no size over the limit, nothing that the content policy would refuse."""
    assert len(html.encode()) < LIMIT, (name, len(html))
    assert not re.search(r"<script(?![^>]*\ssrc=)", html), name
    assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", html), name
    assert "javascript:" not in html, name


def add_large(site: Site, dag_id: str, tasks: int, runs_: int, mapped: int = 0) -> list[int]:
    """A DAG of that many tasks in groups of 20, with task instances of all of them."""
    data = sample_data(dag_id)
    names = [f"group_{number // 20}.task_{number}" for number in range(tasks)]
    data["groups"] = [{"group_id": f"group_{number}", "parent": None} for number in range(-(-tasks // 20))]
    data["tasks"] = [
        {
            "task_id": name,
            "operator": "PythonOperator",
            "group": name.partition(".")[0],
            "upstream": [names[number - 20]] if number >= 20 else [],
            "downstream": [names[number + 20]] if number + 20 < tasks else [],
        }
        for number, name in enumerate(names)
    ]
    with transaction(site.engine) as connection:
        dag_loads.store_loaded_files(connection, [loaded_file(f"{dag_id}.py", data)], START)
        numbers = []
        for number in range(runs_):
            at = START + timedelta(hours=number)
            run = runs.trigger(connection, dag_id, at, logical_date=at)
            numbers.append(run.id)
            base = {"dag_run_id": run.id, "state": "success", "start_date": at, "end_date": at + timedelta(seconds=9)}
            rows = [{**base, "task_id": name, "map_index": -1} for name in names[1 if mapped else 0 :]]
            rows += [{**base, "task_id": names[0], "map_index": index} for index in range(mapped)]
            connection.execute(insert(tables.task_instance), rows)
    return numbers
