"""What all pages of one run share: the run itself, its tabs, what may be done to it."""

from __future__ import annotations

from typing import Any

from opskit.core.metastore import runs
from opskit.core.metastore.browsing import run_page
from opskit.core.metastore.dags import Dag
from opskit.core.metastore.engine import Connection
from opskit.core.metastore.runs import Run
from opskit.web.identity import DELETE, Who
from opskit.web.links import run_url
from opskit.web.pages import of_dag


def find(connection: Connection, dag_id: str, run_id: str) -> Run:
    """The run that a path names: by its run_id, or as `@<dag_run.id>`. NotFound, naming the nearest one."""
    found = runs.find_run(connection, dag_id, run_id)
    if found is not None:
        return found
    if run_id.startswith("@") and run_id[1:].isascii() and run_id[1:].isdigit() and len(run_id) < 20:
        named = run_page.run_id_of(connection, dag_id, int(run_id[1:]))
        if named is not None:
            return runs.get_run(connection, dag_id, named)
    return runs.get_run(connection, dag_id, run_id)


def url(run: Run, page: str = "", **query: object) -> str:
    """The path of a page of this run."""
    return run_url(run.dag_id, run.run_id, page, number=run.id, **query)


def frame(who: Who, dag: Dag, run: Run, tab: str) -> dict[str, Any]:
    """What run/frame.html needs."""
    return {
        **of_dag.frame(who, dag, tab),
        "run": run,
        "run_tabs": [
            ("tasks", "Tasks", url(run)),
            ("graph", "Graph", url(run, "graph")),
            ("gantt", "Gantt", url(run, "gantt")),
            ("details", "Details", url(run, "details")),
        ],
        "run_page": lambda page="", **query: url(run, page, **query),
        "may_delete_run": who.can(DELETE, "DAG Runs", dag.dag_id),
    }
