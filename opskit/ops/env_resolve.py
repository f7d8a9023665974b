"""Fetches the secrets that a mapping file names: from files, commands of a secret backend, the environment, people."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from opskit.errors import ConfigError, UsageError

Ask = Callable[[str], str]
_SECONDS = 60.0


def resolver(folder: Path, ask: Ask | None) -> Callable[[str, str], str]:
    """What `env_plan.decide` fetches secrets with. Relative files are beside the mapping file in `folder`; `ask` gets a
    question and returns what a person types (None: nobody is there). Each origin is fetched once."""
    known: dict[tuple[str, str], str] = {}

    def resolve(origin: str, what: str) -> str:
        key = (origin, what if origin == "prompt" else "")
        if key not in known:
            known[key] = _fetch(origin, what, folder, ask)
        return known[key]

    return resolve


def _fetch(origin: str, what: str, folder: Path, ask: Ask | None) -> str:
    kind, _, rest = origin.partition(":")
    if kind == "prompt":
        if ask is None:
            raise UsageError(f"{what} is to be asked for, and nobody is there to answer", hint="run it on a terminal")
        return ask(f"{what}: ")
    if kind == "env":
        if rest not in os.environ:
            raise ConfigError(f"{what}: the environment variable {rest} is not set")
        return os.environ[rest]
    if kind == "file":
        path = folder / Path(rest).expanduser()
        try:
            return path.read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{what}: {path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    return _command(rest, what)


def _command(command: str, what: str) -> str:
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{what}: its command failed: {type(error).__name__}", hint=command) from error
    if done.returncode != 0:
        # What it wrote may hold the secret.
        raise ConfigError(f"{what}: its command ended with {done.returncode}", hint=command)
    return done.stdout.decode("utf-8", "replace").rstrip("\n")
