"""Zipped DAG files: an archive whose modules at the top define DAGs, and may import the others in it."""

from __future__ import annotations

import zipfile
from pathlib import Path


def mentions_dags(data: bytes) -> bool:
    """Whether a text may define DAGs: it mentions `dag`, and `opskit` or `airflow`."""
    lowered = data.lower()
    return b"dag" in lowered and (b"opskit" in lowered or b"airflow" in lowered)


def dag_modules(path: Path, safe_mode: bool = True) -> list[tuple[str, bytes]]:
    """(name, text) of the modules at the top of an archive that may define DAGs, sorted; none of a file that is no
    archive. OSError when it can't be read."""
    if not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".py") and "/" not in name)
            texts = [(name, archive.read(name)) for name in names]
    except zipfile.BadZipFile as error:
        raise OSError(f"the archive is damaged: {error}") from error
    return [(name, text) for name, text in texts if not safe_mode or mentions_dags(text)]
