"""Checks of DAG files before they leave this machine, and what is made of the answers of the nodes."""

from __future__ import annotations

import ast
import os
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import DagInvalid
from opskit.ops.dag_sources import Source
from opskit.ops.deploy_records import Records
from opskit.ops.node_check import environment
from opskit.ops.node_tree import is_ignored, manifest_hash
from opskit.ops.releases import refuse_duplicates
from opskit.platforms import Platform
from opskit.platforms.base import LoadedDagFile


@dataclass(frozen=True, slots=True)
class Checked:
    dag_ids: dict[str, tuple[str, ...]]
    """path → the DAGs of each DAG file."""
    loaded: Sequence[LoadedDagFile]
    """What was loaded for it: files whose verdict was not known."""


def check_source(platform: Platform, source: Source, records: Records | None) -> Checked:
    """Syntax of every Python file, import of every DAG file in another process, no dag_id twice, no cycle.

    Single FILEs are loaded among the files of the local DAG folder, so that they find the modules beside them. Of a
    whole folder, files whose verdict `records` has are not loaded again. Raises DagInvalid naming every file that
    can't be used.
    """
    python_files = [path for path in source.files if path.endswith(".py")]
    known = _known_verdicts(source, records)
    fresh = [path for path in python_files if path not in known]
    loaded: Sequence[LoadedDagFile] = ()
    if fresh:
        # The files are loaded by another process: meanwhile this one gets ready for the questions that come next.
        warming = threading.Thread(target=platform.dag_facts.warm_up)
        warming.start()
        try:
            with _tree(source, platform.config.dags_folder) as tree:
                loaded = platform.dag_files.load(tree, fresh)
        finally:
            warming.join()
    # What was loaded must be what was hashed.
    source.refuse_changes()
    errors = {file.path: file.error for file in loaded if file.error is not None}
    unloaded = set(fresh) - {file.path for file in loaded if file.error is None}
    errors.update({path: text for path in unloaded if (text := syntax_error(source.read(path), path))})
    if errors:
        raise invalid("here", errors)
    dag_ids = {path: ids for path, ids in known.items() if ids}
    dag_ids.update({file.path: file.dag_ids for file in loaded})
    refuse_duplicates(dag_ids, source.files, "here")
    if records is not None and source.whole_tree and fresh:
        verdicts = {path: [source.files[path][0], list(dag_ids.get(path, ()))] for path in python_files}
        records.write_checked(
            {"environment": environment(), "others": _others(source, dag_ids), "files": verdicts},
        )
    return Checked(dag_ids, loaded)


def _known_verdicts(source: Source, records: Records | None) -> dict[str, tuple[str, ...]]:
    """path → dag_ids of files that were found good before, in this environment, among the same modules and data."""
    checked = records.checked() if records is not None and source.whole_tree else None
    if checked is None or checked["environment"] != environment():
        return {}
    files = checked["files"]
    known = {
        path: tuple(files[path][1])
        for path, entry in source.files.items()
        if path in files and files[path][0] == entry[0]
    }
    # Files without a DAG are what DAG files import and read: with other ones among them no verdict holds.
    with_dags = {path for path, (_, dag_ids) in files.items() if dag_ids}
    return known if _others(source, with_dags) == checked["others"] else {}


def _others(source: Source, with_dags: Collection[str]) -> str:
    """A digest of the files that define no DAG."""
    return manifest_hash({path: entry for path, entry in source.files.items() if path not in with_dags}, None)


def syntax_error(text: bytes, path: str) -> str:
    """What is wrong with the syntax of a Python file; empty: nothing."""
    try:
        ast.parse(text, path)
    except SyntaxError as error:
        return f"{error.msg}, line {error.lineno}" if error.lineno else error.msg
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return ""


def to_load(
    paths: Collection[str], concerned: Collection[str], dag_ids: Mapping[str, Sequence[str]]
) -> tuple[list[str], bool]:
    """Which Python files of a release to load on a node: those that are new or changed, or, when a module or a file
    changed that others may import or read, all. Says whether it is all."""
    python_files = sorted(path for path in paths if path.endswith(".py"))
    fresh = [path for path in python_files if path in concerned]
    if all(dag_ids.get(path) for path in concerned):
        return fresh, False
    return python_files, True


def invalid(where: str, errors: Mapping[str, str]) -> DagInvalid:
    """The error for DAG files that can't be used."""
    shown = [f"{path}: {gist(text)}" for path, text in sorted(errors.items())]
    more = f"; and {len(shown) - 5} more" if len(shown) > 5 else ""
    count = "a DAG file" if len(shown) == 1 else f"{len(shown)} DAG files"
    return DagInvalid(f"{where}: {count} can't be used: {'; '.join(shown[:5])}{more}", hint="no host was switched")


def doubtful(warnings: Sequence[str]) -> DagInvalid:
    """The error for warnings that nobody accepts."""
    more = f"; and {len(warnings) - 5} more" if len(warnings) > 5 else ""
    count = "a warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    return DagInvalid(f"{count}: {'; '.join(warnings[:5])}{more}", hint="without --strict they stop nothing")


def gist(text: str) -> str:
    """The line of an error that says most: the last one of a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "it can't be loaded"
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


@contextmanager
def _tree(source: Source, dags_folder: Path) -> Iterator[Path]:
    """A folder in which the files can be loaded: their own, or one of the local DAG folder's files (as links) with the
    new ones on top."""
    if source.folder is not None:
        yield source.folder
        return
    with tempfile.TemporaryDirectory(prefix="opskit-deploy-") as workspace:
        root = os.path.realpath(dags_folder)
        for folder, names, files in os.walk(root):
            names[:] = [name for name in names if not is_ignored(name)]
            below = os.path.relpath(folder, root)
            Path(workspace, below).mkdir(parents=True, exist_ok=True)
            for name in files:
                place = os.path.normpath(os.path.join(below, name))
                if place not in source.files and not is_ignored(name):
                    Path(workspace, place).symlink_to(os.path.join(folder, name))
        for path in source.files:
            target = Path(workspace, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read(path))
        yield Path(workspace)
