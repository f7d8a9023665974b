"""SQLExecuteQueryOperator and its older names: SQL on the database of any connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException, AirflowFailException
from opskit.core.dag.hooks.base import BaseHook
from opskit.core.dag.operators.branch import BranchMixIn
from opskit.providers.registry import hook_for
from opskit.providers.sql.handlers import fetch_all_handler, return_single_query_results
from opskit.providers.sql.hook import DbApiHook, Parameters


class BaseSQLOperator(BaseOperator):
    """What runs SQL on the connection `conn_id`, in its database or another one (`database`).

    `retry_on_failure=False`: a check that fails is not tried again. A subclass may keep the id under another name,
    which it tells in `conn_id_field`."""

    conn_id_field: ClassVar[str] = "conn_id"
    template_fields: Sequence[str] = ("conn_id", "database", "hook_params")

    def __init__(
        self,
        *,
        conn_id: str | None = None,
        database: str | None = None,
        hook_params: dict[str, Any] | None = None,
        retry_on_failure: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.database = database
        self.hook_params = hook_params or {}
        self.retry_on_failure = retry_on_failure

    @classmethod
    def get_hook(cls, conn_id: str, hook_params: dict[str, Any] | None = None) -> Any:
        return hook_for(BaseHook.get_connection(conn_id), hook_params)

    def get_db_hook(self) -> DbApiHook:
        """The hook of the connection. AirflowException when it is no database."""
        hook = self.__dict__.get("_hook")
        if hook is None:
            conn_id = getattr(self, self.conn_id_field, None) or self.conn_id
            if not conn_id:
                raise AirflowException(f"task {self.task_id}: {self.conn_id_field} is not given")
            hook = self.get_hook(conn_id, self.hook_params)
            if not hasattr(hook, "get_records"):
                raise AirflowException(f"connection {conn_id} is served by {type(hook).__name__}: that is no database")
            if self.database:
                hook.schema = self.database
                if hasattr(hook, "database"):
                    hook.database = self.database
            self.__dict__["_hook"] = hook
        return hook  # type: ignore[no-any-return]

    def prepare_for_execution(self) -> BaseOperator:
        copied = super().prepare_for_execution()
        copied.__dict__.pop("_hook", None)
        return copied

    def _raise_exception(self, text: str) -> NoReturn:
        if self.retry_on_failure:
            raise AirflowException(text)
        raise AirflowFailException(text)


class SQLExecuteQueryOperator(BaseSQLOperator):
    """Run `sql`: a text, the name of a .sql file, or a list of either. What `handler(cursor)` makes of the result is
    pushed as XCom: of the last statement, or of each with return_last=False or a list. `parameters` are bound by the
    database's library. Without do_xcom_push nothing is fetched, unless requires_result_fetch says so."""

    template_fields: Sequence[str] = ("sql", "parameters", *BaseSQLOperator.template_fields)
    template_ext: Sequence[str] = (".sql", ".json")
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql", "parameters": "json"}
    ui_color = "#cdaaed"

    def __init__(
        self,
        *,
        sql: str | list[str],
        autocommit: bool = False,
        parameters: Parameters = None,
        handler: Callable[[Any], Any] | None = fetch_all_handler,
        output_processor: Callable[[list[Any], list[Any]], Any] | None = None,
        conn_id: str | None = None,
        database: str | None = None,
        split_statements: bool | None = None,
        return_last: bool = True,
        show_return_value_in_logs: bool = False,
        requires_result_fetch: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, database=database, **kwargs)
        self.sql = sql
        self.autocommit = autocommit
        self.parameters = parameters
        self.handler = handler
        self._output_processor = output_processor
        self.split_statements = split_statements
        self.return_last = return_last
        self.show_return_value_in_logs = show_return_value_in_logs
        self.requires_result_fetch = requires_result_fetch

    def _process_output(self, results: list[Any], descriptions: list[Any]) -> Any:
        """For subclasses: what is made of the results, given the columns of each."""
        return results if self._output_processor is None else self._output_processor(results, descriptions)

    def _should_run_output_processing(self) -> bool:
        return self.do_xcom_push

    def execute(self, context: Any) -> Any:
        hook = self.get_db_hook()
        fetch = self._should_run_output_processing() or self.requires_result_fetch
        options: dict[str, Any] = {}
        if self.split_statements is not None:
            options["split_statements"] = self.split_statements
        output = hook.run(
            sql=self.sql,
            autocommit=self.autocommit,
            parameters=self.parameters,
            handler=self.handler if fetch else None,
            return_last=self.return_last,
            **options,
        )
        if not self._should_run_output_processing():
            return None
        if return_single_query_results(self.sql, self.return_last, self.split_statements):
            # The processor gets lists in any case.
            output = self._process_output([output], hook.descriptions)[-1]
        else:
            output = self._process_output(output, hook.descriptions)
        if self.show_return_value_in_logs:
            self.log.info("Returned value: %s", output)
        return output


class PostgresOperator(SQLExecuteQueryOperator):
    """SQLExecuteQueryOperator by its older name. `runtime_parameters` are settings of the server for this session."""

    def __init__(
        self,
        *,
        postgres_conn_id: str = "postgres_default",
        runtime_parameters: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("conn_id", postgres_conn_id)
        if runtime_parameters:
            options = " ".join(f"-c {name}={value}" for name, value in runtime_parameters.items())
            kwargs["hook_params"] = {"options": options, **(kwargs.get("hook_params") or {})}
        super().__init__(**kwargs)


class MySqlOperator(SQLExecuteQueryOperator):
    """SQLExecuteQueryOperator by its older name."""

    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "mysql", "parameters": "json"}
    ui_color = "#ededed"

    def __init__(self, *, mysql_conn_id: str = "mysql_default", **kwargs: Any) -> None:
        kwargs.setdefault("conn_id", mysql_conn_id)
        super().__init__(**kwargs)


class SqliteOperator(SQLExecuteQueryOperator):
    """SQLExecuteQueryOperator by its older name."""

    def __init__(self, *, sqlite_conn_id: str = "sqlite_default", **kwargs: Any) -> None:
        kwargs.setdefault("conn_id", sqlite_conn_id)
        super().__init__(**kwargs)


class MsSqlOperator(SQLExecuteQueryOperator):
    """SQLExecuteQueryOperator by its older name. The hook for SQL Server comes with Airflow's own provider package."""

    def __init__(self, *, mssql_conn_id: str = "mssql_default", **kwargs: Any) -> None:
        kwargs.setdefault("conn_id", mssql_conn_id)
        super().__init__(**kwargs)


class BranchSQLOperator(BranchMixIn, BaseSQLOperator):
    """Follow one list of tasks or the other, by the first value of the first row that `sql` gives: a boolean, a number
    (0 is false), or a text (true, y, yes, 1, on; false, n, no, 0, off)."""

    template_fields: Sequence[str] = ("sql", *BaseSQLOperator.template_fields)
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"sql": "sql"}
    ui_color = "#a22034"
    ui_fgcolor = "#F7F7F7"

    def __init__(
        self,
        *,
        sql: str,
        follow_task_ids_if_true: str | list[str],
        follow_task_ids_if_false: str | list[str],
        conn_id: str = "default_conn_id",
        database: str | None = None,
        parameters: Parameters = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, database=database, **kwargs)
        self.sql = sql
        self.parameters = parameters
        self.follow_task_ids_if_true = follow_task_ids_if_true
        self.follow_task_ids_if_false = follow_task_ids_if_false

    def execute(self, context: Any) -> None:
        row = self.get_db_hook().get_first(self.sql, self.parameters)
        if not row:
            raise AirflowException("No rows returned from sql query. Operator expected True or False return value.")
        value = row[0] if isinstance(row, (list, tuple)) else next(iter(row.values())) if isinstance(row, dict) else row
        self.do_branch(context, self.follow_task_ids_if_true if truth(value) else self.follow_task_ids_if_false)


def truth(value: Any) -> bool:
    """What a value of a database means as a condition. AirflowException for one that means neither."""
    if isinstance(value, (bool, int)):
        return bool(value)
    text = str(value).strip().lower()
    if isinstance(value, (str, bytes)):
        if text in {"true", "t", "y", "yes", "1", "on"}:
            return True
        if text in {"false", "f", "n", "no", "0", "off"}:
            return False
    raise AirflowException(f"the query gave {value!r}, where a boolean, a number or a text like 'true' is expected")
