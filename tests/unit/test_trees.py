"""Walks by descriptor: what they visit, and what they refuse to enter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opskit.errors import GuardRefused, UsageError
from opskit.system import trees
from opskit.system.trees import Obstacle, open_beneath, opened, walk


def test_children_come_before_their_directory_leaves(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    with opened(tmp_path) as root:
        seen = [(entry.path, entry.left) for entry in walk(root)]
    assert seen == [("a", False), ("a/b", False), ("a/b/file", False), ("a/b", True), ("a", True)]


def test_a_link_is_an_entry_and_never_a_way(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    with opened(tmp_path / "root") as root:
        assert [entry.path for entry in walk(root)] == ["link"]


def test_a_directory_swapped_for_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    inside = tmp_path / "root" / "a"
    inside.mkdir(parents=True)
    obstacles: list[Obstacle] = []

    def swap(entry: trees.Entry) -> bool:
        inside.rmdir()
        inside.symlink_to(tmp_path / "outside")
        return True

    with opened(tmp_path / "root") as root:
        assert [(entry.path, entry.left) for entry in walk(root, enter=swap, obstacle=obstacles.append)] == [
            ("a", False)
        ]
    assert obstacles == [Obstacle("a", "was swapped during the walk")]


def test_a_directory_swapped_for_another_one_is_not_entered(tmp_path: Path) -> None:
    inside = tmp_path / "root" / "a"
    inside.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    obstacles: list[Obstacle] = []

    def swap(entry: trees.Entry) -> bool:
        inside.rename(tmp_path / "root" / "old")
        (tmp_path / "other").rename(inside)
        return True

    with opened(tmp_path / "root") as root:
        assert "a/file" not in [entry.path for entry in walk(root, enter=swap, obstacle=obstacles.append)]
    assert obstacles == [Obstacle("a", "was swapped during the walk")]


def test_what_vanishes_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    def remove(entry: trees.Entry) -> bool:
        for name in ("a", "b"):
            if (tmp_path / name).exists():
                (tmp_path / name).rmdir()
        return True

    with opened(tmp_path) as root:
        assert len(list(walk(root, enter=remove))) == 1


def test_a_mount_point_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    obstacles: list[Obstacle] = []
    with opened(tmp_path) as root:
        seen = [entry.path for entry in walk(root, obstacle=obstacles.append, mounts=frozenset({"a/b"}))]
    assert seen == ["a", "a"]
    assert obstacles == [Obstacle("a/b", "another file system")]


def test_a_tree_that_is_too_deep_is_an_obstacle_and_leaks_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "DEEPEST", 3)
    (tmp_path / "1/2/3/4/5").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    obstacles: list[Obstacle] = []
    with opened(tmp_path) as root:
        seen = [entry.path for entry in walk(root, obstacle=obstacles.append) if not entry.left]
    assert seen == ["1", "1/2", "1/2/3"]
    assert obstacles == [Obstacle("1/2/3/4", "more than 3 levels deep")]
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("path", ["/", "/etc", "/usr/../", "/var/lib"])
def test_a_protected_directory_is_no_root(path: str) -> None:
    with pytest.raises(GuardRefused, match="protected"), opened(Path(path)):
        pass


def test_a_home_folder_is_no_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "_home_folders", lambda: {str(tmp_path)})
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(GuardRefused, match="protected"), opened(path):
            pass


def test_a_link_of_another_user_on_the_way_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a link of another user")
    (tmp_path / "target").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    with opened(link):
        pass
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(GuardRefused, match="another user"), opened(link):
        pass


def test_a_missing_root_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("missing", "file", "missing/deeper"):
        with pytest.raises(UsageError, match="no directory"), opened(tmp_path / name):
            pass


@pytest.mark.parametrize("target", ["releases/1", "./x/../releases/1", "{base}/releases/1"])
def test_a_link_that_stays_below_its_base_is_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "releases" / "1").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    (tmp_path / "dags").symlink_to(target.format(base=tmp_path))
    base = os.open(tmp_path, os.O_RDONLY)
    found = open_beneath(base, tmp_path, "dags")
    assert os.path.samestat(os.fstat(found), (tmp_path / "releases" / "1").stat())
    os.close(found)
    os.close(base)


@pytest.mark.parametrize("target", ["/etc", "..", "../{name}/../..", "{base}x", "{base}/..", "x/../../.."])
def test_a_link_that_leads_out_of_its_base_is_refused(tmp_path: Path, target: str) -> None:
    home = tmp_path / "home"
    (home / "x").mkdir(parents=True)
    (tmp_path / "homex").mkdir()
    (home / "dags").symlink_to(target.format(base=home, name=home.name))
    base = os.open(home, os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(GuardRefused, match="leads out"):
        open_beneath(base, home, "dags")
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(base)


def test_links_that_go_round_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    base = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(GuardRefused, match="too many links"):
        open_beneath(base, tmp_path, "a")
    with pytest.raises(GuardRefused, match="too many links"), opened(tmp_path / "a"):
        pass
    os.close(base)


def test_mount_points_below_a_directory_are_known(tmp_path: Path) -> None:
    with opened(tmp_path) as root:
        assert trees.mounts_below(root) == frozenset()
    slash = os.open("/", os.O_RDONLY)
    assert "proc" in trees.mounts_below(slash)
    os.close(slash)
