"""Logs that are archived before they are removed, and read again with `opskit logs show`."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit import config, platforms
from opskit.errors import ConfigError, GuardRefused, NotFound, VerificationFailed
from opskit.ops import logs, logs_archive, logs_show
from opskit.ops.logs_archive import archive_store
from opskit.platforms.base import Platform
from opskit.system import encryption
from opskit.system.folder_store import FolderStore
from opskit.telemetry.task_logs import log_path
from tests.databases import Databases

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=40)


@pytest.fixture
def cluster(
    home: Path, tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Platform]]:
    """The platform with the settings of the moment; logs are archived to a folder."""
    url = databases.migrated("sqlite")
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", url)
    monkeypatch.setenv("OPSKIT__LOGS__ARCHIVE_TO", str(tmp_path / "archive"))
    (home / "logs").mkdir()
    yield lambda: platforms.find(config.load())
    databases.drop(url)


def write(home: Path, path: str, content: bytes, at: datetime = OLD) -> Path:
    file = home / "logs" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, (at.timestamp(), at.timestamp()))
    return file


def clean(platform: Platform, **options: Any) -> logs.LogsReport:
    return logs.clean(platform, now=NOW, dry_run=options.pop("dry_run", False), force=True, **options)


def shown(platform: Platform, *which: Any) -> bytes:
    return b"".join(logs_show.read(platform, *which))


@pytest.mark.parametrize("kind", ["folder", "s3", "encrypted"])
def test_what_was_archived_reads_as_it_was(
    cluster: Callable[[], Platform],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    kind: str,
) -> None:
    if kind == "s3":
        s3 = request.getfixturevalue("s3")
        monkeypatch.setenv("OPSKIT__LOGS__ARCHIVE_TO", f"s3://{s3.make_bucket()}/logs")
        monkeypatch.setenv("OPSKIT__LOGS__ENDPOINT_URL", s3.endpoint_url)
    if kind == "encrypted":
        identity, recipient = encryption.new_identity()
        (tmp_path / "key").write_text(identity)
        monkeypatch.setenv("OPSKIT__LOGS__RECIPIENTS", recipient)
        monkeypatch.setenv("OPSKIT__LOGS__IDENTITY", str(tmp_path / "key"))
    monkeypatch.setattr(logs_archive, "PACK_LOGS", 4)
    large = random.Random(1).randbytes(logs_archive.LARGE_BYTES + 5)
    contents = {(dag, run, attempt): f"{dag} {run} {attempt}\n".encode() * 9
                for dag in ("d", "é d") for run in ("r/1", "r2") for attempt in (1, 2)}  # fmt: skip
    contents["d", "r2", 3] = large
    files = [write(home, log_path(dag, run, "t", -1, number), text) for (dag, run, number), text in contents.items()]
    mapped = write(home, log_path("d", "r2", "t", 7, 1), b"mapped\n")
    daemon = write(home, "scheduler/2026-01-01/x.py.log", b"daemon\n")
    young = write(home, log_path("d", "r2", "t", -1, 4), b"young\n", NOW - timedelta(days=2))
    report = clean(cluster())
    assert [file for file in (*files, mapped, daemon) if file.exists()] == []
    assert report.archived_logs == report.removed_logs == len(files) + 2
    assert young.read_bytes() == b"young\n"
    assert sorted(os.listdir(home / "logs")) == ["dag_id=d", "scheduler"]
    for (dag, run, number), text in contents.items():
        assert shown(cluster(), dag, "t", run, number) == text
    assert shown(cluster(), "d", "t", "r2", None, 7) == b"mapped\n"
    assert shown(cluster(), "d", "t", "r2") == b"young\n"
    assert shown(cluster(), "d", "t", "r/1") == contents["d", "r/1", 2]
    with pytest.raises(NotFound):
        shown(cluster(), "d", "t", "r3")
    assert clean(cluster()).archived_logs == 0
    if kind == "encrypted":
        stored = [path.read_bytes() for path in (tmp_path / "archive").rglob("*") if path.is_file()]
        assert stored
        assert all(b"r2 1\n" not in data and b"run_id" not in data for data in stored)
        (tmp_path / "key").write_text(encryption.new_identity()[0])
        with pytest.raises(GuardRefused):
            shown(cluster(), "d", "t", "r/1")


def test_an_archive_is_read_without_opskit(cluster: Callable[[], Platform], home: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        write(home, log_path("d", "r", "t", -1, number), f"try {number}\n".encode())
    clean(cluster())
    (index,) = (tmp_path / "archive").rglob("*.index.json")
    (pack,) = (tmp_path / "archive").rglob("*.logs")
    assert sorted(gzip.decompress(pack.read_bytes()).splitlines()) == [b"try 1", b"try 2"]
    entry = next(row for row in json.loads(index.read_text())["logs"] if row["path"].endswith("attempt=2.log"))
    part = pack.read_bytes()[entry["offset"] :][: entry["length"]]
    assert gzip.decompress(part) == b"try 2\n"


def test_nothing_is_removed_that_the_archive_does_not_give_back(
    cluster: Callable[[], Platform], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(home, log_path("d", "r", "t", -1, 1), b"text\n")
    get = FolderStore.get

    def damaged(store: FolderStore, key: str) -> Iterator[bytes]:
        data = bytearray(b"".join(get(store, key)))
        data[len(data) // 2] ^= 1
        return iter([bytes(data)])

    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "get", damaged)
        with pytest.raises(VerificationFailed):
            clean(cluster())
    assert file.exists()
    # What was interrupted has no index: it does not count, and the next clean-up archives anew.
    assert clean(cluster()).archived_logs == 1
    assert shown(cluster(), "d", "t", "r") == b"text\n"


def test_a_damaged_archive_is_not_shown_as_a_log(cluster: Callable[[], Platform], home: Path, tmp_path: Path) -> None:
    write(home, log_path("d", "r", "t", -1, 1), b"text\n")
    clean(cluster())
    (pack,) = (tmp_path / "archive").rglob("*.logs")
    data = bytearray(pack.read_bytes())
    data[-6] ^= 1
    pack.write_bytes(bytes(data))
    with pytest.raises(VerificationFailed, match="damaged"):
        shown(cluster(), "d", "t", "r")


def test_a_dry_run_archives_nothing_and_says_what_it_would(
    cluster: Callable[[], Platform], home: Path, tmp_path: Path
) -> None:
    write(home, log_path("d", "r", "t", -1, 1), b"text\n")
    assert clean(cluster(), dry_run=True).archived_logs == 1
    assert not (tmp_path / "archive").exists()


def test_an_archive_in_the_log_folder_is_refused(
    cluster: Callable[[], Platform], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSKIT__LOGS__ARCHIVE_TO", str(home / "logs" / "old"))
    with pytest.raises(ConfigError, match="lies in the log folder"):
        archive_store(cluster().config)


def test_a_log_that_grows_while_it_is_archived_stays(
    cluster: Callable[[], Platform], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(home, log_path("d", "r", "t", -1, 1), b"text\n")
    put = FolderStore.put

    def grow(store: FolderStore, *arguments: Any, **options: Any) -> Any:
        with file.open("ab") as handle:
            handle.write(b"more\n")
        return put(store, *arguments, **options)

    monkeypatch.setattr(FolderStore, "put", grow)
    report = clean(cluster())
    assert file.read_bytes().startswith(b"text\nmore\n")
    assert (report.removed_logs, report.kept["changed during the clean-up"]) == (0, 1)


def test_the_command_shows_local_and_archived_logs(
    cluster: Callable[[], Platform], home: Path, opskit: Callable[..., Any]
) -> None:
    write(home, log_path("d", "r", "t", -1, 1), b"first\n")
    write(home, log_path("d", "r", "t", -1, 2), b"second\n", NOW)
    clean(cluster())
    assert opskit("logs", "show", "d", "t", "r").stdout == "second\n"
    assert opskit("logs", "show", "d", "t", "r", "--try", 1).stdout == "first\n"
    missing = opskit("logs", "show", "d", "t", "r", "--try", 9, check=False)
    assert (missing.returncode, "Traceback" in missing.stderr) == (2, False)
