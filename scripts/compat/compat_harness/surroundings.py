"""What a DAG file finds around it while it is compared: the same on opskit and on real Airflow."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import re
import shutil
import sys
import time
from pathlib import Path

BASE = dt.datetime(2024, 6, 3, tzinfo=dt.UTC if sys.version_info >= (3, 11) else dt.timezone.utc)  # noqa: UP017
"""The logical date of each run (a Monday), unless the DAG starts later."""
DAGS_AT_MOST = 12
"""DAGs of one file that are run."""


def prepare(home: Path, **more: str) -> None:
    """An environment without anything of this machine; a `sleep` that hardly sleeps; empty folders."""
    for folder in ("bin", "airflow", "empty", "plugins", "work"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    shim = home / "bin" / "sleep"
    shim.write_text("#!/bin/sh\nexec /bin/sleep 0.05\n")
    shim.chmod(0o755)
    kept = {name: os.environ[name] for name in ("TZ", "LD_LIBRARY_PATH") if name in os.environ}
    os.environ.clear()
    os.environ.update(kept)
    os.environ.update(
        {
            "HOME": str(home),
            "PATH": f"{home / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "empty"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
            "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES": "airflow.*",
            **more,
        }
    )


def enter(home: Path, path: Path, root: Path) -> Path | None:
    """Go to an empty folder and put on sys.path what deployments put there: the folders from the DAG file up to its
    root, and `plugins` and `src` in them. The plugins folder, where there is one."""
    work = home / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    os.chdir(work)
    folders: list[Path] = []
    plugins: Path | None = None
    for folder in (path.parent, *path.parent.parents):
        folders.append(folder)
        folders += [folder / name for name in ("plugins", "src") if (folder / name).is_dir()]
        if plugins is None and (folder / "plugins").is_dir():
            plugins = folder / "plugins"
        if folder == root:
            break
    for folder in reversed(folders):
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        sys.path.insert(1, str(folder))
    return plugins


def hurry() -> None:
    """Make sleeping short. To be called before a DAG file binds `sleep` to a name of its own."""
    sleep, sleep_async = time.sleep, asyncio.sleep

    def short(seconds: float = 0) -> None:
        sleep(min(float(seconds), 0.02))

    async def short_async(delay: float, result: object = None) -> object:
        return await sleep_async(min(delay, 0.05), result)

    time.sleep = short
    asyncio.sleep = short_async  # type: ignore[assignment]


def impatient(dag: object, no_backoff: object = False) -> None:
    """Retry and poke at once."""
    for task in dag.tasks:  # type: ignore[attr-defined]
        for name, value in (("retry_delay", dt.timedelta(seconds=0.01)), ("poke_interval", 0.05)):
            # A mapped task has some of these as arguments only; then they stay as they are.
            try:
                if getattr(task, name, None):
                    setattr(task, name, value)
                    setattr(
                        task,
                        "exponential_backoff" if name == "poke_interval" else "retry_exponential_backoff",
                        no_backoff,
                    )
            except Exception:  # noqa: BLE001
                pass


def logical_date(dag: object) -> tuple[dt.datetime, bool]:
    """When the DAG is run, and whether that depends on the time of this test."""
    starts = [dag.start_date, *(getattr(task, "start_date", None) for task in dag.tasks)]  # type: ignore[attr-defined]
    start = max((moment for moment in starts if moment is not None), default=None)
    if start is not None and start > BASE:
        return start, True
    end = dag.end_date  # type: ignore[attr-defined]
    if end is not None and end < BASE:
        return end.replace(tzinfo=end.tzinfo or BASE.tzinfo), False
    return BASE, False


def names_other_dags(text: str) -> bool:
    return "TriggerDagRun" in text or "ExternalTask" in text


def is_named(dag_id: str, text: str) -> bool:
    return bool(dag_id) and re.search(r"[\"']" + re.escape(dag_id) + r"[\"']", text) is not None
