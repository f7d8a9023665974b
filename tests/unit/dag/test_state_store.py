"""What tasks keep for their next tries, and about assets."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from opskit.core.dag import dialect
from opskit.core.dag.assets import Asset, AssetAlias
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.model import DAG
from opskit.core.dag.resumable import ResumableJobMixin
from opskit.core.dag.runtime import MemoryStore
from opskit.core.dag.state_store import NEVER_EXPIRE, AssetStateStoreAccessors
from opskit.core.dag.taskflow import task
from opskit.core.dag.testing import TestRun, run_in_process

ORDERS = Asset("orders", "s3://lake/orders")


def _run(*functions: Any) -> TestRun:
    with dialect.speaking(3), DAG("d", schedule=None) as dag:
        for function in functions:
            function()
    return run_in_process(dag, store=MemoryStore())


def test_a_task_finds_in_its_next_try_what_it_has_kept() -> None:
    def pages() -> None:
        @task(retries=2, retry_delay=timedelta(0))
        def fetch(task_state_store: Any = None) -> Any:
            done = task_state_store.get("done", [])
            task_state_store.set("done", [*done, len(done)], retention=NEVER_EXPIRE)
            task_state_store.set("old", 1, retention=timedelta(seconds=-1))
            if len(done) < 2:
                raise RuntimeError("the connection is gone")
            task_state_store.delete("old")
            return [done, task_state_store.get("old", "nothing")]

        fetch()

        @task
        def other(task_state_store: Any = None) -> Any:
            return task_state_store.get("done")

        other()

    run = _run(pages)
    assert run.tries["fetch"] == 3
    assert run.xcoms["fetch"]["return_value"] == [[0, 1], "nothing"]
    assert run.xcoms.get("other", {}) == {}


def test_each_mapped_instance_keeps_its_own_and_coroutines_can_wait_for_it() -> None:
    def mapped() -> None:
        @task
        async def keep(x: int, task_state_store: Any = None) -> Any:
            await asyncio.gather(*(task_state_store.aset(f"k{n}", x * n) for n in range(1, 4)))
            found = [await task_state_store.aget(f"k{n}") for n in range(1, 4)]
            await task_state_store.adelete("k1")
            gone = await task_state_store.aget("k1", "gone")
            await task_state_store.aclear()
            return [*found, gone, await task_state_store.aget("k2")]

        keep.expand(x=[1, 10])

    run = _run(mapped)
    assert [run.xcoms[f"keep[{n}]"]["return_value"] for n in (0, 1)] == [
        [1, 2, 3, "gone", None],
        [10, 20, 30, "gone", None],
    ]


def test_what_is_kept_about_an_asset_is_there_for_all_tasks_that_name_it() -> None:
    def assets() -> None:
        @task(outlets=[ORDERS])
        def load(asset_state_store: Any = None) -> None:
            asset_state_store.set("watermark", "2024-03-01")

        @task(inlets=[ORDERS, Asset("other")])
        def read(asset_state_store: Any = None) -> Any:
            with pytest.raises(ValueError, match="has 2 inlets and outlets: say which"):
                asset_state_store.get("watermark")
            with pytest.raises(KeyError):
                asset_state_store[Asset("third")]
            return asset_state_store[ORDERS].get("watermark")

        load() >> read()

    assert _run(assets).xcoms["read"]["return_value"] == "2024-03-01"


def test_none_can_not_be_kept_and_an_alias_without_events_stands_for_no_asset() -> None:
    def refused() -> None:
        @task
        def keep(task_state_store: Any = None) -> None:
            with pytest.raises(ValueError, match="None can't be kept as 'x'"):
                task_state_store.set("x", None)
            with pytest.raises(ValueError, match="has 0 inlets and outlets"):
                AssetStateStoreAccessors([AssetAlias("a")], []).get("x")

        keep()

    assert _run(refused).state == "success"


class Job(ResumableJobMixin, BaseOperator):
    submitted: list[str] = []

    def execute(self, context: Any) -> Any:
        return self.execute_resumable(context)

    def submit_job(self, context: Any) -> str:
        self.submitted.append(f"job-{len(self.submitted)}")
        return self.submitted[-1]

    def get_job_status(self, external_id: Any, context: Any) -> str:
        return "FAILED" if external_id == "job-0" else "SUCCEEDED"

    def is_job_active(self, status: str) -> bool:
        return status == "RUNNING"

    def is_job_succeeded(self, status: str) -> bool:
        return status == "SUCCEEDED"

    def poll_until_complete(self, external_id: Any, context: Any) -> None:
        raise RuntimeError("the worker dies while it waits")

    def get_job_result(self, external_id: Any, context: Any) -> str:
        return f"result of {external_id}"


def test_a_job_that_has_succeeded_meanwhile_is_not_started_again_and_one_that_failed_is() -> None:
    Job.submitted.clear()
    run = _run(lambda: Job(task_id="job", retries=3, retry_delay=timedelta(0)))
    assert Job.submitted == ["job-0", "job-1"]
    assert run.xcoms["job"]["return_value"] == "result of job-1"
