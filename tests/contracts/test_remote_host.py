"""What every RemoteHost guarantees: this machine, the OpenSSH program, paramiko."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from opskit.errors import GuardRefused, RemoteError
from opskit.ops.deploy_session import NodeSession, node_program
from opskit.system.ssh import RemoteHost, connect
from tests.sshd import Nodes

Factory = Callable[[int], Nodes]


@pytest.fixture(params=["openssh", "paramiko"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["local", "openssh", "paramiko"])
def host(request: pytest.FixtureRequest) -> Iterator[RemoteHost]:
    if request.param == "local":
        found = connect("local")
    else:
        nodes = request.getfixturevalue("sshd_nodes")(1)
        found = connect("node1", transport=request.param, ssh_config=str(nodes.ssh_config))
    yield found
    found.close()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder that is near enough to the root for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="opskit-") as folder:
        yield Path(folder)


def test_a_program_gets_its_arguments_unchanged(host: RemoteHost) -> None:
    words = ["a b", "it's", 'say "hi"', "$HOME", "*", "line\nbreak", "ünï✓", "-x", "", "\\"]
    done = host.run(["python3", "-c", "import sys, os; print([os.fsencode(a) for a in sys.argv[1:]])", *words])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.decode().strip() == str([word.encode() for word in words])


def test_exit_code_output_and_errors_are_kept_apart(host: RemoteHost) -> None:
    done = host.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_input_and_output_of_many_megabytes_pass_at_once(host: RemoteHost) -> None:
    block = os.urandom(1 << 16)
    done = host.run(["cat"], stdin=(block for _ in range(100)))
    assert done.stdout == block * 100


def test_much_output_on_both_streams_does_not_block(host: RemoteHost) -> None:
    script = "import sys; sys.stderr.write('e' * 900000); sys.stdout.write('o' * 5000000)"
    done = host.run(["python3", "-c", script])
    assert (len(done.stdout), len(done.stderr)) == (5_000_000, 900_000)


def test_a_program_that_does_not_read_its_input_is_no_error(host: RemoteHost) -> None:
    done = host.run(["sh", "-c", "exit 3"], stdin=[b"x" * (1 << 20)] * 4)
    assert done.exit_code == 3


def test_a_program_that_takes_too_long_is_given_up(host: RemoteHost) -> None:
    with pytest.raises(RemoteError, match=r"within 0\.3 s"):
        host.run(["sleep", "600"], timeout=0.3)
    assert host.run(["echo", "still here"]).stdout == b"still here\n"


def test_a_conversation_goes_back_and_forth(host: RemoteHost) -> None:
    process = host.start(["sh", "-c", "while read line; do echo got $line; done; exit 4"])
    for word in (b"one", b"two"):
        process.send(word + b"\n", timeout=20)
        received = b""
        while not received.endswith(b"\n"):
            received += process.receive(100, timeout=20)
        assert received == b"got " + word + b"\n"
    process.end_input()
    assert process.receive(100, timeout=20) == b""
    assert process.finish(timeout=20).exit_code == 4
    process.kill()


def test_a_missing_program_says_so(host: RemoteHost) -> None:
    done = host.run(["there-is-no-such-program"])
    assert done.exit_code == 127
    assert b"there-is-no-such-program" in done.stderr


def test_several_programs_share_one_connection(sshd_nodes: Factory, transport: str) -> None:
    nodes = sshd_nodes(1)
    found = connect("node1", transport=transport, ssh_config=str(nodes.ssh_config))
    try:
        assert [found.run(["echo", str(n)]).stdout for n in range(3)] == [b"0\n", b"1\n", b"2\n"]
    finally:
        found.close()
    assert (nodes[0].folder / "sshd.log").read_text().count("Accepted publickey") == 1


def test_a_connection_is_kept_for_the_next_command_of_the_same_configuration(sshd_nodes: Factory, short: Path) -> None:
    nodes = sshd_nodes(1)

    def home() -> bytes:
        folder = short / "ssh"
        found = connect("node1", ssh_config=str(nodes.ssh_config), shared=False, kept_in=folder, kept_seconds=30)
        try:
            return found.run(["sh", "-c", "echo $HOME"]).stdout
        finally:
            found.close()

    assert home() == home()
    assert (nodes[0].folder / "sshd.log").read_text().count("Accepted publickey") == 1
    nodes.write_config("# edited\n")
    home()
    assert (nodes[0].folder / "sshd.log").read_text().count("Accepted publickey") == 2


def test_no_connection_is_kept_where_others_could_use_it(sshd_nodes: Factory, short: Path) -> None:
    nodes = sshd_nodes(1)
    folder = short / "ssh"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    found = connect("node1", ssh_config=str(nodes.ssh_config), shared=False, kept_in=folder, kept_seconds=30)
    assert found.run(["true"]).exit_code == 0
    found.close()
    assert list(folder.iterdir()) == []


def test_a_kept_connection_to_a_server_that_is_gone_is_made_anew(sshd_nodes: Factory, short: Path) -> None:
    nodes = sshd_nodes(1)

    def hello() -> tuple[bool, str]:
        folder = short / "ssh"
        host = connect("node1", ssh_config=str(nodes.ssh_config), shared=False, kept_in=folder, kept_seconds=30)
        session = NodeSession(host, "python3", timeout=2.0)
        policy = {"owner": "", "group": "", "file_mode": "0640", "dir_mode": "0750"}
        try:
            answer = session.begin(node_program(), dags="~/dags", policy=policy, lock=False, who="test")
            return host.was_connected, answer["kind"]
        finally:
            session.close()

    assert hello() == (False, "absent")
    assert hello() == (True, "absent")
    stopped = nodes[0].stop_connections()
    try:
        assert hello() == (False, "absent")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)


def test_an_unreachable_host_is_named(sshd_nodes: Factory, transport: str) -> None:
    nodes = sshd_nodes(1)
    nodes[0].stop()
    found = connect("node1", transport=transport, ssh_config=str(nodes.ssh_config))
    with pytest.raises(RemoteError, match=r"node1: .*refused") as caught:
        found.run(["true"])
    found.close()
    assert caught.value.exit_code == 13


def test_an_unknown_host_key_is_refused_with_its_fingerprint(sshd_nodes: Factory, transport: str) -> None:
    nodes = sshd_nodes(1)
    nodes.known_hosts.write_text("")
    found = connect("node1", transport=transport, ssh_config=str(nodes.ssh_config))
    with pytest.raises(GuardRefused, match=r"node1: the host key of .* is not known: ssh-ed25519") as caught:
        found.run(["true"])
    found.close()
    assert nodes[0].fingerprint() in str(caught.value)
    assert caught.value.hint and "known_hosts" in caught.value.hint
    assert nodes.known_hosts.read_text() == ""


def test_a_changed_host_key_is_refused_with_its_fingerprint(sshd_nodes: Factory, transport: str) -> None:
    nodes = sshd_nodes(1)
    nodes[0].stop()
    nodes[0].new_host_key()
    nodes[0].start()
    found = connect("node1", transport=transport, ssh_config=str(nodes.ssh_config))
    with pytest.raises(GuardRefused, match="has changed") as caught:
        found.run(["true"])
    found.close()
    assert nodes[0].fingerprint() in str(caught.value)
    assert caught.value.hint and "ssh-keygen -R" in caught.value.hint


def test_a_host_behind_a_bastion_is_reached(sshd_nodes: Factory, transport: str) -> None:
    nodes = sshd_nodes(2)
    nodes.write_config("Host node2\n  ProxyJump node1\n")
    found = connect("node2", transport=transport, ssh_config=str(nodes.ssh_config))
    try:
        assert found.run(["sh", "-c", "echo $HOME"]).stdout.decode().strip() == str(nodes[1].root)
    finally:
        found.close()
    assert "Accepted publickey" in (nodes[0].folder / "sshd.log").read_text()


def test_an_unknown_key_of_a_bastion_is_refused(sshd_nodes: Factory, transport: str) -> None:
    nodes = sshd_nodes(2)
    nodes.write_config("Host node2\n  ProxyJump node1\n")
    second = nodes[1]
    nodes.known_hosts.write_text(f"[{second.address}]:{second.port} {second.public_key()}\n")
    found = connect("node2", transport=transport, ssh_config=str(nodes.ssh_config))
    with pytest.raises(GuardRefused, match="not known"):
        found.run(["true"])
    found.close()
