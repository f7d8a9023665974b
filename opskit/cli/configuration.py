"""`opskit config`: what every setting is, and where it comes from. Secrets are never shown."""

from __future__ import annotations

import difflib
import json
from typing import Any

import click

from opskit import config as settings
from opskit.cli.output import output_option, show
from opskit.config import SETTINGS, Config, Setting
from opskit.errors import NotFound


@click.group()
def config() -> None:
    """Show settings and where each comes from."""


@config.command("list")
@click.option("--section", help="Only this section.")
@output_option
def list_settings(section: str | None, output: str) -> None:
    """List all settings with value and origin."""
    loaded = settings.load()
    _known_section(section)
    rows = [_row(setting, loaded) for setting in SETTINGS if section in (None, setting.section)]
    show(rows, output, columns=["section", "key", "value", "unit", "origin"])


@config.command("get-value")
@click.argument("section")
@click.argument("key")
def get_value(section: str, key: str) -> None:
    """Print the value of one setting."""
    loaded = settings.load()
    _known_section(section)
    found = next((setting for setting in SETTINGS if (setting.section, setting.key) == (section, key)), None)
    if found is None:
        known = [setting.key for setting in SETTINGS if setting.section == section]
        raise NotFound(f"there is no setting {key!r} in [{section}]", hint=_nearest(key, known))
    value = _value(found, loaded)
    click.echo(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _row(setting: Setting, loaded: Config) -> dict[str, Any]:
    return {
        "section": setting.section,
        "key": setting.key,
        "value": _value(setting, loaded),
        "unit": setting.unit,
        "origin": loaded.origins[setting.name],
        "default": "(secret)" if setting.secret and setting.default else setting.default,
        "help": setting.help,
    }


def _value(setting: Setting, loaded: Config) -> Any:
    value = loaded.get(setting.section, setting.key)
    if not setting.secret or not value:
        return value
    if setting.name == "database.sql_alchemy_conn":
        from opskit.core.metastore.engine import redacted

        return redacted(str(value))
    return "(secret)"


def _known_section(section: str | None) -> None:
    known = list(dict.fromkeys(setting.section for setting in SETTINGS))
    if section is not None and section not in known:
        raise NotFound(f"there is no section [{section}]", hint=_nearest(section, known))


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else "`opskit config list` shows all settings"
