"""What a verb may ask of a cluster, whichever orchestrator it runs."""

from __future__ import annotations

from opskit.config import Config
from opskit.platforms.base import Platform

__all__ = ["Platform", "find"]


def find(config: Config) -> Platform:
    """The platform of this installation: the bundled core. (Apache Airflow comes beside it.)"""
    from opskit.platforms.core import CorePlatform

    return CorePlatform(config)
