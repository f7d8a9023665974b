"""DbApiHook: what all databases with a DB-API 2.0 library have in common, with Airflow's method names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any, ClassVar

from opskit.core.dag.connection import Connection
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.hooks.base import BaseHook
from opskit.providers.optional import library
from opskit.providers.sql import statements
from opskit.providers.sql.handlers import fetch_all_handler, fetch_one_handler, return_single_query_results

Parameters = Iterable[Any] | Mapping[str, Any] | None


class DbApiHook(BaseHook):
    """A subclass names its connection argument (`conn_name_attr`), the default id, and opens connections in `get_conn`.

    The id is the first argument, or the keyword that `conn_name_attr` names; `schema` is another database than the
    connection's."""

    conn_name_attr: ClassVar[str] = ""
    default_conn_name: ClassVar[str] = "default_conn_id"
    conn_type: ClassVar[str] = ""
    hook_name: ClassVar[str] = ""
    supports_autocommit = False
    supports_executemany = False
    connector: Any = None
    placeholder: str = "%s"
    _test_connection_sql = "select 1"

    def __init__(self, *args: Any, schema: str | None = None, log_sql: bool = True, **kwargs: Any) -> None:
        super().__init__()
        if not self.conn_name_attr:
            raise AirflowException(f"{type(self).__name__} does not say which argument names its connection")
        if len(args) > 1:
            raise TypeError(f"{type(self).__name__} takes one positional argument, the id of its connection")
        conn_id = args[0] if args else kwargs.pop(self.conn_name_attr, None)
        setattr(self, self.conn_name_attr, conn_id or self.default_conn_name)
        self.schema = schema
        self.log_sql = log_sql
        self.descriptions: list[Any] = []
        if kwargs:
            # Airflow takes any keyword here, and DAG files have typing errors in them that nobody noticed.
            self.log.warning("%s has no argument %s: ignored", type(self).__name__, ", ".join(sorted(kwargs)))

    def get_conn_id(self) -> str:
        return str(getattr(self, self.conn_name_attr))

    @property
    def connection(self) -> Connection:
        return self.get_connection(self.get_conn_id())

    @property
    def connection_extra(self) -> dict[str, Any]:
        return self.connection.extra_dejson

    @property
    def last_description(self) -> Any:
        """The columns of the last result, as the cursor describes them."""
        return self.descriptions[-1] if self.descriptions else None

    def get_conn(self) -> Any:
        """A new database connection; whoever asks closes it."""
        if self.connector is None:
            raise NotImplementedError(f"{type(self).__name__} has no get_conn()")
        conn = self.connection
        return self.connector.connect(
            host=conn.host, port=conn.port, username=conn.login, schema=self.schema or conn.schema
        )

    def get_cursor(self) -> Any:
        return self.get_conn().cursor()

    def get_uri(self) -> str:
        """The connection as a URI, password included."""
        conn = self.connection
        if self.schema:
            conn.schema = self.schema
        return conn.get_uri()

    def sqlalchemy_uri(self) -> str:
        """What SQLAlchemy's create_engine takes, password included."""
        return self.get_uri()

    @property
    def sqlalchemy_url(self) -> Any:
        return library("sqlalchemy", extra=None, needed_by="sqlalchemy_url").make_url(self.sqlalchemy_uri())

    def get_sqlalchemy_engine(self, engine_kwargs: dict[str, Any] | None = None) -> Any:
        """An engine of SQLAlchemy for the connection."""
        sqlalchemy = library("sqlalchemy", extra=None, needed_by="get_sqlalchemy_engine()")
        return sqlalchemy.create_engine(self.sqlalchemy_uri(), **(engine_kwargs or {}))

    @property
    def inspector(self) -> Any:
        sqlalchemy = library("sqlalchemy", extra=None, needed_by="inspector")
        return sqlalchemy.inspect(self.get_sqlalchemy_engine())

    def get_table_schema(self, table_name: str, schema: str | None = None) -> list[dict[str, str]]:
        """Name and type of each column of a table."""
        return [
            {"name": column["name"], "type": str(column["type"])}
            for column in self.inspector.get_columns(table_name, schema)
        ]

    def get_pandas_df(self, sql: str | list[str], parameters: Parameters = None, **kwargs: Any) -> Any:
        """The rows as a pandas DataFrame; `kwargs` go to `pandas.io.sql.read_sql`."""
        reader = library("pandas.io.sql", extra=None, needed_by="get_pandas_df()")
        with closing(self.get_conn()) as conn:
            return reader.read_sql(sql, con=conn, params=parameters, **kwargs)

    def get_pandas_df_by_chunks(
        self, sql: str | list[str], parameters: Parameters = None, *, chunksize: int, **kwargs: Any
    ) -> Iterator[Any]:
        """The same in DataFrames of `chunksize` rows."""
        reader = library("pandas.io.sql", extra=None, needed_by="get_pandas_df_by_chunks()")
        with closing(self.get_conn()) as conn:
            yield from reader.read_sql(sql, con=conn, params=parameters, chunksize=chunksize, **kwargs)

    def get_df(
        self, sql: str | list[str], parameters: Parameters = None, *, df_type: str = "pandas", **kwargs: Any
    ) -> Any:
        """The rows as a DataFrame of pandas or polars."""
        if df_type == "pandas":
            return self.get_pandas_df(sql, parameters, **kwargs)
        if df_type != "polars":
            raise ValueError(f"df_type is {df_type!r}, choose pandas or polars")
        polars = library("polars", extra=None, needed_by="get_df()")
        with closing(self.get_conn()) as conn:
            options = None if parameters is None else {"parameters": parameters}
            return polars.read_database(sql, connection=conn, execute_options=options, **kwargs)

    def get_df_by_chunks(
        self, sql: str | list[str], parameters: Parameters = None, *, chunksize: int, df_type: str = "pandas", **kw: Any
    ) -> Iterator[Any]:
        if df_type != "pandas":
            raise ValueError(f"df_type is {df_type!r}: only pandas reads in chunks")
        return self.get_pandas_df_by_chunks(sql, parameters, chunksize=chunksize, **kw)

    def get_records(self, sql: str | list[str], parameters: Parameters = None) -> Any:
        """All rows."""
        return self.run(sql, parameters=parameters, handler=fetch_all_handler)

    def get_first(self, sql: str | list[str], parameters: Parameters = None) -> Any:
        """The first row, or None."""
        return self.run(sql, parameters=parameters, handler=fetch_one_handler)

    @staticmethod
    def strip_sql_string(sql: str) -> str:
        return sql.strip().rstrip(";")

    @classmethod
    def split_sql_string(cls, sql: str, strip_semicolon: bool = False) -> list[str]:
        """The statements of a text."""
        return statements.split(sql, strip_semicolon)

    def run(
        self,
        sql: str | Iterable[str],
        autocommit: bool = False,
        parameters: Parameters = None,
        handler: Callable[[Any], Any] | None = None,
        split_statements: bool = False,
        return_last: bool = True,
    ) -> Any:
        """Run one statement or several in one transaction (without one with `autocommit`), each with `parameters`.

        What `handler(cursor)` gives for the last one is returned; with a list of statements, or return_last=False, the
        list of what it gave for each. None without a handler. ValueError when there is nothing to run."""
        self.descriptions = []
        if isinstance(sql, str):
            if split_statements:
                todo = self.split_sql_string(sql)
            else:
                todo = [sql] if sql.strip() else []
        else:
            todo = list(sql)
        if not todo:
            raise ValueError("the list of SQL statements is empty")
        single = return_single_query_results(sql, return_last, split_statements)
        results: list[Any] = []
        last: Any = None
        with self._open(autocommit) as conn:
            with closing(conn.cursor()) as cursor:
                for statement in todo:
                    self._run_command(cursor, statement, parameters)
                    if handler is None:
                        continue
                    last = handler(cursor)
                    if single:
                        self.descriptions = [cursor.description]
                    else:
                        results.append(last)
                        self.descriptions.append(cursor.description)
            if not self.get_autocommit(conn):
                conn.commit()
        if handler is None:
            return None
        return last if single else results

    @contextmanager
    def _open(self, autocommit: bool = False) -> Iterator[Any]:
        with closing(self.get_conn()) as conn:
            if self.supports_autocommit:
                self.set_autocommit(conn, autocommit)
            yield conn
            self._log_messages(conn)

    def _run_command(self, cursor: Any, statement: str, parameters: Parameters) -> None:
        if self.log_sql:
            self.log.info("Running statement: %s, parameters: %s", statement, parameters)
        if parameters:
            cursor.execute(statement, parameters)
        else:
            cursor.execute(statement)
        if getattr(cursor, "rowcount", -1) >= 0:
            self.log.info("Rows affected: %s", cursor.rowcount)

    def _log_messages(self, conn: Any) -> None:
        """Put what the database said besides its results into the log."""

    def set_autocommit(self, conn: Any, autocommit: bool) -> None:
        if not self.supports_autocommit and autocommit:
            self.log.warning("%s connections have no autocommit", self.get_conn_id())
        conn.autocommit = autocommit

    def get_autocommit(self, conn: Any) -> bool:
        return bool(getattr(conn, "autocommit", False)) and self.supports_autocommit

    def insert_rows(
        self,
        table: str,
        rows: Iterable[Sequence[Any]],
        target_fields: Iterable[str] | None = None,
        commit_every: int = 1000,
        replace: bool = False,
        *,
        executemany: bool = False,
        fast_executemany: bool = False,
        autocommit: bool = False,
        **kwargs: Any,
    ) -> None:
        """Insert rows into the columns `target_fields` (all columns without it), with a commit after each
        `commit_every` rows (0: one at the end). `replace`: rows with the same key are replaced."""
        fields = list(target_fields or ())
        many = executemany or fast_executemany
        count = 0
        with self._open(autocommit) as conn:
            with closing(conn.cursor()) as cursor:
                waiting: list[tuple[Any, ...]] = []
                statement = ""
                for row in rows:
                    values = tuple(self._serialize_cell(cell, conn) for cell in row)
                    count += 1
                    statement = self._generate_insert_sql(table, values, fields, replace, **kwargs)
                    if many:
                        waiting.append(values)
                    else:
                        cursor.execute(statement, values)
                    if commit_every and count % commit_every == 0:
                        if waiting:
                            cursor.executemany(statement, waiting)
                            waiting = []
                        conn.commit()
                        self.log.info("Loaded %s rows into %s so far", count, table)
                if waiting:
                    cursor.executemany(statement, waiting)
            if not self.get_autocommit(conn):
                conn.commit()
        self.log.info("Done loading. Loaded a total of %s rows into %s", count, table)

    @staticmethod
    def _serialize_cell(cell: Any, conn: Any = None) -> Any:  # noqa: ARG004 -- subclasses in DAG files use it
        """A value as the library of the database takes it."""
        if cell is None:
            return None
        return cell.isoformat() if isinstance(cell, datetime) else str(cell)

    def _generate_insert_sql(
        self, table: str, values: Sequence[Any], target_fields: Iterable[str], replace: bool, **kwargs: Any
    ) -> str:
        places = ",".join([self.placeholder] * len(values))
        verb = "REPLACE INTO" if replace else "INSERT INTO"
        return f"{verb} {table} {self._columns(target_fields)}VALUES ({places})"

    @staticmethod
    def _columns(target_fields: Iterable[str]) -> str:
        names = ", ".join(target_fields)
        return f"({names}) " if names else ""

    def bulk_dump(self, table: str, tmp_file: str) -> None:
        """Write a table into a tab-separated file."""
        raise NotImplementedError(f"{type(self).__name__} has no bulk_dump()")

    def bulk_load(self, table: str, tmp_file: str) -> None:
        """Load a tab-separated file into a table."""
        raise NotImplementedError(f"{type(self).__name__} has no bulk_load()")

    def test_connection(self) -> tuple[bool, str]:
        """Whether the database answers, and the error when it does not."""
        try:
            if self.get_first(self._test_connection_sql):
                return True, "Connection successfully tested"
        except Exception as error:  # noqa: BLE001 -- whatever the library raises is the answer
            return False, str(error)
        return False, "the database gave no answer"
