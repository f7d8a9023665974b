"""Passwords that are known to be right, in processes that were forked after they could be known."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from opskit.web.security.known_passwords import KnownPasswords


def in_a_fork(ask: Callable[[], bool]) -> bool:
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if ask() else 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 1)
    return code == 0


def test_what_one_process_knows_the_others_know() -> None:
    known = KnownPasswords()
    assert not in_a_fork(lambda: known.holds("hash", "right", "10.0.0.1"))

    def remember() -> bool:
        known.remember("hash", "right", "10.0.0.1")
        return True

    assert in_a_fork(remember)
    assert known.holds("hash", "right", "10.0.0.1")
    assert in_a_fork(lambda: known.holds("hash", "right", "10.0.0.1"))
    assert not known.holds("hash", "right", "10.0.0.2")
    assert not known.holds("another hash", "right", "10.0.0.1")


def test_an_address_gets_few_wrong_answers_of_all_processes_together() -> None:
    known = KnownPasswords()
    known.remember("hash", "right", "10.0.0.1")
    for number in range(5):
        assert in_a_fork(lambda: known.holds("hash", "right", "10.0.0.1"))
        assert not in_a_fork(lambda guess=number: known.holds("hash", f"guess {guess}", "10.0.0.1"))  # type: ignore[misc]
    # Now it could find the password here, and is not told.
    assert not known.holds("hash", "right", "10.0.0.1")
    assert not in_a_fork(lambda: known.holds("hash", "right", "10.0.0.1"))
    # Of an address that falls on another place (nearly all do).
    others = [f"10.0.1.{number}" for number in range(20)]
    for address in others:
        known.remember("hash", "right", address)
    assert sum(known.holds("hash", "right", address) for address in others) >= 18


def test_what_is_known_is_forgotten_after_a_while() -> None:
    known = KnownPasswords(seconds=-1.0)
    known.remember("hash", "right", "10.0.0.1")
    assert not known.holds("hash", "right", "10.0.0.1")


def test_those_who_send_the_same_come_one_after_the_other_in_all_processes(tmp_path: Path) -> None:
    known = KnownPasswords()
    parent = os.getpid()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        with known.turn("ada", "right", "10.0.0.1"):
            os.write(write_end, b"x")
            while os.getppid() == parent and not os.path.exists(tmp_path / "go"):
                pass
            known.remember("hash", "right", "10.0.0.1")
            os._exit(0)
    os.read(read_end, 1)
    with known.turn("ada", "another", "10.0.0.1"):  # is nobody's turn
        (tmp_path / "go").touch()
    with known.turn("ada", "right", "10.0.0.1"):
        assert known.holds("hash", "right", "10.0.0.1")
        assert os.waitpid(pid, 0) == (pid, 0)
    os.close(read_end)
    os.close(write_end)


def test_a_process_that_dies_with_the_lock_holds_up_nobody() -> None:
    known = KnownPasswords()

    def die() -> bool:
        with known._alone():
            os._exit(1)

    in_a_fork(die)
    known.remember("hash", "right", "10.0.0.1")
    assert known.holds("hash", "right", "10.0.0.1")
