"""What the processes of a webserver know of each other, and what they are started with."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest
from fastapi import FastAPI

from opskit import config as settings
from opskit.errors import ConfigError
from opskit.web import server, serving
from opskit.web.board import Board, Rounds
from opskit.web.supervised import Child
from opskit.web.worker_process import threads_of


def test_progress_is_made_only_when_each_process_has_moved_on() -> None:
    supervisor, _, one, other = (board := Board(4)).seats
    rounds = Rounds(supervisor, board.seats[2:])
    assert not rounds.look()
    supervisor.turn()
    one.prove()
    one.prove()
    assert not rounds.look()
    other.prove()
    assert rounds.look()
    assert not rounds.look()
    one.prove()
    other.prove()
    assert not rounds.look()  # the supervisor stands
    supervisor.turn()
    assert rounds.look()
    assert rounds.count == 2
    # One that took the seat of another goes on counting, but begins with no connections.
    one.turn(connections_taken=7, connections_open=3)
    one.begin()
    assert (one.connections, one.turned_at, one.proved_at, one.proofs) == ((0, 0), 0.0, 0.0, 3)


def test_a_fork_writes_on_the_same_board() -> None:
    board = Board(2)
    pid = os.fork()
    if pid == 0:
        board.seats[1].turn(5, 2)
        os._exit(0)
    os.waitpid(pid, 0)
    assert (board.seats[1].turns, board.seats[1].connections) == (1, (5, 2))
    assert board.seats[1].turned_at > 0
    assert board.seats[0].turns == 0


def test_there_are_as_many_workers_as_wanted_or_as_processors_at_most_four(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings.load(home, {})
    for processors, workers in ((1, 1), (3, 3), (64, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, many=processors: set(range(many)))
        assert server.workers_of(config) == workers
    wanted = dataclasses.replace(config, values={**config.values, "webserver.workers": 6})
    assert server.workers_of(wanted) == 6
    assert [threads_of(workers)[0] for workers in (1, 2, 4, 16)] == [20, 10, 8, 8]


def test_a_certificate_that_can_not_be_used_is_a_wrong_configuration(home: Path) -> None:
    missing, wrong = home / "missing.pem", home / "wrong.pem"
    wrong.write_text("no certificate")
    for path, reason in ((missing, "No such file"), (wrong, "certificate")):
        given = {
            "OPSKIT__WEBSERVER__WEB_SERVER_SSL_CERT": str(path),
            "OPSKIT__WEBSERVER__WEB_SERVER_SSL_KEY": str(path),
        }
        with pytest.raises(ConfigError, match=reason) as raised:
            serving.settings_of(settings.load(home, given), FastAPI())
        assert str(path) in raised.value.message


def test_a_child_is_replaced_for_what_a_new_one_would_do_better(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    one, other = (Child("worker", "worker", seat, started_at=now) for seat in Board(2).seats)
    assert one.hangs([other], now + 10) == ""
    assert one.hangs([other], now + 30) == "its main loop has not gone round for 30 s"
    now = 1120.0
    one.seat.turn()
    other.seat.turn()
    assert one.hangs([other], now) == ""  # nobody has a thread: it is not the process
    other.seat.prove()
    assert one.hangs([other], now) == "it has had no thread for a request for 120 s, while others have"
    assert other.hangs([one], now) == ""
