"""SQLColumnCheckOperator and SQLTableCheckOperator: many checks of one table in one query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from opskit.core.dag.exceptions import AirflowException
from opskit.providers.sql.operators import BaseSQLOperator, truth

_LOWER = ("greater_than", "geq_to")
_UPPER = ("less_than", "leq_to")
_COMPARISONS = (*_LOWER, *_UPPER, "equal_to")


class SQLColumnCheckOperator(BaseSQLOperator):
    """`column_mapping`: column → check → comparison. Checks: null_check (NULLs), distinct_check (distinct values),
    unique_check (rows beyond them), min, max. Comparisons: equal_to, greater_than, geq_to, less_than, leq_to, with
    `tolerance` (0.1: ten per cent) and a `partition_clause` of their own. NULL counts as 0 with accept_none."""

    template_fields: Sequence[str] = ("table", "partition_clause", "sql", *BaseSQLOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql"}
    column_checks: ClassVar[dict[str, str]] = {
        "null_check": "SUM(CASE WHEN {column} IS NULL THEN 1 ELSE 0 END)",
        "distinct_check": "COUNT(DISTINCT({column}))",
        "unique_check": "COUNT(*) - COUNT(DISTINCT({column}))",
        "min": "MIN({column})",
        "max": "MAX({column})",
    }

    def __init__(
        self,
        *,
        table: str,
        column_mapping: dict[str, dict[str, Any]],
        partition_clause: str | None = None,
        conn_id: str | None = None,
        database: str | None = None,
        accept_none: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, database=database, **kwargs)
        self.table = table
        self.column_mapping = column_mapping
        self.partition_clause = _checked(partition_clause)
        self.accept_none = accept_none
        queries: list[str] = []
        for column, checks in column_mapping.items():
            for check, values in checks.items():
                if check not in self.column_checks:
                    raise AirflowException(f"Invalid column check: {check}. There are {', '.join(self.column_checks)}")
                _check_comparisons(values)
                value = self.column_checks[check].format(column=column)
                where = _where(self.partition_clause, values)
                queries.append(
                    f"SELECT '{column}' AS col_name, '{check}' AS check_type, {column}_{check} AS check_result "
                    f"FROM (SELECT {value} AS {column}_{check} FROM {table}{where}) AS sq"
                )
        self.sql = f"SELECT col_name, check_type, check_result FROM ({' UNION ALL '.join(queries)}) AS check_columns"

    def execute(self, context: Any) -> None:
        rows = self.get_db_hook().get_records(self.sql)
        if not rows:
            self._raise_exception(f"The following query returned zero rows: {self.sql}")
        self.log.info("Record: %s", rows)
        failed: list[str] = []
        for column, check, result in rows:
            values = self.column_mapping[column][check]
            if not self._get_match(values, result, values.get("tolerance")):
                failed.append(f"Column: {column}\n\tCheck: {check},\n\tCheck Values: {values}, result: {result}\n")
        if failed:
            self._raise_exception(
                f"Test failed.\nResults:\n{rows!s}\nThe following tests have failed:\n{''.join(failed)}"
            )
        self.log.info("All tests have passed")

    def _get_match(self, check_values: dict[str, Any], record: Any, tolerance: float | None = None) -> bool:
        """Whether one result meets its comparisons."""
        if record is None:
            if not self.accept_none:
                return False
            record = 0

        def bound(name: str, side: int) -> Any:
            value = check_values[name]
            # Without a tolerance a bound may be a date or a text.
            return value if tolerance is None else value + side * abs(value) * tolerance

        good = True
        if "geq_to" in check_values:
            good = record >= bound("geq_to", -1)
        elif "greater_than" in check_values:
            good = record > bound("greater_than", -1)
        if "leq_to" in check_values:
            good = good and record <= bound("leq_to", 1)
        elif "less_than" in check_values:
            good = good and record < bound("less_than", 1)
        if "equal_to" in check_values:
            if tolerance is None:
                return bool(good and record == check_values["equal_to"])
            good = good and bound("equal_to", -1) <= record <= bound("equal_to", 1)
        return bool(good)


class SQLTableCheckOperator(BaseSQLOperator):
    """`checks`: name → {check_statement: a condition of SQL, partition_clause: which rows it is asked of}. A condition
    over columns must hold for each row, one over aggregates for the table. No rows fail, unless accept_none."""

    template_fields: Sequence[str] = ("table", "partition_clause", "sql", *BaseSQLOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql"}

    def __init__(
        self,
        *,
        table: str,
        checks: dict[str, dict[str, Any]],
        partition_clause: str | None = None,
        conn_id: str | None = None,
        database: str | None = None,
        accept_none: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, database=database, **kwargs)
        self.table = table
        self.checks = checks
        self.partition_clause = _checked(partition_clause)
        self.accept_none = accept_none
        queries = [
            f"SELECT '{name}' AS check_name, MIN({name}) AS check_result "
            f"FROM (SELECT CASE WHEN {values['check_statement']} THEN 1 ELSE 0 END AS {name} "
            f"FROM {table}{_where(self.partition_clause, values)}) AS sq"
            for name, values in checks.items()
        ]
        self.sql = f"SELECT check_name, check_result FROM ({' UNION ALL '.join(queries)}) AS check_table"

    def execute(self, context: Any) -> None:
        rows = self.get_db_hook().get_records(self.sql)
        if not rows:
            self._raise_exception(f"The following query returned zero rows: {self.sql}")
        self.log.info("Record: %s", rows)
        failed = [
            f"\tCheck: {name},\n\tCheck Values: {self.checks[name]}, result: {result}\n"
            for name, result in rows
            if not (self.accept_none if result is None else truth(result))
        ]
        if failed:
            self._raise_exception(
                f"Test failed.\nQuery:\n{self.sql}\nResults:\n{rows!s}\n"
                f"The following tests have failed:\n{', '.join(failed)}"
            )
        self.log.info("All tests have passed")


def _checked(clause: str | None) -> str | None:
    if clause is not None and ";" in clause:
        raise ValueError("partition_clause holds a semicolon: it is a condition, not a statement")
    return clause


def _where(clause: str | None, values: dict[str, Any]) -> str:
    conditions = [condition for condition in (clause, values.get("partition_clause")) if condition]
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _check_comparisons(values: dict[str, Any]) -> None:
    given = [name for name in _COMPARISONS if name in values]
    if not given:
        raise ValueError(f"a check needs one or more of: {', '.join(_COMPARISONS)}")
    if all(name in values for name in _LOWER):
        raise ValueError("only one of greater_than and geq_to can be given")
    if all(name in values for name in _UPPER):
        raise ValueError("only one of less_than and leq_to can be given")
    if "equal_to" in values and len(given) > 1:
        raise ValueError("equal_to can't stand beside another comparison")
    lower = next((name for name in _LOWER if name in values), None)
    upper = next((name for name in _UPPER if name in values), None)
    if lower and upper:
        both_closed = lower == "geq_to" and upper == "leq_to"
        if values[lower] > values[upper] or (values[lower] == values[upper] and not both_closed):
            raise ValueError(f"no value is both {lower} {values[lower]} and {upper} {values[upper]}")
