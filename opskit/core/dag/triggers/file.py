"""Triggers that wait for files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from glob import glob
from pathlib import Path
from typing import Any

from opskit.core.dag.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent


def has_file(pattern: str, recursive: bool = False) -> bool:
    """Whether a file matches the pattern, or lies in a folder that does."""
    for found in glob(pattern, recursive=recursive):  # noqa: PTH207 - the pattern is absolute
        if os.path.isfile(found) or any(files for _, _, files in os.walk(found)):
            return True
    return False


class FileTrigger(BaseTrigger):
    """Fires when a file matches `filepath`, an absolute path or pattern. `poke_interval` is in seconds."""

    def __init__(self, filepath: str, recursive: bool = False, poke_interval: float = 5.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filepath = filepath
        self.recursive = recursive
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow.providers.standard.triggers.file.FileTrigger",
            {"filepath": self.filepath, "recursive": self.recursive, "poke_interval": self.poke_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while not await asyncio.to_thread(has_file, self.filepath, self.recursive):
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent(True)


class FileDeleteTrigger(BaseEventTrigger):
    """Fires when the file exists, and removes it."""

    def __init__(self, filepath: str, poke_interval: float = 5.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filepath = filepath
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow.providers.standard.triggers.file.FileDeleteTrigger",
            {"filepath": self.filepath, "poke_interval": self.poke_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while True:
            if await asyncio.to_thread(_remove, Path(self.filepath)):
                self.log.info("File %s has been deleted", self.filepath)
                yield TriggerEvent(True)
                return
            await asyncio.sleep(self.poke_interval)


def _remove(path: Path) -> bool:
    if not path.is_file():
        return False
    path.unlink(missing_ok=True)
    return True
