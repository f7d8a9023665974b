"""Assets in a cluster of real processes: from a task that produces to the DAGs that waited, with what they see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from opskit.config import load
from opskit.core.metastore import runs
from opskit.core.metastore.engine import open_engine, reading, transaction
from opskit.core.metastore.tables import asset_event, dag_run, xcom
from opskit.system.wake import wake
from tests.daemons import running
from tests.waiting import wait_until

DAG_FILE = """
from airflow.sdk import DAG, Asset, AssetAlias, Metadata, asset, task

raw_file = Asset("raw file", "s3://lake/raw/")
late = AssetAlias("late")


@asset(schedule=None, is_paused_upon_creation=False)
def raw(self, context, outlet_events):
    yield Metadata(self, {"rows": 3, "run": context["run_id"]})
    return "made"


with DAG("refine", schedule=[raw], is_paused_upon_creation=False):

    @task(outlets=[raw_file, late], inlets=[raw])
    def refine(*, triggering_asset_events, inlet_events, outlet_events):
        (event,) = triggering_asset_events[raw]
        assert inlet_events[raw][-1].id == event.id
        outlet_events[raw_file].extra = event.extra
        outlet_events[late].add(Asset("named while it ran"), extra={"by": "alias"})
        return {
            "extra": event.extra,
            "source": event.source_dag_id,
            "pulled": event.source_task_instance.xcom_pull(),
        }

    refine()

with DAG("report", schedule=(raw_file & late), is_paused_upon_creation=False):

    @task
    def report(*, triggering_asset_events, **context):
        return sorted([asset.uri, [e.extra for e in events]] for asset, events in triggering_asset_events.items()
                      if isinstance(asset, Asset))

    report()
"""


def test_one_run_starts_a_chain_of_dags_that_wait_for_each_others_assets(home: Path) -> None:
    (home / "dags" / "chain.py").write_text(DAG_FILE)
    with running("standalone", home) as daemon:
        daemon.wait_for_line("all DAG files are loaded")
        engine = open_engine(load(home))
        with transaction(engine) as connection:
            run = runs.trigger(connection, "raw", datetime.now(UTC))
        wake(load(home).run_folder)

        def states() -> dict[str, str]:
            with reading(engine) as connection:
                return {row.dag_id: row.state for row in connection.execute(select(dag_run))}

        wait_until(
            lambda: states() == dict.fromkeys(("raw", "refine", "report"), "success"),
            60.0,
            what=lambda: f"the chain: {states()}\n{_logs(home)}",
        )
        told: dict[str, Any] = {}
        with reading(engine) as connection:
            for row in connection.execute(select(xcom).where(xcom.c.key == "return_value")):
                told[row.task_id] = json.loads(row.value)
            events = connection.execute(select(asset_event)).all()
        engine.dispose()
        shown = subprocess.run(
            [sys.executable, "-m", "opskit", "assets", "list", "-o", "json"],
            env={**os.environ, "OPSKIT_HOME": str(home)},
            capture_output=True,
            text=True,
            check=True,
        )
    extra = {"rows": 3, "run": run.run_id}
    assert told == {
        "raw": "made",
        "refine": {"extra": extra, "source": "raw", "pulled": "made"},
        "report": [["named while it ran", [{"by": "alias"}]], ["s3://lake/raw", [extra]]],
    }
    assert [json.loads(event.aliases) for event in events] == [[], [], ["late"]]
    listed = {one["name"]: one for one in json.loads(shown.stdout)}
    assert listed["raw"]["producers"] == [["raw", "raw"]]
    assert listed["raw"]["consumers"] == ["refine"]
    assert listed["named while it ran"]["aliases"] == ["late"]


def _logs(home: Path) -> str:
    return "\n".join(path.read_text()[-2000:] for path in (home / "logs").rglob("*.log"))
