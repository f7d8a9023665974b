"""PostgresHook: PostgreSQL, over psycopg2 where it is installed, and psycopg 3 (`opskit[postgres]`) elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from opskit.core.dag.exceptions import AirflowException
from opskit.providers.optional import installed, library
from opskit.providers.sql.hook import DbApiHook

_NOT_FOR_LIBPQ = {
    "iam", "redshift", "redshift-serverless", "cursor", "cluster-identifier", "workgroup-name", "aws_conn_id",
    "sqlalchemy_scheme", "sqlalchemy_query", "azure_conn_id",
}  # fmt: skip
_CURSORS = ("dictcursor", "realdictcursor", "namedtuplecursor")


class PostgresHook(DbApiHook):
    """`database` is another database than the connection's (`schema` is its old name), `options` are command-line
    options for the server (`-c statement_timeout=3000ms`). Extras go to libpq (sslmode, connect_timeout …); `cursor`:
    dictcursor, realdictcursor, namedtuplecursor.

    Task code that was written for psycopg2 names its cursor classes, so that library is taken where it is there."""

    conn_name_attr: ClassVar[str] = "postgres_conn_id"
    default_conn_name: ClassVar[str] = "postgres_default"
    conn_type: ClassVar[str] = "postgres"
    hook_name: ClassVar[str] = "Postgres"
    supports_autocommit = True

    def __init__(
        self,
        *args: Any,
        options: str | None = None,
        enable_log_db_messages: bool = False,
        database: str | None = None,
        schema: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, schema=schema, **kwargs)
        self.options = options
        self.enable_log_db_messages = enable_log_db_messages
        self.database = database or schema
        self.conn: Any = None

    def get_conn(self) -> Any:
        """A new connection, also in `self.conn`."""
        conn = self.connection
        extra = conn.extra_dejson
        if extra.get("iam"):
            raise AirflowException(
                f"connection {conn.conn_id}: logging in by IAM is not supported; put a password into the connection"
            )
        arguments: dict[str, Any] = {
            "host": conn.host,
            "user": conn.login,
            "password": conn.password,
            "dbname": self.database or conn.schema,
            "port": conn.port,
            "options": self.options,
        }
        arguments.update({key: value for key, value in extra.items() if key not in _NOT_FOR_LIBPQ})
        arguments = {key: value for key, value in arguments.items() if value not in (None, "")}
        cursor = str(extra.get("cursor", "")).lower()
        if cursor and cursor not in _CURSORS:
            raise AirflowException(f"connection {conn.conn_id}: cursor is {cursor!r}, known are {', '.join(_CURSORS)}")
        if _has_psycopg2():
            self.conn = _connect_with_psycopg2(arguments, cursor)
        else:
            library("psycopg", extra="postgres", needed_by="PostgresHook")
            from opskit.providers.sql import postgres_cursor

            self.conn = postgres_cursor.connect(arguments, cursor)
        return self.conn

    def get_uri(self) -> str:
        return self._uri("postgresql")

    def sqlalchemy_uri(self) -> str:
        return self._uri("postgresql+psycopg2" if _has_psycopg2() else "postgresql+psycopg")

    def _uri(self, scheme: str) -> str:
        conn = self.connection
        login = quote(conn.login or "", safe="")
        if conn.password:
            login += ":" + quote(conn.password, safe="")
        port = f":{conn.port}" if conn.port else ""
        extra = {key: value for key, value in conn.extra_dejson.items() if key not in _NOT_FOR_LIBPQ}
        query = f"?{urlencode(extra)}" if extra else ""
        at = f"{login}@" if login else ""
        return f"{scheme}://{at}{conn.host or ''}{port}/{quote(self.database or conn.schema or '')}{query}"

    @staticmethod
    def _serialize_cell(cell: Any, conn: Any = None) -> Any:  # noqa: ARG004 -- subclasses in DAG files use it
        return cell  # the library knows them all

    def copy_expert(self, sql: str, filename: str) -> None:
        """Run COPY … FROM STDIN with the content of a file, or COPY … TO STDOUT into it."""
        self.log.info("Running copy expert: %s, filename: %s", sql, filename)
        to_server = " from stdin" in " ".join(sql.lower().split())
        with (
            open(filename, "rb" if to_server else "wb") as file,
            closing(self.get_conn()) as conn,
            closing(conn.cursor()) as cursor,
        ):
            cursor.copy_expert(sql, file)
            conn.commit()

    def bulk_load(self, table: str, tmp_file: str) -> None:
        """Load a tab-separated file into a table."""
        self.copy_expert(f"COPY {table} FROM STDIN", tmp_file)

    def bulk_dump(self, table: str, tmp_file: str) -> None:
        """Write a table into a tab-separated file."""
        self.copy_expert(f"COPY {table} TO STDOUT", tmp_file)

    def get_table_primary_key(self, table: str, schema: str | None = "public") -> list[str] | None:
        """The columns of the primary key in their order; None without one."""
        rows = self.get_records(
            "SELECT kcu.column_name FROM information_schema.table_constraints tc "
            "JOIN information_schema.key_column_usage kcu ON kcu.constraint_name = tc.constraint_name "
            "AND kcu.table_schema = tc.table_schema AND kcu.table_name = tc.table_name "
            "WHERE tc.constraint_type = 'PRIMARY KEY' AND tc.table_name = %s AND tc.table_schema = %s "
            "ORDER BY kcu.ordinal_position",
            parameters=(table, schema),
        )
        return [row[0] for row in rows] or None

    def _generate_insert_sql(
        self, table: str, values: Sequence[Any], target_fields: Iterable[str], replace: bool, **kwargs: Any
    ) -> str:
        """With `replace`, `replace_index` names the columns of the unique key by which rows are the same."""
        fields = list(target_fields)
        sql = super()._generate_insert_sql(table, values, fields, False)
        if not replace:
            return sql
        key = kwargs.get("replace_index")
        if not fields:
            raise ValueError("PostgreSQL needs target_fields to replace rows")
        if not key:
            raise ValueError("PostgreSQL needs replace_index, the columns of a unique key, to replace rows")
        keys = [key] if isinstance(key, str) else list(key)
        others = [name for name in fields if name not in keys]
        action = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in others) if others else "NOTHING"
        return f"{sql} ON CONFLICT ({', '.join(keys)}) DO {action}"

    def _log_messages(self, conn: Any) -> None:
        if self.enable_log_db_messages:
            for text in getattr(conn, "notices", ()):
                self.log.info("%s", text.strip())


def _has_psycopg2() -> bool:
    return installed("psycopg2")


def _connect_with_psycopg2(arguments: dict[str, Any], cursor: str) -> Any:
    psycopg2 = library("psycopg2", extra="postgres", needed_by="PostgresHook")
    if cursor:
        extras = library("psycopg2.extras", extra="postgres", needed_by="PostgresHook")
        classes = {
            "dictcursor": extras.DictCursor,
            "realdictcursor": extras.RealDictCursor,
            "namedtuplecursor": extras.NamedTupleCursor,
        }
        arguments = {**arguments, "cursor_factory": classes[cursor]}
    return psycopg2.connect(**arguments)
