"""LatestOnlyOperator: let only the newest scheduled run go on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from opskit.core.dag.operators.branch import BaseBranchOperator
from opskit.core.dag.timetables import DataInterval


class LatestOnlyOperator(BaseBranchOperator):
    """Skips its direct downstream tasks unless the present lies in the interval after the run's. Manual runs go on.

    In a DAG of the Airflow 3 dialect the window reaches from the run's own interval to the end of the next one. In one
    of the Airflow 2 dialect a run of `dag.test()` counts as a scheduled one, as it does there."""

    ui_color = "#e9ffdb"

    def choose_branch(self, context: Any) -> Iterable[str]:
        run = context["dag_run"]
        dialect = getattr(self.dag, "dialect", None)
        everything = sorted(self.downstream_task_ids)
        if run.run_type == "manual" and not (dialect == 2 and context["ti"].test_mode):
            self.log.info("Externally triggered DAG run: allowing execution to proceed.")
            return everything
        info = run._info
        following = self.dag.next_dagrun_info(
            DataInterval(info.data_interval_start, info.data_interval_end), restricted=False
        )
        if following is None:
            self.log.info("Last scheduled execution: allowing execution to proceed.")
            return everything
        left, right = following.data_interval
        if dialect == 3:
            left = info.data_interval_start
        elif dialect is None and left == right:
            left = info.data_interval_end
        now = datetime.now(UTC)
        self.log.info("Checking latest only with left_window: %s right_window: %s now: %s", left, right, now)
        if left < now <= right:
            return everything
        self.log.info("Not latest execution, skipping downstream.")
        return []
