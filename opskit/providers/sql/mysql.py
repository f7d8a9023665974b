"""MySqlHook: MySQL and MariaDB, over the library PyMySQL (`opskit[mysql]`)."""

from __future__ import annotations

import json
from typing import Any, ClassVar
from urllib.parse import quote

from opskit.core.dag.exceptions import AirflowException
from opskit.providers.optional import library
from opskit.providers.sql.hook import DbApiHook

_CURSORS = {"sscursor": "SSCursor", "dictcursor": "DictCursor", "ssdictcursor": "SSDictCursor"}


class MySqlHook(DbApiHook):
    """Extras: `charset`, `cursor` (sscursor, dictcursor, ssdictcursor), `ssl` (an object or its JSON), `unix_socket`,
    `init_command`, `local_infile`. `local_infile=True` allows bulk_load."""

    conn_name_attr: ClassVar[str] = "mysql_conn_id"
    default_conn_name: ClassVar[str] = "mysql_default"
    conn_type: ClassVar[str] = "mysql"
    hook_name: ClassVar[str] = "MySQL"
    supports_autocommit = True

    def __init__(self, *args: Any, local_infile: bool = False, init_command: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.local_infile = local_infile
        self.init_command = init_command

    def get_conn(self) -> Any:
        pymysql = library("pymysql", extra="mysql", needed_by="MySqlHook")
        conn = self.connection
        extra = conn.extra_dejson
        arguments: dict[str, Any] = {
            "host": conn.host or "localhost",
            "user": conn.login,
            "password": conn.password or "",
            "database": self.schema or conn.schema or None,
            "port": int(conn.port or 3306),
            "charset": extra.get("charset", "utf8mb4"),
            "local_infile": self.local_infile or bool(extra.get("local_infile", False)),
        }
        cursor = str(extra.get("cursor", "")).lower()
        if cursor:
            if cursor not in _CURSORS:
                raise AirflowException(f"connection {conn.conn_id}: cursor is {cursor!r}, known are {sorted(_CURSORS)}")
            arguments["cursorclass"] = getattr(pymysql.cursors, _CURSORS[cursor])
        if extra.get("ssl"):
            ssl = extra["ssl"]
            arguments["ssl"] = json.loads(ssl) if isinstance(ssl, str) else ssl
        if extra.get("unix_socket"):
            arguments["unix_socket"] = extra["unix_socket"]
        command = self.init_command or extra.get("init_command")
        if command:
            arguments["init_command"] = command
        return pymysql.connect(**arguments)

    def get_uri(self) -> str:
        return self._uri("mysql")

    def sqlalchemy_uri(self) -> str:
        return self._uri("mysql+pymysql")

    def _uri(self, scheme: str) -> str:
        conn = self.connection
        login = quote(conn.login or "", safe="")
        if conn.password:
            login += ":" + quote(conn.password, safe="")
        port = f":{conn.port}" if conn.port else ""
        charset = conn.extra_dejson.get("charset")
        query = f"?charset={quote(str(charset))}" if charset else ""
        at = f"{login}@" if login else ""
        return f"{scheme}://{at}{conn.host or 'localhost'}{port}/{quote(self.schema or conn.schema or '')}{query}"

    def set_autocommit(self, conn: Any, autocommit: bool) -> None:
        conn.autocommit(autocommit)

    def get_autocommit(self, conn: Any) -> bool:
        return bool(conn.get_autocommit())

    @staticmethod
    def _serialize_cell(cell: Any, conn: Any = None) -> Any:  # noqa: ARG004 -- subclasses in DAG files use it
        return cell  # the library knows them all

    def bulk_load(self, table: str, tmp_file: str) -> None:
        """Load a tab-separated file of this host into a table."""
        self.bulk_load_custom(table, tmp_file, duplicate_key_handling="")

    def bulk_load_custom(
        self, table: str, tmp_file: str, duplicate_key_handling: str = "IGNORE", extra_options: str = ""
    ) -> None:
        """The same; rows with a key that is there already are left out (IGNORE) or replaced (REPLACE)."""
        if not self.local_infile and not self.connection_extra.get("local_infile"):
            raise AirflowException(
                "a file of this host is loaded only when the hook is told so: MySqlHook(…, local_infile=True)"
            )
        self.run(
            f"LOAD DATA LOCAL INFILE %s {duplicate_key_handling} INTO TABLE {table} {extra_options}",
            parameters=(tmp_file,),
        )

    def bulk_dump(self, table: str, tmp_file: str) -> None:
        """Have the server write a table into a tab-separated file of its own host."""
        self.run(f"SELECT * INTO OUTFILE %s FROM {table}", parameters=(tmp_file,))
