"""The program that talks to the metastore by hand: sqlite3, psql or mariadb."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field

from opskit.core.metastore.engine import normalised
from opskit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Shell:
    """Arguments, and environment variables to add: a password never stands in the arguments, where `ps` shows them."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def shell(url: str, find: Callable[[str], str | None] = shutil.which) -> Shell:
    """How to start the client for this metastore. ConfigError when it is not installed."""
    parsed = normalised(url)
    backend = parsed.get_backend_name()
    query = {name: value for name, value in parsed.query.items() if isinstance(value, str)}
    if backend == "sqlite":
        return Shell([_program(("sqlite3",), find), parsed.database or ":memory:"])
    if backend == "postgresql":
        names = {"PGSSLMODE": "sslmode", "PGSSLROOTCERT": "sslrootcert", "PGSSLCERT": "sslcert", "PGSSLKEY": "sslkey"}
        environment = {name: query[key] for name, key in names.items() if key in query}
        given = {
            "PGHOST": parsed.host or query.get("host"),
            "PGPORT": str(parsed.port) if parsed.port else None,
            "PGUSER": parsed.username,
            "PGPASSWORD": parsed.password,
            "PGDATABASE": parsed.database,
        }
        environment.update({name: str(value) for name, value in given.items() if value})
        return Shell([_program(("psql",), find)], environment)
    arguments = [_program(("mariadb", "mysql"), find)]
    if parsed.host:
        # "localhost" would mean the Unix socket, whatever the port.
        arguments += ["--protocol=TCP", f"--host={parsed.host}"]
    if parsed.port:
        arguments.append(f"--port={parsed.port}")
    if parsed.username:
        arguments.append(f"--user={parsed.username}")
    if "unix_socket" in query:
        arguments.append(f"--socket={query['unix_socket']}")
    arguments += ["--default-character-set=utf8mb4", str(parsed.database or "")]
    return Shell(arguments, {"MYSQL_PWD": str(parsed.password)} if parsed.password else {})


def _program(names: tuple[str, ...], find: Callable[[str], str | None]) -> str:
    for name in names:
        found = find(name)
        if found:
            return found
    raise ConfigError(
        f"{' or '.join(names)} is not installed", hint="install the client of your database; opskit itself needs none"
    )
