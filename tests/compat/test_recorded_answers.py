"""Airflow DAG files of our own, run on opskit and compared with what real Airflow made of them.

The answers were recorded by `scripts/compat/harness record`; no Airflow is needed here.
`scripts/compat/harness record --show FILE` compares a single file with real Airflow at once."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ANSWERS = [json.loads(line) for line in (HERE / "answers.jsonl").read_text().splitlines()]
DIFFERENT: dict[str, dict[str, list[str]]] = json.loads((HERE / "differences.json").read_text())
"""File and release → reason → what differs for it. It must differ: what is alike by now has to go from there."""


@pytest.fixture(scope="module")
def harness() -> Iterator[dict[str, Any]]:
    """The modules of scripts/compat by their names."""
    folder = str(HERE.parents[1] / "scripts" / "compat")
    sys.path.insert(0, folder)
    yield {name: importlib.import_module(f"compat_harness.{name}") for name in ("answers", "record", "servers")}
    sys.path.remove(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "compat_harness"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def server(harness: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = harness["servers"].Server("opskit_side", sys.executable, tmp_path_factory.mktemp("home"), "--no-metastore")
    yield server
    server.stop()


@pytest.mark.parametrize("expected", ANSWERS, ids=lambda row: f"{row['id']}-{row['airflow']}")
def test_a_dag_file_ends_as_on_real_airflow(expected: dict[str, Any], server: Any, harness: dict[str, Any]) -> None:
    item = harness["record"].item_of(HERE / "dags" / expected["id"], expected["airflow"])
    found = server.ask(item)
    assert found is not None, "the process that runs DAG files has ended"
    differences = {
        f"{one.part} {one.dag_id} {one.where}".strip(): f"{one.expected!r} became {one.found!r}"
        for one in harness["answers"].compare(expected, found)
    }
    known = DIFFERENT.get(f"{expected['id']} {expected['airflow']}", {})
    allowed = {name for names in known.values() for name in names}
    log = found.get("log", "")
    assert not {name: text for name, text in differences.items() if name not in allowed}, log
    assert not allowed - set(differences), "these are alike by now: take them out of differences.json"


def test_every_dag_file_has_an_answer_and_every_release_has_some(harness: dict[str, Any]) -> None:
    assert {row["id"] for row in ANSWERS} == {file.name for file in harness["record"].own_files()}
    assert {row["airflow"][0] for row in ANSWERS} == {"2", "3"}
    assert not [row["id"] for row in ANSWERS if row.get("fatal") or row.get("unstable")]
