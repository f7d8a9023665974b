"""What `airflow.utils.file` offers."""

from __future__ import annotations

import ast
import hashlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

__all__ = [
    "TemporaryDirectory",
    "correct_maybe_zipped",
    "find_path_from_directory",
    "get_unique_dag_module_name",
    "iter_airflow_imports",
    "list_py_file_paths",
    "might_contain_dag",
    "mkdirs",
    "open_maybe_zipped",
]


def mkdirs(path: str, mode: int) -> None:
    """Make a folder and those above it."""
    Path(path).mkdir(mode=mode, parents=True, exist_ok=True)


def correct_maybe_zipped(fileloc: Any) -> Any:
    """The archive that a path leads into, else the path itself."""
    if not fileloc:
        return fileloc
    before, separator, _ = str(fileloc).partition(".zip/")
    archive = f"{before}.zip"
    return archive if separator and zipfile.is_zipfile(archive) else fileloc


def open_maybe_zipped(fileloc: str, mode: str = "r") -> IO[Any]:
    """A file, which may lie in an archive."""
    archive = correct_maybe_zipped(fileloc)
    if archive == fileloc:
        return Path(fileloc).open(mode)
    opened = zipfile.ZipFile(archive).open(str(fileloc)[len(archive) + 1 :])  # noqa: SIM115 - likewise
    if "b" in mode:
        return opened
    import io

    return io.TextIOWrapper(opened)


def find_path_from_directory(
    base_dir_path: str | os.PathLike[str], ignore_file_name: str, ignore_file_syntax: str = "regexp"
) -> Iterator[str]:
    """The files below a folder which its ignore files (of this name) leave."""
    from opskit.core.dag.ignore_files import files_below

    return files_below(str(base_dir_path), ignore_file_syntax, (ignore_file_name,))


def list_py_file_paths(directory: str | os.PathLike[str] | None, safe_mode: bool = True, **_: Any) -> list[str]:
    """The files that may define DAGs: a file itself, or those below a folder."""
    if directory is None:
        return []
    if os.path.isfile(directory):
        return [str(directory)]
    from opskit.compat.configuration import conf

    syntax = conf.get("core", "dag_ignore_file_syntax")
    return [
        path
        for path in find_path_from_directory(directory, ".airflowignore", syntax)
        if (path.endswith(".py") or zipfile.is_zipfile(path)) and might_contain_dag(path, safe_mode)
    ]


def might_contain_dag(file_path: str, safe_mode: bool, zip_file: zipfile.ZipFile | None = None) -> bool:
    """Whether a file mentions both `dag` and `airflow` or `opskit`; always so without safe mode."""
    if not safe_mode:
        return True
    if zip_file is not None:
        content = zip_file.read(file_path)
    elif zipfile.is_zipfile(file_path):
        return True
    else:
        content = Path(file_path).read_bytes()
    content = content.lower()
    return b"dag" in content and (b"airflow" in content or b"opskit" in content)


def iter_airflow_imports(file_path: str) -> Iterator[str]:
    """The modules of Airflow that a file imports at its top level."""
    try:
        tree = ast.parse(Path(file_path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        yield from (name for name in names if name.startswith("airflow."))


def get_unique_dag_module_name(file_path: str) -> str:
    """The name of the module that a DAG file is loaded as."""
    digest = hashlib.sha1(file_path.encode(), usedforsecurity=False).hexdigest()
    return f"unusual_prefix_{digest}_{Path(file_path).stem.replace('.', '_').replace('-', '_')}"
