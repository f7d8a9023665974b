"""Virtual environments for tasks: made with uv where that is installed, with venv and pip elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.hooks.subprocess import SubprocessHook

MARKER = "install_complete_marker.json"
"""In a cached environment: what it was made from. Without it the environment was never finished."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What a virtual environment is made from."""

    python: str
    """A program, or a name on PATH such as python3.11."""
    requirements: list[str] = field(default_factory=list)
    system_site_packages: bool = True
    pip_install_options: list[str] = field(default_factory=list)
    index_urls: list[str] | None = None
    """None: as pip is configured; empty: no index at all."""
    cache_key: str = ""

    def description(self) -> str:
        """As JSON; equal for environments that can stand for each other."""
        import json

        return json.dumps(
            {
                "python": self.python,
                "requirements": sorted(self.requirements),
                "system_site_packages": self.system_site_packages,
                "pip_install_options": self.pip_install_options,
                "index_urls": self.index_urls,
                "cache_key": self.cache_key,
            },
            sort_keys=True,
        )


def is_venv_installed() -> bool:
    """Whether virtual environments can be made here."""
    from importlib.util import find_spec

    return bool(shutil.which("uv") or find_spec("venv"))


def program_for(python_version: str | None) -> str:
    """The Python of this version (`3.11`); this process's own without one. AirflowException when it is not on PATH."""
    if not python_version:
        return sys.executable
    name = f"python{python_version}"
    found = shutil.which(name)
    if found is None and not shutil.which("uv"):
        raise AirflowException(f"there is no {name} on this host's PATH: install it, or uv, which fetches it")
    return found or python_version


def make(environment: Environment, folder: Path, hook: SubprocessHook) -> Path:
    """Make it in this empty folder; the path of its Python. AirflowException when a step fails; its output is in the
    task's log."""
    uv = shutil.which("uv")
    python = folder / "bin" / "python"
    shared = ["--system-site-packages"] if environment.system_site_packages else []
    install = bool(environment.requirements)
    if uv:
        seed = ["--seed"] if install else []
        command = [uv, "venv", "--quiet", "--allow-existing", *seed, "--python", environment.python, *shared]
        _run(hook, [*command, str(folder)], "make the virtual environment")
    else:
        # Without requirements there is nothing to install: half of the time goes into pip.
        bare = [] if install else ["--without-pip"]
        command = [environment.python, "-m", "venv", *bare, *shared, str(folder)]
        _run(hook, command, "make the virtual environment")
    if environment.index_urls is not None:
        (folder / "pip.conf").write_text(_pip_configuration(environment.index_urls))
    if install:
        listing = folder / "requirements.txt"
        listing.write_text("\n".join(environment.requirements) + "\n")
        options = [*environment.pip_install_options, "-r", str(listing)]
        if uv:
            if environment.index_urls == []:
                options.insert(0, "--no-index")
            command = [uv, "pip", "install", "--python", str(python), *options]
        else:
            command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", *options]
        _run(hook, command, "install the requirements", _index_variables(environment.index_urls))
    return python


def cached(environment: Environment, parent: Path, hook: SubprocessHook, log: Any) -> Path:
    """The Python of the environment below `parent`; made when there is none yet, once however many ask for it."""
    import fcntl
    from hashlib import sha256

    description = environment.description()
    folder = parent / f"venv-{sha256(description.encode()).hexdigest()[:8]}"
    parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        marker = folder / MARKER
        if marker.is_file() and marker.read_text() == description:
            log.info("Reusing cached Python virtual environment in %s", folder)
            return folder / "bin" / "python"
        if folder.exists():
            log.warning("Removing %s: it was never finished, or made from something else", folder)
            shutil.rmtree(folder)
        folder.mkdir()
        try:
            python = make(environment, folder, hook)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        marker.write_text(description)
    log.info("New Python virtual environment created in %s", folder)
    return python


def _run(hook: SubprocessHook, command: Sequence[str], purpose: str, more: dict[str, str] | None = None) -> None:
    result = hook.run_command(command, env={**os.environ, **(more or {})}, cwd=os.getcwd())
    if result.exit_code != 0:
        how = f"{command[0]} ended with exit code {result.exit_code}"
        raise AirflowException(f"can't {purpose}: {how}, {result.output}")


def _pip_configuration(index_urls: list[str]) -> str:
    if not index_urls:
        return "[global]\nno-index = true\n"
    first, *others = index_urls
    more = f"extra-index-url = {' '.join(others)}\n" if others else ""
    return f"[global]\nindex-url = {first}\n{more}"


def _index_variables(index_urls: list[str] | None) -> dict[str, str]:
    if not index_urls:
        return {}
    first, *others = index_urls
    values = {"UV_DEFAULT_INDEX": first, "UV_INDEX_URL": first}
    if others:
        values |= {"UV_INDEX": " ".join(others), "UV_EXTRA_INDEX_URL": " ".join(others)}
    return values
