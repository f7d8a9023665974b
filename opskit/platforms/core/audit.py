"""The core's audit log: rows of its metastore."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from opskit.config import Config


class CoreAudit:
    def __init__(self, config: Config) -> None:
        self._config = config

    def write(self, event: str, now: datetime, extra: Mapping[str, Any]) -> None:
        from opskit.core.metastore import audit
        from opskit.core.metastore.engine import open_engine, transaction

        engine = open_engine(self._config)
        try:
            with transaction(engine) as connection:
                audit.write(connection, event, now, extra=extra)
        finally:
            engine.dispose()
