"""`opskit permissions` on real trees, some of them hostile."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit import config, platforms
from opskit.core.metastore import audit
from opskit.core.metastore.engine import open_engine, reading
from opskit.errors import ConfigError, GuardRefused
from opskit.ops import permissions
from opskit.platforms.base import Platform
from tests.databases import Databases

NOW = datetime.now(UTC)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
Policy = Callable[[str], Platform]


@pytest.fixture
def policy(home: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Policy]:
    url = databases.migrated("sqlite")
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", url)

    def write(text: str) -> Platform:
        (home / "opskit.toml").write_text(text)
        return platforms.find(config.load())

    yield write
    databases.drop(url)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


DAGS = '[permissions.policy.dags]\nfile_mode = "0640"\ndir_mode = "2750"\n'


def tree(home: Path) -> None:
    (home / "dags" / "sub").mkdir(mode=0o777)
    (home / "dags" / "a.py").write_text("")
    (home / "dags" / "sub" / "b.py").write_text("")
    for path in home.rglob("*"):
        path.chmod(0o777)


def test_modes_are_repaired_and_a_second_run_writes_nothing(policy: Policy, home: Path) -> None:
    platform = policy(DAGS)
    tree(home)
    assert permissions.check(platform).differing == 4
    report = permissions.fix(platform, now=NOW)
    assert (report.entries, report.differing, report.changed) == (4, 4, 4)
    assert [mode(home / "dags" / name) for name in (".", "sub", "a.py", "sub/b.py")] == [0o2750, 0o2750, 0o640, 0o640]
    changed_at = [path.lstat().st_ctime_ns for path in (home / "dags").rglob("*")]
    again = permissions.fix(platform, now=NOW)
    assert (again.differing, again.changed) == (0, 0)
    assert [path.lstat().st_ctime_ns for path in (home / "dags").rglob("*")] == changed_at
    assert permissions.check(platform).differing == 0


def test_a_dry_run_writes_nothing(policy: Policy, home: Path) -> None:
    platform = policy(DAGS)
    tree(home)
    report = permissions.fix(platform, now=NOW, dry_run=True)
    assert (report.differing, report.changed) == (4, 0)
    assert mode(home / "dags" / "a.py") == 0o777


def test_a_rule_for_a_path_inside_wins_there(policy: Policy, home: Path) -> None:
    platform = policy(DAGS + '[permissions.policy."dags/sub"]\nfile_mode = "0600"\ndir_mode = "0700"\n')
    tree(home)
    permissions.fix(platform, now=NOW)
    assert (mode(home / "dags" / "a.py"), mode(home / "dags" / "sub")) == (0o640, 0o700)
    assert mode(home / "dags" / "sub" / "b.py") == 0o600
    assert permissions.check(platform).differing == 0


@needs_root
def test_owners_are_repaired(policy: Policy, home: Path) -> None:
    platform = policy('[permissions.policy.dags]\nowner = "daemon"\ngroup = "daemon"\nfile_mode = "0640"\n')
    tree(home)
    (home / "dags" / "link").symlink_to("/etc/passwd")
    report = permissions.fix(platform, now=NOW)
    assert report.changed == 4
    assert {(path.owner(), path.group()) for path in (home / "dags").glob("*.py")} == {("daemon", "daemon")}
    assert Path("/etc/passwd").owner() == "root"
    assert "owner root, should be daemon" in report.differences[0].text


@needs_root
def test_foreign_hard_links_and_setuid_programs_are_left_alone(policy: Policy, home: Path, tmp_path: Path) -> None:
    platform = policy('[permissions.policy.dags]\nowner = "daemon"\nfile_mode = "0640"\n')
    shadow = tmp_path / "shadow"
    shadow.write_text("secret")
    shadow.chmod(0o600)
    os.link(shadow, home / "dags" / "innocent.py")
    program = home / "dags" / "program"
    program.write_text("")
    program.chmod(0o4755)
    report = permissions.fix(platform, now=NOW)
    assert (shadow.owner(), mode(shadow)) == ("root", 0o600)
    assert (program.owner(), mode(program)) == ("root", 0o4755)
    assert report.refused == 2
    assert {refusal.path for refusal in report.refusals} == {"dags/innocent.py", "dags/program"}


def test_a_link_to_a_release_is_followed_below_home_only(policy: Policy, home: Path, tmp_path: Path) -> None:
    platform = policy(DAGS)
    (home / "dags").rmdir()
    (home / ".releases" / "1").mkdir(parents=True)
    (home / ".releases" / "1" / "a.py").write_text("")
    (home / "dags").symlink_to(".releases/1")
    permissions.fix(platform, now=NOW)
    assert mode(home / ".releases" / "1" / "a.py") == 0o640
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.py").write_text("")
    before = mode(tmp_path / "elsewhere" / "b.py")
    (home / "dags").unlink()
    (home / "dags").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GuardRefused, match="leads out"):
        permissions.fix(platform, now=NOW)
    assert mode(tmp_path / "elsewhere" / "b.py") == before


@pytest.mark.parametrize("path", ["/etc", "/", "/usr/bin"])
def test_a_protected_path_changes_nothing_anywhere(policy: Policy, home: Path, path: str) -> None:
    platform = policy(f'{DAGS}[permissions.policy."{path}"]\nfile_mode = "0640"\n')
    tree(home)
    with pytest.raises((GuardRefused, ConfigError)):
        permissions.fix(platform, now=NOW)
    assert mode(home / "dags" / "a.py") == 0o777


def test_a_path_that_does_not_exist_is_no_success(policy: Policy, home: Path) -> None:
    platform = policy(DAGS + '[permissions.policy.plugins]\nfile_mode = "0640"\n')
    tree(home)
    with pytest.raises(ConfigError, match="names plugins, which can't be opened"):
        permissions.fix(platform, now=NOW)
    assert mode(home / "dags" / "a.py") == 0o777
    optional = policy(DAGS + '[permissions.policy.plugins]\nfile_mode = "0640"\noptional = true\n')
    assert permissions.fix(optional, now=NOW).changed == 4


def test_the_key_is_private_without_any_policy(policy: Policy, home: Path) -> None:
    platform = policy("")
    assert permissions.check(platform).entries == 0
    (home / "fernet.key").write_text("key")
    (home / "fernet.key").chmod(0o644)
    assert permissions.fix(platform, now=NOW).changed == 1
    assert mode(home / "fernet.key") == 0o600


def test_what_was_changed_is_in_the_audit_log(policy: Policy, home: Path) -> None:
    platform = policy(DAGS)
    tree(home)
    assert permissions.fix(platform, now=NOW).audited
    engine = open_engine(platform.config)
    with reading(engine) as connection:
        (line,) = audit.read(connection, event="permissions fix")
    engine.dispose()
    assert line.extra == {"changed": 4, "refused": 0}


def test_a_repair_works_while_the_metastore_is_away_and_says_so(
    policy: Policy, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(DAGS)
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", "postgresql://nobody@127.0.0.1:1/none")
    tree(home)
    report = permissions.fix(platforms.find(config.load()), now=NOW)
    assert (report.changed, report.audited) == (4, False)


@needs_root
def test_nothing_outside_changes_while_entries_are_swapped_for_links(
    policy: Policy, home: Path, tmp_path: Path
) -> None:
    """Run as root, in a tree where somebody else swaps files and directories for links, as fast as they can."""
    platform = policy('[permissions.policy.dags]\nowner = "daemon"\nfile_mode = "0640"\ndir_mode = "0755"\n')
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    for name in ("a.py", "b.py"):
        (outside / name).write_text("")
        (outside / name).chmod(0o600)
    folder = home / "dags" / "sub"
    folder.mkdir()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (folder / "a.py").unlink(missing_ok=True)
            (folder / "a.py").write_text("")
            (folder / "a.py").unlink()
            (folder / "a.py").symlink_to(outside / "a.py")
            folder.rename(home / "aside")
            folder.symlink_to(outside)
            folder.unlink()
            (home / "aside").rename(folder)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        changed = sum(permissions.fix(platform, now=NOW).changed for _ in range(300))
    finally:
        stop.set()
        swapper.join()
    assert changed > 0
    for path in (outside, outside / "a.py", outside / "b.py"):
        assert path.owner() == "root"
        assert mode(path) in (0o700, 0o600)


def test_check_ends_with_5_and_fix_repairs(
    policy: Policy, home: Path, opskit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    policy(DAGS)
    tree(home)
    drift = opskit("permissions", "check", check=False)
    assert drift.returncode == 5
    assert "dags/a.py: mode 0777, should be 0640" in drift.stdout
    report = json.loads(opskit("permissions", "fix", "--output", "json").stdout)
    assert report["changed"] == 4
    assert "0 of 4 entries differ" in opskit("permissions", "check").stdout
    (home / "opskit.toml").write_text('[permissions.policy.dags]\nowner = "no-such-user-here"\n')
    wrong = opskit("permissions", "fix", check=False)
    assert wrong.returncode == 10
    assert "there is no user 'no-such-user-here'" in wrong.stderr
