"""Finding programs, and their versions as each of them says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from opskit.errors import ConfigError
from opskit.system.programs import Program, find_program, require_not_older


def install(folder: Path, name: str, says: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr("opskit.system.programs._ELSEWHERE", {})
    return tmp_path


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
        ("pg_dump (PostgreSQL) 17beta1", (17,)),
        ("mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)", (10, 11, 19)),
        ("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux (x86_64)", (11, 4, 2)),
        ("mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", (8, 0, 36)),
    ],
)
def test_a_version_is_read_as_each_program_says_it(path: Path, says: str, version: tuple[int, ...]) -> None:
    install(path, "tool", says)
    assert find_program(["tool"], package="p").version == version


def test_a_missing_program_names_its_package(path: Path) -> None:
    with pytest.raises(ConfigError, match="no_such_dump is not installed") as missing:
        find_program(["no_such_dump"], package="postgresql-client-15")
    assert "postgresql-client-15" in str(missing.value.hint)


def test_a_program_of_another_database_is_not_taken(path: Path) -> None:
    install(path, "mysqldump", "mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for Linux (x86_64)")
    with pytest.raises(ConfigError, match="another database"):
        find_program(["mysqldump"], package="mysql-client", without="MariaDB")


def test_a_program_that_can_not_say_its_version_is_not_taken(path: Path) -> None:
    install(path, "tool", "no numbers here")
    with pytest.raises(ConfigError):
        find_program(["tool"], package="p")


def test_a_client_older_than_the_server_is_refused() -> None:
    old, same = Program("/x", (14, 9), ""), Program("/x", (15, 1), "")
    require_not_older(same, (15,), "PostgreSQL", package="p")
    with pytest.raises(ConfigError, match=r"has version 14\.9, older than the PostgreSQL server \(15\)"):
        require_not_older(old, (15,), "PostgreSQL", package="p")
