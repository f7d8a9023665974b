"""A group of commands of which some live in modules that are imported when they are called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyCommands(click.Group):
    """`commands_elsewhere`: name → (module:attribute, one line of help for the list of commands)."""

    def __init__(self, *args: Any, commands_elsewhere: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._elsewhere = commands_elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self._elsewhere]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        module_name, attribute = self._elsewhere[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module_name), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {name: command.get_short_help_str(80) for name, command in self.commands.items()}
        elsewhere = {name: text for name, (_, text) in self._elsewhere.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted({**own, **elsewhere}.items()))
