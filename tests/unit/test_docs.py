"""The documentation says what the program says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from opskit.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_configuration_page_is_current() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts/generate-docs", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_shown_exist(page: Path) -> None:
    import click

    from opskit.cli import cli

    context = click.Context(cli)
    wrong = []
    for line in re.findall(r"(?m)^ {4}(?:\$ )?opskit (.+)$", page.read_text()):
        words = line.split("#")[0].split()
        command: click.Command | None = cli
        while words and isinstance(command, click.Group) and not words[0].startswith("-"):
            if command.get_command(context, words[0]) is None:
                # Where a group does something by itself, what follows is an argument.
                if not command.invoke_without_command and not hasattr(command, "default_command"):
                    wrong.append(line)
                break
            command = command.get_command(context, words.pop(0))
        # Where a group has a default command, its arguments follow the group's name.
        command = getattr(command, "default_command", command)
        options = {
            name
            for parameter in getattr(command, "params", [])
            for name in [*parameter.opts, *parameter.secondary_opts]
        }
        wrong += [
            f"{line}: {word}"
            for word in words
            if word.startswith("--") and word.split("=")[0] not in {*options, "--help"}
        ]
    assert wrong == []


def test_every_command_has_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert [name for name in COMMANDS if f"opskit {name}" not in text] == []
