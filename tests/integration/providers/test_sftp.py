"""SFTP against a real sshd."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from opskit import DAG, task
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.sensors.base import PokeReturnValue
from opskit.providers.sftp import SFTPHook, SFTPOperator, SFTPSensor
from opskit.providers.ssh import SSHHook
from tests.sshd import Node


def test_a_hook_works_on_files_and_folders(node: Node, tmp_path: Path) -> None:
    root = f"{node.root}/data"
    hook = SFTPHook()
    assert hook.test_connection() == (True, "Connection successfully tested")
    with hook.get_managed_conn():
        hook.create_directory(f"{root}/a/b")
        hook.create_directory(f"{root}/a/b")
        hook.store_file(f"{root}/one.csv", io.BytesIO(b"1"))
        hook.store_file(f"{root}/a/two.txt", io.BytesIO(b"22"))
        os.utime(f"{root}/one.csv", (0, 1_700_000_000))
        assert hook.list_directory(root) == ["a", "one.csv"]
        assert hook.describe_directory(root)["one.csv"] == {"size": 1, "type": "file", "modify": "20231114221320"}
        assert hook.get_mod_time(f"{root}/one.csv") == "20231114221320"
        assert [hook.isdir(f"{root}/a"), hook.isfile(f"{root}/a"), hook.path_exists(f"{root}/x")] == [
            True,
            False,
            False,
        ]
        assert hook.get_tree_map(root, delimiter=".txt") == ([f"{root}/a/two.txt"], [], [])
        assert hook.get_file_by_pattern(root, "*.csv") == "one.csv"
        hook.retrieve_directory(root, str(tmp_path / "copy"))
        assert (tmp_path / "copy" / "a" / "two.txt").read_text() == "22"
        assert (tmp_path / "copy" / "a" / "b").is_dir()
        hook.store_directory(f"{root}/back", str(tmp_path / "copy"))
        assert hook.path_exists(f"{root}/back/a/two.txt")
        with pytest.raises(AirflowException, match="already exists"):
            hook.store_directory(f"{root}/back", str(tmp_path / "copy"))
        taken = io.BytesIO()
        hook.retrieve_file(f"{root}/a/two.txt", taken)
        assert taken.getvalue() == b"22"
        with pytest.raises(OSError):
            hook.delete_directory(root)
        os.symlink(tmp_path, f"{root}/back/link")
        hook.delete_directory(root, include_files=True)
    assert hook.conn is None
    assert not Path(root).exists()
    assert (tmp_path / "copy").exists()  # the link was removed, not what it points to


def test_an_operator_puts_gets_and_deletes(node: Node, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("text")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "f").write_text("f")

    def run(operation: str, here: Any, there: Any, **options: Any) -> Any:
        options.setdefault("ssh_conn_id", "ssh_default")
        return SFTPOperator(
            task_id="t", operation=operation, local_filepath=here, remote_filepath=there, **options
        ).execute({})

    remote, local = f"{node.root}/deep/in.txt", str(tmp_path / "in.txt")
    with pytest.raises(AirflowException, match="Error while transferring put of"):
        run("put", local, remote)
    assert run("put", local, remote, create_intermediate_dirs=True) == local
    paths = [str(tmp_path / "out" / "a.txt"), str(tmp_path / "out" / "b.txt")]
    assert run("get", paths, [remote, remote], create_intermediate_dirs=True) == paths
    assert Path(paths[1]).read_text() == "text"
    run("put", str(tmp_path / "folder"), f"{node.root}/deep/folder", ssh_conn_id=None, ssh_hook=SSHHook("ssh_default"))
    assert (node.root / "deep" / "folder" / "f").read_text() == "f"
    run("delete", None, [remote, f"{node.root}/deep/folder"])
    assert not list((node.root / "deep").iterdir())
    with pytest.raises(TypeError, match="expected one of"):
        run("move", local, remote)
    with pytest.raises(ValueError, match="1 paths in local_filepath != 2"):
        run("get", "a", ["a", "b"])


def test_a_sensor_waits_for_files(node: Node) -> None:
    def poke(**options: Any) -> bool | PokeReturnValue:
        return SFTPSensor(task_id="s", path=f"{node.root}/in", **options).poke({})

    assert poke() is False
    (node.root / "in").mkdir()
    assert poke() is True
    assert poke(file_pattern="*.csv") is False
    file = node.root / "in" / "a.csv"
    file.write_text("1")
    os.utime(file, (0, 1_700_000_000))
    assert poke(file_pattern="*.csv") is True
    assert poke(file_pattern="*.csv", newer_than="2023-11-14T22:13:19Z") is True
    assert poke(file_pattern="*.csv", newer_than="20231114221320") is False
    answer = poke(
        file_pattern="*.csv",
        python_callable=lambda suffix, files_found: files_found[0] + suffix,
        op_kwargs={"suffix": "!"},
    )
    assert isinstance(answer, PokeReturnValue)
    assert answer.xcom_value == {"files_found": [str(file)], "decorator_return_value": f"{file}!"}


def test_a_function_is_called_when_the_file_is_there(node: Node) -> None:
    with DAG("d", schedule=None) as dag:

        @task.sftp_sensor(path=f"{node.root}/ready", poke_interval=0)
        def arrived(suffix: str, files_found: Any = None) -> str:
            return f"{files_found[0]}{suffix}"

        arrived(suffix="!")
    (node.root / "ready").touch()
    result = dag.test()
    assert result.state == "success", result.reasons
    assert result.xcoms["arrived"]["return_value"] == {
        "files_found": [f"{node.root}/ready"],
        "decorator_return_value": f"{node.root}/ready!",
    }
