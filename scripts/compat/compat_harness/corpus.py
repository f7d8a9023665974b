"""The corpus: which DAG files of which public packages and repositories are compared. Names and hashes, no content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"


@dataclass(frozen=True, slots=True)
class Source:
    """A package (`name==version`) or a repository (`owner/name@commit`); `roots` are the folders that are taken, with
    all that DAG files may read beside them."""

    name: str
    origin: str
    roots: tuple[str, ...]
    files: tuple[DagFile, ...]

    @property
    def is_package(self) -> bool:
        return "==" in self.origin


@dataclass(frozen=True, slots=True)
class DagFile:
    source: str
    path: str
    digest: str
    """The first 16 digits of its SHA-256."""
    kind: str
    """runnable: real Airflow brings every DAG of it to an end without network; parse-only: the rest."""
    dag_ids: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.source}@{self.path}"

    def below(self, corpus: Path) -> Path:
        return corpus / self.source / self.path


def read(path: Path = DATA / "corpus.json") -> list[Source]:
    found = []
    for name, entry in json.loads(path.read_text()).items():
        files = tuple(
            DagFile(name, file, digest, kind, tuple(dag_ids))
            for file, (digest, kind, dag_ids) in entry["files"].items()
        )
        found.append(Source(name, entry["origin"], tuple(entry["roots"]), files))
    return found


def state_of(file: DagFile, corpus: Path) -> str:
    """present, missing, or changed: the file there is another one."""
    try:
        content = file.below(corpus).read_bytes()
    except OSError:
        return "missing"
    return "present" if hashlib.sha256(content).hexdigest()[:16] == file.digest else "changed"
