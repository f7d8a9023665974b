"""The table of maintenance jobs, and its times in the words of systemd, cron and people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opskit.config import load
from opskit.errors import ConfigError
from opskit.ops.agent import plan
from opskit.ops.jobs import JOBS, At, Every, cron, on_calendar, parse_when


@pytest.mark.parametrize(
    ("text", "when", "calendar", "line"),
    [
        ("every minute", Every(60), "*-*-* *:0/1:00", "* * * * *"),
        ("Every  5 minutes", Every(300), "*-*-* *:0/5:00", "*/5 * * * *"),
        ("every hour", Every(3600), "hourly", "17 * * * *"),
        ("every 4 hours", Every(14400), "*-*-* 0/4:00:00", "17 */4 * * *"),
        ("daily 02:30", At(2, 30), "*-*-* 02:30:00", "30 2 * * *"),
        ("weekly sun 04:05", At(4, 5, "sun"), "Sun *-*-* 04:05:00", "5 4 * * 0"),
        ("weekly mon 23:59", At(23, 59, "mon"), "Mon *-*-* 23:59:00", "59 23 * * 1"),
    ],
)
def test_a_time_is_the_same_for_systemd_and_cron(text: str, when: Every | At, calendar: str, line: str) -> None:
    assert parse_when(text) == when
    assert parse_when(str(when)) == when
    assert (on_calendar(when), cron(when)) == (calendar, line)


@pytest.mark.parametrize(
    "text", ["", "daily", "daily 24:00", "daily 2:30", "weekly 02:30", "every 0 minutes", "0 2 * * *"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no time for a job"):
        parse_when(text)


def planned(tmp_path: Path, text: str) -> dict[str, Any]:
    config = load(tmp_path, {"OPSKIT__AGENT__JOBS": text})
    return {item.job.name: item.when for item in plan(config)}


def test_the_settings_change_times_and_switch_jobs_off(tmp_path: Path) -> None:
    assert planned(tmp_path, "") == {job.name: job.when for job in JOBS}
    found = planned(tmp_path, 'backup = "daily 01:00"\ndrill = "off"')
    assert found["backup"] == At(1, 0)
    assert set(found) == {job.name for job in JOBS} - {"drill"}


@pytest.mark.parametrize(
    ("text", "words"), [('bakup = "off"', "which is no job"), ("backup = 5", "is 5"), ('backup = "x"', "no time")]
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned(tmp_path, text)
