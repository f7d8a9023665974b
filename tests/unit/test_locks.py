"""The single-flight lock, between real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from opskit.errors import GuardRefused, LockHeld
from opskit.system import daemon
from opskit.system.locks import holds, locked, read_owner

HOLD = """
import sys, pathlib
from opskit.system.locks import locked
with locked(pathlib.Path(sys.argv[1]), "backup"):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(folder: Path) -> subprocess.Popen[bytes]:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def stop(holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()
    assert holder.stdin is not None and holder.stdout is not None
    holder.stdin.close()
    holder.stdout.close()


def test_the_second_process_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    try:
        with pytest.raises(LockHeld, match=f"pid {holder.pid} on ") as refused, locked(tmp_path, "backup"):
            pass
        assert refused.value.exit_code == 11
        owner = read_owner(tmp_path / "backup.lock")
        assert owner is not None and owner.pid == holder.pid and holds(owner)
    finally:
        stop(holder)


def test_a_killed_holder_leaves_the_lock_free(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    os.kill(holder.pid, signal.SIGKILL)
    stop(holder)
    stale = read_owner(tmp_path / "backup.lock")
    assert stale is not None and not holds(stale)
    with locked(tmp_path, "backup") as owner:
        assert owner.pid == os.getpid()
        assert read_owner(tmp_path / "backup.lock") == owner
    assert read_owner(tmp_path / "backup.lock") is None


def test_locks_of_different_names_do_not_meet(tmp_path: Path) -> None:
    with locked(tmp_path, "backup"), locked(tmp_path, "restore"):
        pass


def test_one_process_can_not_take_a_lock_twice(tmp_path: Path) -> None:
    with locked(tmp_path, "backup"), pytest.raises(LockHeld), locked(tmp_path, "backup"):
        pass


def test_a_lock_is_free_after_an_error_inside(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path, "backup"):
        raise RuntimeError
    with locked(tmp_path, "backup"):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lock somebody else's folder")
def test_root_does_not_lock_the_owner_out_and_takes_no_foreign_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    os.chown(folder, 1, 1)
    with locked(folder, "backup"):
        pass
    assert (folder / "backup.lock").stat().st_uid == 1
    secret = tmp_path / "secret"
    secret.write_text("secret")
    os.link(secret, folder / "drill.lock")
    with pytest.raises(GuardRefused, match="2 links"), locked(folder, "drill"):
        pass
    assert (secret.read_text(), secret.stat().st_uid) == ("secret", 0)


def test_a_systemd_that_does_not_listen_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
            filler.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    filler.sendto(b"x", str(tmp_path / "notify"))
        daemon.notify("WATCHDOG=1")
