"""Makes an OPSKIT_HOME: its folders, and a commented `opskit.toml` in which every setting stands with its default."""

from __future__ import annotations

import json
import os
from pathlib import Path

from opskit.config import SETTINGS, Config, Setting
from opskit.errors import ConfigError


def prepare(config: Config) -> list[Path]:
    """Make what is missing, and change nothing that is there. Returns what was made, in order.

    ConfigError when a folder can't be made, or something else stands in its place.
    """
    made = []
    for folder in (config.home, config.run_folder, config.dags_folder, config.logs_folder):
        if folder.is_dir():
            continue
        try:
            folder.mkdir(parents=True, mode=0o700 if folder == config.run_folder else 0o777)
        except OSError as error:
            raise ConfigError(
                f"{folder} can't be made: {error.strerror}",
                hint="choose another OPSKIT_HOME, or make the folder and give it to this user",
            ) from error
        made.append(folder)
    if not config.path.exists():
        try:
            # It may come to hold passwords.
            descriptor = os.open(config.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except FileExistsError:
            return made  # another process was faster
        except OSError as error:
            raise ConfigError(f"{config.path} can't be written: {error.strerror}") from error
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(template())
        made.append(config.path)
    return made


def template() -> str:
    """The text of an `opskit.toml` that changes nothing: every setting as a comment, with help, unit and choices."""
    lines = [
        "# Settings of this OPSKIT_HOME. Every line is a comment that shows the default: remove the # to change one.",
        "# The environment goes first: OPSKIT__SECTION__KEY. `opskit config list` shows what holds, and from where.",
    ]
    section = ""
    for setting in SETTINGS:
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"]
        lines += ["", f"# {_describe(setting)}", f"# {setting.key} = {_toml(setting.default)}"]
    return "\n".join(lines) + "\n"


def _describe(setting: Setting) -> str:
    text = setting.help
    if setting.unit:
        text += f" In {setting.unit}."
    if setting.choices:
        text += f" One of: {', '.join(setting.choices)}."
    return text


def _toml(value: object) -> str:
    # A TOML basic string is a JSON string; booleans, numbers and lists of strings look alike in both.
    return "{}" if value == {} else json.dumps(value, ensure_ascii=False)
