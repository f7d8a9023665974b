"""Which settings of an airflow.cfg are taken over, and how they are written into opskit.toml."""

from __future__ import annotations

import configparser
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit.compat.airflow_defaults import DEFAULTS
from opskit.config import SETTINGS, Config, converted
from opskit.errors import ConfigError, UsageError

_OURS_ALONE = {
    "database.sql_alchemy_conn": "opskit has a metastore of its own",
    "core.fernet_key": "secrets are encrypted anew, with the key of this opskit",
    "core.plugins_folder": "copy the folder into OPSKIT_HOME, or set it by hand",
    "logging.base_log_folder": "logs of Airflow stay where they are; those of opskit begin here",
    "core.executor": "opskit runs tasks with executors of its own",
}
"""Settings that opskit has, too, and that mean the other installation."""
_OLD_NAMES = {
    "core.sql_alchemy_conn": "database.sql_alchemy_conn",
    "core.base_log_folder": "logging.base_log_folder",
    "core.dag_concurrency": "core.max_active_tasks_per_dag",
    "core.concurrency": "core.max_active_tasks_per_dag",
}
"""Where Airflow had it before, and where it has it now."""
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def read_cfg(path: Path) -> dict[str, str]:
    """section.key → text, of what a file sets, but to Airflow's default. UsageError when it can't be read.

    Airflow writes its defaults into the file, too: nobody has chosen those."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise UsageError(f"{path} can't be read as an airflow.cfg: {str(error).splitlines()[0]}") from error
    defaults = configparser.RawConfigParser(strict=False, interpolation=None)
    defaults.read_string(DEFAULTS.replace("{AIRFLOW_HOME}", str(path.parent)))
    return {
        f"{section}.{key}": value
        for section in parser.sections()
        for key, value in parser.items(section)
        if _plain(defaults.get(section, key, fallback=None)) != _plain(value)
    }


def _plain(text: str | None) -> str | None:
    return None if text is None else " ".join(text.replace("%%", "%").split()).strip("\"'")


def decide(given: Mapping[str, str], config: Config, where: str) -> tuple[dict[str, Any], dict[str, str]]:
    """(settings to be written, setting → why it is not taken). What is as it is here anyway is in neither."""
    taken: dict[str, Any] = {}
    left: dict[str, str] = {}
    for name, text in sorted(given.items()):
        now = _OLD_NAMES.get(name, name)
        setting = _BY_NAME.get(now)
        if now in _OURS_ALONE:
            left[name] = _OURS_ALONE[now]
        elif setting is None:
            left[name] = "opskit has no such setting"
        elif setting.secret:
            if text:
                left[name] = f"a secret: set it by the environment, or as {setting.key}_cmd"
        else:
            try:
                value = converted(now, text, where)
            except ConfigError as error:
                left[name] = error.message
                continue
            if value == config.values[now]:
                continue
            if config.origins[now] != "default":
                left[name] = f"it is set here already: {config.origins[now]}"
            else:
                taken[now] = value
    return taken, left


def write_toml(path: Path, values: Mapping[str, Any]) -> None:
    """Add settings to opskit.toml; what stands there stays as it is. ConfigError when it can't be written."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error
    by_section: dict[str, list[str]] = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        by_section.setdefault(section, []).append(f"{key} = {_toml(value)}")
    for section, lines in by_section.items():
        block = "\n".join(lines)
        header = re.search(rf"^\[{re.escape(section)}\][^\n]*$", text, re.MULTILINE)
        if header:
            text = f"{text[: header.end()]}\n{block}{text[header.end() :]}"
        else:
            text = f"{text.rstrip()}\n\n[{section}]\n{block}\n".lstrip()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
