"""How the scripts choose what to install from constraints.txt."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("environment", ROOT / "scripts" / "environment.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("debian", None)


CONSTRAINTS = """\
a==1 \\
    --hash=sha256:00
    # via opskit (pyproject.toml)
b-c==2 ; sys_platform == 'linux' \\
    --hash=sha256:01
    # via a
d==3 \\
    --hash=sha256:02
    # via
    #   b-c
    #   e
e==4 \\
    --hash=sha256:03
    # via opskit (pyproject.toml:dev)
"""


def test_a_package_comes_with_all_that_it_needs(environment: ModuleType) -> None:
    chosen = environment.select(CONSTRAINTS, {"a"})
    assert re.findall(r"(?m)^(\S+?)==", chosen) == ["a", "b-c", "d"]
    assert environment.select(CONSTRAINTS, {"b-c"}).count("==") == 3  # two pins and one marker
    assert environment.select(CONSTRAINTS, None) == CONSTRAINTS


def test_the_core_is_much_smaller_than_everything(environment: ModuleType) -> None:
    everything = (ROOT / "constraints.txt").read_text()
    core = environment.select(everything, environment._roots("core"))
    names = set(re.findall(r"(?m)^(\S+?)==", core))
    assert {"click", "sqlalchemy", "mako", "hatchling", "cffi"} <= names
    assert not {"boto3", "celery", "pytest", "moto"} & names


def test_constraints_have_hashes_and_name_no_place_to_get_them_from() -> None:
    text = (ROOT / "constraints.txt").read_text()
    for block in re.split(r"(?m)^(?=\S+==)", text):
        assert "==" not in block or "--hash=sha256:" in block
    assert not re.search(r"https?://|file:|--(extra-)?index-url|--find-links|@ ", text)
