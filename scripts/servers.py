"""What the tests need from the machine: programs, and a PostgreSQL and a MariaDB of their own on free ports."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from debian import Missing, install

# program → (Debian package, what it is for)
PROGRAMS = {
    "initdb": ("postgresql", "the PostgreSQL server"),
    "pg_dump": ("postgresql-client", "PostgreSQL's client programs"),
    "mariadbd": ("mariadb-server", "the MariaDB server"),
    "mariadb-dump": ("mariadb-client", "MariaDB's client programs"),
    "sshd": ("openssh-server", "the SSH server"),
    "ssh": ("openssh-client", "the SSH client"),
    "rsync": ("rsync", "rsync"),
    "git": ("git", "git"),
    "ps": ("procps", "ps"),
    "systemd-analyze": ("systemd", "systemd-analyze"),
    "chromium": ("chromium", "the browser Chromium"),
}
_MEMORY = "/dev/shm"
_ROOM_BYTES = 4 << 30
_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/opt/homebrew/bin")


def find(program: str) -> str | None:
    """Path of a program, also where Debian hides it from PATH. The newest PostgreSQL wins."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.replace(".", "").isdigit()]
    versions = [str(path) for path in sorted(found, key=lambda path: float(path.parent.name), reverse=True)]
    if program in ("initdb", "postgres"):
        for folder in versions:
            if os.access(f"{folder}/{program}", os.X_OK):
                return f"{folder}/{program}"
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join((*_FOLDERS, *versions)))


def require_programs() -> list[str]:
    """Install what is missing. What is missing still, where nothing can be installed: a sentence for each."""
    packages = dict(PROGRAMS[name] for name in PROGRAMS if find(name) is None)
    if not packages:
        return []
    try:
        install(packages)
    except Missing as error:
        return [str(error)]
    return [f"{name} is still missing after its package was installed" for name in PROGRAMS if find(name) is None]


@contextmanager
def running(*, durable: bool = False) -> Iterator[dict[str, str]]:
    """Both servers, for the length of the block: the environment that tells the tests where they are.

    Nothing of them outlives the block, so only where commits are measured must they reach the disk (`durable`).
    """
    with ExitStack() as stack:
        environment = {}
        if os.geteuid() == 0 and find("sshd"):
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # Debian makes it when its own sshd starts
        if find("initdb"):
            environment["OPSKIT_TEST_POSTGRES_URL"] = stack.enter_context(_postgres(durable))
        if find("mariadbd"):
            environment["OPSKIT_TEST_MARIADB_URL"] = stack.enter_context(_mariadb(durable))
        yield environment


@contextmanager
def _postgres(durable: bool) -> Iterator[str]:
    with _folder("postgres", durable) as (folder, user):
        data, log = folder / "data", folder / "log"
        initdb = [find("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
        _run([*initdb, "--no-sync"], user)

        def command(port: int) -> list[object]:
            sync = "on" if durable else "off"
            settings = {
                "listen_addresses": "127.0.0.1",
                "port": port,
                "unix_socket_directories": folder,
                "fsync": sync,
                "synchronous_commit": sync,
                "full_page_writes": sync,
                "max_connections": 300,
                "max_wal_size": "256MB",
            }
            options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            return [find("postgres"), "-D", data, *options]

        with _server(command, user, log, stop=signal.SIGQUIT, answer=b"") as port:
            yield f"postgresql://postgres@127.0.0.1:{port}/"


@contextmanager
def _mariadb(durable: bool) -> Iterator[str]:
    with _folder("mysql", durable) as (folder, user):
        data, log = folder / "data", folder / "log"
        installer = find("mariadb-install-db") or find("mysql_install_db")
        own = ["--user=" + user] if user else []
        options = ["--no-defaults", f"--datadir={data}", "--skip-test-db", "--auth-root-authentication-method=normal"]
        _run([installer, *options, *own], None)
        start = folder / "start.sql"
        start.write_text(
            "CREATE USER IF NOT EXISTS 'opskit'@'127.0.0.1' IDENTIFIED BY 'opskit';\n"
            "GRANT ALL ON *.* TO 'opskit'@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        start.chmod(0o644)

        def command(port: int) -> list[object]:
            options = [
                f"--datadir={data}",
                f"--socket={folder}/socket",
                f"--pid-file={folder}/pid",
                f"--port={port}",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--skip-log-bin",
                f"--innodb-flush-log-at-trx-commit={int(durable)}",
                f"--innodb-doublewrite={int(durable)}",
                f"--sync-frm={int(durable)}",
                f"--innodb-stats-persistent={int(durable)}",
                "--max-connections=300",
                f"--init-file={start}",
            ]
            return [find("mariadbd"), "--no-defaults", *options]

        # A server that still reads its init file takes connections but refuses the user: wait for its greeting.
        with _server(command, user, log, stop=signal.SIGKILL, answer=b"mysql_native_password") as port:
            yield f"mysql://opskit:opskit@127.0.0.1:{port}/"


@contextmanager
def _folder(account: str, durable: bool) -> Iterator[tuple[Path, str | None]]:
    """A temporary folder, and the user for a server that refuses to run as root (None: ourselves)."""
    user = None
    parent = _memory() if not durable else None
    prefix = f"opskit-test-{account}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name:
        if os.geteuid() == 0:
            user = account if _exists(account) else "nobody"
            os.chown(name, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        yield Path(name), user


def _memory() -> str | None:
    """A folder in memory with room for a server: to make a database and to drop it takes half as long there."""
    with suppress(OSError):
        if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES:
            return _MEMORY
    return None


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def _run(command: list[object], user: str | None) -> None:
    done = subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **_as(user)
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout.decode(errors='replace')}")


def _as(user: str | None) -> dict[str, object]:
    if user is None:
        return {"cwd": "/"}
    return {"cwd": "/", "user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


@contextmanager
def _server(
    command: Callable[[int], list[object]], user: str | None, log: Path, *, stop: signal.Signals, answer: bytes
) -> Iterator[int]:
    """A server process on a free port, which is given; it ends with the block, and with us if we are killed."""
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        with log.open("ab") as output:
            process = subprocess.Popen(
                list(map(str, command(port))),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the tests; the server goes after them
                preexec_fn=lambda: die_with_parent(stop),
                **_as(user),  # type: ignore[call-overload]
            )
        try:
            if _wait(process, port, answer):
                yield port
                return
        finally:
            if process.poll() is None:
                process.send_signal(stop)
            process.wait()
        # It ended at once: perhaps another process took the port in between.
    raise SystemExit(f"{command(0)[0]} did not start:\n{log.read_text(errors='replace')[-4000:]}")


def _wait(process: subprocess.Popen[bytes], port: int, answer: bytes) -> bool:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                if not answer or answer in connection.recv(4096):
                    return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def die_with_parent(number: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(number))  # PR_SET_PDEATHSIG
