"""Database URLs: which driver, what is shown, which client."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from opskit.core.metastore.engine import normalised, open_engine, redacted, sqlite_path
from opskit.core.metastore.shell import shell
from opskit.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////x/opskit.db", "sqlite"),
        ("postgres://u@h/db", "postgresql+psycopg"),
        ("postgresql://u@h/db", "postgresql+psycopg"),
        ("postgresql+psycopg2://u@h/db", "postgresql+psycopg"),
        ("mysql://u@h/db", "mysql+pymysql"),
        ("mysql+mysqldb://u@h/db?charset=utf8", "mysql+pymysql"),
        ("mariadb://u@h/db", "mariadb+pymysql"),
    ],
)
def test_a_url_gets_our_driver(url: str, driver: str) -> None:
    assert normalised(url).drivername == driver
    if "pymysql" in driver:
        assert normalised(url).query["charset"] == "utf8mb4"


@pytest.mark.parametrize("url", ["", "nonsense:geheim@x", "oracle://me:geheim@h/db", "mysql://u:geheim@h:port/db"])
def test_what_is_no_url_of_a_known_database_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        normalised(url)
    assert "geheim" not in caught.value.message + str(caught.value.hint)
    assert "geheim" not in redacted(url)


def test_a_shown_url_has_no_secrets() -> None:
    shown = redacted("postgresql://me:geheim@h:5/db?sslmode=require&sslpassword=geheim&sslkey=geheim")
    assert "geheim" not in shown
    assert "me:***@h:5/db" in shown and "sslmode=require" in shown


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_psycopg(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "psycopg":
            raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_psycopg)
    with pytest.raises(ConfigError) as caught:
        open_engine("postgresql://u:geheim@h/db")
    assert caught.value.hint == "install it with: pip install 'opskit[postgres]'"


def test_a_sqlite_file_is_found_in_its_url() -> None:
    assert str(sqlite_path("sqlite:////x/y.db")) == "/x/y.db"
    assert sqlite_path("sqlite://") is None
    assert sqlite_path("postgresql://h/db") is None


def test_a_shell_gets_the_password_by_the_environment_only() -> None:
    found = shell("postgresql://me:ge%40heim@h:5/db?sslmode=require", find=lambda name: f"/bin/{name}")
    assert found.arguments == ["/bin/psql"]
    assert found.environment == {
        "PGSSLMODE": "require",
        "PGHOST": "h",
        "PGPORT": "5",
        "PGUSER": "me",
        "PGPASSWORD": "ge@heim",
        "PGDATABASE": "db",
    }
    found = shell("mysql://me:geheim@h:5/db", find=lambda name: "/bin/mysql" if name == "mysql" else None)
    assert found.arguments[0] == "/bin/mysql"
    assert {"--host=h", "--port=5", "--user=me", "db"} <= set(found.arguments)
    assert "geheim" not in " ".join(found.arguments)
    assert found.environment == {"MYSQL_PWD": "geheim"}
    assert shell("sqlite:////x/y.db", find=lambda name: name).arguments == ["sqlite3", "/x/y.db"]


def test_a_client_that_is_not_installed_says_so() -> None:
    with pytest.raises(ConfigError, match="psql is not installed"):
        shell("postgresql://h/db", find=lambda name: None)
