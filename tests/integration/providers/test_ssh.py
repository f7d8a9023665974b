"""SSH against a real sshd."""

from __future__ import annotations

import json
import socket
from base64 import b64decode
from pathlib import Path

import pytest

from opskit import DAG
from opskit.core.dag import runtime
from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException
from opskit.providers.ssh import SSHHook, SSHOperator
from tests.sshd import Node


def change_extra(store: runtime.MemoryStore, **values: object) -> None:
    connection = store.connections["ssh_default"]
    extra = {**connection.extra_dejson, **values}
    connection.extra = json.dumps({key: value for key, value in extra.items() if value is not None})


def test_a_command_runs_and_its_output_is_pushed(node: Node, store: runtime.MemoryStore) -> None:
    with DAG("d", schedule=None) as dag:
        SSHOperator(
            task_id="good", ssh_conn_id="ssh_default", command="echo {{ dag.dag_id }}; echo no news >&2; echo $HOME"
        )
        SSHOperator(task_id="bad", ssh_hook=SSHHook("ssh_default"), command="exit 3")
        SSHOperator(task_id="skip", ssh_conn_id="ssh_default", command="exit 5", skip_on_exit_code=[5])
        SSHOperator(task_id="slow", ssh_conn_id="ssh_default", command="echo a; sleep 20", cmd_timeout=0.2)
        SSHOperator(task_id="tty", ssh_conn_id="ssh_default", command="tty >/dev/null && printf yes", get_pty=True)
        SSHOperator(task_id="big", ssh_conn_id="ssh_default", command="head -c 300000 /dev/zero | tr '\\0' x")
    result = dag.test()
    assert result.task_states == {
        "good": "success", "bad": "failed", "skip": "skipped", "slow": "failed", "tty": "success", "big": "success",
    }, result.reasons  # fmt: skip
    assert b64decode(result.xcoms["good"]["return_value"]).decode() == f"d\n{node.root}\n"
    assert result.xcoms["good"]["ssh_exit"] == 0
    assert result.reasons["bad"] == "AirflowException: SSH operator error: exit status = 3"
    assert result.xcoms["bad"]["ssh_exit"] == 3
    assert "timed out" in result.reasons["slow"]
    assert b64decode(result.xcoms["tty"]["return_value"]) == b"yes"
    assert len(b64decode(result.xcoms["big"]["return_value"])) == 300000


def test_what_a_command_leaves_behind_does_not_hold_the_task(node: Node) -> None:
    task = SSHOperator(task_id="t", ssh_conn_id="ssh_default", command="sleep 5 & echo $!")
    assert int(b64decode(task.execute({}))) > 0


def test_hosts_are_taken_by_their_keys_only(node: Node, store: runtime.MemoryStore) -> None:
    change_extra(store, host_key=None)
    with pytest.raises(AirflowException, match="no_host_key_check"):
        SSHHook("ssh_default").get_conn()
    change_extra(store, no_host_key_check="true")
    assert SSHHook("ssh_default").test_connection()[0]
    (node.folder / "other").mkdir()
    change_extra(store, no_host_key_check="false", host_key=(node.folder.parent / "user_key.pub").read_text())
    good, error = SSHHook("ssh_default").test_connection()
    assert not good
    assert "does not match" in error
    (node.root / ".ssh").mkdir()
    (node.root / ".ssh" / "known_hosts").write_text(f"[{node.address}]:{node.port} {node.public_key()}\n")
    change_extra(store, host_key=None)
    assert SSHHook("ssh_default").test_connection()[0]


def test_keys_come_as_files_or_as_texts(node: Node, store: runtime.MemoryStore) -> None:
    key = Path(store.connections["ssh_default"].extra_dejson["key_file"])
    change_extra(store, key_file=None, private_key=key.read_text())
    with SSHHook("ssh_default").get_conn() as client:
        assert client.exec_command("echo hi")[1].read() == b"hi\n"
    change_extra(store, private_key="nonsense")
    with pytest.raises(AirflowException, match="private_key"):
        SSHHook("ssh_default").get_conn()
    change_extra(store, private_key=None)
    assert "uthentication" in SSHHook("ssh_default").test_connection()[1]


def test_arguments_win_over_the_connection_and_nothing_is_read_before(node: Node, store: runtime.MemoryStore) -> None:
    assert SSHHook(ssh_conn_id="not there").remote_host == ""
    store.connections["ssh_default"].host = "127.0.0.250"
    with SSHHook("ssh_default", remote_host=node.address).get_conn():
        pass
    task = SSHOperator(task_id="t", ssh_conn_id="ssh_default", remote_host=node.address, command="echo x")
    assert b64decode(task.execute({})) == b"x\n"
    with pytest.raises(AirflowException, match="remote_host"):
        SSHHook().get_conn()
    with pytest.raises(AirflowException, match="ssh_conn_id"):
        SSHOperator(task_id="u", command="x").execute({})
    with pytest.raises(AirflowException, match="command"):
        SSHOperator(task_id="v", ssh_conn_id="ssh_default").execute({})


def test_a_tunnel_leads_to_what_the_host_reaches(node: Node, store: runtime.MemoryStore) -> None:
    with SSHHook("ssh_default").get_tunnel(node.port, remote_host=node.address) as tunnel:
        for _ in range(2):
            with socket.create_connection(tunnel.local_bind_address, timeout=20) as conversation:
                assert conversation.recv(4) == b"SSH-"
        port = tunnel.local_bind_port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=20)
    with pytest.raises(RuntimeError, match="not open"):
        _ = tunnel.local_bind_port


def test_a_host_that_is_not_there_is_tried_again(store: runtime.MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opskit.providers.ssh.PAUSE_SECONDS", 0.0)
    store.connections["ssh_default"] = Connection("ssh_default", conn_type="ssh", host="127.0.0.1", port=1)
    good, error = SSHHook("ssh_default").test_connection()
    assert (good, "Unable to connect" in error) == (False, True)
