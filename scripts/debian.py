"""Installs Debian packages, or says what is missing where that can't be done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


class Missing(Exception):
    """Something is not installed, and can't be installed from here."""


def install(packages: dict[str, str]) -> None:
    """Install packages (name → what it is for). Raises Missing where there is no apt-get, or no right to use it."""
    wanted = ", ".join(f"{what} ({name})" for name, what in packages.items())
    if not shutil.which("apt-get"):
        raise Missing(f"missing: {wanted}. This is no Debian; install the same with your own package manager")
    prefix = [] if os.geteuid() == 0 else ["sudo"]
    if prefix and not shutil.which("sudo"):
        raise Missing(f"missing: {wanted}. Run this as root or with sudo, or: apt-get install {' '.join(packages)}")
    print(f"installing {wanted} …", file=sys.stderr, flush=True)
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    install = [*prefix, *environment, "apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    # The package lists of a fresh machine are empty, those of an old one name versions that are gone.
    if _quiet([*prefix, *environment, "apt-get", "update", "--quiet"]) or _quiet(install):
        raise Missing(f"apt-get could not install {wanted}")


def _quiet(command: list[str]) -> int:
    """Run it; its output is shown only when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(command)}\n{done.stdout}", file=sys.stderr)
    return done.returncode
