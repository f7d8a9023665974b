"""What a look at the DAG folder finds, and what ignore files hide."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opskit.core.scheduler.dag_folder import links_on_path, list_dag_folder, read_content


def make(root: Path, *paths: str, text: str = "") -> None:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_python_files_and_what_they_may_read_are_listed_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "team/b.py", "team/c.yaml", "notes.txt", "__pycache__/a.py", ".git/hook.py", "a.pyc")
    listing = list_dag_folder(tmp_path)
    assert set(listing.files) == {"a.py", "team/b.py", "team/c.yaml"}
    assert listing.complete


def test_a_missing_root_is_a_problem_and_no_empty_folder(tmp_path: Path) -> None:
    listing = list_dag_folder(tmp_path / "absent")
    assert not listing.complete
    assert listing.files == {}


def test_a_folder_that_links_back_up_is_listed_once(tmp_path: Path) -> None:
    make(tmp_path, "team/a.py")
    (tmp_path / "team" / "up").symlink_to(tmp_path)
    assert set(list_dag_folder(tmp_path).files) == {"team/a.py"}


def test_a_linked_folder_outside_of_the_root_is_followed(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "a.py")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "shared").symlink_to(tmp_path / "elsewhere")
    assert set(list_dag_folder(tmp_path / "dags").files) == {"shared/a.py"}


def test_a_dangling_link_hides_nothing_else(tmp_path: Path) -> None:
    make(tmp_path, "a.py")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    listing = list_dag_folder(tmp_path)
    assert set(listing.files) == {"a.py"}
    assert listing.complete


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ("b.py", {"a.py", "x/a.py", "x/y/a.py"}),
        ("/b.py", {"a.py", "x/a.py", "x/b.py", "x/y/a.py", "x/y/b.py"}),
        ("x/", {"a.py", "b.py"}),
        ("x/*.py", {"a.py", "b.py", "x/y/a.py", "x/y/b.py"}),
        ("x/**", {"a.py", "b.py"}),
        ("**/y/b.py", {"a.py", "b.py", "x/a.py", "x/b.py", "x/y/a.py"}),
        ("*.py\n!a.py", {"a.py", "x/a.py", "x/y/a.py"}),
        ("# b.py\n\n[ab].py\n!/b.py", {"b.py"}),
        ("?.py", set()),
        ("[!a].py", {"a.py", "x/a.py", "x/y/a.py"}),
        ("no/such\\ file", {"a.py", "b.py", "x/a.py", "x/b.py", "x/y/a.py", "x/y/b.py"}),
    ],
)
@pytest.mark.parametrize("name", [".opskitignore", ".airflowignore"])
def test_ignore_files_follow_the_rules_of_gitignore(tmp_path: Path, name: str, patterns: str, left: set[str]) -> None:
    make(tmp_path, "a.py", "b.py", "x/a.py", "x/b.py", "x/y/a.py", "x/y/b.py")
    (tmp_path / name).write_text(patterns)
    assert set(list_dag_folder(tmp_path).files) == left


def test_an_ignore_file_speaks_for_its_own_folder_and_those_below(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "x/a.py", "x/y/a.py")
    (tmp_path / "x" / ".airflowignore").write_text("a.py\n")
    assert set(list_dag_folder(tmp_path).files) == {"a.py"}


def test_regular_expressions_match_anywhere_in_the_path(tmp_path: Path) -> None:
    make(tmp_path, "project_a/dag_1.py", "TESTING_project_a.py", "tenant_1.py", "dag_1.py", "tenant/x.py")
    (tmp_path / ".airflowignore").write_text("project_a # not yet\ntenant_[\\d]\n")
    assert set(list_dag_folder(tmp_path, "regexp").files) == {"dag_1.py", "tenant/x.py"}


def test_a_pattern_that_is_no_regular_expression_makes_the_listing_incomplete(tmp_path: Path) -> None:
    make(tmp_path, "a.py")
    (tmp_path / ".airflowignore").write_text("good\n(\n")
    listing = list_dag_folder(tmp_path, "regexp")
    assert not listing.complete
    assert "line 2" in listing.problems[0]


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("from opskit import DAG", True),
        ("import airflow\nfrom x import make_dag", True),
        ("from OPSKIT import Dag", True),
        ("import airflow", False),
        ("dag = 1", False),
        ("", False),
    ],
)
def test_safe_mode_reads_only_what_mentions_a_dag_and_its_library(tmp_path: Path, text: str, may: bool) -> None:
    make(tmp_path, "a.py", text=text)
    assert read_content(tmp_path, "a.py").may_define_dags is may
    assert read_content(tmp_path, "a.py", safe_mode=False).may_define_dags


def test_only_python_files_may_define_dags(tmp_path: Path) -> None:
    make(tmp_path, "a.yaml", text="opskit dag")
    assert not read_content(tmp_path, "a.yaml", safe_mode=False).may_define_dags


def test_every_link_on_the_way_to_the_root_is_known(tmp_path: Path) -> None:
    root = Path(os.path.realpath(tmp_path))
    (root / "releases" / "7" / "dags").mkdir(parents=True)
    (root / "current").symlink_to("releases/7")
    (root / "dags").symlink_to("current/dags")
    found = list(links_on_path(root / "dags"))
    assert (str(root), "dags") in found
    assert (str(root), "current") in found
    assert (str(root / "releases" / "7"), "dags") in found


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert len(list(links_on_path(tmp_path / "a"))) <= 256
