"""A healthy `opskit watchdog` runs every minute on every host: it loads next to nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from opskit.core.metastore.engine import open_engine, transaction
from opskit.core.metastore.tables import instance
from opskit.system.daemon import process_started

HEAVY = ("sqlalchemy", "alembic", "boto3", "botocore", "paramiko", "fabric", "yagmail", "psutil", "rich", "psycopg")
RUN = """
import json, sys
from opskit.cli import run
code = run(["watchdog", "--output", "json"])
loaded = sorted(name for name in {heavy!r} if name in sys.modules)
# ru_maxrss would include the parent's memory from before the exec.
(peak,) = [int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps([code, loaded, peak]), file=sys.stderr)
"""


def test_a_healthy_look_loads_nothing_heavy_and_stays_small(metastore_url: str, home: Path) -> None:
    now = datetime.now(UTC)
    engine = open_engine(metastore_url)
    with transaction(engine) as connection:
        # This test's own process stands for a scheduler that turns.
        connection.execute(
            insert(instance).values(
                id="one",
                kind="scheduler",
                hostname=os.uname().nodename,
                home=str(home),
                pid=os.getpid(),
                pid_started=process_started(os.getpid()),
                version="1",
                started_at=now,
                heartbeat_at=now,
                progress=5,
                progress_at=now,
                detail="{}",
            )
        )
    engine.dispose()
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(heavy=HEAVY)],
        env={**os.environ, "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": metastore_url},
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout)["verdict"] == "healthy", done.stderr
    code, loaded, mebibytes = json.loads(done.stderr)
    assert (code, loaded) == (0, [])
    assert mebibytes <= 40
