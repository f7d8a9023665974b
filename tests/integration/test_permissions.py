"""`opskit permissions` on real trees, some of them hostile."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from opskit import config, platforms
from opskit.core.metastore import audit
from opskit.core.metastore.engine import open_engine, reading
from opskit.errors import ConfigError, GuardRefused, UsageError
from opskit.ops import permissions, permissions_acl, permissions_node
from opskit.ops.permissions_journal import Journal
from opskit.ops.permissions_roots import Root
from opskit.ops.permissions_rules import Held
from opskit.ops.permissions_tree import Repair, Tally
from opskit.platforms.base import Platform
from tests.databases import Databases
from tests.sshd import Nodes

NOW = datetime.now(UTC)
SWAPS_PER_WORD = 40
SWAPPER = """
import os, sys
folder, outside = sys.argv[1:]
file, aside, inside = folder + "/a.py", folder + ".aside", outside + "/a.py"
while True:
    for _ in range(10):
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY))
        os.unlink(file)
        os.symlink(inside, file)
        os.unlink(file)
        os.link(inside, file)
        os.unlink(file)
        os.rename(folder, aside)
        os.symlink(outside, folder)
        os.unlink(folder)
        os.rename(aside, folder)
    os.write(1, b".")
"""
"""Each of its ten rounds swaps a file for a link and for a hard link, and a folder for a link: four swaps with its way
back."""
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
    for path in (home / "dags", *(home / "dags").rglob("*")):
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
    assert "owner root, should be daemon" in report.hosts[0].differences[0].text


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
    assert {refusal.path for refusal in report.hosts[0].refusals} == {"dags/innocent.py", "dags/program"}


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
    assert (line.extra["changed"], line.extra["refused"]) == (4, 0)


def test_a_repair_works_while_the_metastore_is_away_and_says_so(
    policy: Policy, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(DAGS)
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", "postgresql://nobody@127.0.0.1:1/none")
    tree(home)
    report = permissions.fix(platforms.find(config.load()), now=NOW)
    assert (report.changed, report.audited) == (4, False)


@needs_root
@pytest.mark.parametrize("races", [2_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_nothing_outside_changes_while_entries_are_swapped_for_links(
    policy: Policy, home: Path, tmp_path: Path, races: int
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
    before = {path: path.lstat() for path in (outside, *outside.iterdir())}
    swapper = subprocess.Popen([sys.executable, "-c", SWAPPER, str(folder), str(outside)], stdout=subprocess.PIPE)
    assert swapper.stdout is not None
    request = permissions._request(platform.config, "run", NOW, write=True)
    changed, swaps = 0, 0
    try:
        while swaps < races:
            changed += permissions_node.answer(request)["changed"]
            swaps += len(os.read(swapper.stdout.fileno(), 1 << 16)) * SWAPS_PER_WORD
    finally:
        swapper.kill()
        swapper.communicate()
    assert changed > 0
    for path, was in before.items():
        now = path.lstat()
        assert (now.st_mode, now.st_uid, now.st_gid) == (was.st_mode, was.st_uid, was.st_gid), path


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("entries", [2_000, pytest.param(50_000, marks=pytest.mark.soak)])
def test_a_converged_tree_sees_no_inode_write(policy: Policy, home: Path, tmp_path: Path, entries: int) -> None:
    platform = policy(DAGS.replace("2750", '2750"\ninherit = true\nacl = "group:daemon:rX'))
    for number in range(entries // 100):
        (home / "dags" / f"{number}").mkdir()
        for file in range(99):
            (home / "dags" / f"{number}" / f"{file}.py").touch()
    assert permissions.fix(platform, now=NOW).changed == entries + 1
    changed_at = {path: path.lstat().st_ctime_ns for path in (home / "dags").rglob("*")}
    calls = tmp_path / "calls"
    writes = "fchownat,fchown,chown,lchown,fchmodat,fchmod,chmod,setxattr,fsetxattr,lsetxattr,removexattr,utimensat"
    traced = ["strace", "-f", "-qq", "-e", f"trace={writes},getxattr", "-o", str(calls)]
    done = subprocess.run(
        [*traced, sys.executable, "-m", "opskit", "permissions", "fix", "-o", "json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["entries"] == entries + 1
    below = [line for line in calls.read_text().splitlines() if str(home / "dags") in line or "/proc/self/fd" in line]
    assert len(below) > entries  # strace saw it at work
    assert [line for line in below if "getxattr" not in line] == []
    assert {path: path.lstat().st_ctime_ns for path in (home / "dags").rglob("*")} == changed_at


def test_what_was_repaired_can_be_taken_back(policy: Policy, home: Path) -> None:
    platform = policy(DAGS.replace("2750", '2750"\ninherit = true\nacl = "group:daemon:rX'))
    tree(home)
    before = {path: (mode(path), os.listxattr(path)) for path in (home / "dags").rglob("*")}
    (host,) = permissions.fix(platform, now=NOW).hosts
    file = Path(host.undo)
    assert (mode(file), file.parent) == (0o600, home / "run" / "permissions-undo")
    assert os.listxattr(home / "dags" / "sub") == [permissions_acl.ACCESS, permissions_acl.DEFAULT]
    (home / "dags" / "a.py").chmod(0o400)
    report = permissions.undo(platform, now=NOW, dry_run=True)
    assert (report.differing, report.changed, report.refused) == (3, 0, 1)
    report = permissions.undo(platform, now=NOW)
    assert (report.changed, report.refused) == (3, 1)
    assert report.hosts[0].refusals[0].reason == "it was changed since"
    (home / "dags" / "a.py").chmod(0o777)
    os.removexattr(home / "dags" / "a.py", permissions_acl.ACCESS)
    assert {path: (mode(path), os.listxattr(path)) for path in (home / "dags").rglob("*")} == before
    assert permissions.undo(platform, now=NOW).changed == 0


def test_an_undo_file_that_others_could_have_written_is_not_believed(policy: Policy, home: Path) -> None:
    platform = policy(DAGS)
    with pytest.raises(UsageError, match="nothing to undo"):
        permissions.undo(platform, now=NOW)
    tree(home)
    (host,) = permissions.fix(platform, now=NOW).hosts
    Path(host.undo).chmod(0o644)
    with pytest.raises(GuardRefused, match="not this user's own private file"):
        permissions.undo(platform, now=NOW)
    Path(host.undo).chmod(0o600)
    line = json.loads(Path(host.undo).read_text().splitlines()[-1])
    line["old"][2] = 0o4777
    Path(host.undo).write_text('{"opskit_undo": 1}\n' + json.dumps(line))
    assert permissions.undo(platform, now=NOW).changed == 1
    assert not any(mode(path) & 0o4000 for path in home.rglob("*"))
    Path(host.undo).write_text("something else")
    with pytest.raises(UsageError, match="is no undo file"):
        permissions.undo(platform, now=NOW, name=Path(host.undo).name)


def test_patterns_and_rules_inside_refine_what_is_around(policy: Policy, home: Path) -> None:
    platform = policy(DAGS + '[permissions.policy."dags/**/*.sh"]\nfile_mode = "0750"\n')
    tree(home)
    (home / "dags" / "sub" / "run.sh").touch()
    permissions.fix(platform, now=NOW)
    assert (mode(home / "dags/sub/run.sh"), mode(home / "dags/sub/b.py"), mode(home / "dags/sub")) == (
        0o750,
        0o640,
        0o2750,
    )
    assert permissions.check(platform).differing == 0


def test_what_is_made_after_a_repair_is_right_from_the_start(policy: Policy, home: Path) -> None:
    """setgid and the default list hold against any umask, so nothing drifts back."""
    platform = policy(
        '[permissions.policy.dags]\ngroup = "daemon"\nfile_mode = "0660"\ndir_mode = "2770"\ninherit = true\n'
        'acl = "group:adm:rX"\n'
    )
    permissions.fix(platform, now=NOW)
    before = os.umask(0o077)
    try:
        (home / "dags" / "new" / "deep").mkdir(parents=True)
        (home / "dags" / "new" / "deep" / "a.py").touch()
    finally:
        os.umask(before)
    assert mode(home / "dags" / "new" / "deep" / "a.py") == 0o660
    assert permissions.check(platform).differing == 0


def test_a_repair_stops_where_it_is_told_to(policy: Policy, home: Path) -> None:
    platform = policy(DAGS)
    tree(home)
    report = permissions.fix(platform, now=NOW, max_changes=3)
    assert (report.changed, report.stopped) == (3, True)
    assert permissions.fix(platform, now=NOW, max_changes=3).changed == 1


@needs_root
def test_a_foreign_file_that_was_linked_in_and_out_again_is_left_alone(tmp_path: Path) -> None:
    """Its link count is 1 when it is counted, but that one link is outside."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "secret").touch(mode=0o600)
    os.link(tmp_path / "secret", tmp_path / "dags" / "a.py")
    held = Held(uid=1)
    tally = Tally(10)
    descriptor = os.open(tmp_path / "dags" / "a.py", os.O_PATH)
    folder = os.open(tmp_path / "dags", os.O_RDONLY)
    (tmp_path / "dags" / "a.py").unlink()
    journal = Journal(str(tmp_path), "test", {"opskit_undo": 1})
    Repair([], tally, journal).settle(descriptor, "a.py", Root(str(tmp_path / "dags"), "dags", folder), "a.py", held, 1)
    os.close(descriptor)
    os.close(folder)
    assert (tally.changed, tally.refused) == (0, 1)
    assert (tmp_path / "secret").owner() == "root"


@needs_root
def test_root_follows_a_policy_of_somebody_else_only_in_what_is_his(policy: Policy, home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "his").mkdir()
    os.chown(tmp_path / "his", 1, 1)
    for name, allowed in (("other", False), ("his", True)):
        platform = policy(DAGS + f'[permissions.policy."{tmp_path / name}"]\ndir_mode = "0700"\n')
        os.chown(home / "opskit.toml", 1, 1)
        if allowed:
            permissions.fix(platform, now=NOW)
        else:
            with pytest.raises(GuardRefused, match="which daemon does not own"):
                permissions.fix(platform, now=NOW)
            assert mode(home / "dags") != 0o2750
        os.chown(home / "opskit.toml", 0, 0)
    (home / "opskit.toml").chmod(0o666)
    with pytest.raises(GuardRefused, match="anybody can change"):
        permissions.check(platform)


@needs_root
def test_a_user_repairs_what_he_may_and_is_told_the_rest() -> None:
    folder = Path(tempfile.mkdtemp(prefix="opskit-permissions-"))
    try:
        folder.chmod(0o711)  # to be passed, not to be listed
        home = folder / "home"
        (home / "dags").mkdir(parents=True)
        for name in ("own.py", "foreign.py"):
            (home / "dags" / name).touch()
        for path in (home, home / "dags", home / "dags" / "own.py"):
            os.chown(path, 1, 1)
        config_ = config.load(home, {"OPSKIT__PERMISSIONS__POLICY": 'dags = {file_mode = "0640", group = "adm"}'})
        request = permissions._request(config_, "run", NOW, write=True)
        found = as_user(1, lambda: permissions_node.answer(request))
        assert (found["changed"], found["denied"], found["obstacle_count"]) == (0, 3, 0)
        assert {Path(left["path"]).name: left["reason"] for left in found["denials"]} == {
            "dags": "daemon is not in the group adm",
            "own.py": "daemon is not in the group adm",
            "foreign.py": "it belongs to root",
        }
        del request["rules"][-1]["group"]
        found = as_user(1, lambda: permissions_node.answer(request))
        assert (found["changed"], found["denied"]) == (1, 1)
        assert mode(home / "dags" / "own.py") == 0o640
        found = as_user(1, lambda: permissions_node.answer({**request, "op": "undo"}))
        assert found["changed"] == 1
    finally:
        shutil.rmtree(folder)


@needs_root
def test_the_rights_of_the_unit_are_enough(tmp_path: Path) -> None:
    """As the user of the services, with the capabilities of opskit-permissions.service and without memory that can be
    written and run."""
    unit = (Path(__file__).parents[2] / "systemd" / "opskit-permissions.service").read_text()
    assert "MemoryDenyWriteExecute=yes" in unit and "RestrictSUIDSGID" not in unit
    (names,) = re.findall("AmbientCapabilities=(.+)", unit)
    rights = "-all," + ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in names.split())
    deny = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    user = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups", "--no-new-privs"]
    user += ["--bounding-set", rights, "--inh-caps", rights, "--ambient-caps", rights]
    if shutil.which("setpriv") is None or subprocess.run([*user, sys.executable, "-c", ""]).returncode:
        pytest.skip("there is no setpriv, or Python lies where others can't reach it")
    folder = Path(tempfile.mkdtemp(prefix="opskit-permissions-"))
    try:
        folder.chmod(0o755)
        (folder / "dags").mkdir(mode=0o700)
        (folder / "dags" / "a.py").touch(mode=0o600)
        (folder / "opskit.toml").write_text(DAGS + 'owner = "daemon"\n')
        os.chown(folder, 1, 1)
        environment = {**os.environ, "OPSKIT_HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "opskit", "permissions", "fix"]
        done = subprocess.run(
            [*user, sys.executable, "-c", deny, *command], env=environment, capture_output=True, text=True
        )
        assert (done.returncode, "2 were changed" in done.stdout) == (0, True), done.stderr
        assert ((folder / "dags").owner(), mode(folder / "dags")) == ("daemon", 0o2750)
        assert (folder / "dags" / "a.py").owner() == "daemon"
    finally:
        shutil.rmtree(folder)


def as_user(uid: int, function: Callable[[], Any]) -> Any:
    """What `function` gives in a process of this user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(writer, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def test_other_hosts_are_asked_over_ssh(
    policy: Policy,
    home: Path,
    sshd_nodes: Callable[[int], Nodes],
    opskit: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """They need nothing but python3 there. A host that is away is named, and the others are repaired."""
    nodes = sshd_nodes(3)
    policy('[permissions]\nremote_home = "~"\n' + DAGS)
    for node in nodes:
        node.dags.mkdir()
        (node.dags / "a.py").touch(mode=0o644)
    environment = nodes.environment()
    drift = opskit("permissions", "check", "--group", "workers", "--output", "json", env=environment, check=False)
    assert drift.returncode == 5, drift.stderr
    assert [(host["host"], host["differing"]) for host in json.loads(drift.stdout)["hosts"]] == [
        ("node1", 2),
        ("node2", 2),
        ("node3", 2),
    ]
    nodes[2].stop()
    fixed = opskit("permissions", "fix", "--all", "--output", "json", env=environment, check=False)
    assert fixed.returncode == 3
    report = json.loads(fixed.stdout)
    assert [host["changed"] for host in report["hosts"]] == [2, 2, 0]
    assert report["hosts"][2]["error"]
    assert (mode(nodes[0].dags), mode(nodes[0].dags / "a.py")) == (0o2750, 0o640)
    undone = opskit("permissions", "undo", "--host", "node1", env=environment)
    assert "2 of 2 entries were to give back, 2 were changed" in undone.stdout
    assert mode(nodes[0].dags / "a.py") == 0o644
    away = opskit("permissions", "check", "--host", "node3", env=environment, check=False)
    assert away.returncode == 13


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
