"""What runs on a node, as far as it needs no node."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.ops import node_wire
from opskit.ops.dags_drift import judge as judge_drift
from opskit.ops.health_gate import judge as judge_gate
from opskit.ops.node_tree import is_release_name, remove_tree, scan, seal_of
from opskit.platforms.dag_versions import LoadedVersion

_TEXTS = st.text(st.characters(codec=None, categories=None), max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
)


@given(_VALUES)
def test_an_answer_is_the_json_that_python_would_write(value: object) -> None:
    assert json.loads(node_wire.to_json(value)) == json.loads(json.dumps(value))  # type: ignore[arg-type]


def seal(root: Path) -> str:
    return seal_of(*scan(str(root)))


def test_a_seal_breaks_with_any_change_and_not_with_caches(tmp_path: Path) -> None:
    root = tmp_path / "release"
    (root / "sub").mkdir(parents=True)
    file = root / "sub" / "a.py"
    file.write_text("one")
    first = seal(root)
    (root / "sub" / "__pycache__").mkdir()
    assert seal(root) == first
    info = file.stat()
    file.write_text("two")
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))  # what hides from size and mtime
    changed = seal(root)
    file.chmod(0o600)
    (root / "extra").symlink_to("/etc/passwd")
    assert len({first, changed, seal(root)}) == 3


def test_a_tree_is_removed_without_what_its_links_point_to(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "release"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "file").write_text("x")
    (root / "a" / "link").symlink_to(outside)
    (root / "a").chmod(0o500)
    remove_tree(str(root))
    assert not root.exists() and (outside / "kept").exists()


@pytest.mark.parametrize("name", ["a" * 32, "0123456789abcdef" * 2 + ".12"])
def test_releases_are_named_by_a_hash_and_a_number(name: str) -> None:
    assert is_release_name(name)
    for wrong in (name[:-1] + "/", name.upper() + "G", "..", name[:31], f"{'a' * 32}.", f"{'a' * 32}.x", ""):
        assert not is_release_name(wrong)


def test_a_host_drifts_by_its_release_or_by_its_files() -> None:
    name = "a" * 32
    assert judge_drift("h", name, name, {}).state == "in sync"
    assert judge_drift("h", f"{name}.2", name, {}).state == "in sync"
    assert judge_drift("h", name, name, {"edited": ["x.py"]}).edited == ("x.py",)
    assert judge_drift("h", name, "b" * 32, {}).state == "other release"
    assert judge_drift("h", "", name, {"missing": ["x.py"]}).state == "other release"
    assert judge_drift("h", name, "", {"extra": ["x.py"]}).state == "drifted"


def test_the_scheduler_is_waited_for_until_it_has_loaded_each_new_version() -> None:
    wanted = {"a.py": "1", "b.py": "2", "c.py": "3"}
    loaded = {"a.py": LoadedVersion("1", ""), "b.py": LoadedVersion("1", "an error of the old one")}
    assert judge_gate(wanted, loaded) == ({}, ["b.py", "c.py"])
    loaded = {path: LoadedVersion(digest, "") for path, digest in wanted.items()}
    assert judge_gate(wanted, loaded) == ({}, [])
    loaded["c.py"] = LoadedVersion("3", "ImportError: x")
    assert judge_gate(wanted, loaded) == ({"c.py": "ImportError: x"}, [])
