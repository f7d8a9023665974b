"""Answers that hold for a moment."""

from __future__ import annotations

import os
import threading

import pytest

from opskit.web.kept import Kept


def test_nothing_is_kept_unless_asked_for() -> None:
    kept, looks = Kept(), iter(range(9))
    assert [kept.get("a", lambda: next(looks)) for _ in range(3)] == [0, 1, 2]


def test_an_answer_holds_for_its_key_until_something_is_changed() -> None:
    kept, looks = Kept(3600), iter(range(9))
    assert [kept.get("a", lambda: next(looks)) for _ in range(3)] == [0, 0, 0]
    assert kept.get("b", lambda: next(looks)) == 1
    kept.clear()
    assert kept.get("a", lambda: next(looks)) == 2


def test_who_asks_for_it_fresh_gets_it_so_and_others_then_too() -> None:
    kept, looks = Kept(3600), iter(range(9))
    kept.get("a", lambda: next(looks))
    assert kept.get("a", lambda: next(looks), fresh=True) == 1
    assert kept.get("a", lambda: next(looks)) == 1


def test_a_look_that_began_before_a_change_is_kept_for_nobody() -> None:
    kept = Kept(3600)

    def look() -> str:
        kept.clear()  # somebody changes something meanwhile
        return "before"

    assert kept.get("a", look) == "before"
    assert kept.get("a", lambda: "after") == "after"


def test_many_at_once_cost_one_look_and_a_look_that_fails_is_not_kept() -> None:
    kept, looks = Kept(3600), []
    go = threading.Event()

    def look() -> int:
        go.wait(10)
        looks.append(1)
        if len(looks) == 1:
            raise ValueError
        return 7

    found: list[object] = []

    def ask() -> None:
        try:
            found.append(kept.get("a", look))
        except ValueError as error:
            found.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(looks) == 2
    assert sorted(map(str, found)) == ["", *["7"] * 7]


def test_while_somebody_looks_again_others_get_what_there_is_unless_it_is_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("opskit.web.kept.time.monotonic", lambda: now[0])
    kept, looking, go = Kept(1.0), threading.Event(), threading.Event()
    assert kept.get("a", lambda: "old") == "old"

    def look() -> str:
        looking.set()
        go.wait(10)
        return "new"

    now[0] += 1.5
    one = threading.Thread(target=kept.get, args=("a", look))
    one.start()
    assert looking.wait(10)
    assert kept.get("a", lambda: "another look") == "old"
    now[0] += 1.0
    found: list[str] = []
    other = threading.Thread(target=lambda: found.append(kept.get("a", lambda: "another look")))
    other.start()
    other.join(0.2)
    assert not found, "2.5 s old: it waits"
    go.set()
    one.join(10)
    other.join(10)
    assert found == ["new"] or found == ["another look"]


def test_who_asks_for_it_fresh_does_not_get_what_a_look_found_that_began_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept, looking, go = Kept(3600), threading.Event(), threading.Event()

    def look() -> str:
        looking.set()
        go.wait(10)
        return "before"

    one = threading.Thread(target=kept.get, args=("a", look))
    one.start()
    assert looking.wait(10)
    found: list[str] = []
    other = threading.Thread(target=lambda: found.append(kept.get("a", lambda: "after", fresh=True)))
    other.start()
    go.set()
    one.join(10)
    other.join(10)
    assert found == ["after"]


def test_a_change_by_another_process_of_the_webserver_is_seen_at_once() -> None:
    kept, seen = Kept(1000.0), iter(("before", "after", "never"))
    assert [kept.get("who", lambda: next(seen)) for _ in range(2)] == ["before", "before"]
    pid = os.fork()
    if pid == 0:
        kept.clear()
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert [kept.get("who", lambda: next(seen)) for _ in range(2)] == ["after", "after"]
