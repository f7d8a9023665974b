"""Checks of DAG files before they leave this machine, and what is made of the answers of the nodes."""

from __future__ import annotations

import ast
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from opskit.errors import DagInvalid
from opskit.ops.dag_sources import Source
from opskit.ops.node_tree import is_ignored
from opskit.ops.releases import refuse_duplicates
from opskit.platforms import Platform


def check_source(platform: Platform, source: Source, workspace: Path) -> dict[str, tuple[str, ...]]:
    """Syntax of every Python file, import of every DAG file in a process of its own, no dag_id twice, no cycle.

    Single FILEs are loaded among the files of the local DAG folder, so that they find the modules beside them.
    Returns path → dag_ids of the DAG files. Raises DagInvalid naming every file that can't be used.
    """
    python_files = [path for path in source.files if path.endswith(".py")]
    errors = {path: text for path in python_files if (text := syntax_error(source.folder / path))}
    if errors:
        raise invalid("here", errors)
    tree = source.folder if source.whole_tree else _overlay(source, platform.config.dags_folder, workspace)
    loaded = platform.dag_files.load(tree, python_files)
    errors = {file.path: file.error for file in loaded if file.error is not None}
    if errors:
        raise invalid("here", errors)
    dag_ids = {file.path: file.dag_ids for file in loaded}
    refuse_duplicates(dag_ids, source.files, "here")
    return dag_ids


def syntax_error(path: Path) -> str:
    """What is wrong with the syntax of a Python file; empty: nothing."""
    try:
        ast.parse(path.read_bytes(), path.name)
    except SyntaxError as error:
        return f"{error.msg}, line {error.lineno}" if error.lineno else error.msg
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return ""


def to_load(
    paths: Collection[str], concerned: Collection[str], dag_ids: Mapping[str, Sequence[str]]
) -> tuple[list[str], bool]:
    """Which Python files of a release to load on a node: those that are new or changed, or, when a module changed that
    others may import, all. Says whether it is all."""
    python_files = sorted(path for path in paths if path.endswith(".py"))
    fresh = [path for path in python_files if path in concerned]
    if all(dag_ids.get(path) for path in fresh):
        return fresh, False
    return python_files, True


def invalid(where: str, errors: Mapping[str, str]) -> DagInvalid:
    """The error for DAG files that can't be used."""
    shown = [f"{path}: {gist(text)}" for path, text in sorted(errors.items())]
    more = f"; and {len(shown) - 5} more" if len(shown) > 5 else ""
    count = "a DAG file" if len(shown) == 1 else f"{len(shown)} DAG files"
    return DagInvalid(f"{where}: {count} can't be used: {'; '.join(shown[:5])}{more}", hint="no host was switched")


def gist(text: str) -> str:
    """The line of an error that says most: the last one of a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "it can't be loaded"
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def _overlay(source: Source, dags_folder: Path, workspace: Path) -> Path:
    """A tree of the local DAG folder's files (as links) with the new ones on top."""
    for folder, names, files in os.walk(os.path.realpath(dags_folder)):
        names[:] = [name for name in names if not is_ignored(name)]
        below = os.path.relpath(folder, os.path.realpath(dags_folder))
        (workspace / below).mkdir(parents=True, exist_ok=True)
        for name in files:
            place = os.path.normpath(os.path.join(below, name))
            if place not in source.files and not is_ignored(name):
                (workspace / place).symlink_to(os.path.join(folder, name))
    for path in source.files:
        target = workspace / path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source.folder / path, target)
    return workspace
