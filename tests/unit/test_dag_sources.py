from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from opskit.errors import GuardRefused, UsageError
from opskit.ops.dag_sources import Source, pack, take


def take_from(tmp_path: Path, *paths: Path, into: str = "") -> Source:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    return take(paths, into=into, dags_folder=tmp_path / "dags", snapshot=snapshot)


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_of_the_dag_folder_keeps_its_place_and_another_goes_to_the_top(tmp_path: Path) -> None:
    inside, outside = write(tmp_path / "dags" / "team" / "a.py"), write(tmp_path / "b.py")
    assert set(take_from(tmp_path, inside, outside).files) == {"team/a.py", "b.py"}


def test_into_chooses_the_folder(tmp_path: Path) -> None:
    assert set(take_from(tmp_path, write(tmp_path / "dags" / "a.py"), into="x/y").files) == {"x/y/a.py"}


@pytest.mark.parametrize("into", ["/etc", "../x", "a/../../b"])
def test_into_can_not_lead_out(tmp_path: Path, into: str) -> None:
    with pytest.raises(UsageError, match="leads out"):
        take_from(tmp_path, write(tmp_path / "a.py"), into=into)


def test_two_files_for_one_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"both become a\.py"):
        take_from(tmp_path, write(tmp_path / "one" / "a.py"), write(tmp_path / "two" / "a.py"))


def test_an_empty_folder_or_a_special_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(GuardRefused, match="holds no files"):
        take_from(tmp_path, tmp_path / "empty")
    write(tmp_path / "tree" / "a.py")
    os.mkfifo(tmp_path / "tree" / "pipe")
    (tmp_path / "snapshot").rmdir()
    with pytest.raises(GuardRefused, match="neither a file nor a folder"):
        take_from(tmp_path, tmp_path / "tree")


def test_what_is_sent_is_what_was_taken_even_if_the_file_changes_meanwhile(tmp_path: Path) -> None:
    path = write(tmp_path / "tree" / "a.py", "before")
    same = write(tmp_path / "tree" / "b.py", "before")
    source = take_from(tmp_path, tmp_path / "tree")
    path.write_text("after!")
    same.unlink()
    digest = hashlib.sha256(b"before").hexdigest()
    assert source.files == {"a.py": [digest, 6, False], "b.py": [digest, 6, False]}
    payload = pack(source, [digest], tmp_path / "payload")
    data = b"".join(payload.chunks())
    assert len(data) == payload.size
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == [digest]  # once, however many files have it
        member = archive.extractfile(digest)
        assert member is not None and member.read() == b"before"
