"""What is to be deployed: local files, one folder, or contents that are known. What is checked is what is sent."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import weakref
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import GuardRefused, UsageError, VerificationFailed
from opskit.ops.node_tree import Files, is_ignored


@dataclass(frozen=True, slots=True)
class Source:
    """Files by their path below the DAG folder."""

    files: Files
    whole_tree: bool
    description: str
    places: Mapping[str, tuple[str, tuple[int, ...]]]
    """path → (where it lies here, what the kernel said of it when it was hashed)."""
    folder: Path | None = None
    """The folder that they are, with `whole_tree`."""
    contents: Mapping[str, bytes] | None = None
    """sha256 → content, for files that lie nowhere here."""

    def read(self, path: str) -> bytes:
        """The content of a file. VerificationFailed when it is not what it was any more."""
        digest = self.files[path][0]
        if self.contents is not None:
            return self.contents[digest]
        data, found, _, _ = _hashed(self.places[path][0])
        if found != digest:
            raise _changed(path)
        return data

    def refuse_changes(self) -> None:
        """VerificationFailed when a file was touched since it was hashed."""
        for path, (place, seen) in self.places.items():
            try:
                now = _signature(os.stat(place))
            except OSError as error:
                raise _changed(path) from error
            if now != seen:
                raise _changed(path)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Payload:
    """What the nodes that lack the same contents are sent: a zlib stream of them, one after the other, in this order of
    their hashes. `chunks()` may be called by many threads."""

    order: list[str]
    size: int
    chunks: Callable[[], Iterator[bytes]]


def take(paths: Sequence[Path], *, into: str, dags_folder: Path, description: str = "") -> Source:
    """Hash FILEs or one FOLDER.

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
    found: dict[str, str] = {}
    if folders:
        if into:
            raise UsageError("--into is for files: a folder becomes the whole DAG folder")
        root = os.path.realpath(folders[0])
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
            found[place] = str(path)
    files: Files = {}
    places = {}
    for place in sorted(found):
        _, digest, size, info = _hashed(found[place])
        files[place] = [digest, size, bool(info.st_mode & 0o100)]
        places[place] = (found[place], _signature(info))
    folder = Path(os.path.realpath(folders[0])) if folders else None
    return Source(files, bool(folders), description or ", ".join(map(str, paths)), places, folder)


def pack(source: Source, digests: Collection[str]) -> Payload:
    """The contents with these hashes. VerificationFailed for a file that has changed since."""
    paths = {entry[0]: path for path, entry in source.files.items() if entry[0] in digests}
    stream = zlib.compressobj(1)
    with tempfile.TemporaryFile() as packed:
        for path in paths.values():
            packed.write(stream.compress(source.read(path)))
        packed.write(stream.flush())
        packed.flush()
        size = packed.tell() if paths else 0
        descriptor = os.dup(packed.fileno())

    def chunks() -> Iterator[bytes]:
        for start in range(0, size, 1 << 18):
            yield os.pread(descriptor, 1 << 18, start)

    payload = Payload(list(paths), size, chunks)
    # It lives as long as its readers, and has no name.
    weakref.finalize(payload, os.close, descriptor)
    return payload


def _walk(root: str, folder: str, prefix: str) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_ignored(entry.name):
                continue
            place = prefix + entry.name
            if entry.is_symlink():
                real = os.path.realpath(entry.path)
                if not os.path.isfile(real) or not real.startswith(root + os.sep):
                    raise GuardRefused(
                        f"{entry.path} is a link that leads out of {root}, or to a folder",
                        hint="replace it by what it points to: a release holds files and folders only",
                    )
                yield place, real
            elif entry.is_dir():
                yield from _walk(root, entry.path, f"{place}/")
            else:
                yield place, entry.path


def _hashed(path: str) -> tuple[bytes, str, int, os.stat_result]:
    """(content, sha256, size, fstat) of one regular file."""
    try:
        # Not blocking: a FIFO must not hold us.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise GuardRefused(f"{path} is neither a file nor a folder")
        parts = []
        while block := os.read(descriptor, 1 << 20):
            parts.append(block)
    finally:
        os.close(descriptor)
    data = b"".join(parts)
    return data, hashlib.sha256(data).hexdigest(), len(data), info


def _signature(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def _changed(path: str) -> VerificationFailed:
    return VerificationFailed(f"{path} was changed while it was being deployed", hint="deploy again")
