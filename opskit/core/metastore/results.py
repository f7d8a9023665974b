"""Results that a worker could not hand to a scheduler: they wait in the metastore for the DAG's owner."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from opskit.core.metastore.bulk import bulk_insert
from opskit.core.metastore.tables import attempt_result


def put_results(connection: Connection, worker_id: str, results: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Store *Result* messages of ARCHITECTURE.md, "Wire". One that is stored twice does no harm: its key is refused."""
    bulk_insert(
        connection,
        attempt_result,
        ["dag_id", "worker_id", "payload", "created_at"],
        [(result["dag_id"], worker_id, json.dumps(result, ensure_ascii=False), now) for result in results],
    )
