"""FTP against a small server."""

from __future__ import annotations

import ftplib
import io
from collections.abc import Callable, Iterator
from datetime import datetime
from os import utime
from pathlib import Path
from typing import Any

import pytest

from opskit.core.dag.connection import Connection
from opskit.providers.ftp import FTPFileTransmitOperator, FTPHook, FTPSensor
from tests.unit.providers.ftp_server import Server, ftp_server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "ftp").mkdir()
    return tmp_path / "ftp"


@pytest.fixture
def server(root: Path, connect: Callable[..., Connection]) -> Iterator[Server]:
    with ftp_server(root) as made:
        connect("ftp_default", conn_type="ftp", host="127.0.0.1", port=made.port, login="ada", password="pw")
        yield made


def test_a_hook_works_on_files_and_folders(server: Server, root: Path, tmp_path: Path) -> None:
    with FTPHook() as hook:
        hook.create_directory("in")
        hook.store_file("in/a", io.BytesIO(b"abc"))
        utime(root / "in" / "a", (0, 1_700_000_000))
        assert hook.list_directory("in") == ["a"]
        assert hook.describe_directory("in") == {"a": {"type": "file", "size": "3"}}
        assert (hook.get_size("in/a"), hook.get_mod_time("in/a")) == (3, datetime(2023, 11, 14, 22, 13, 20))
        hook.rename("in/a", "in/b")
        hook.retrieve_file("in/b", tmp_path / "b")
        taken = io.BytesIO()
        hook.retrieve_file("in/b", taken)
        blocks: list[bytes] = []
        hook.retrieve_file("in/b", None, callback=blocks.append)
        assert (tmp_path / "b").read_bytes() == taken.getvalue() == b"".join(blocks) == b"abc"
        hook.delete_file("in/b")
        hook.delete_directory("in")
    assert hook.conn is None
    assert not (root / "in").exists()


def test_a_wrong_password_is_told(server: Server, connect: Callable[..., Connection]) -> None:
    with FTPHook() as hook:
        assert hook.test_connection() == (True, "Connection successfully tested")
    connect("ftp_default", conn_type="ftp", host="127.0.0.1", port=server.port, login="ada", password="no")
    assert FTPHook().test_connection() == (False, "530 no")


def test_an_operator_puts_and_gets(server: Server, root: Path, tmp_path: Path) -> None:
    def run(operation: str, here: Any, there: Any, **options: Any) -> Any:
        return FTPFileTransmitOperator(
            task_id="t", operation=operation, local_filepath=here, remote_filepath=there, **options
        ).execute({})

    (tmp_path / "a").write_text("text")
    assert run("put", str(tmp_path / "a"), "/deep/er/a", create_intermediate_dirs=True) == str(tmp_path / "a")
    assert (root / "deep" / "er" / "a").read_text() == "text"
    run("get", [str(tmp_path / "x" / "b")], ["deep/er/a"], create_intermediate_dirs=True)
    assert (tmp_path / "x" / "b").read_text() == "text"
    with pytest.raises(ftplib.error_perm):
        run("get", str(tmp_path / "c"), "nothing")
    with pytest.raises(TypeError, match="put or get"):
        run("delete", "a", "b")
    with pytest.raises(ValueError, match="1 paths"):
        run("put", "a", ["b", "c"])


def test_a_sensor_waits_for_a_file(server: Server, root: Path) -> None:
    def poke(**options: Any) -> bool:
        return FTPSensor(task_id="s", path="ready", **options).poke({})

    assert poke() is False
    (root / "ready").touch()
    assert poke() is True
    server.broken = "451 later"
    with pytest.raises(ftplib.error_temp):
        poke()
    assert poke(fail_on_transient_errors=False) is False
    server.broken = "532 account needed"
    with pytest.raises(ftplib.error_perm):
        poke()
