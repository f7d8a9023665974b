"""Task logs: names, lines, and what is masked in them."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import NotFound
from opskit.telemetry import task_logs
from opskit.telemetry.masking import MASK, MaskedStream, Masker, MaskingFilter

IDS = st.text(st.characters(codec="utf-8"), max_size=60)


@given(dag_id=IDS, run_id=IDS, task_id=IDS, map_index=st.integers(-1, 1000), attempt=st.integers(1, 99))
def test_the_path_of_a_log_gives_the_ids_back(
    dag_id: str, run_id: str, task_id: str, map_index: int, attempt: int
) -> None:
    path = task_logs.log_path(dag_id, run_id, task_id, map_index, attempt)
    assert all(len(part.encode()) <= 255 and part not in (".", "..") for part in path.split("/"))
    assert task_logs.parse_path(path) == task_logs.LogName(dag_id, run_id, task_id, map_index, attempt)


def test_the_path_is_the_one_that_airflow_users_know() -> None:
    path = task_logs.log_path("d", "scheduled__2026-11-21T00:00:00+00:00", "group.task", -1, 2)
    assert path == "dag_id=d/run_id=scheduled__2026-11-21T00:00:00+00:00/task_id=group.task/attempt=2.log"
    assert "/map_index=3/attempt=1.log" in task_logs.log_path("d", "r", "t", 3, 1)


def test_ids_too_long_for_a_file_name_stay_distinct() -> None:
    one, two = (task_logs.log_path("d" * 250 + end, "r", "é" * 250, -1, 1) for end in "ab")
    assert one != two
    assert all(len(part.encode()) <= 255 for part in one.split("/"))


@pytest.mark.parametrize(
    "path", ["", "dag_id=d/x.log", "dag_id=d/run_id=r/task_id=t/attempt=x.log", "a/b/c/attempt=1.log"]
)
def test_other_files_are_no_logs(path: str) -> None:
    assert task_logs.parse_path(path) is None


def test_a_log_is_appended_to_read_and_followed(tmp_path: Path) -> None:
    path = task_logs.log_path("d", "r", "t", -1, 1)
    task_logs.append_line(tmp_path, path, "first")
    text, offset = task_logs.read(tmp_path, path)
    assert text.endswith("{worker} ERROR - first\n")
    task_logs.append_line(tmp_path, path, "second", level="INFO")
    assert task_logs.read(tmp_path, path, offset=offset)[0].endswith("INFO - second\n")
    task_logs.append_line(tmp_path, task_logs.log_path("d", "r", "t", -1, 12), "x")
    assert task_logs.list_attempts(tmp_path, "d", "r", "t") == [1, 12]


def test_a_missing_log_and_a_symlink_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        task_logs.read(tmp_path, "dag_id=d/run_id=r/task_id=t/attempt=1.log")
    (tmp_path / "secret").write_text("s")
    (tmp_path / "link.log").symlink_to("secret")
    with pytest.raises(OSError, match="symbolic"):
        task_logs.read(tmp_path, "link.log")
    with pytest.raises(OSError, match="symbolic"):
        task_logs.open_log(tmp_path, "link.log")


def test_a_line_has_time_source_and_level() -> None:
    assert (
        task_logs.format_line("hi", "INFO", "a.py:1", 1795248000.1239)
        == "[2026-11-21T08:00:00.123+0000] {a.py:1} INFO - hi\n"
    )


def lines_of(masker: Masker, *calls: tuple[object, ...]) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(task_logs.TaskLogFormatter(masker))
    handler.addFilter(MaskingFilter(masker))
    logger = logging.Logger("t")
    logger.addHandler(handler)
    for call in calls:
        logger.info(*call)
    return stream.getvalue()


def test_registered_secrets_and_secret_names_are_masked_in_log_lines() -> None:
    masker = Masker(["password", "token"])
    masker.add(["s3cr3t/ x", "line one\nline two"])
    text = lines_of(
        masker,
        ("connect to %s", "db://u:s3cr3t/ x@h"),
        ("url s3cr3t%2F%20x",),
        ("db_password=hunter2 api_token = 'abc def' user=ann",),
        ("given %s", {"password": "hunter2", "user": "ann", "deep": [{"token": "t0ken"}]}),
        ("only line two",),
    )
    for secret in ("s3cr3t", "hunter2", "abc def", "t0ken", "line two"):
        assert secret not in text
    assert text.count("***") == 7
    assert "user=ann" in text and "'user': 'ann'" in text


def test_a_secret_that_begins_with_another_is_hidden_whole() -> None:
    masker = Masker()
    masker.add(["abc", "abcdef"])
    assert masker.text("abcdef abc abx") == "*** *** abx"


def test_short_and_empty_values_do_not_blot_out_the_log() -> None:
    masker = Masker()
    masker.add(["", None, "1", "ab"])
    assert masker.text("1 ab is fine") == "1 ab is fine"


def test_what_is_printed_is_masked_on_its_way(tmp_path: Path) -> None:
    masker = Masker()
    masker.add(["hunter2"])
    with (tmp_path / "out").open("wb") as file:
        stream = MaskedStream(file.fileno(), masker)
        print("the password is hunter2", file=stream)
        stream.flush()
    assert (tmp_path / "out").read_text() == "the password is ***\n"


def test_values_that_are_kept_stay_masked_when_the_others_are_forgotten() -> None:
    masker = Masker()
    masker.add(["of the DAG file"])
    masker.keep()
    masker.add(["of one attempt"])
    assert masker.text("of the DAG file, of one attempt") == "***, ***"
    masker.clear()
    assert masker.text("of the DAG file, of one attempt") == "***, of one attempt"


@given(
    secrets=st.sets(st.text("ab%", min_size=3, max_size=6), min_size=1, max_size=60), rest=st.text("ab% ", max_size=20)
)
def test_whatever_the_secrets_are_none_is_left_in_a_line(secrets: set[str], rest: str) -> None:
    owner = Masker()
    owner.add(secrets)
    shown = owner.text(" ".join(sorted(secrets)) + rest)
    assert [secret for secret in secrets if secret in shown.replace(MASK, " ")] == []
    assert owner.text(shown) == shown
