"""Reports that the last runs of verbs have left."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.telemetry import reports
from opskit.telemetry.reports import KeptReport

NOW = datetime(2026, 3, 1, 3, 0, 0, 5, tzinfo=UTC)


def run(minutes: int = 0, report: Any = None, **changes: Any) -> KeptReport:
    values = {"seconds": 1.5, "exit_code": 0, "error": "", "hostname": "node1", "by": "ann", **changes}
    return KeptReport("logs_clean", NOW + timedelta(minutes=minutes), report=report, **values)


def test_the_newest_report_comes_first_and_only_the_newest_stay(tmp_path: Path) -> None:
    for minute in range(25):
        reports.keep(tmp_path, run(minute, {"minute": minute}))
    found = reports.kept(tmp_path, "logs_clean")
    assert [one.report["minute"] for one in found] == list(range(24, 4, -1))
    assert found[0] == run(24, {"minute": 24})
    assert reports.kept(tmp_path, "logs_clean", 1) == found[:1]
    assert reports.kept(tmp_path, "doctor") == []


def test_a_run_without_a_report_is_kept_with_what_it_said(tmp_path: Path) -> None:
    failed = run(error="the metastore can't be reached", exit_code=12)
    reports.keep(tmp_path, failed)
    assert reports.kept(tmp_path, "logs_clean") == [failed]


def test_a_file_that_is_no_report_is_left_out(tmp_path: Path) -> None:
    reports.keep(tmp_path, run())
    for name, text in (("a", "{"), ("b", "[]"), ("c", json.dumps({"at": "soon"}))):
        (tmp_path / "reports" / "logs_clean" / f"9{name}.json").write_text(text)
    assert reports.kept(tmp_path, "logs_clean") == [run()]


def test_a_report_of_a_million_lines_is_cut(tmp_path: Path) -> None:
    reports.keep(tmp_path, run(report={"paths": [f"file {number}" for number in range(200_000)], "count": 200_000}))
    found = reports.kept(tmp_path, "logs_clean")[0].report
    assert found["count"] == 200_000
    assert found["paths"][99:] == ["file 99", "and 199900 more"]


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    reports.keep(tmp_path, run())
    assert os.stat(tmp_path / "reports").st_mode & 0o777 == 0o700


def test_what_was_left_is_taken_once() -> None:
    reports.leave({"a": 1})
    assert reports.take() == {"a": 1}
    assert reports.take() is None
