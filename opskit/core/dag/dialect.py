"""Which Airflow a DAG file was written for: 2, 3, or None for one that knows only opskit.

It decides defaults that differ between the two: what an unstated schedule and an unstated catchup mean, whether a
cron expression means data intervals or moments, and which names a task's context has."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Dialect = Literal[2, 3]

_VERSION_3 = ("airflow.sdk", "airflow.providers.standard")
_current: Dialect | None = None
_loading = False
_latest: Dialect | None = None


def current() -> Dialect | None:
    """The dialect of the DAG file that is being loaded; None outside of that, and for a file without Airflow."""
    return _current


def latest() -> Dialect | None:
    """The dialect of the last file that spoke one: for what an attempt asks after its file has been loaded."""
    return _latest


@contextmanager
def speaking(dialect: Dialect | None) -> Iterator[None]:
    """`current()` within the block."""
    global _current, _loading
    before = _current, _loading
    _current, _loading = None, True
    try:
        settle(dialect)
        yield
    finally:
        _current, _loading = before


def settle(dialect: Dialect | None) -> None:
    """`current()` for the rest of the block of `speaking`; outside of one `latest()` alone. For a file whose dialect
    shows only in a module that it imports."""
    global _current, _latest
    if _loading:
        _current = dialect
    if dialect is not None:
        _latest = dialect


def of_source(source: bytes, setting: str = "auto") -> Dialect | None:
    """The dialect of a DAG file's text. `setting` (core.airflow_dialect: auto, 2 or 3) overrides what its imports say,
    but a file that imports nothing of Airflow has none. SyntaxError as from `ast.parse`."""
    return of_tree(ast.parse(source), setting) if b"airflow" in source else None


def of_tree(tree: ast.AST, setting: str = "auto") -> Dialect | None:
    """As `of_source`, of a file that is parsed already."""
    found: Dialect | None = None
    for name in _imported(tree):
        if name.startswith(_VERSION_3):
            found = 3
            break
        if name == "airflow" or name.startswith("airflow."):
            found = 2
    if found is None or setting == "auto":
        return found
    return 3 if setting == "3" else 2


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module == "airflow":
                for alias in node.names:
                    yield f"airflow.{alias.name}"
