"""`opskit db`, `connections`, `variables` and `pools` as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from opskit.config import load
from opskit.core.metastore import audit, instances
from opskit.core.metastore.engine import open_engine, reading, transaction
from opskit.system import daemon
from tests.metastore_rows import NOW

Opskit = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def metastore(opskit: Opskit) -> Opskit:
    opskit("db", "migrate")
    return opskit


def _events(home: Path) -> list[str]:
    engine = open_engine(load(home))
    with reading(engine) as connection:
        found = [line.event for line in audit.read(connection)]
    engine.dispose()
    return found


def test_a_metastore_is_created_checked_and_created_only_once(opskit: Opskit, home: Path) -> None:
    missing = opskit("db", "check", check=False)
    assert missing.returncode == 12
    assert "opskit db migrate" in missing.stderr and "Traceback" not in missing.stderr
    assert not (home / "opskit.db").exists()
    assert "created" in opskit("db", "migrate").stdout
    assert json.loads(opskit("db", "migrate", "--output", "json").stdout)["changed"] is False
    assert "current" in opskit("db", "check").stdout
    assert (home / "fernet.key").stat().st_mode & 0o777 == 0o600
    assert (home / "opskit.db").stat().st_mode & 0o777 == 0o600


def test_reset_asks_and_says_what_is_lost(metastore: Opskit, home: Path) -> None:
    metastore("variables", "set", "k", "v")
    assert metastore("db", "reset", check=False, stdin=subprocess.DEVNULL).returncode == 2
    assert "1 variable" in metastore("db", "reset", "--dry-run").stdout
    assert json.loads(metastore("variables", "list", "-o", "json").stdout) != []
    metastore("db", "reset", "--yes")
    assert json.loads(metastore("variables", "list", "-o", "json").stdout) == []
    assert _events(home) == ["db reset"]


def test_reset_is_refused_while_a_scheduler_lives(metastore: Opskit, home: Path) -> None:
    started = daemon.process_started(os.getpid())
    assert started is not None
    path = daemon.write_pid_file(home / "run", "scheduler", "me", NOW.isoformat())
    refused = metastore("db", "reset", "--yes", check=False)
    assert refused.returncode == 16
    assert f"pid {os.getpid()}" in refused.stderr
    path.unlink()
    metastore("db", "reset", "--yes")


def test_reset_is_refused_while_a_scheduler_of_another_host_beats(metastore: Opskit, home: Path) -> None:
    from datetime import UTC, datetime

    engine = open_engine(load(home))
    with transaction(engine) as connection:
        instances.register(
            connection,
            instance_id="far",
            kind="scheduler",
            hostname="far",
            home="/",
            pid=1,
            pid_started=1.0,
            now=datetime.now(UTC),
        )
    engine.dispose()
    refused = metastore("db", "reset", "--yes", check=False)
    assert refused.returncode == 16
    assert "scheduler on far" in refused.stderr


def test_a_connection_is_added_shown_masked_and_deleted(metastore: Opskit, home: Path) -> None:
    metastore("connections", "add", "pg", "--conn-uri", "postgres://me:geheim@h:5432/db?token=geheim")
    metastore("connections", "add", "web", "--conn-type", "http", "--conn-host", "h", "--conn-port", "80")
    metastore("connections", "add", "ssh", "--conn-json", "-", input='{"conn_type": "ssh", "password": "geheim"}')
    listed = metastore("connections", "list", "--output", "json").stdout
    assert [row["conn_id"] for row in json.loads(listed)] == ["pg", "ssh", "web"]
    shown = metastore("connections", "get", "pg", "-o", "json").stdout
    assert json.loads(shown)["port"] == 5432
    assert "geheim" not in listed + shown + metastore("connections", "list").stdout
    clear = json.loads(metastore("connections", "get", "pg", "-o", "json", "--show-secrets").stdout)
    assert (clear["password"], clear["extra"]) == ("geheim", {"token": "geheim"})
    metastore("connections", "delete", "pg")
    gone = metastore("connections", "get", "pg", check=False)
    assert gone.returncode == 2 and "no connection 'pg'" in gone.stderr
    assert _events(home)[:2] == ["connections delete", "connections add"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["c"],
        ["c", "--conn-host", "h"],
        ["c", "--conn-uri", "http://h", "--conn-type", "http"],
        ["c", "--conn-uri", "http://h", "--conn-json", "{}"],
        ["c", "--conn-json", "{"],
        ["c", "--conn-type", "http", "--conn-port", "eighty"],
        ["a b", "--conn-type", "http"],
    ],
)
def test_a_connection_that_makes_no_sense_is_wrong_usage(metastore: Opskit, arguments: list[str]) -> None:
    done = metastore("connections", "add", *arguments, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert metastore("connections", "list", "-o", "json").stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["all.json", "all.yaml", "all.env"])
def test_connections_move_from_one_home_to_another(metastore: Opskit, home: Path, tmp_path: Path, name: str) -> None:
    other = {"OPSKIT_HOME": str(tmp_path / "other")}
    metastore("db", "migrate", env=other)
    metastore("connections", "add", "a", "--conn-uri", "postgres://me:p%40%C3%A9@h/db?x=1")
    metastore("connections", "add", "b", "--conn-type", "http", "--conn-extra", '{"n": {"m": 1}}')
    file = tmp_path / name
    metastore("connections", "export", file)
    assert file.stat().st_mode & 0o777 == 0o600
    dry = metastore("connections", "import", file, "--dry-run", env=other)
    assert "added: a, b" in dry.stdout
    assert metastore("connections", "list", "-o", "json", env=other).stdout.strip() == "[]"
    metastore("connections", "import", file, env=other)
    again = metastore("connections", "import", file, env=other)
    assert "unchanged: a, b" in again.stdout
    both = [metastore("connections", "export", "-", env=env).stdout for env in ({}, other)]
    assert both[0] == both[1]
    metastore("connections", "delete", "a", env=other)
    metastore("connections", "add", "a", "--conn-type", "ftp", env=other)
    kept = metastore("connections", "import", file, env=other, check=False)
    assert kept.returncode == 3 and "--overwrite" in kept.stderr
    assert "replaced: a" in metastore("connections", "import", file, "--overwrite", env=other).stdout


def test_an_import_with_one_bad_item_changes_nothing(metastore: Opskit, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"good": {"conn_type": "http"}, "bad": {"port": "x"}}')
    done = metastore("connections", "import", file, check=False)
    assert done.returncode == 2
    assert "bad" in done.stderr and str(file) in done.stderr
    assert metastore("connections", "list", "-o", "json").stdout.strip() == "[]"


def test_variables_are_set_read_and_moved(metastore: Opskit, tmp_path: Path) -> None:
    metastore("variables", "set", "plain", "-", input="a\nb\n")
    metastore("variables", "set", "js", '{"a":1}', "--json", "--description", "words")
    metastore("variables", "set", "my_password", "geheim")
    assert metastore("variables", "set", "js", "{", "--json", check=False).returncode == 2
    assert metastore("variables", "get", "plain").stdout == "a\nb\n"
    assert json.loads(metastore("variables", "get", "js", "--json").stdout) == {"a": 1}
    assert metastore("variables", "get", "nope", "--default", "d").stdout == "d\n"
    assert metastore("variables", "get", "nope", check=False).returncode == 2
    refused = metastore("variables", "get", "my_password", check=False)
    assert refused.returncode == 2 and "geheim" not in refused.stdout + refused.stderr
    assert metastore("variables", "get", "my_password", "--show-secrets").stdout == "geheim\n"
    assert "geheim" not in metastore("variables", "list", "--show-values").stdout
    file = tmp_path / "v.json"
    metastore("variables", "export", file)
    assert json.loads(file.read_text())["js"] == {"description": "words", "value": {"a": 1}}
    metastore("variables", "set", "plain", "other")
    assert metastore("variables", "import", file, "-a", "fail", check=False).returncode == 2
    assert metastore("variables", "get", "plain").stdout == "other\n"
    metastore("variables", "import", file, "-a", "skip")
    assert metastore("variables", "get", "plain").stdout == "other\n"
    assert "replaced: plain" in metastore("variables", "import", file).stdout
    assert metastore("variables", "get", "plain").stdout == "a\nb\n"


def test_pools_are_set_moved_and_guarded(metastore: Opskit, tmp_path: Path) -> None:
    metastore("pools", "set", "p", "3", "words")
    file = tmp_path / "p.json"
    metastore("pools", "export", file)
    metastore("pools", "set", "p", "4")
    assert json.loads(metastore("pools", "get", "p", "-o", "json").stdout)["slots"] == 4
    assert "replaced: p" in metastore("pools", "import", file).stdout
    metastore("pools", "delete", "p")
    assert metastore("pools", "delete", "p", check=False).returncode == 2
    assert metastore("pools", "delete", "default_pool", check=False).returncode == 16
    assert [row["pool"] for row in json.loads(metastore("pools", "list", "-o", "json").stdout)] == ["default_pool"]


def test_another_key_names_the_row_that_it_can_not_decrypt(metastore: Opskit, home: Path) -> None:
    metastore("connections", "add", "pg", "--conn-uri", "postgres://me:geheim@h/db")
    (home / "fernet.key").unlink()
    done = metastore("connections", "get", "pg", check=False)
    assert done.returncode == 1
    assert "connection 'pg', password can't be decrypted" in done.stderr and "Traceback" not in done.stderr
    assert "pg" in metastore("connections", "list").stdout


def test_the_shell_talks_to_the_metastore(metastore: Opskit, home: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "sqlite3"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:])\n")
    program.chmod(0o755)
    done = metastore("db", "shell", env={"PATH": f"{program.parent}:{os.environ['PATH']}"})
    assert done.stdout.strip() == repr([str(home / "opskit.db")])
    assert metastore("db", "shell", env={"PATH": str(tmp_path)}, check=False).returncode == 10
