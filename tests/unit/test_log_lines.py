"""opskit's own log lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from opskit.telemetry import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], root.level, logging.raiseExceptions = before[0], before[1], before[2]


def test_a_line_names_time_level_component_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO", component="scheduler")
    logging.getLogger("opskit.x").info("wave %d", 3)
    line = capsys.readouterr().err
    assert line.endswith("Z INFO    scheduler | wave 3\n")


def test_json_lines_carry_extra_fields_and_exceptions(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO", json=True, component="worker")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("opskit.x").exception("failed", extra={"dag_id": "d"})
    entry = json.loads(capsys.readouterr().err)
    assert entry["component"] == "worker"
    assert entry["dag_id"] == "d"
    assert "ValueError: bad" in entry["exception"]


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("WARNING")
    logging.getLogger("opskit.x").info("quiet")
    assert capsys.readouterr().err == ""


def test_setting_up_again_replaces_the_first_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("INFO", component="one")
    logs.setup("INFO", component="two")
    logging.getLogger("opskit.x").info("once")
    assert capsys.readouterr().err.count("once") == 1
