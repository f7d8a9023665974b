"""`opskit env` and `opskit fernet` as an operator uses them, and where secrets turn up meanwhile: nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from opskit import config as configuration
from opskit import platforms
from opskit.core.metastore.engine import open_engine
from opskit.core.metastore.schema import migrate
from opskit.platforms.configuration import Write
from opskit.system import encryption
from tests.env_corpus import MARK, as_airflow, planted
from tests.metastore_rows import NOW

Opskit = Callable[..., "subprocess.CompletedProcess[str]"]


def _made(home: Path, name: str = "", *, protected: bool = False) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / "opskit.toml").write_text(f'[env]\nname = "{name}"\nprotected = {str(protected).lower()}\n')
    engine = open_engine(configuration.load(home, {}))
    migrate(engine)
    engine.dispose()
    return home


def _found(*places: Path) -> list[str]:
    """Files in which a planted secret stands in the clear."""
    return [
        str(path)
        for place in places
        for path in place.rglob("*")
        if path.is_file() and not path.is_symlink() and MARK.encode() in path.read_bytes()
    ]


def test_a_thousand_secrets_are_moved_and_none_is_ever_written_in_the_clear(
    opskit: Opskit, home: Path, tmp_path: Path
) -> None:
    objects, known = planted(1_000)
    assert len(known) >= 1_000
    _made(home, "prod")
    writes = [Write(kind, name, fields) for kind, items in objects.items() for name, fields in items.items()]
    platforms.find(configuration.load(home, {})).configuration.write(writes, lambda *_: True, NOW, "test", {})
    dev = _made(tmp_path / "dev", "dev")
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    work.mkdir()
    scratch.mkdir()
    identity, recipient = encryption.new_identity()
    (tmp_path / "id.txt").write_text(identity)
    said: list[str] = []

    def run(*arguments: object, code: int = 0) -> str:
        done = opskit(*arguments, check=False, cwd=work, env={"TMPDIR": str(scratch)}, stdin=subprocess.DEVNULL)
        assert done.returncode == code, done.stderr
        said.extend((done.stdout, done.stderr))
        return done.stdout

    run("env", "export", "prod.json")
    run("env", "export", "prod.age", "--with-secrets", "--recipient", recipient)
    run("env", "diff", dev, ".", code=5)
    run("env", "plan", "prod.age", "--identity", tmp_path / "id.txt", "--to", dev, "--secrets", "source", "--out", "p")
    assert "blocked" in run("env", "plan", "prod.json", "--to", dev)
    run("env", "apply", "p", "--to", dev, "--yes")
    applied = json.loads(run("env", "apply", ".", "--to", dev, "--secrets", "source", "--yes", "-o", "json"))
    assert (applied["created"], applied["updated"], applied["blocked"]) == (0, 0, [])
    run("env", "drift", dev)
    # Another secret is a difference that a reviewer sees, and not the secret.
    other = platforms.find(configuration.load(dev, {})).configuration
    changed = {**objects["variables"]["db_password_0"], "value": f"{MARK}-changed"}
    other.write([Write("variables", "db_password_0", changed)], lambda *_: True, NOW, "test", {})
    assert run("env", "drift", dev, ".", code=5).startswith("variables/db_password_0: value")
    run("env", "diff", dev, "prod.json", "-o", "json", code=5)
    run("env", "undo", "--to", dev, "--yes", code=16)
    run("env", "undo", "--to", dev, "--yes", "--force")
    assert len(json.loads(run("env", "undo", "--list", "--to", dev, "-o", "json"))) == 2
    run("fernet", "rotate")
    run("fernet", "audit")
    assert _found(home, dev, work, scratch) == []
    assert [text for text in said if MARK in text] == []
    # The search finds what is there: the same objects in Airflow's own file.
    (work / "connections.json").write_text(as_airflow(objects["connections"]))
    assert _found(work) == [str(work / "connections.json")]
    run("env", "drift", "connections.json")
    assert [text for text in said if MARK in text] == []


def test_the_same_state_is_the_same_file_that_only_its_owner_reads_and_nothing_replaces(
    opskit: Opskit, home: Path, tmp_path: Path
) -> None:
    _made(home, "dev")
    opskit("connections", "add", "pg", "--conn-uri", "postgres://me:geheim@h/db?b=1&a=2")
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    before = os.umask(0)
    try:
        opskit("env", "export", first)
        opskit("env", "export", second)
    finally:
        os.umask(before)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_mode & 0o777 == 0o600
    refused = opskit("env", "export", first, check=False)
    assert refused.returncode == 2 and "--force" in refused.stderr
    clear = opskit("env", "export", tmp_path / "c", "--with-secrets", check=False)
    assert clear.returncode == 10 and not (tmp_path / "c").exists()
    assert opskit("env", "drift", first).returncode == 0


def test_production_is_changed_from_elsewhere_only_when_it_is_named(opskit: Opskit, home: Path, tmp_path: Path) -> None:
    _made(home, "dev")
    prod = _made(tmp_path / "prod", "prod", protected=True)
    opskit("variables", "set", "region", "eu")
    opskit("env", "export", tmp_path / "dev.json")
    for source in (".", tmp_path / "dev.json"):
        refused = opskit("env", "apply", source, "--to", prod, "--yes", check=False)
        assert refused.returncode == 16 and "--allow-prod prod" in refused.stderr
    unnamed = opskit("env", "apply", ".", "--to", f"sqlite:///{prod}/opskit.db", "--yes", check=False)
    assert unnamed.returncode == 16
    assert opskit("env", "apply", ".", "--to", prod, check=False, stdin=subprocess.DEVNULL).returncode == 2
    assert "1 created" in opskit("env", "apply", ".", "--to", prod, "--yes", "--allow-prod", "prod").stdout


def test_the_key_of_fingerprints_moves_encrypted(opskit: Opskit, home: Path, tmp_path: Path) -> None:
    _made(home, "a")
    other = {"OPSKIT_HOME": str(_made(tmp_path / "b", "b"))}
    identity, recipient = encryption.new_identity()
    (tmp_path / "id.txt").write_text(identity)
    key_id = opskit("env", "key").stdout
    assert opskit("env", "key", env=other).stdout != key_id
    done = subprocess.run(
        [sys.executable, "-m", "opskit", "env", "key", "--recipient", recipient],
        env={**os.environ, "OPSKIT_HOME": str(home)},
        capture_output=True,
        check=True,
    )
    (tmp_path / "key.age").write_bytes(done.stdout)
    take = ("env", "key", "--import", tmp_path / "key.age", "--identity", tmp_path / "id.txt")
    assert opskit(*take, env=other, check=False).returncode == 16
    opskit(*take, "--force", env=other)
    assert opskit("env", "key", env=other).stdout == key_id


def test_a_rotated_key_is_used_at_once_and_a_lost_secret_is_repaired(opskit: Opskit, home: Path) -> None:
    _made(home)
    opskit("connections", "add", "pg", "--conn-uri", "postgres://me:geheim@h/db")
    opskit("fernet", "rotate")
    shown = opskit("connections", "get", "pg", "--show-secrets", "-o", "json").stdout
    assert json.loads(shown)["password"] == "geheim"
    (home / "fernet.key").unlink()
    (home / "fernet.key.retired").unlink()
    opskit("variables", "set", "new", "x")
    audited = opskit("fernet", "audit", check=False)
    assert audited.returncode == 5 and "connections/pg/password: can't be decrypted" in audited.stdout
    repair = ("fernet", "repair", "--set", "connections/pg/password=env:PW")
    assert opskit("fernet", "repair", check=False).returncode == 3
    assert opskit("fernet", "repair", "--set", "connections/pg/password=geheim", check=False).returncode == 2
    opskit(*repair, env={"PW": "anew"})
    assert opskit("fernet", "audit").returncode == 0
