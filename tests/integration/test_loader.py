"""Loading DAG files in processes of their own: whatever a file does is its own import error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.config import load
from opskit.core.runner.loader import Loader, LoadResult
from tests.waiting import wait_until

GOOD = """
from opskit import DAG
from opskit.operators import EmptyOperator
with DAG("{name}") as dag:
    EmptyOperator(task_id="a") >> EmptyOperator(task_id="b")
"""
# name → (text of the file, what its error says)
BAD = {
    "hangs.py": (
        "print('begins')\ndef wait():\n    while True:\n        pass\nwait()\n",
        "timed out after 1 s in hangs.py:",
    ),
    "ignores.py": ("import signal, time\nsignal.signal(signal.SIGABRT, signal.SIG_IGN)\ntime.sleep(99)\n", "timed out"),
    "exits.py": ("import sys\nsys.exit(3)\n", "sys.exit(3)"),
    "exits_hard.py": ("import os\nos._exit(4)\n", "exit code 4"),
    "crashes.py": ("import ctypes\nctypes.string_at(0)\n", "killed by SIGSEGV"),
    "eats.py": ("x = [bytearray(1 << 20) for _ in range(10**6)]\n", "more than 200 MiB"),
    "syntax.py": ("def f(:\n", "SyntaxError"),
    "raises.py": ("print('so far')\n1 / 0\n", "ZeroDivisionError"),
    "twice.py": (GOOD.format(name="same") + GOOD.format(name="same").replace("dag:", "other:"), "same"),
    "kills.py": ("import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(5)\n", "killed"),
}


@pytest.fixture
def loader(home: Path) -> Iterator[Loader]:
    opened = Loader(load(home))
    yield opened
    opened.close()


def loaded(loader: Loader, paths: list[str], parallel: int = 2) -> dict[str, LoadResult]:
    return {result.path: result for result in loader.load(paths, 1.0, 200, parallel)}


def test_each_broken_file_has_its_reason_and_the_good_ones_are_loaded(home: Path, loader: Loader) -> None:
    for name, (text, _) in BAD.items():
        (home / "dags" / name).write_text(text)
    good = [f"good{number}.py" for number in range(6)]
    for name in good:
        (home / "dags" / name).write_text(GOOD.format(name=name))
    mixed = [name for pair in zip(BAD, [*good, *good], strict=False) for name in pair][: 2 * len(good)]
    results = loaded(loader, [*dict.fromkeys([*mixed, *BAD, *good]), "missing.py"])
    assert set(results) == {*BAD, *good, "missing.py"}
    for name in good:
        assert results[name].error is None, results[name]
        assert [dag["dag_id"] for dag in results[name].dags] == [name]
        assert len(results[name].content_hash) == 64
    for name, (_, reason) in BAD.items():
        error = results[name].error
        assert error is not None and reason in error, (name, error)
        assert "/opskit/core/runner/" not in error
    assert "begins" in (results["hangs.py"].error or "") and "so far" in (results["raises.py"].error or "")
    assert results["missing.py"].error == "the file can't be read"


def test_closing_from_another_thread_ends_a_load_under_way(home: Path, loader: Loader) -> None:
    marker = home / "begun"
    (home / "dags" / "slow.py").write_text(f"import time\nopen({str(marker)!r}, 'w').close()\ntime.sleep(300)\n")
    found: list[LoadResult] = []
    thread = threading.Thread(target=lambda: found.extend(loader.load(["slow.py"], 300.0, 200, 1)))
    thread.start()
    wait_until(marker.exists, what="the load to begin")
    loader.close()
    thread.join(20)
    assert not thread.is_alive()
    assert found == []
