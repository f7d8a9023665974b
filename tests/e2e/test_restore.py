"""The operator's night: a connection is gone, a restore was wrong, a receipt was forged. The commands as processes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.conftest import Opskit


def test_the_commands_of_a_night_and_their_exit_codes(home: Path, opskit: Opskit) -> None:
    def data(*arguments: object) -> Any:
        return json.loads(opskit(*arguments, "--output", "json").stdout)

    opskit("db", "migrate")
    opskit("variables", "set", "limit", "10")
    assert data("backup", "--tier", "config")["changed"]
    assert "unchanged since" in opskit("backup", "--tier", "config").stdout
    opskit("backup", "-q")

    opskit("variables", "delete", "limit")
    unasked = opskit("restore", "--only", "variable:limit", check=False, stdin=subprocess.DEVNULL)
    assert unasked.returncode == 2 and "--yes" in unasked.stderr and "would create variable limit" in unasked.stderr
    done = opskit("restore", "--only", "variable:limit", "--yes")
    assert "the way back: opskit restore --tier config" in done.stdout
    assert opskit("variables", "get", "limit").stdout.strip() == "10"
    wrong = opskit("restore", "--only", "variable:nobody", check=False)
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr

    opskit("variables", "set", "limit", "20")
    assert data("restore", "latest", "--yes", "-q")["way_back"] == ["opskit restore undo"]
    assert opskit("variables", "get", "limit").stdout.strip() == "10"
    opskit("restore", "undo", "--yes")
    assert opskit("variables", "get", "limit").stdout.strip() == "20"
    assert len(data("restore", "commit", "--yes")["removed"]) == 1
    assert opskit("restore", "undo", "--yes", check=False).returncode == 2

    [receipt] = data("drill", "--list")
    assert receipt["genuine"] is True
    stored = next((home / "backups").glob("*/drill.json"))
    text = stored.read_text()
    stored.write_text(text.replace('"rows":', '"rows" :'))
    damaged = opskit("restore", "latest", "--plan", check=False)
    assert damaged.returncode == 2 and "no usable backup" in damaged.stderr
