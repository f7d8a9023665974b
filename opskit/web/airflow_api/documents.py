"""/openapi.json, /openapi.yaml and /ui of Airflow's API."""

from __future__ import annotations

from opskit.web.openapi import pages_of

router = pages_of("opskit: Airflow's REST API", "/api/v1", "AIRFLOW_API")
