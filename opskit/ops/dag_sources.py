"""What is to be deployed: a snapshot of local files or of one folder. What is checked is what is sent."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import GuardRefused, UsageError
from opskit.ops.node_tree import Files, is_ignored


@dataclass(frozen=True, slots=True)
class Source:
    """Files by their path below the DAG folder, with their contents in `folder`."""

    folder: Path
    files: Files
    whole_tree: bool
    description: str


@dataclass(frozen=True, slots=True)
class Payload:
    """A compressed archive for the nodes that lack the same contents. `chunks()` may be called by many threads."""

    size: int
    chunks: Callable[[], Iterator[bytes]]


def take(paths: Sequence[Path], *, into: str, dags_folder: Path, snapshot: Path, description: str = "") -> Source:
    """Copy FILEs or one FOLDER to `snapshot`.

    A FILE keeps its place where it lies below `dags_folder`, and goes to the top otherwise, or to the folder `into`.
    UsageError for what does not exist or is empty; GuardRefused for links out of a FOLDER and for special files.
    """
    if not paths:
        raise UsageError("nothing to deploy", hint="name DAG files or one folder")
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        raise UsageError(
            "a folder is deployed alone: it becomes the whole DAG folder", hint="name one folder, or files"
        )
    if into and (into.startswith("/") or ".." in into.split("/")):
        raise UsageError(f"--into {into!r} leads out of the DAG folder")
    found: dict[str, Path] = {}
    if folders:
        if into:
            raise UsageError("--into is for files: a folder becomes the whole DAG folder")
        root = Path(os.path.realpath(folders[0]))
        found = dict(_walk(root, root, ""))
        if not found:
            raise GuardRefused(f"{folders[0]} holds no files", hint="deploying it would remove every DAG")
    else:
        top = os.path.realpath(dags_folder) + os.sep
        for path in paths:
            real = os.path.realpath(path)
            place = real[len(top) :] if real.startswith(top) and not into else os.path.basename(os.path.abspath(path))
            place = os.path.normpath(f"{into}/{place}" if into else place)
            if place in found:
                raise UsageError(f"{path} and {found[place]} would both become {place}", hint="use --into, one by one")
            found[place] = path
    files = {place: _copy(path, snapshot / place) for place, path in sorted(found.items())}
    return Source(snapshot, files, bool(folders), description or ", ".join(str(path) for path in paths))


def pack(source: Source, digests: Collection[str], path: Path) -> Payload:
    """The contents with these hashes as a tar.gz in the file `path`, whose members are named by hash."""
    wanted = set(digests)
    with tarfile.open(path, mode="w:gz", compresslevel=1) as archive:
        for place, (digest, size, _) in source.files.items():
            if digest in wanted:
                wanted.discard(digest)
                member = tarfile.TarInfo(digest)
                member.size = size
                with (source.folder / place).open("rb") as content:
                    archive.addfile(member, content)

    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(1 << 18):
                yield chunk

    return Payload(path.stat().st_size, chunks)


def _walk(root: Path, folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if is_ignored(entry.name):
            continue
        place = prefix + entry.name
        if entry.is_symlink():
            real = os.path.realpath(entry.path)
            if not os.path.isfile(real) or not real.startswith(str(root) + os.sep):
                raise GuardRefused(
                    f"{entry.path} is a link that leads out of {root}, or to a folder",
                    hint="replace it by what it points to: a release holds files and folders only",
                )
            yield place, Path(real)
        elif entry.is_dir():
            yield from _walk(root, Path(entry.path), f"{place}/")
        else:
            yield place, Path(entry.path)


def _copy(path: Path, target: Path) -> list[object]:
    """Copy one regular file; its [sha256, size, executable]."""
    try:
        # Not blocking: a FIFO must not hold us.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    digest, size = hashlib.sha256(), 0
    with open(descriptor, "rb") as content:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise GuardRefused(f"{path} is neither a file nor a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as copy:
            while block := content.read(1 << 18):
                digest.update(block)
                size += len(block)
                copy.write(block)
    return [digest.hexdigest(), size, bool(info.st_mode & 0o100)]
