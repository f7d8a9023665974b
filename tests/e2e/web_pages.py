"""Every page of the web UI, on a site where something has happened."""

from __future__ import annotations

import json

from tests.browser import Site
from tests.e2e import web_dags
from tests.waiting import wait_until

_RUN = "/dags/nightly_orders/runs/last_night"
_TASK = f"{_RUN}/tasks"
PAGES: dict[str, str] = {
    "login": "/login",
    "home": "/",
    "dags": "/dags",
    "grid": "/dags/nightly_orders",
    "graph": "/dags/nightly_orders/graph",
    "runs": "/dags/nightly_orders/runs",
    "durations": "/dags/nightly_orders/durations",
    "calendar": "/dags/nightly_orders/calendar",
    "code": "/dags/nightly_orders/code",
    "details": "/dags/nightly_orders/details",
    "change-runs": "/dags/nightly_orders/change-runs?action=clear&run=2&run=3&run=4&run=5",
    "delete-dag": "/dags/nightly_orders/delete",
    "trigger": "/dags/recompute/trigger",
    "run": _RUN,
    "run-graph": f"{_RUN}/graph",
    "run-gantt": f"{_RUN}/gantt",
    "run-details": f"{_RUN}/details",
    "clear": f"{_RUN}/clear?only_failed=true",
    "mark": f"{_RUN}/mark?state=success",
    "task-log": f"{_TASK}/load?tab=log",
    "task-attempts": f"{_TASK}/load?tab=attempts",
    "task-rendered": f"{_TASK}/extract.web?tab=rendered",
    "task-xcom": f"{_TASK}/regions?tab=xcom",
    "task-why": f"{_TASK}/report?tab=why",
    "task-mapped": f"{_TASK}/convert?map_index=1",
    "answers": "/answers",
    "answer": "/dags/release/runs/r7/tasks/approve",
    "connections": "/connections",
    "variables": "/variables",
    "pools": "/pools",
    "datasets": "/datasets",
    "users": "/users",
    "roles": "/roles",
    "account": "/me",
    "import-errors": "/import-errors",
    "audit": "/audit",
    "configuration": "/configuration",
    "backups": "/operations/backups",
    "deployments": "/operations/deployments",
    "drift": "/operations/drift",
    "clean-up": "/operations/clean-up",
    "watchdog": "/operations/watchdog",
    "doctor": "/operations/doctor",
    "api": "/api/v1/ui",
    "error": "/dags/there_is_none",
}
"""name → path."""


FAMILIES = (
    "home",
    "dags",
    "grid",
    "graph",
    "trigger",
    "clear",
    "task-log",
    "answer",
    "configuration",
    "backups",
    "error",
)
"""One page of each family: what holds on these holds on most."""


def prepare(site: Site, nights: int = 3) -> None:
    """Runs that failed and succeeded, a proven backup, connections, variables, an import error."""
    web_dags.write(site.home / "dags", broken=True)
    wait_until(
        lambda: len(json.loads(site.opskit("dags", "list", "--output", "json").stdout)) >= len(web_dags.FILES), 60
    )
    site.opskit("connections", "add", "warehouse", "--conn-type", "postgres", "--conn-host", "db.internal",
                "--conn-login", "loader", "--conn-password", "not shown", "--conn-port", "5432")  # fmt: skip
    site.opskit("connections", "add", "lake", "--conn-type", "aws", "--conn-login", "AKIA", "--conn-password", "hidden")
    site.opskit("variables", "set", "exchange_rate", "1.08")
    site.opskit("variables", "set", "partner_api_key", "not shown either")
    site.opskit("pools", "set", "warehouse", "4", "Loads into the warehouse")
    site.opskit("dags", "trigger", "release", "--run-id", "r7")
    for number in range(nights):
        site.opskit("dags", "trigger", "nightly_orders", "--run-id", f"night_{number}", "--wait")
    for number in range(min(2, nights)):
        site.opskit("dags", "trigger", "recompute", "--run-id", f"check_{number}", "--conf", '{"steps": 1}', "--wait")
    site.opskit("backup")
    site.opskit("watchdog", check=False)
    site.opskit("doctor", check=False)
    site.opskit("logs", "clean", "--dry-run", check=False)
    site.opskit("variables", "delete", "exchange_rate")
    site.opskit("dags", "trigger", "nightly_orders", "--run-id", "last_night", "--wait", check=False)
