"""The first thing that somebody does with opskit: a fresh clone, one command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.services import missing, program
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    if not (ROOT / ".git").exists():
        missing("this is no git repository")
    folder = tmp_path / "opskit"
    subprocess.run([program("git"), "clone", "--quiet", ROOT, folder], check=True)
    return folder


def environment(home: str = "") -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPSKIT_")}
    marks = {"OPSKIT_TEST_PROCESS": os.environ["OPSKIT_TEST_PROCESS"]}
    return {**kept, **marks, **({"OPSKIT_HOME": home} if home else {})}


@pytest.mark.timeout(900)
def test_quickstart_works_on_a_fresh_clone_and_again_until_ctrl_c_and_leaves_nothing_running(
    clone: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [clone / "scripts" / "quickstart", "--once"], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check_what_it_says(done.stdout)
    assert "(password " in done.stdout

    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [clone / "scripts" / "quickstart"],
            env=environment(),
            stdout=file,
            stderr=file,
            start_new_session=True,
            # A test run in the background of a shell ignores Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        wait_until(
            lambda: "Ctrl-C stops it" in output.read_text() or process.poll() is not None,
            timeout=400,
            every=0.2,
            what=output.read_text,
        )
        assert process.poll() is None, output.read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
    check_what_it_says(output.read_text())
    assert "(password " not in output.read_text(), "it is said once"

    full = [backup["state"] for backup in of(clone, "backup", "list") if backup["tier"] == "full"]
    assert set(full) == {"verified"}
    assert of(clone, "dags", "list-import-errors") == []


def check_what_it_says(output: str) -> None:
    assert "it is proven" in output
    assert "the web UI answers on http://127.0.0.1:" in output


def of(clone: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [clone / ".venv/bin/opskit", *arguments, "--output", "json"],
        env=environment(str(clone / ".quickstart")),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
