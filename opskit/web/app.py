"""Puts the faces together: Airflow's API, opskit's own, and the pages."""

from __future__ import annotations

from importlib import import_module

from fastapi import Depends, FastAPI
from starlette.middleware.gzip import GZipMiddleware

from opskit import __version__
from opskit.config import Config
from opskit.core.metastore.engine import Engine
from opskit.web import faults
from opskit.web.request_rules import refuse_unknown
from opskit.web.security import middleware
from opskit.web.static_files import HashedFiles
from opskit.web.store import Store

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
    "pages.run",
    "pages.run_actions",
    "pages.task_instance",
    "pages.task_log",
)


def make_app(config: Config, engine: Engine, reader: Engine | None = None) -> FastAPI:
    """The application of one webserver. The engines stay the caller's to dispose of; `reader`: see Store."""
    app = FastAPI(title="opskit", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.store = Store(config, engine, reader)
    faults.install(app)
    middleware.install(app, config)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)  # event streams pass as they are
    for prefix, modules in (("/api/v1", AIRFLOW_API), ("/opskit/v1", OPSKIT_API), ("", PAGES)):
        rules = [Depends(refuse_unknown)] if prefix else []
        for name in modules:
            app.include_router(import_module(f"opskit.web.{name}").router, prefix=prefix, dependencies=rules)
    app.mount("/static", HashedFiles(), name="static")
    _build(app)
    return app


def _build(app: FastAPI) -> None:
    """Let FastAPI make its validators now: else those who ask first wait for seconds, and all others with them."""
    for route in app.router.routes:
        candidates = getattr(route, "effective_candidates", None)
        if candidates is not None:
            candidates()
