"""Run DAG files on opskit: `python -m compat_harness.opskit_side --home DIR`. It executes foreign code: for files that
are not ours, start it in a sandbox (compat_harness.sandbox)."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from compat_harness import opskit_values, serving, surroundings

_WARM: tuple[str, ...] = (
    "opskit.compat.import_hook",
    "opskit.core.dag.loading",
    "opskit.core.dag.testing",
    "opskit.operators",
)
_WARM += (
    "opskit.sensors",
    "opskit.core.dag.decorated",
    "opskit.core.dag.jinja_environment",
    "opskit.core.dag.task_kinds",
)
_WARM += ("asyncio", "croniter", "jinja2", "jsonschema", "pendulum")
_LOADED_BY_AIRFLOW = ("http.client", "kubernetes.client", "kubernetes.utils")
"""Real Airflow has these before it loads a DAG file; folders of the corpus have the same names."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--no-metastore", action="store_true", help="for DAG files that do not open it themselves")
    arguments = parser.parse_args()
    home: Path = arguments.home
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    surroundings.prepare(home, OPSKIT_HOME=str(home / "opskit"))
    if not arguments.no_metastore:
        _make_metastore(home)
    for name in _WARM:
        importlib.import_module(name)
    for name in _LOADED_BY_AIRFLOW:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # The tree that opskit was loaded from has a package `tests`, too: DAG files mean another one.
    root = str(Path(importlib.import_module("opskit").__file__ or "").parents[1])
    sys.path[:] = [entry for entry in sys.path if entry != root]
    serving.serve(_Child, home, replies)


def _make_metastore(home: Path) -> None:
    """An empty one, in a process of its own: what it imports is not to be inherited by DAG files."""
    for name in ("dags", "logs", "plugins"):
        (home / "opskit" / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "opskit", "db", "migrate"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    made = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment)
    if made.returncode:
        raise SystemExit(f"opskit db migrate: {made.stderr}")
    (home / "opskit" / "opskit.db").replace(home / "template.db")


class _Child(serving.Child):
    def load(self, plugins: Path | None) -> list[Any]:
        from opskit.core.dag import loading, runtime
        from opskit.errors import DagInvalid

        release = self.item["airflow"][0]
        template = self.home / "template.db"
        if template.exists():
            shutil.copy(template, self.home / "opskit" / "opskit.db")
        if plugins is not None:
            os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = os.environ["OPSKIT__CORE__PLUGINS_FOLDER"] = str(plugins)
        # Files ask for variables while they are loaded; there are none.
        self.behind = runtime.MemoryStore()
        self.behind.connections.update(opskit_values.default_connections())
        runtime.set_store(self.behind)
        try:
            dialect = release if release.isdigit() else "auto"
            dags = loading.load_file(
                self.path, self.path.parent, airflow_dialect=dialect, plugins_folder=str(plugins or "")
            )
        except DagInvalid as error:
            self.result["import_errors"] = [str(error)[:1500]]
            return []
        for dag in dags:
            self.result["dags"][dag.dag_id] = opskit_values.structure(dag)
        return dags

    def run(self, dags: list[Any]) -> None:
        self.behind.dag_ids = {dag.dag_id for dag in dags} | set(self.item.get("companions", ()))
        recorder = opskit_values.Recorder(self.behind, self.item["airflow"])
        wanted = self.item.get("dag_ids") or [dag.dag_id for dag in dags[: surroundings.DAGS_AT_MOST]]
        for dag in (dag for dag in dags if dag.dag_id in wanted):
            answer = self.result["dags"][dag.dag_id]
            surroundings.impatient(dag)
            at, moving = surroundings.logical_date(dag)
            answer["logical_date"] = "relative" if moving else at.isoformat()
            try:
                answer["run"] = dag.test(logical_date=at).state
            except BaseException as error:  # noqa: BLE001 - whatever comes out of a run is its answer
                answer["run_error"] = f"{type(error).__name__}: {error}"[:300]
                traceback.print_exc()
            answer.update(recorder.take(dag.dag_id, plain="plain" in self.item))
            self.tell("ran")


if __name__ == "__main__":
    main()
