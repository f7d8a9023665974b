"""What tests need from this machine: skipped where it is missing, failed when OPSKIT_REQUIRE_SERVICES=1."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

REQUIRED = os.environ.get("OPSKIT_REQUIRE_SERVICES", "") not in ("", "0")


def missing(what: str) -> NoReturn:
    """End the test because a service is not there."""
    if REQUIRED:
        pytest.fail(f"{what} (OPSKIT_REQUIRE_SERVICES is set)", pytrace=False)
    pytest.skip(what)


def program(name: str) -> str:
    """Path of a program, also from sbin, which is not on everybody's PATH."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    return found or missing(f"the program {name} is not installed")
