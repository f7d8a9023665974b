"""Checks of data by a query: SQLCheckOperator, SQLValueCheckOperator, SQLIntervalCheckOperator,
SQLThresholdCheckOperator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from opskit.core.dag.exceptions import AirflowException
from opskit.errors import DagInvalid
from opskit.providers.sql.hook import Parameters
from opskit.providers.sql.operators import BaseSQLOperator


class SQLCheckOperator(BaseSQLOperator):
    """Fails unless every value of the first row that `sql` gives is true (not 0, not empty, not NULL)."""

    template_fields: Sequence[str] = ("sql", *BaseSQLOperator.template_fields)
    template_ext: Sequence[str] = (".hql", ".sql")
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql"}
    ui_color = "#fff7e6"

    def __init__(
        self,
        *,
        sql: str,
        conn_id: str | None = None,
        database: str | None = None,
        parameters: Parameters = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, database=database, **kwargs)
        self.sql = sql
        self.parameters = parameters

    def execute(self, context: Any) -> None:
        self.log.info("Executing SQL check: %s", self.sql)
        row = self.get_db_hook().get_first(self.sql, self.parameters)
        self.log.info("Record: %s", row)
        if not row:
            self._raise_exception(f"The following query returned zero rows: {self.sql}")
        values = list(row.values()) if isinstance(row, dict) else list(row)
        if not all(bool(value) for value in values):
            self._raise_exception(f"Test failed.\nQuery:\n{self.sql}\nResults:\n{row!s}")
        self.log.info("Success.")


class SQLValueCheckOperator(BaseSQLOperator):
    """Fails unless every value of the first row is `pass_value`; a number may differ by `tolerance` (0.1: ten per
    cent)."""

    template_fields: Sequence[str] = ("sql", "pass_value", *BaseSQLOperator.template_fields)
    template_ext: Sequence[str] = (".hql", ".sql")
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql"}
    ui_color = "#fff7e6"

    def __init__(
        self,
        *,
        sql: str,
        pass_value: Any,
        tolerance: Any = None,
        conn_id: str | None = None,
        database: str | None = None,
        parameters: Parameters = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, database=database, **kwargs)
        self.sql = sql
        self.pass_value = str(pass_value)
        self.tol = _number(tolerance) if tolerance is not None else None
        self.has_tolerance = self.tol is not None
        if isinstance(self.tol, str):
            raise DagInvalid(f"task {self.task_id}: tolerance is {tolerance!r}, a number is needed")
        self.parameters = parameters

    def check_value(self, records: Any) -> None:
        """Compare the first row. AirflowException when it is none, or not the right one."""
        if not records:
            self._raise_exception(f"The following query returned zero rows: {self.sql}")
        expected = _number(self.pass_value)
        if isinstance(expected, str):
            good = [str(value) == expected for value in records]
        else:
            try:
                numbers = [float(value) for value in records]
            except (TypeError, ValueError):
                raise AirflowException(f"Converting a result to float failed.\nResults:\n{records!s}") from None
            room = abs(expected) * float(self.tol or 0)
            good = [expected - room <= number <= expected + room for number in numbers]
        if not all(good):
            tolerance = f"{self.tol * 100:.1f}%" if isinstance(self.tol, float) else None
            self._raise_exception(
                f"Test failed.\nPass value:{expected}\nTolerance:{tolerance}\nQuery:\n{self.sql}\nResults:\n{records!s}"
            )

    def execute(self, context: Any) -> None:
        self.log.info("Executing SQL value check: %s", self.sql)
        self.check_value(self.get_db_hook().get_first(self.sql, self.parameters))


class SQLIntervalCheckOperator(BaseSQLOperator):
    """Compares metrics (SQL expressions over `table`) of the run's day with those of `days_back` days before. Fails
    when a ratio is not below its threshold: the greater over the smaller, or `relative_diff`."""

    template_fields: Sequence[str] = ("sql1", "sql2", *BaseSQLOperator.template_fields)
    template_ext: Sequence[str] = (".hql", ".sql")
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql1": "sql", "sql2": "sql"}
    ui_color = "#fff7e6"
    ratio_formulas: ClassVar[dict[str, Callable[[float, float], float]]] = {
        "max_over_min": lambda current, reference: max(current, reference) / min(current, reference),
        "relative_diff": lambda current, reference: abs(current - reference) / reference,
    }

    def __init__(
        self,
        *,
        table: str,
        metrics_thresholds: dict[str, float],
        date_filter_column: str | None = "ds",
        days_back: int = -7,
        ratio_formula: str | None = "max_over_min",
        ignore_zero: bool = True,
        conn_id: str | None = None,
        database: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, database=database, **kwargs)
        if ratio_formula not in self.ratio_formulas:
            raise AirflowException(f"Invalid diff_method: {ratio_formula}. Supported: {', '.join(self.ratio_formulas)}")
        self.ratio_formula = ratio_formula
        self.ignore_zero = ignore_zero
        self.table = table
        self.metrics_thresholds = metrics_thresholds
        self.metrics_sorted = sorted(metrics_thresholds)
        self.date_filter_column = date_filter_column
        self.days_back = -abs(days_back)
        select = f"SELECT {', '.join(self.metrics_sorted)} FROM {table} WHERE {date_filter_column}="
        self.sql1 = select + "'{{ ds }}'"
        self.sql2 = select + "'{{ macros.ds_add(ds, " + str(self.days_back) + ") }}'"

    def execute(self, context: Any) -> None:
        hook = self.get_db_hook()
        self.log.info("Using ratio formula: %s", self.ratio_formula)
        reference_row = hook.get_first(self.sql2)
        current_row = hook.get_first(self.sql1)
        if not reference_row:
            self._raise_exception(f"The following query returned zero rows: {self.sql2}")
        if not current_row:
            self._raise_exception(f"The following query returned zero rows: {self.sql1}")
        formula = self.ratio_formulas[str(self.ratio_formula)]
        failed: list[str] = []
        for metric, current, reference in zip(self.metrics_sorted, current_row, reference_row, strict=True):
            threshold = self.metrics_thresholds[metric]
            if not current or not reference:
                ratio, good = None, self.ignore_zero
            else:
                ratio = formula(float(current), float(reference))
                good = ratio < threshold
            self.log.info(
                "%s: current %s, %s days before %s, ratio %s, threshold %s",
                metric, current, -self.days_back, reference, ratio, threshold,
            )  # fmt: skip
            if not good:
                failed.append(f"{metric} (ratio {ratio}, threshold {threshold})")
        if failed:
            self._raise_exception(f"The following tests have failed:\n {', '.join(failed)}")
        self.log.info("All tests have passed")


class SQLThresholdCheckOperator(BaseSQLOperator):
    """Fails unless the first value of the first row lies between two thresholds, each a number or a query."""

    template_fields: Sequence[str] = ("sql", "min_threshold", "max_threshold", *BaseSQLOperator.template_fields)
    template_ext: Sequence[str] = (".hql", ".sql")
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql"}

    def __init__(
        self,
        *,
        sql: str,
        min_threshold: Any,
        max_threshold: Any,
        conn_id: str | None = None,
        database: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, database=database, **kwargs)
        self.sql = sql
        self.min_threshold = _number(min_threshold)
        self.max_threshold = _number(max_threshold)

    def execute(self, context: Any) -> None:
        hook = self.get_db_hook()
        row = hook.get_first(self.sql)
        if not row:
            self._raise_exception(f"The following query returned zero rows: {self.sql}")
        least = self._threshold(hook, self.min_threshold)
        most = self._threshold(hook, self.max_threshold)
        facts = {
            "result": row[0],
            "task_id": self.task_id,
            "min_threshold": least,
            "max_threshold": most,
            "within_threshold": least <= float(row[0]) <= most,
        }
        self.push(facts)
        if not facts["within_threshold"]:
            raise AirflowException(
                f'Threshold Check: "{self.task_id}" failed.\nDAG: {self.dag_id}\nTask_id: {self.task_id}\n'
                f"Query: {self.sql}\nResult: {row[0]} is not within thresholds {least} and {most}"
            )
        self.log.info("Test %s Successful.", self.task_id)

    def push(self, meta_data: dict[str, Any]) -> None:
        """For subclasses: keep the facts of the check elsewhere. This one logs them."""
        for key, value in meta_data.items():
            self.log.info("%s: %s", key, value)

    @staticmethod
    def _threshold(hook: Any, threshold: float | str) -> float:
        return threshold if isinstance(threshold, float) else float(hook.get_first(threshold)[0])


def _number(value: Any) -> float | str:
    """The value as a number where it is one; its text elsewhere."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
