"""ObjectStoragePath: files of this host as they are, and stores that a file system of fsspec reaches."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from opskit.compat.object_storage import ObjectStoragePath, attach
from opskit.core.dag import xcom
from opskit.providers.optional import AirflowOptionalProviderFeatureException


def test_files_of_this_host_need_no_other_package(tmp_path: Path) -> None:
    base = ObjectStoragePath(f"file://{tmp_path}/made")
    base.mkdir(parents=True)
    (base / "a.txt").write_text("first\nsecond\n")
    (base / "sub").mkdir()
    (base / "a.txt").copy(base / "sub")
    assert [path.name for path in base.iterdir()] == ["a.txt", "sub"]
    assert (base / "sub" / "a.txt").read_text() == "first\nsecond\n"
    assert (base / "a.txt").read_block(3, 4, delimiter=b"\n") == b"second\n"
    (base / "a.txt").move(base / "b.txt")
    assert not (base / "a.txt").exists() and (base / "b.txt").size() == 13
    assert str(base / "b.txt") == f"file://{tmp_path}/made/b.txt"
    assert (base / "b.txt").relative_to(base).as_posix() == "b.txt"


def test_a_path_names_store_connection_bucket_and_key() -> None:
    path = ObjectStoragePath("s3://aws_default@bucket/folder/") / "key.csv"
    assert (path.protocol, path.conn_id, path.bucket, path.key) == ("s3", "aws_default", "bucket", "folder/key.csv")
    assert str(path) == "s3://aws_default@bucket/folder/key.csv"
    assert ObjectStoragePath("s3://bucket/x", conn_id="aws_default").samestore(path)
    assert path.parent / "key.csv" == path


@pytest.mark.parametrize(
    ("written", "shown", "path", "parts", "parent"),
    [
        ("file:///data/x/", "file:///data/x", "/data/x", ("/", "data", "x"), "file:///data"),
        ("s3://b/k/l.txt", "s3://b/k/l.txt", "b/k/l.txt", ("b/", "k", "l.txt"), "s3://b/k"),
        ("s3://conn@b/k", "s3://conn@b/k", "b/k", ("b/", "k"), "s3://conn@b/"),
        ("s3://b", "s3://b/", "b/", ("b/",), "s3://b/"),
        ("/data/x", "/data/x", "/data/x", ("/", "data", "x"), "/data"),
        ("include/n", "include/n", "include/n", ("include", "n"), "include"),
    ],
)
def test_a_path_is_written_as_airflow_writes_it(
    written: str, shown: str, path: str, parts: tuple[str, ...], parent: str
) -> None:
    found = ObjectStoragePath(written)
    assert (str(found), found.path, found.parts, str(found.parent)) == (shown, path, parts, parent)
    assert ObjectStoragePath(found) == found == xcom.decode(xcom.encode(found))


def test_a_file_url_may_be_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = ObjectStoragePath("file://include/reports", conn_id=None)
    assert str(folder) == f"file://{tmp_path}/include/reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.txt").write_text("x")
    before = (folder / "a.txt").ukey()
    (folder / "a.txt").write_text("longer")
    assert (folder / "a.txt").ukey() != before
    folder.rmdir()
    assert not folder.exists()


def test_a_path_comes_back_from_an_xcom_as_it_was() -> None:
    path = ObjectStoragePath("s3://bucket/folder/key.csv", conn_id="aws_default")
    back = xcom.decode(xcom.encode({"path": path}))["path"]
    assert isinstance(back, ObjectStoragePath) and back == path


class _Files:
    """The part of a file system of fsspec that is used."""

    protocol = "memo"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {"box/a": b"1", "box/b": b"22"}

    def ls(self, path: str, detail: bool) -> list[str]:
        return [name for name in self.objects if name.startswith(path.rstrip("/") + "/")]

    def isdir(self, path: str) -> bool:
        return path not in self.objects and bool(self.ls(path, False))

    def info(self, path: str) -> dict[str, Any]:
        return {"size": len(self.objects[path])}

    def open(self, path: str, mode: str, **_: Any) -> Any:
        return io.BytesIO(self.objects[path])


def test_other_stores_are_reached_through_a_file_system(tmp_path: Path) -> None:
    attach(fs=_Files())
    base = ObjectStoragePath("memo://box")
    assert {path.key: path.size() for path in base.iterdir()} == {"a": 1, "b": 2}
    (base / "b").copy(ObjectStoragePath(f"file://{tmp_path}/copied"))
    assert (tmp_path / "copied").read_bytes() == b"22"


def test_a_store_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(AirflowOptionalProviderFeatureException, match="fsspec"):
        ObjectStoragePath("unheardof://box/key").exists()
