"""What is old by policy, how wide a partition is, how large a batch: plain decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from opskit.core.metastore.foreign_keys import Reference, children_first, missing_indexes
from opskit.core.metastore.governor import TARGET_SECONDS, BatchSize
from opskit.core.metastore.partitions import SMALLEST, is_partition, next_upper
from opskit.ops.db_clean_archive import Wanted
from opskit.platforms.retention import RetentionPolicy

POLICY = RetentionPolicy(
    90.0, states={"failed": 365.0}, dags=(("tmp_*", {"*": 7.0}), ("billing", {"success": 400.0}), ("b*", {"*": 1.0}))
)


@pytest.mark.parametrize(
    ("dag_id", "is_paused", "expected"),
    [
        ("other", False, {"success": 90.0, "failed": 365.0}),
        ("other", True, {}),
        ("tmp_x", False, {"success": 7.0, "failed": 7.0}),
        ("tmp_x", True, {"success": 7.0, "failed": 7.0}),
        ("billing", False, {"success": 400.0, "failed": 365.0}),
        ("bills", False, {"success": 1.0, "failed": 1.0}),
    ],
)
def test_the_first_pattern_that_fits_counts_then_the_state_then_the_age(
    dag_id: str, is_paused: bool, expected: dict[str, float]
) -> None:
    assert POLICY.of(dag_id, is_paused) == expected


def test_a_partition_is_made_when_the_last_one_has_room_for_less_than_a_day() -> None:
    assert next_upper(10_000, 100, 50.0) is None
    assert next_upper(10_000, 4_999, 50.0) is None
    assert next_upper(10_000, 5_100, 50.0) == (10_000, 20_000)
    assert next_upper(100_000, 89_000, 12_000.0) == (100_000, 280_000)


def test_a_partition_begins_behind_what_has_got_into_the_rest() -> None:
    lower, upper = next_upper(10_000, 10_700, 100.0, now_rest=10_700) or (0, 0)
    assert lower > 10_700
    assert upper >= lower + SMALLEST


def test_names_of_partitions_are_known() -> None:
    assert is_partition("task_instance_to_10000")
    assert is_partition("xcom_rest")
    assert not is_partition("task_instance")
    assert not is_partition("my_task_instance_to_10000")


@pytest.mark.parametrize(("fixed", "per_row"), [(0.0, 1e-5), (0.0, 1e-3), (0.05, 2e-5), (0.005, 1e-4)])
def test_batches_grow_until_their_rows_cost_what_they_may_whatever_a_transaction_costs(
    fixed: float, per_row: float
) -> None:
    size = BatchSize(1_000_000)
    for _ in range(60):
        size.learn(size.now, fixed + per_row * size.now)
    assert TARGET_SECONDS / 4 <= per_row * size.now <= TARGET_SECONDS * 2.5


def test_a_batch_is_never_larger_than_it_may_be_and_never_empty() -> None:
    size = BatchSize(3)
    size.learn(3, 0.0001)
    assert size.now == 3
    for _ in range(20):
        size.learn(size.now, 10.0)
    assert size.now == 3
    size = BatchSize(5_000)
    for _ in range(20):
        size.learn(size.now, 10.0)
    assert 0 < size.now <= 100


KEYS = [
    Reference("task_instance", ("dag_id", "run_id"), "dag_run", ("dag_id", "run_id"), "CASCADE", True),
    Reference("xcom", ("ti_id",), "task_instance", ("id",), "", False),
    Reference("a", ("b_id",), "b", ("id",), "", True),
    Reference("b", ("a_id",), "a", ("id",), "", True),
]


def test_children_come_before_their_parents_and_circles_end() -> None:
    ordered = children_first(["dag_run", "task_instance", "xcom", "a", "b"], KEYS)
    assert ordered.index("xcom") < ordered.index("task_instance") < ordered.index("dag_run")
    assert sorted(ordered) == ["a", "b", "dag_run", "task_instance", "xcom"]


def test_an_index_that_is_missing_comes_with_its_statement() -> None:
    assert missing_indexes(KEYS, "postgresql") == ["CREATE INDEX CONCURRENTLY ix_xcom_ti_id ON xcom (ti_id);"]
    assert missing_indexes(KEYS, "mariadb") == ["CREATE INDEX ix_xcom_ti_id ON xcom (ti_id);"]


def test_rows_of_an_archive_are_chosen_by_dag_run_and_time() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    row = {"dag_id": "etl_a", "run_id": "r1", "logical_date": at.isoformat()}
    assert Wanted(dag="etl_*", run_id="r1", since=at, until=at + timedelta(1)).fits(row)
    assert not Wanted(dag="etl_b").fits(row)
    assert not Wanted(run_id="r2").fits(row)
    assert not Wanted(until=at).fits(row)
    assert not Wanted(since=at).fits({"dag_id": "etl_a"})
