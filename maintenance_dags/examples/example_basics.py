"""A first DAG: functions as tasks, a shell command, and a branch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from opskit import dag, task
from opskit.operators import BashOperator, EmptyOperator


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"owner": "example", "retries": 2, "retry_delay": timedelta(seconds=10)},
    params={"orders": 12},
    tags=["example"],
)
def example_basics() -> None:
    @task
    def extract(params: dict[str, int] | None = None) -> list[int]:
        """What a function returns is kept as an XCom, and passed on below."""
        return [number * number for number in range((params or {}).get("orders", 12))]

    @task
    def add_up(amounts: list[int]) -> int:
        return sum(amounts)

    @task.branch
    def choose(total: int) -> str:
        """The task_id to go on with; the other branch is skipped."""
        return "large" if total > 100 else "small"

    total = add_up(extract())
    branch = choose(total)
    report = BashOperator(
        task_id="report",
        bash_command="echo 'total on {{ ds }}: {{ ti.xcom_pull(task_ids=\"add_up\") }}'",
        trigger_rule="none_failed_min_one_success",
    )
    branch >> [EmptyOperator(task_id="large"), EmptyOperator(task_id="small")] >> report


example_basics()
