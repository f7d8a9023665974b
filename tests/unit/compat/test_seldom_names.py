"""Names that few DAG files import: clients, clean-up of the metastore, executors, the classes behind decorators."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from opskit.compat import db_cleanup, executors, local_client, table
from opskit.compat.import_hook import resolve
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.taskflow import TaskDecorator


def test_every_name_of_the_table_leads_somewhere() -> None:
    for target, _ in table.parse(__import__("opskit.compat.names_seldom", fromlist=["NAMES"]).NAMES):
        if ":" in target:
            assert resolve(target) is not None, target


def test_the_functions_behind_decorators_are_the_kinds_of_task() -> None:
    names = table.index()["airflow.providers.standard.decorators.bash"].attributes
    assert isinstance(resolve(names["bash_task"]), TaskDecorator)
    assert resolve(names["_BashDecoratedOperator"]).__name__ == "_BashDecoratedOperator"


def test_an_executor_can_be_made_and_handed_on() -> None:
    assert repr(executors.SequentialExecutor()) == "SequentialExecutor(parallelism=32)"
    assert isinstance(executors.GetDefaultExecutor(), executors.LocalExecutor)
    assert executors.CeleryExecutor(parallelism=4).parallelism == 4


def test_a_clean_up_that_would_ask_and_one_of_unknown_tables_are_refused() -> None:
    before = datetime.now(UTC)
    with pytest.raises(AirflowException, match="call it with confirm=False"):
        db_cleanup.run_cleanup(clean_before_timestamp=before)
    with pytest.raises(AirflowException, match="does not know dag_runs"):
        db_cleanup.run_cleanup(clean_before_timestamp=before, table_names=["dag_runs"], confirm=False)


def test_unnamed_pools_and_pools_without_a_number_of_slots_are_refused() -> None:
    with pytest.raises(AirflowException, match="a pool needs a name"):
        local_client.create_pool(" ", 1)
    with pytest.raises(AirflowException, match="'many', a number is needed"):
        local_client.create_pool("p", "many")
