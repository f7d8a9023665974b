"""Looks at the DAG folder: which files may define DAGs, and whether the look was complete."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from opskit.core.dag import archives
from opskit.core.dag.ignore_files import IGNORE_FILES, SKIPPED_FOLDERS, IgnoreRules, ignored
from opskit.errors import OpskitError

COMPANIONS = (".py", ".zip", ".yaml", ".yml", ".json", ".toml")
"""Files that a DAG file may read while it is loaded: a change of one loads the DAG files again."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells without opening a file that it may have changed."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


@dataclass(slots=True)
class Listing:
    """One look at the DAG folder."""

    files: dict[str, Signature] = field(default_factory=dict)
    """.py files, archives and their companions, by path below the folder (with `/`)."""
    folders: list[str] = field(default_factory=list)
    """Absolute paths of all folders that were listed."""
    entries: int = 0
    """Names seen, of any kind: 0 is an unmounted or emptied folder."""
    problems: list[str] = field(default_factory=list)
    """What could not be listed. With any, absence proves nothing."""

    @property
    def complete(self) -> bool:
        return not self.problems


def list_dag_folder(root: Path, syntax: str = "glob") -> Listing:
    """List the folder and everything below, links followed, honouring ignore files. Never raises for what lies in it.

    Folders whose name begins with a dot are left out: .git, .venv, and the `..data` of a mounted ConfigMap, whose
    files are there twice.
    """
    listing = Listing()
    try:
        status = os.stat(root)
    except OSError as error:
        listing.problems.append(f"{root}: {error.strerror}")
        return listing
    _list(str(root), "", [(status.st_dev, status.st_ino)], [], syntax, listing)
    return listing


def _list(
    folder: str, below: str, above: list[tuple[int, int]], inherited: list[IgnoreRules], syntax: str, listing: Listing
) -> None:
    listing.folders.append(folder)
    try:
        with os.scandir(folder) as iterator:
            entries = sorted(iterator, key=lambda entry: entry.name)
    except OSError as error:
        listing.problems.append(f"{folder}: {error.strerror}")
        return
    listing.entries += len(entries)
    rules = inherited
    for entry in entries:
        if entry.name in IGNORE_FILES:
            try:
                lines = Path(entry.path).read_text(encoding="utf-8").splitlines()
                rules = [*rules, IgnoreRules(below, lines, syntax, entry.path)]
            except (OSError, UnicodeDecodeError, OpskitError) as error:
                # Without its rules the listing shows too much, and what it hides is unknown.
                listing.problems.append(f"{entry.path}: {error}")
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        try:
            is_folder = entry.is_dir()
            if is_folder:
                if entry.name.startswith(".") or entry.name in SKIPPED_FOLDERS or ignored(rules, path, True):
                    continue
                status = os.stat(entry.path)
                identity = (status.st_dev, status.st_ino)
                if identity not in above:  # else a link that leads back up
                    _list(entry.path, path, [*above, identity], rules, syntax, listing)
            elif entry.name.endswith(COMPANIONS) and entry.is_file() and not ignored(rules, path, False):
                status = entry.stat()
                listing.files[path] = Signature(
                    status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
                )
        except FileNotFoundError:
            continue  # removed while we looked
        except OSError as error:
            listing.problems.append(f"{entry.path}: {error.strerror}")


@dataclass(frozen=True, slots=True)
class Content:
    """What one read of a file told."""

    sha256: str
    may_define_dags: bool


def read_content(root: Path, path: str, safe_mode: bool = True) -> Content:
    """Read a file below the DAG folder. In safe mode only a .py file that mentions `dag` and `opskit` or `airflow`
    may define DAGs, or an archive with one at its top, as in Airflow. OSError when it can't be read."""
    data = (root / path).read_bytes()
    if path.endswith(".zip"):
        may_define = bool(archives.dag_modules(root / path, safe_mode))
    else:
        may_define = path.endswith(".py") and (not safe_mode or archives.mentions_dags(data))
    return Content(hashlib.sha256(data).hexdigest(), may_define)


def links_on_path(path: Path) -> Iterator[tuple[str, str]]:
    """`(folder, name)` of every link that must be followed to reach `path`, and of `path`: a swap shows there."""
    todo = list(reversed(Path(os.path.abspath(path)).parts[1:]))
    folder = "/"
    for _ in range(256):  # links may lead in circles
        if not todo:
            return
        name = todo.pop()
        if name == "..":
            folder = os.path.dirname(folder)
            continue
        full = os.path.join(folder, name)
        try:
            target = os.readlink(full)
        except OSError:
            if not todo:
                yield folder, name
            folder = full
            continue
        yield folder, name
        todo.extend(part for part in reversed(Path(target).parts) if part != "/")
        if target.startswith("/"):
            folder = "/"
