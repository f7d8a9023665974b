"""How the cluster is, as monitors ask: Airflow's /health, liveness of this process, readiness of its metastore.

None of it needs a sign-in, so nothing here names a host, a path or an error of the database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from opskit.config import Config
from opskit.core.metastore import schema
from opskit.core.metastore.browsing import health
from opskit.core.metastore.browsing.health import HEALTHY, UNHEALTHY, InstanceHealth, Limits
from opskit.errors import MetastoreUnavailable, SchemaNotCurrent
from opskit.web.faults import problem
from opskit.web.store import Store, TheStore

router = APIRouter(tags=["Monitoring"])


def instances(store: Store) -> list[InstanceHealth]:
    """Every instance of the cluster with its progress. MetastoreUnavailable."""
    allowed = limits(store.config)
    return store.look("instances", lambda connection: health.instances(connection, datetime.now(UTC), allowed))


def limits(config: Config) -> Limits:
    """As the settings give them."""
    seconds = {
        "heartbeat": config.get("scheduler", "scheduler_health_check_threshold"),
        "slow": config.get("watchdog", "slow_after"),
        "stuck": config.get("watchdog", "stuck_after"),
    }
    return Limits(**{name: timedelta(seconds=float(value)) for name, value in seconds.items()})


def airflow_health(store: Store) -> dict[str, Any]:
    """As Airflow's /health answers. Of opskit's triggers there is no process of their own: they run in workers."""
    try:
        found = instances(store)
        metastore = HEALTHY
    except MetastoreUnavailable:
        found, metastore = [], UNHEALTHY
    answer: dict[str, Any] = {"metadatabase": {"status": metastore}}
    for kind in ("scheduler", "triggerer", "dag_processor"):
        status, heartbeat = health.summary(found, kind)
        if kind == "scheduler" and status is None:
            status = UNHEALTHY  # a cluster without one gets nothing done
        answer[kind] = {"status": status, f"latest_{kind}_heartbeat": heartbeat.isoformat() if heartbeat else None}
    return answer


@router.api_route("/health", methods=["GET", "HEAD"])
def get_health(store: TheStore) -> JSONResponse:
    """The same as /api/v1/health, where load balancers and Airflow's Helm chart look for it."""
    return JSONResponse(airflow_health(store))


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


@router.api_route("/livez", methods=["GET", "HEAD"])
def get_liveness() -> Alive:
    """Whether this process answers. It asks nothing of anybody else: a lost database is no reason to restart it."""
    return Alive()


@router.api_route("/readyz", methods=["GET", "HEAD"])
def get_readiness(store: TheStore) -> Response:
    """Whether it can do its work: the metastore is reachable and its schema is the one that is needed; else 503."""
    try:
        schema.check(store.engine)
    except SchemaNotCurrent:
        return problem(503, "the schema of the metastore is not the one that this opskit needs")
    except MetastoreUnavailable:
        return problem(503, "the metastore is not reachable")
    return JSONResponse({"status": "ready"})
