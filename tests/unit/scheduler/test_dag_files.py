"""Which files are gone for sure, and when absence proves nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from opskit.core.scheduler.dag_files import CONFIRM_GONE, CONFIRM_MANY_GONE, KnownFile, decide
from opskit.core.scheduler.dag_folder import Listing, Signature

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def signature(mtime: int = 1) -> Signature:
    return Signature(1, 1, 1, mtime, mtime)


def listing(*paths: str, problems: tuple[str, ...] = (), entries: int | None = None) -> Listing:
    return Listing(
        files={path: signature() for path in paths},
        entries=len(paths) if entries is None else entries,
        problems=list(problems),
    )


def known(*paths: str, missing_since: datetime | None = None) -> dict[str, KnownFile]:
    return {path: KnownFile(signature(), None, True, missing_since) for path in paths}


def test_an_unchanged_folder_needs_nothing() -> None:
    decision = decide(listing("a.py"), known("a.py"), NOW)
    assert not decision.read
    assert not decision.gone
    assert not decision.missing
    assert decision.look_again_at is None


def test_new_and_changed_files_are_read() -> None:
    files = {"a.py": KnownFile(signature(2)), "b.py": KnownFile(signature())}
    assert decide(listing("a.py", "b.py", "c.py"), files, NOW).read == ["a.py", "c.py"]


def test_a_file_that_is_absent_once_is_looked_for_again() -> None:
    decision = decide(listing("a.py", "b.py"), known("a.py", "b.py", "c.py"), NOW)
    assert decision.missing == ["c.py"]
    assert not decision.gone
    assert decision.look_again_at == NOW + CONFIRM_GONE


def test_a_file_that_stays_away_is_gone() -> None:
    files = known("a.py", "b.py") | known("c.py", missing_since=NOW - CONFIRM_GONE)
    assert list(decide(listing("a.py", "b.py"), files, NOW).gone) == ["c.py"]


def test_a_file_that_comes_back_is_not_missing_any_more() -> None:
    decision = decide(listing("a.py"), known("a.py", missing_since=NOW), NOW)
    assert decision.back == ["a.py"]
    assert not decision.gone


def test_most_files_missing_at_once_are_waited_for_longer() -> None:
    files = known("a.py") | known("b.py", "c.py", missing_since=NOW - CONFIRM_GONE)
    early = decide(listing("a.py"), files, NOW)
    assert not early.gone
    assert early.look_again_at == NOW - CONFIRM_GONE + CONFIRM_MANY_GONE
    late = decide(listing("a.py"), files, NOW + CONFIRM_MANY_GONE)
    assert set(late.gone) == {"b.py", "c.py"}


def test_an_incomplete_listing_takes_nothing_away_but_shows_what_is_new() -> None:
    files = known("a.py", missing_since=NOW - timedelta(days=1))
    decision = decide(listing("b.py", problems=("dags/x: Input/output error",)), files, NOW)
    assert decision.read == ["b.py"]
    assert not decision.gone
    assert decision.doubts == ["dags/x: Input/output error"]


def test_an_empty_folder_that_had_dags_takes_nothing_away() -> None:
    files = known("a.py", missing_since=NOW - timedelta(days=1))
    decision = decide(listing(), files, NOW)
    assert not decision.gone
    assert "empty" in decision.doubts[0]


def test_the_last_dag_file_may_go_while_the_folder_holds_something_else() -> None:
    files = known("a.py", missing_since=NOW - CONFIRM_GONE)
    assert list(decide(listing(entries=1), files, NOW).gone) == ["a.py"]


def test_a_companion_file_is_gone_at_once() -> None:
    decision = decide(listing("a.py"), {"a.py": KnownFile(signature()), "b.yaml": KnownFile(signature())}, NOW)
    assert list(decision.gone) == ["b.yaml"]
