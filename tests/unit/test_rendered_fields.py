"""Rendered template fields of a try, beside its log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from opskit.telemetry import rendered_fields, task_logs
from opskit.telemetry.masking import Masker

WHERE = ("d", "manual__2026", "t", -1, 2)
PATH = task_logs.log_path(*WHERE)


def kept(folder: Path, fields: Mapping[str, object], owner: Masker | None = None) -> dict[str, object]:
    task_logs.append_line(folder, PATH, "begun")
    rendered_fields.write(folder, PATH, fields, owner or Masker())
    return rendered_fields.read(folder, *WHERE)


def test_what_was_rendered_is_read_back_as_plain_values(tmp_path: Path) -> None:
    fields = {"bash_command": "echo ☂", "env": {"A": 1, "B": [True, None]}, "path": Path("/x"), "none": None}
    assert kept(tmp_path, fields) == {
        "bash_command": "echo ☂",
        "env": {"A": 1, "B": [True, None]},
        "path": "/x",
    }
    assert kept(tmp_path, {"bash_command": "again"}) == {"bash_command": "again"}


def test_secrets_are_masked_by_value_and_by_name(tmp_path: Path) -> None:
    owner = Masker(["password", "token"])
    owner.add(["hunter2"])
    fields = {"cmd": "login hunter2 --token=abc", "env": {"DB_PASSWORD": "x", "n": "hunter2!"}, "api_token": "y"}
    assert kept(tmp_path, fields, owner) == {
        "cmd": "login *** --token=***",
        "env": {"DB_PASSWORD": "***", "n": "***!"},
        "api_token": "***",
    }


def test_long_values_are_cut_and_a_file_stays_small(tmp_path: Path) -> None:
    long = "x" * 50_000
    assert kept(tmp_path, {"a": long})["a"] == "x" * rendered_fields.LONGEST_TEXT + "… (50000 characters)"
    many = kept(tmp_path, {f"f{number}": [long] * 10 for number in range(10)})
    assert sum(len(json.dumps(value)) for value in many.values()) < rendered_fields.LARGEST
    assert str(many["f0"]).startswith('["xxx')


def test_a_value_that_cannot_be_shown_says_so_and_a_circle_ends(tmp_path: Path) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise ValueError("no")

    circle: list[object] = []
    circle.append(circle)
    found = kept(tmp_path, {"a": Hostile(), "b": circle})
    assert found["a"] == "<Hostile: ValueError>"
    assert "[...]" in str(found["b"])


def test_nothing_is_told_of_a_try_that_left_no_fields_or_a_damaged_file(tmp_path: Path) -> None:
    assert rendered_fields.read(tmp_path, *WHERE) == {}
    kept(tmp_path, {"a": "1"})
    (tmp_path / rendered_fields.path_of(PATH)).write_text("[1, 2")
    assert rendered_fields.read(tmp_path, *WHERE) == {}


def test_a_piece_of_a_log_never_ends_within_a_character(tmp_path: Path) -> None:
    text = "aé☂𝄞" * 50
    task_logs.append_line(tmp_path, PATH, text)
    whole, end = task_logs.read(tmp_path, PATH)
    for limit in range(4, 12):
        found, offset = "", 0
        while offset < end:
            piece, offset = task_logs.read(tmp_path, PATH, offset=offset, limit=limit)
            found += piece
        assert found == whole
