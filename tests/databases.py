"""Databases for tests, made and dropped on the servers that OPSKIT_TEST_POSTGRES_URL and OPSKIT_TEST_MARIADB_URL name.

A migrated metastore is made once per kind and process, and cloned for each test.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.services import missing

KINDS = ("sqlite", "postgresql", "mariadb")
_VARIABLES = {"postgresql": "OPSKIT_TEST_POSTGRES_URL", "mariadb": "OPSKIT_TEST_MARIADB_URL"}


def server_url(kind: str) -> str:
    """URL of the test server of this kind, without a database name; ends with a slash."""
    url = os.environ.get(_VARIABLES[kind], "")
    if not url:
        missing(f"no {kind} server: {_VARIABLES[kind]} is not set (scripts/test starts one)")
    return url.rstrip("/") + "/"


class Databases:
    """Makes databases, and drops those it made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._templates: dict[str, Callable[[str], None]] = {}
        self._made: list[str] = []

    def empty(self, kind: str) -> str:
        """URL of a fresh, empty database. On SQLite: of a file that does not exist yet."""
        name = f"opskit_test_{os.getpid()}_{secrets.token_hex(5)}"
        if kind == "sqlite":
            url = f"sqlite:///{self._folder / name}.db"
        else:
            url = server_url(kind) + name
            if kind == "postgresql":
                _postgres(f'CREATE DATABASE "{name}"')
            else:
                _mariadb(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        self._made.append(url)
        return url

    def migrated(self, kind: str) -> str:
        """URL of a fresh metastore with the current schema."""
        if kind not in self._templates:
            self._templates[kind] = self._template(kind)
        if kind == "postgresql":
            name = f"opskit_test_{os.getpid()}_{secrets.token_hex(5)}"
            url = server_url(kind) + name
            self._made.append(url)
        else:
            url = self.empty(kind)
        self._templates[kind](url)
        return url

    def _template(self, kind: str) -> Callable[[str], None]:
        from opskit.core.metastore.engine import open_engine
        from opskit.core.metastore.schema import migrate

        template = self.empty(kind)
        engine = open_engine(template)
        try:
            migrate(engine)
        finally:
            engine.dispose()
        if kind == "sqlite":
            return lambda url: _copy_file(template, url)
        if kind == "postgresql":
            return lambda url: _postgres(f'CREATE DATABASE "{_name(url)}" TEMPLATE "{_name(template)}"')
        statements = _mariadb_dump(_name(template))
        return lambda url: _mariadb(*statements, database=_name(url))

    def drop(self, url: str) -> None:
        """Drop one database, whoever is still connected."""
        self._made.remove(url)
        if url.startswith("sqlite"):
            for path in Path(_file(url)).parent.glob(Path(_file(url)).name + "*"):
                path.unlink()
        elif url.startswith("postgres"):
            _postgres(f'DROP DATABASE IF EXISTS "{_name(url)}" WITH (FORCE)')
        else:
            _drop_mariadb(_name(url))

    def drop_all(self) -> None:
        # The newest first: the templates go last.
        for url in reversed(self._made[:]):
            self.drop(url)


def _name(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def _file(url: str) -> str:
    return url.removeprefix("sqlite:///")


def _copy_file(source: str, target: str) -> None:
    shutil.copyfile(_file(source), _file(target))


def _postgres(*statements: str) -> None:
    import psycopg

    with psycopg.connect(server_url("postgresql") + "postgres", autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def _connect_mariadb(database: str | None = None) -> Any:
    import pymysql

    parts = urlsplit(server_url("mariadb"))
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=database,
        charset="utf8mb4",
        autocommit=True,
        ssl_disabled=True,  # else it reads all certificates of the machine first
    )


def _mariadb(*statements: str, database: str | None = None) -> None:
    connection = _connect_mariadb(database)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET foreign_key_checks = 0")
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()


def _mariadb_dump(database: str) -> list[str]:
    """The statements that make a copy of this (small) database."""
    statements = []
    connection = _connect_mariadb(database)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW TABLES")
            for (table,) in cursor.fetchall():
                cursor.execute(f"SHOW CREATE TABLE `{table}`")
                statements.append(cursor.fetchone()[1])
                cursor.execute(f"SELECT * FROM `{table}`")
                for row in cursor.fetchall():
                    values = ", ".join(connection.escape(value) for value in row)
                    statements.append(f"INSERT INTO `{table}` VALUES ({values})")
    finally:
        connection.close()
    return statements


def _drop_mariadb(name: str) -> None:
    connection = _connect_mariadb()
    try:
        with connection.cursor() as cursor:
            # An open transaction of a killed process would hold the drop back.
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
            for (identifier,) in cursor.fetchall():
                try:
                    cursor.execute(f"KILL {int(identifier)}")
                except Exception as error:
                    if error.args[0] != 1094:  # it went away by itself
                        raise
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
    finally:
        connection.close()
