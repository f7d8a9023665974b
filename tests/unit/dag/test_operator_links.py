"""Links of operators become XComs where the DAG was written for Airflow 3; tasks know where their log is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from opskit import DAG
from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.operator_links import BaseOperatorLink
from opskit.operators import PythonOperator


class _Page(BaseOperatorLink):
    @property
    def name(self) -> str:
        return "Page"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return f"https://example.com/{operator.task_id}/{ti_key.run_id}"


class _Broken(_Page):
    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        raise ValueError("no page")


class _Linked(BaseOperator):
    operator_extra_links = (_Broken(), _Page())

    def execute(self, context: Any) -> str:
        return "done"


@pytest.mark.parametrize(("dialect", "keys"), [(2, {"return_value"}), (3, {"return_value", "_link__Page"})])
def test_a_link_is_kept_as_an_xcom_in_airflow_3_only(dialect: int, keys: set[str]) -> None:
    with DAG("linked", start_date=datetime(2024, 1, 1, tzinfo=UTC), schedule=None) as dag:
        _Linked(task_id="a")
    dag.dialect = dialect
    run = dag.test()
    assert (run.state, set(run.xcoms["a"])) == ("success", keys)
    if dialect == 3:
        assert run.xcoms["a"]["_link__Page"] == f"https://example.com/a/{run.run_id}"


def test_the_address_of_a_log_lies_below_the_address_of_the_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    with DAG("logged", start_date=datetime(2024, 1, 1, tzinfo=UTC), schedule=None) as dag:
        PythonOperator(task_id="a", python_callable=lambda ti: ti.log_url)
    at = datetime(2024, 6, 3, tzinfo=UTC)
    rest = "/dags/logged/runs/manual__2024-06-03T00%3A00%3A00%2B00%3A00/tasks/a?try_number=1"
    assert dag.test(logical_date=at).xcoms["a"]["return_value"] == f"http://localhost:8080{rest}"
    monkeypatch.setenv("OPSKIT__WEBSERVER__BASE_URL", "https://ops.example.com/")
    assert dag.test(logical_date=at).xcoms["a"]["return_value"] == f"https://ops.example.com{rest}"
