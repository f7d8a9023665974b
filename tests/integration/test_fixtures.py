"""The fixtures themselves: what other tests build on must not lie."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import strays
from tests.databases import Databases
from tests.moto_server import S3
from tests.waiting import wait_until


def test_an_empty_database_has_no_tables(database_url: str) -> None:
    if database_url.startswith("sqlite"):
        assert not Path(database_url.removeprefix("sqlite:///")).exists()
        return
    assert _tables(database_url) == set()


def test_a_dropped_database_is_gone(databases: Databases) -> None:
    url = databases.empty("postgresql")
    databases.drop(url)
    import psycopg

    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(url)


def test_the_s3_api_keeps_what_is_put(s3: S3) -> None:
    bucket = s3.make_bucket()
    s3.client().put_object(Bucket=bucket, Key="a/b", Body=b"text")
    assert s3.client().get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"text"


def test_a_process_that_is_left_behind_is_found_and_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    before = strays.living() - {process.pid}
    with pytest.raises(AssertionError, match="left behind"):
        strays.check(before, patience=0.1)
    assert process.wait(10) == -9


def test_waiting_gives_the_value_or_says_what_was_missing() -> None:
    assert wait_until(lambda: 3, what="a number") == 3
    with pytest.raises(AssertionError, match=r"within 0\.01 s: the moon"):
        wait_until(lambda: False, timeout=0.01, what="the moon")


def _tables(url: str) -> set[str]:
    if url.startswith("postgres"):
        import psycopg

        with psycopg.connect(url) as connection:
            rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    else:
        import pymysql

        parts = urlsplit(url)
        client = pymysql.connect(
            host=parts.hostname or "",
            port=parts.port or 0,
            user=parts.username or "",
            password=parts.password or "",
            database=parts.path[1:],
        )
        with client.cursor() as cursor:
            cursor.execute("SHOW TABLES")
            rows = list(cursor.fetchall())
        client.close()
    return {row[0] for row in rows}
