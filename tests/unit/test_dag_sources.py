from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

import pytest

from opskit.errors import GuardRefused, UsageError, VerificationFailed
from opskit.ops.dag_sources import Source, pack, take


def take_from(tmp_path: Path, *paths: Path, into: str = "") -> Source:
    return take(paths, into=into, dags_folder=tmp_path / "dags")


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
    with pytest.raises(GuardRefused, match="neither a file nor a folder"):
        take_from(tmp_path, tmp_path / "tree")


def test_what_is_sent_is_what_was_taken_once_however_many_files_have_it(tmp_path: Path) -> None:
    write(tmp_path / "tree" / "a.py", "same")
    write(tmp_path / "tree" / "b.py", "same")
    write(tmp_path / "tree" / "c.py", "other")
    source = take_from(tmp_path, tmp_path / "tree")
    digest = hashlib.sha256(b"same").hexdigest()
    assert source.files["a.py"] == source.files["b.py"] == [digest, 4, False]
    payload = pack(source, [digest])
    data = b"".join(payload.chunks())
    assert len(data) == payload.size
    assert payload.order == [digest] and zlib.decompress(data) == b"same"
    assert pack(source, []).size == 0


@pytest.mark.parametrize("change", ["rewritten", "touched", "gone"])
def test_a_file_that_changes_meanwhile_is_told(tmp_path: Path, change: str) -> None:
    path = write(tmp_path / "tree" / "a.py", "before")
    source = take_from(tmp_path, tmp_path / "tree")
    source.refuse_changes()
    if change == "rewritten":
        path.write_text("after!")
        with pytest.raises(VerificationFailed, match=r"a\.py was changed"):
            pack(source, [source.files["a.py"][0]])
    elif change == "touched":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    with pytest.raises(VerificationFailed, match=r"a\.py was changed"):
        source.refuse_changes()
