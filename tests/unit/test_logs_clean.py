"""The decisions of `opskit logs clean`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config import load
from opskit.ops.logs import Policy, reason_to_keep, why_not
from opskit.platforms.base import LiveLogs
from opskit.platforms.core.folders import CoreFolders
from opskit.telemetry.task_logs import log_path

CUTOFF = datetime(2026, 6, 1, tzinfo=UTC)
OLD = CUTOFF - timedelta(microseconds=1)
NOTHING = LiveLogs(frozenset(), frozenset())
FOLDERS = CoreFolders(load(Path("/nowhere"), {}))


def test_an_old_log_goes_and_a_young_one_stays() -> None:
    path = log_path("d", "r", "t", -1, 1)
    assert reason_to_keep(path, True, OLD, CUTOFF, NOTHING, FOLDERS) == ""
    assert reason_to_keep(path, True, CUTOFF, CUTOFF, NOTHING, FOLDERS) == "young"


def test_a_log_in_use_stays_whatever_its_age() -> None:
    live = LiveLogs(frozenset({"dag_id=d/run_id=r/task_id=t"}), frozenset())
    for attempt in (1, 2):
        assert reason_to_keep(log_path("d", "r", "t", -1, attempt), True, OLD, CUTOFF, live, FOLDERS) == "in use"
    assert reason_to_keep(log_path("d", "r", "t2", -1, 1), True, OLD, CUTOFF, live, FOLDERS) == ""
    assert reason_to_keep(log_path("d", "r", "t", 3, 1), True, OLD, CUTOFF, live, FOLDERS) == ""


@pytest.mark.parametrize("path", ["scheduler.log", "dag_id=d/attempt=1.log", "dag_id=d/run_id=r/task_id=t/notes.txt"])
def test_what_is_no_task_log_stays(path: str) -> None:
    assert reason_to_keep(path, True, OLD, CUTOFF, NOTHING, FOLDERS) == "no task log"


def test_what_is_no_file_stays() -> None:
    assert reason_to_keep(log_path("d", "r", "t", -1, 1), False, OLD, CUTOFF, NOTHING, FOLDERS) == "no regular file"


@given(age=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=4000)))
def test_nothing_younger_than_the_limit_ever_goes(age: timedelta) -> None:
    reason = reason_to_keep(log_path("d", "r", "t", -1, 1), True, CUTOFF + age, CUTOFF, NOTHING, FOLDERS)
    assert reason == "young"


def test_logs_of_the_future_stop_a_clean_up() -> None:
    policy = Policy(timedelta(days=30), 95)
    assert "in the future" in why_not(100, 5, 1, policy)
    assert why_not(100, 5, 0, policy) == ""


def test_a_clean_up_that_would_take_nearly_everything_stops() -> None:
    policy = Policy(timedelta(days=30), 95)
    assert "96 of 100 logs would go" in why_not(100, 96, 0, policy)
    assert why_not(100, 95, 0, policy) == ""
    assert why_not(0, 0, 0, policy) == ""
    assert why_not(100, 100, 0, Policy(timedelta(days=30), 100)) == ""
