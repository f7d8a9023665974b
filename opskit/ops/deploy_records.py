"""What this machine remembers of its deployments: which release each host should have, and the contents to repair it.

<home>/deploy/released.json          host → release, deployment, time
<home>/deploy/manifests/<hash>.json  the manifests of releases that a host should have, or had not long ago
<home>/deploy/contents/<sha256>      their files, as far as they came from here
<home>/deploy/history.jsonl          one line per deployment, oldest first
<home>/deploy/checked.json           the verdict on the DAG files that were checked last
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opskit.config import Config
from opskit.ops.dag_sources import Source
from opskit.system import deployed
from opskit.system.deployed import Released


class Records:
    """Written under the lock `deploy-dag` only."""

    def __init__(self, config: Config) -> None:
        self.folder = deployed.folder_of(config.home)
        self._keep = int(config.get("deploy", "keep_releases"))

    def released(self) -> dict[str, Released]:
        return deployed.released(self.folder)

    def manifest(self, release: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._read(f"manifests/{release}.json")
        return found

    def remember(self, hosts: Mapping[str, Mapping[str, Any]], source: Source | None, deployment: str) -> None:
        """From now on these hosts should have the releases of these manifests, with contents from `source`."""
        if not hosts:
            return
        for name in ("manifests", "contents"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if source is not None:
            self._keep_contents(source, deployment)
        for manifest in {manifest["hash"]: manifest for manifest in hosts.values()}.values():
            self._write(f"manifests/{manifest['hash']}.json", manifest)
        released = self.released()
        for host, manifest in hosts.items():
            released[host] = Released(
                manifest["hash"], manifest.get("deployment", ""), manifest["at"], manifest["source"]
            )
        self._write("released.json", {host: asdict(entry) for host, entry in sorted(released.items())})
        self._prune({entry.release for entry in released.values()})

    def contents(self, digests: Collection[str]) -> dict[str, bytes]:
        """sha256 → content of those that are kept here."""
        found: dict[str, bytes] = {}
        for path in self._packs():
            index = _index(path)
            if any(digest in digests and digest not in found for digest, _ in index):
                with path.open("rb") as file:
                    file.readline()
                    data = zlib.decompress(file.read())
                start = 0
                for digest, size in index:
                    if digest in digests and hashlib.sha256(data[start : start + size]).hexdigest() == digest:
                        found[digest] = data[start : start + size]
                    start += size
        return found

    def _keep_contents(self, source: Source, deployment: str) -> None:
        kept = {digest for path in self._packs() for digest, _ in _index(path)}
        fresh = {entry[0]: (path, entry[1]) for path, entry in source.files.items() if entry[0] not in kept}
        if not fresh:
            return
        stream = zlib.compressobj(1)
        path = self.folder / "contents" / deployment
        with path.with_suffix(".tmp").open("wb") as file:
            file.write(json.dumps([[digest, size] for digest, (_, size) in fresh.items()]).encode() + b"\n")
            for place, _ in fresh.values():
                file.write(stream.compress(source.read(place)))
            file.write(stream.flush())
        path.with_suffix(".tmp").rename(path)

    def _packs(self) -> list[Path]:
        folder = self.folder / "contents"
        return sorted(path for path in folder.iterdir() if path.suffix != ".tmp") if folder.is_dir() else []

    def _prune(self, wanted: set[str]) -> None:
        """Forget manifests and contents beyond those in use and as many before them as each node keeps."""
        folder = self.folder / "manifests"
        by_age = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        gone = [path for path in by_age[: -(self._keep + 1)] if path.stem not in wanted]
        if not gone:
            return
        for path in gone:
            path.unlink()
        needed: set[str] = set()
        for path in folder.glob("*.json"):
            manifest = self.manifest(path.stem)
            assert manifest is not None
            needed.update(entry[0] for entry in manifest["files"].values())
        for path in self._packs():
            if not any(digest in needed for digest, _ in _index(path)):
                path.unlink()

    # -- history

    def append_history(self, line: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def history(self, limit: int) -> list[dict[str, Any]]:
        """The last deployments, newest first."""
        return deployed.history(self.folder, limit)

    # -- verdicts

    def checked(self) -> dict[str, Any] | None:
        """{environment, others, files: {path: [sha256, [dag_id]]}} of the DAG files that were last found good here."""
        found: dict[str, Any] | None = self._read("checked.json")
        return found

    def write_checked(self, verdict: Mapping[str, Any]) -> None:
        self._write("checked.json", verdict)

    def _read(self, name: str) -> Any:
        return deployed.read(self.folder / name)

    def _write(self, name: str, data: Any) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(data))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)


def _index(path: Path) -> list[tuple[str, int]]:
    with path.open("rb") as file:
        return [(digest, size) for digest, size in json.loads(file.readline())]
