"""A new OPSKIT_HOME."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path

import pytest

from opskit.config import SETTINGS, load
from opskit.errors import ConfigError
from opskit.system.home import prepare, template


def test_the_template_changes_nothing(tmp_path: Path) -> None:
    before = load(tmp_path, {})
    prepare(before)
    assert load(tmp_path, {}).values == before.values


def test_every_line_of_the_template_can_be_switched_on() -> None:
    active = re.sub(r"^# (\w+ = )", r"\1", template(), flags=re.MULTILINE)
    found = tomllib.loads(active)
    assert {f"{section}.{key}": value for section, table in found.items() for key, value in table.items()} == {
        setting.name: setting.default for setting in SETTINGS
    }


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "opskit.toml").write_text("[core]\nparallelism = 3\n")
    config = load(tmp_path, {})
    assert set(prepare(config)) == {tmp_path / "run", tmp_path / "dags", tmp_path / "logs"}
    assert prepare(config) == []
    assert load(tmp_path, {}).get("core", "parallelism") == 3


def test_the_run_folder_is_closed_to_others_and_the_settings_to_the_world(tmp_path: Path) -> None:
    prepare(load(tmp_path, {}))
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert not (tmp_path / "opskit.toml").stat().st_mode & stat.S_IRWXO


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "dags").write_text("")
    with pytest.raises(ConfigError, match="dags can't be made"):
        prepare(load(tmp_path, {}))
