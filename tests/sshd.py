"""Real SSH servers on loopback addresses: own host keys, own home folders, public keys only."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.waiting import wait_until

_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass
class Node:
    """One sshd. `name` is what a user writes; its login has `root` as its home."""

    name: str
    address: str
    port: int
    root: Path
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def dags(self) -> Path:
        return self.root / "dags"

    def start(self) -> None:
        assert _SSHD is not None
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [_SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, what=f"an answer from {self.name}")

    def stop(self) -> None:
        """End the server and its connections."""
        if self.process is None:
            return
        for pid in _descendants(self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop_connections(self) -> list[int]:
        """Let those that are open hang, as after the loss of a network; the processes. New ones are served."""
        assert self.process is not None
        found = _descendants(self.process.pid)
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        return found

    def new_host_key(self) -> None:
        """Give the server another key than clients know; it takes effect at the next start."""
        for path in self.folder.glob("host_key*"):
            path.unlink()
        _keygen(self.folder / "host_key")

    def public_key(self) -> str:
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def fingerprint(self) -> str:
        done = subprocess.run(
            ["ssh-keygen", "-lf", str(self.folder / "host_key.pub")], capture_output=True, text=True, check=True
        )
        return done.stdout.split()[1]

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"sshd ended: {(self.folder / 'sshd.log').read_text()}")
        try:
            with socket.create_connection((self.address, self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False


@dataclass
class Nodes:
    """Some servers, and the client configuration that knows them."""

    folder: Path
    nodes: list[Node] = field(default_factory=list)
    settings: str = ""
    """More lines of the client configuration, for all hosts."""

    @property
    def names(self) -> list[str]:
        return [node.name for node in self.nodes]

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def __getitem__(self, index: int) -> Node:
        return self.nodes[index]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def trust(self) -> None:
        """Write the host keys that the servers have now into known_hosts."""
        lines = [f"[{node.address}]:{node.port} {node.public_key()}\n" for node in self.nodes]
        self.known_hosts.write_text("".join(lines))

    def write_config(self, extra: str = "") -> None:
        blocks = [f"Host {node.name}\n  HostName {node.address}\n  Port {node.port}\n" for node in self.nodes]
        self.ssh_config.write_text(
            extra
            + "".join(blocks)
            + f"Host *\n  User {getpass.getuser()}\n  IdentityFile {self.folder / 'user_key'}\n  IdentitiesOnly yes\n"
            + f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
            + self.settings
        )

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def environment(self) -> dict[str, str]:
        """Settings for `opskit deploy-dag` to these nodes: each has its DAG folder in its login's home."""
        names = ", ".join(f'"{name}"' for name in self.names)
        return {
            "OPSKIT__DEPLOY__SSH_CONFIG": str(self.ssh_config),
            "OPSKIT__DEPLOY__DAGS_FOLDER": "~/dags",
            "OPSKIT__DEPLOY__GROUPS": f"workers = [{names}]",
        }


@pytest.fixture
def sshd_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Nodes]]:
    """`sshd_nodes(8)`: so many running servers, node1 … node8, which the client configuration names and trusts."""
    if _SSHD is None or shutil.which("ssh") is None:
        if os.environ.get("OPSKIT_REQUIRE_SERVICES") == "1":
            pytest.fail("openssh-server and openssh-client are needed")
        pytest.skip("openssh-server and openssh-client are needed")
    made: list[Nodes] = []

    def make(count: int) -> Nodes:
        # The key exchange that OpenSSH 9 prefers takes longer than all else that a test does on a connection.
        made.append(make_nodes(tmp_path_factory.mktemp("sshd"), count, "  KexAlgorithms curve25519-sha256\n"))
        return made[-1]

    yield make
    for nodes in made:
        nodes.stop()


def make_nodes(folder: Path, count: int, settings: str = "") -> Nodes:
    """So many running servers with all that they need in `folder`. `stop()` ends them. `settings`: as in Nodes."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
    nodes = Nodes(folder, settings=settings)
    _keygen(folder / "user_key")
    try:
        for index in range(count):
            node = _make_node(folder, index)
            nodes.nodes.append(node)
            node.start()
    except BaseException:
        nodes.stop()
        raise
    nodes.trust()
    nodes.write_config()
    return nodes


def _make_node(parent: Path, index: int) -> Node:
    folder = parent / f"node{index + 1}"
    root = folder / "root"
    root.mkdir(parents=True)
    address = f"127.0.0.{index + 2}"
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    _keygen(folder / "host_key")
    (folder / "sshd_config").write_text(
        f"""ListenAddress {address}:{port}
HostKey {folder / "host_key"}
PidFile none
AuthorizedKeysFile {parent / "user_key.pub"}
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PrintMotd no
Subsystem sftp internal-sftp
MaxStartups 100
SetEnv HOME={root}
"""
    )
    return Node(f"node{index + 1}", address, port, root, folder)


def _keygen(path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True, capture_output=True
    )


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found  # it ended meanwhile
    for task in tasks:
        try:
            children = [int(text) for text in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found
