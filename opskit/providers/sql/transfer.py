"""Rows into tables: SQLInsertRowsOperator, SQLBulkLoadOperator, and GenericTransfer between two databases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.hooks.base import BaseHook
from opskit.providers.registry import hook_for
from opskit.providers.sql.operators import BaseSQLOperator


class SQLInsertRowsOperator(BaseSQLOperator):
    """Insert `rows` (a list of rows, or what a task returned) into a table. `columns` are their columns, in order: the
    table's where they are not given; `ignored_columns` are left out of the table's. `rows_processor(context, rows)`
    makes the rows from what was given. `preoperator` and `postoperator` are SQL that runs before and after."""

    template_fields: Sequence[str] = (
        "table_name", "conn_id", "schema", "database", "_columns", "ignored_columns", "preoperator", "postoperator",
        "insert_args", "rows",
    )  # fmt: skip
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"preoperator": "sql"}

    def __init__(
        self,
        *,
        table_name: str,
        conn_id: str | None = None,
        schema: str | None = None,
        database: str | None = None,
        columns: Iterable[str] | None = None,
        ignored_columns: Iterable[str] | None = None,
        rows: Any = None,
        rows_processor: Callable[..., Any] | None = None,
        preoperator: str | list[str] | None = None,
        postoperator: str | list[str] | None = None,
        insert_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, database=database, **kwargs)
        self.table_name = table_name
        self.schema = schema
        self._columns = list(columns) if columns is not None else None
        self.ignored_columns = set(ignored_columns or ())
        self.rows = rows if rows is not None else []
        self._rows_processor = rows_processor
        self.preoperator = preoperator
        self.postoperator = postoperator
        self.insert_args = insert_args or {}

    @property
    def table_name_with_schema(self) -> str:
        return f"{self.schema}.{self.table_name}" if self.schema else self.table_name

    @property
    def columns(self) -> list[str]:
        """The columns of the table, asked of the database where they were not given."""
        if self._columns is not None:
            return self._columns
        hook = self.get_db_hook()
        return hook.run(  # type: ignore[no-any-return]
            f"SELECT * FROM {self.table_name_with_schema} WHERE 1 = 0",
            handler=lambda cursor: [column[0] for column in cursor.description],
        )

    @property
    def column_names(self) -> list[str]:
        return [name for name in self.columns if name not in self.ignored_columns]

    def execute(self, context: Any) -> None:
        rows = self.rows
        if not rows:
            raise AirflowException(f"task {self.task_id}: there are no rows to insert")
        hook = self.get_db_hook()
        if self.preoperator:
            hook.run(self.preoperator)
        if self._rows_processor is not None:
            rows = self._rows_processor(context, rows)
        names = self.column_names
        if rows and isinstance(next(iter(rows)), dict):
            rows = [[row.get(name) for name in names] for row in rows]
        hook.insert_rows(table=self.table_name_with_schema, rows=rows, target_fields=names, **self.insert_args)
        if self.postoperator:
            hook.run(self.postoperator)


class SQLBulkLoadOperator(BaseSQLOperator):
    """Load a tab-separated file of this host into a table."""

    template_fields: Sequence[str] = (
        "table", "tmp_file", "preoperator", "postoperator", *BaseSQLOperator.template_fields,
    )  # fmt: skip

    def __init__(
        self,
        *,
        table: str,
        tmp_file: str,
        preoperator: str | list[str] | None = None,
        postoperator: str | list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.tmp_file = tmp_file
        self.preoperator = preoperator
        self.postoperator = postoperator

    def execute(self, context: Any) -> None:
        hook = self.get_db_hook()
        if self.preoperator:
            hook.run(self.preoperator)
        hook.bulk_load(self.table, self.tmp_file)
        if self.postoperator:
            hook.run(self.postoperator)


class GenericTransfer(BaseOperator):
    """Insert what `sql` gives on one connection into a table of another. All rows are held in memory, or `page_size` of
    them at once: then `sql` is asked again and again, with `paginated_sql_statement_clause` behind it."""

    template_fields: Sequence[str] = (
        "source_conn_id", "destination_conn_id", "sql", "destination_table", "preoperator", "insert_args", "page_size",
        "paginated_sql_statement_clause",
    )  # fmt: skip
    template_ext: Sequence[str] = (".sql", ".hql")
    template_fields_renderers: ClassVar[dict[str, str]] = {"preoperator": "sql"}
    ui_color = "#b0f07c"

    def __init__(
        self,
        *,
        sql: str | list[str],
        destination_table: str,
        source_conn_id: str,
        source_hook_params: dict[str, Any] | None = None,
        destination_conn_id: str,
        destination_hook_params: dict[str, Any] | None = None,
        rows_processor: Callable[..., Any] | None = None,
        preoperator: str | list[str] | None = None,
        insert_args: dict[str, Any] | None = None,
        page_size: int | None = None,
        paginated_sql_statement_clause: str | None = None,
        deferrable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.destination_table = destination_table
        self.source_conn_id = source_conn_id
        self.source_hook_params = source_hook_params
        self.destination_conn_id = destination_conn_id
        self.destination_hook_params = destination_hook_params
        self._rows_processor = rows_processor
        self.preoperator = preoperator
        self.insert_args = insert_args or {}
        self.page_size = page_size
        self.paginated_sql_statement_clause = paginated_sql_statement_clause or "{} LIMIT {} OFFSET {}"
        self.deferrable = deferrable

    @classmethod
    def get_hook(cls, conn_id: str, hook_params: dict[str, Any] | None = None) -> Any:
        return hook_for(BaseHook.get_connection(conn_id), hook_params)

    def get_paginated_sql(self, offset: int) -> str:
        return self.paginated_sql_statement_clause.format(self.sql, self.page_size, offset)

    def execute(self, context: Any) -> None:
        source = self.get_hook(self.source_conn_id, self.source_hook_params)
        destination = self.get_hook(self.destination_conn_id, self.destination_hook_params)
        if self.preoperator:
            self.log.info("Running preoperator")
            destination.run(self.preoperator)
        if not self.page_size:
            statements = [self.sql] if isinstance(self.sql, str) else self.sql
            for statement in statements:
                self._insert(context, destination, source.get_records(statement))
            return
        if not isinstance(self.sql, str):
            raise AirflowException(f"task {self.task_id}: with page_size, sql is one statement")
        size, offset = int(self.page_size), 0
        while rows := source.get_records(self.get_paginated_sql(offset)):
            self._insert(context, destination, rows)
            offset += size

    def _insert(self, context: Any, destination: Any, rows: Any) -> None:
        if self._rows_processor is not None:
            rows = self._rows_processor(rows, context=context)
        self.log.info("Inserting rows into %s", self.destination_conn_id)
        destination.insert_rows(table=self.destination_table, rows=rows, **self.insert_args)
