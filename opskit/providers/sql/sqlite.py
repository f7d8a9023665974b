"""SqliteHook: databases in a file, over Python's own sqlite3."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote, unquote, urlencode

from opskit.providers.sql.hook import DbApiHook


class SqliteHook(DbApiHook):
    """The host of the connection is the path of the file (empty: in memory); extras are SQLite's URI parameters."""

    conn_name_attr: ClassVar[str] = "sqlite_conn_id"
    default_conn_name: ClassVar[str] = "sqlite_default"
    conn_type: ClassVar[str] = "sqlite"
    hook_name: ClassVar[str] = "Sqlite"
    placeholder = "?"

    def get_conn(self) -> Any:
        import sqlite3

        return sqlite3.connect(self._file_uri(), uri=True)

    def get_uri(self) -> str:
        """The form that SQLAlchemy takes."""
        conn = self.connection
        path = self._path()
        uri = f"sqlite:///{path}"
        extra = conn.extra_dejson
        return f"{uri}?{urlencode(extra)}" if extra else uri

    def _path(self) -> str:
        conn = self.connection
        host = unquote(conn.host or "")
        schema = self.schema or conn.schema or ""
        # sqlite:////srv/data.db has no host: the path is all schema.
        if not host:
            return f"/{schema.lstrip('/')}" if schema else ""
        return f"{host}/{schema}" if schema else host

    def _file_uri(self) -> str:
        path = self._path() or ":memory:"
        query = urlencode(self.connection.extra_dejson)
        uri = f"file:{quote(path, safe='/:')}"
        return f"{uri}?{query}" if query else uri
