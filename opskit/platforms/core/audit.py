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
        from opskit.core.metastore.audit_line import append

        append(self._config.database_url, event, now, extra)
