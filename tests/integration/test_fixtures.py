"""The fixtures themselves: what other tests build on must not lie."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import strays, warm
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


PROGRAM = """
import atexit, os, signal, sys, tempfile, threading, time
atexit.register(print, "at exit")
threading.Timer(0.05, print, ("a thread",)).start()
print(sys.argv[1:], sys.orig_argv[1:], os.getcwd(), sys.path[0], __name__, __package__, time.tzname, sys.stdin.read())
print(os.environ, tempfile.gettempdir(), sorted(name for name in sys.modules if "opskit" in name), file=sys.stderr)
with open("made", "w"):
    pass
ending = sys.argv[1]
if ending == "raise":
    raise ValueError("wrong")
if ending == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if ending == "hang":
    time.sleep(600)
sys.exit(eval(ending))
"""


def write_opskit(folder: Path) -> None:
    """Another opskit, which `python -m opskit` finds when it is started in this folder."""
    (folder / "opskit").mkdir()
    (folder / "opskit" / "__init__.py").touch()
    (folder / "opskit" / "__main__.py").write_text(PROGRAM)


@pytest.mark.parametrize("ending", ["3", "0", "None", "True", "'a sentence'", "raise", "kill"])
def test_a_warm_command_is_a_process_like_one_of_an_own_interpreter(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_opskit(tmp_path)
    found = []
    variables = {**os.environ, "TZ": "Asia/Tokyo", "TMPDIR": str(tmp_path), "MORE": "é\nü"}
    for own in (False, True):
        if own:
            monkeypatch.setenv("OPSKIT_TEST_COLD", "1")
        before = os.umask(0o027)
        done = warm.run(ending, "é", env=variables, cwd=tmp_path, input="said\n")
        os.umask(before)
        mode = (tmp_path / "made").stat().st_mode
        (tmp_path / "made").unlink()
        said, _, traceback = done.stderr.partition("Traceback")
        found.append((done.args, done.returncode, done.stdout, said, traceback[-100:], mode))
    assert found[0] == found[1]


def test_a_warm_command_that_does_not_end_is_killed(tmp_path: Path) -> None:
    write_opskit(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run("hang", env=dict(os.environ), cwd=tmp_path, timeout=0.3)


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
