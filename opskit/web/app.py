"""Puts the faces together: Airflow's API, opskit's own, and the pages."""

from __future__ import annotations

from importlib import import_module

from fastapi import Depends, FastAPI
from starlette.formparsers import MultiPartParser
from starlette.middleware.gzip import GZipMiddleware

from opskit import __version__
from opskit.config import Config
from opskit.core.metastore.engine import Engine
from opskit.web import faults
from opskit.web.kept import Kept
from opskit.web.request_rules import refuse_unknown
from opskit.web.routes import Table
from opskit.web.security import middleware
from opskit.web.static_files import HashedFiles
from opskit.web.store import Store
from opskit.web.turns import Turns

# One line for each module that has a `router`, in the order in which paths are looked up.
AIRFLOW_API: tuple[str, ...] = (
    "airflow_api.configuration",
    "airflow_api.connections",
    "airflow_api.dag_files",
    "airflow_api.dag_runs",
    "airflow_api.dag_stats",
    "airflow_api.dags",
    "airflow_api.datasets",
    "airflow_api.documents",
    "airflow_api.event_logs",
    "airflow_api.import_errors",
    "airflow_api.monitoring",
    "airflow_api.plugins",
    "airflow_api.pools",
    "airflow_api.roles",
    "airflow_api.task_instance_changes",
    "airflow_api.task_instances",
    "airflow_api.task_logs",
    "airflow_api.tasks",
    "airflow_api.users",
    "airflow_api.variables",
    "airflow_api.xcoms",
)
OPSKIT_API: tuple[str, ...] = (
    "opskit_api.answers",
    "opskit_api.backups",
    "opskit_api.documents",
    "opskit_api.health",
    "opskit_api.jobs",
    "opskit_api.operations",
)
PAGES: tuple[str, ...] = (
    "pages.sign_in",
    "pages.account",
    "pages.users",
    "pages.roles",
    "pages.home",
    "pages.operations",
    "pages.dags",
    "pages.trigger",
    "pages.connections",
    "pages.variables",
    "pages.pools",
    "pages.import_errors",
    "pages.audit",
    "pages.configuration",
    "pages.assets",
    "live",
    "wellbeing",
    "pages.dag_grid",
    "pages.dag_graph",
    "pages.dag_details",
    "pages.dag_code",
    "pages.dag_calendar",
    "pages.dag_durations",
    "pages.dag_runs",
    "pages.run_batch",
    "pages.run",
    "pages.run_actions",
    "pages.task_instance",
    "pages.task_log",
    "pages.answers",
)


def make_app(config: Config, engine: Engine, reader: Engine | None = None, keep_seconds: float = 0.0) -> FastAPI:
    """The application of one webserver. The engines stay the caller's to dispose of; `reader`: see Store.

    `keep_seconds`: so old may be what the first page and the list of DAGs show of changes from elsewhere.
    """
    app = FastAPI(title="opskit", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.store = Store(config, engine, reader, Kept(keep_seconds))
    faults.install(app)
    middleware.install(app, config)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)  # event streams pass as they are
    # No larger body gets here. (A file that is put on disk is written by a thread, and in a turn there is none.)
    MultiPartParser.spool_max_size = app.state.rules.max_body
    app.state.turns = Turns()
    table = Table(app.state.turns, dependency_overrides_provider=app)
    app.router = table
    for prefix, modules in (("/api/v1", AIRFLOW_API), ("/opskit/v1", OPSKIT_API), ("", PAGES)):
        rules = [Depends(refuse_unknown)] if prefix else []
        for name in modules:
            table.take(import_module(f"opskit.web.{name}").router, prefix, rules)
    app.mount("/static", HashedFiles(), name="static")
    return app
