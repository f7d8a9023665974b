"""Pausing all DAGs at once, and resuming exactly those that ran."""

from __future__ import annotations

from datetime import timedelta

import pytest

from opskit.core.metastore import dags, held_dags, recovery
from opskit.core.metastore.engine import Connection, Engine, open_engine, reading, transaction
from opskit.core.metastore.held_dags import Held
from tests.databases import Databases
from tests.metastore_rows import NOW, store_dag

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def four(engine: Engine) -> Engine:
    """Four DAGs, of which one is paused."""
    with transaction(engine) as connection:
        for dag_id in ("a", "b", "c", "d"):
            store_dag(connection, dag_id)
        dags.set_paused(connection, ["d"], True, NOW)
    return engine


def running(connection: Connection) -> list[str]:
    return [one.dag_id for one in dags.list_dags(connection, paused=False)]


def test_resuming_unpauses_what_ran_before_and_nothing_else(four: Engine) -> None:
    with transaction(four) as connection:
        assert held_dags.held(connection) is None
        assert held_dags.pause_all(connection, "ann", NOW) == ["a", "b", "c"]
        assert running(connection) == []
        assert held_dags.held(connection) == Held(3, "ann", NOW)
        assert held_dags.resume_all(connection, LATER) == ["a", "b", "c"]
        assert running(connection) == ["a", "b", "c"]
        assert held_dags.held(connection) is None
        assert held_dags.resume_all(connection, LATER) == []


def test_a_word_about_one_dag_counts_more_than_the_resuming_of_all(four: Engine) -> None:
    with transaction(four) as connection:
        held_dags.pause_all(connection, "ann", NOW)
        dags.set_paused(connection, ["a"], True, LATER)  # it is so already, and somebody means it
        dags.set_paused(connection, ["b"], False, LATER)
        dags.delete_dag(connection, "c")
        assert held_dags.held(connection) is None
        assert held_dags.resume_all(connection, LATER) == []
        assert running(connection) == ["b"]


def test_pausing_all_once_more_adds_what_is_new_since(four: Engine) -> None:
    with transaction(four) as connection:
        held_dags.pause_all(connection, "ann", NOW)
        store_dag(connection, "e", LATER)
        assert held_dags.pause_all(connection, "bob", LATER) == ["e"]
        assert held_dags.held(connection) == Held(4, "ann", NOW)
        assert held_dags.resume_all(connection, LATER) == ["a", "b", "c", "e"]


@pytest.mark.parametrize("unpause", [False, True])
def test_a_restored_metastore_can_still_be_resumed(databases: Databases, four: Engine, unpause: bool) -> None:
    url = databases.migrated("sqlite")
    restored = open_engine(url)
    with transaction(restored) as connection:  # as it was backed up: before the pause, and with what is gone since
        for dag_id in ("a", "b", "gone"):
            store_dag(connection, dag_id)
    with transaction(four) as connection:
        held_dags.pause_all(connection, "ann", NOW)
    known = recovery.known_dags(four)
    with transaction(restored) as connection:
        recovery.make_consistent(connection, LATER, known, unpause=unpause)
        assert running(connection) == (["a", "b", "gone"] if unpause else ["gone"])
        assert held_dags.held(connection) == (None if unpause else Held(2, "ann", NOW))
        held_dags.resume_all(connection, LATER)
    with reading(restored) as connection:
        assert running(connection) == ["a", "b", "gone"]
    restored.dispose()
    databases.drop(url)
