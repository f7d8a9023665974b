"""`opskit deploy-dag` to real SSH servers: all hosts or none, and never half a tree."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opskit.core.metastore import schema
from opskit.core.metastore.engine import open_engine
from opskit.ops.deploy_session import NodeSession, node_program
from opskit.system.locks import locked
from opskit.system.ssh import connect
from tests import warm
from tests.sshd import Nodes

Opskit = Callable[..., "subprocess.CompletedProcess[str]"]
Factory = Callable[[int], Nodes]

DAG = """from datetime import datetime
from opskit import DAG
from opskit.operators import EmptyOperator

with DAG({dag_id!r}, start_date=datetime(2024, 1, 1), schedule=None):
    EmptyOperator(task_id={version!r})
"""


@pytest.fixture
def nodes(sshd_nodes: Factory) -> Nodes:
    return sshd_nodes(8)


@pytest.fixture
def three(sshd_nodes: Factory) -> Nodes:
    return sshd_nodes(3)


def write_tree(folder: Path, version: str, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"team{number % 2}" / f"dag_{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(DAG.format(dag_id=f"dag_{number}", version=version))
    (folder / "version.txt").write_text(version)
    return folder


def read_tree(dags: Path) -> dict[str, bytes]:
    """All files, from one resolution of the link on, as a process reads that resolves it once."""
    root = Path(os.path.realpath(dags))
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def states(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {host["state"] for host in report_of(done)["hosts"]}


def leftovers(node_root: Path) -> list[str]:
    """What a finished deployment must not leave: staging, journals, links in the making, folders without manifest."""
    releases = node_root / ".opskit-releases"
    names = {path.name for path in releases.iterdir()} if releases.exists() else set()
    known = set((releases / "history").read_text().split("\n")[1:-1]) if "history" in names else set()
    beside = {f"{name}{ending}" for name in known for ending in ("", ".json", ".in-use", ".seal")}
    expected = {"lock", "history"} | beside
    return sorted(names - expected)


def test_a_folder_reaches_eight_hosts_and_a_second_run_changes_nothing(
    nodes: Nodes, opskit: Opskit, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    done = opskit("deploy-dag", tree, "--output", "json", env=nodes.environment())
    assert states(done) == {"deployed"}
    assert sorted(report_of(done)["dag_ids"]) == [f"dag_{number}" for number in range(6)]
    before = {}
    for node in nodes:
        assert node.dags.is_symlink()
        assert read_tree(node.dags) == read_tree(tree)
        assert leftovers(node.root) == []
        before[node.name] = os.lstat(node.dags)
    again = opskit("deploy-dag", tree, "--output", "json", env=nodes.environment())
    assert states(again) == {"unchanged"}
    assert {node.name: os.lstat(node.dags) for node in nodes} == before


def test_modes_are_set_before_the_switch(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    script = tree / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    modes = {"OPSKIT__DEPLOY__FILE_MODE": "0644", "OPSKIT__DEPLOY__DIR_MODE": "2755"}
    opskit("deploy-dag", tree, env={**three.environment(), **modes})
    for node in three:
        assert stat.S_IMODE((node.dags / "version.txt").stat().st_mode) == 0o644
        assert stat.S_IMODE((node.dags / "run.sh").stat().st_mode) == 0o755
        assert stat.S_IMODE((node.dags / "team0").stat().st_mode) == 0o2755
        assert stat.S_IMODE(os.stat(node.dags).st_mode) == 0o2755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owner_and_group_are_set_and_an_unknown_owner_is_refused(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    owner = {"OPSKIT__DEPLOY__OWNER": "nobody", "OPSKIT__DEPLOY__GROUP": "daemon"}
    opskit("deploy-dag", tree, env={**three.environment(), **owner})
    for node in three:
        for path in (node.dags / "version.txt", Path(os.path.realpath(node.dags)), node.dags / "team0"):
            assert (path.owner(), path.group()) == ("nobody", "daemon")
    done = opskit("deploy-dag", tree, env={**three.environment(), "OPSKIT__DEPLOY__OWNER": "no-such-user"}, check=False)
    assert done.returncode == 2
    assert "no user 'no-such-user'" in done.stderr


def test_a_broken_dag_reaches_no_host(nodes: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    opskit("deploy-dag", tree, env=nodes.environment())
    before = {node.name: (os.readlink(node.dags), read_tree(node.dags)) for node in nodes}
    cases = {
        "syntax.py": ("def broken(:\n", "line 1"),
        "import.py": ("import opskit\nimport there_is_no_such_module  # dag\n", "there_is_no_such_module"),
        "exit.py": ("import opskit, os  # dag\nos._exit(3)\n", "exit.py"),
        "duplicate.py": (DAG.format(dag_id="dag_0", version="x"), "'dag_0' is defined by"),
        "cycle.py": (
            DAG.format(dag_id="cycle", version="x").replace("EmptyOperator(task_id='x')", "")
            + "    a, b = EmptyOperator(task_id='a'), EmptyOperator(task_id='b')\n    a >> b >> a\n",
            "cycle.py",
        ),
    }
    for name, (text, words) in cases.items():
        broken = tmp_path / name
        broken.write_text(text)
        done = opskit("deploy-dag", broken, env=nodes.environment(), check=False)
        assert done.returncode == 15, f"{name}: {done.stderr}"
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert {node.name: (os.readlink(node.dags), read_tree(node.dags)) for node in nodes} == before
    assert [leftovers(node.root) for node in nodes] == [[]] * 8


def test_a_file_that_only_a_host_can_not_load_reaches_no_host(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    opskit("deploy-dag", tree, env=three.environment())
    picky = tmp_path / "picky.py"
    home_of_second = str(three[1].root)
    picky.write_text(
        f"import os\nif os.environ['HOME'] == {home_of_second!r}:\n    raise RuntimeError('not on this host')\n"
        + DAG.format(dag_id="picky", version="x")
    )
    environment = {**three.environment(), "OPSKIT__DEPLOY__PYTHON": sys.executable, "OPSKIT__DEPLOY__PARSE": "every"}
    done = opskit("deploy-dag", picky, "--output", "json", env=environment, check=False)
    assert done.returncode == 15
    hosts = {host["host"]: host for host in report_of(done)["hosts"]}
    assert "not on this host" in hosts["node2"]["error"]
    assert hosts["node2"]["failed_in"] == "parse"
    assert hosts["node1"]["check"] == "import"
    assert [leftovers(node.root) for node in three] == [[]] * 3
    assert not any((node.dags / "picky.py").exists() for node in three)


def test_an_unreachable_host_stops_all_unless_best_effort(nodes: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    opskit("deploy-dag", tree, env=nodes.environment())
    nodes[4].stop()
    write_tree(tree, "two")
    done = opskit("deploy-dag", tree, "-o", "json", env=nodes.environment(), check=False)
    assert done.returncode == 13
    assert "node5" in done.stderr
    assert states(done) == {"not switched"}
    assert {(node.dags / "version.txt").read_text() for node in nodes} == {"one"}
    done = opskit("deploy-dag", tree, "-o", "json", "--best-effort", env=nodes.environment(), check=False)
    assert done.returncode == 3
    assert [(node.dags / "version.txt").read_text() for node in nodes] == ["two"] * 4 + ["one"] + ["two"] * 3
    nodes[4].start()
    done = opskit("deploy-dag", tree, "-o", "json", env=nodes.environment())
    assert (nodes[4].dags / "version.txt").read_text() == "two"
    assert [leftovers(node.root) for node in nodes] == [[]] * 8


@pytest.mark.parametrize("transport", ["openssh", "paramiko"])
def test_a_changed_host_key_stops_all(three: Nodes, opskit: Opskit, tmp_path: Path, transport: str) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    environment = {**three.environment(), "OPSKIT__DEPLOY__TRANSPORT": transport}
    done = opskit("deploy-dag", tree, "-o", "json", env=environment)
    assert states(done) == {"deployed"}
    three[1].stop()
    three[1].new_host_key()
    three[1].start()
    write_tree(tree, "two")
    done = opskit("deploy-dag", tree, env=environment, check=False)
    assert done.returncode == 16
    assert "node2: the host key of" in done.stderr and three[1].fingerprint() in done.stderr
    assert {(node.dags / "version.txt").read_text() for node in three} == {"one"}


def test_rollback_goes_to_the_release_before_and_to_a_named_one(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    releases = []
    for version in ("one", "two", "three"):
        done = opskit("deploy-dag", write_tree(tmp_path / "tree", version), "-o", "json", env=three.environment())
        releases.append(report_of(done)["hosts"][0]["release"])

    def versions() -> set[str]:
        return {(node.dags / "version.txt").read_text() for node in three}

    planned = opskit("deploy-dag", "--rollback", "--dry-run", "-o", "json", env=three.environment())
    assert states(planned) == {"planned"} and versions() == {"three"}
    opskit("deploy-dag", "--rollback", env=three.environment())
    assert versions() == {"two"}
    opskit("deploy-dag", "--rollback", env=three.environment())
    assert versions() == {"one"}
    done = opskit("deploy-dag", "--rollback", env=three.environment(), check=False)
    assert done.returncode == 2 and "no release before" in done.stderr
    opskit("deploy-dag", "--rollback", "--to", releases[2][:10], env=three.environment())
    assert versions() == {"three"}
    again = opskit("deploy-dag", "--rollback", "--to", releases[2][:10], "-o", "json", env=three.environment())
    assert states(again) == {"unchanged"}
    assert [leftovers(node.root) for node in three] == [[]] * 3


def test_a_release_that_was_edited_by_hand_is_not_rolled_back_to_and_is_healed_by_a_deployment(
    three: Nodes, opskit: Opskit, tmp_path: Path
) -> None:
    one = write_tree(tmp_path / "one", "one")
    opskit("deploy-dag", one, env=three.environment())
    (three[0].dags / "version.txt").write_text("edited on the node")
    done = opskit("deploy-dag", one, "-o", "json", env=three.environment())
    assert [host["state"] for host in report_of(done)["hosts"]] == ["deployed", "unchanged", "unchanged"]
    assert (three[0].dags / "version.txt").read_text() == "one"
    opskit("deploy-dag", write_tree(tmp_path / "two", "two"), env=three.environment())
    for release in (three[0].root / ".opskit-releases").glob("*/version.txt"):
        if release.read_text() == "one":
            release.write_text("edited again")
    done = opskit("deploy-dag", "--rollback", env=three.environment(), check=False)
    assert done.returncode == 14 and "changed by hand" in done.stderr
    assert {(node.dags / "version.txt").read_text() for node in three} == {"two"}


def test_single_files_go_on_top_of_what_each_host_has(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    for node in three:
        write_tree(node.dags, node.name)  # plain folders, as before the first deployment
    extra = tmp_path / "extra.py"
    extra.write_text(DAG.format(dag_id="extra", version="x"))
    done = opskit("deploy-dag", extra, "--into", "new/place", "-o", "json", env=three.environment())
    assert states(done) == {"deployed"}
    for node in three:
        assert node.dags.is_symlink()
        tree = read_tree(node.dags)
        assert tree.pop("new/place/extra.py") == extra.read_bytes()
        assert tree == read_tree(write_tree(tmp_path / node.name, node.name))
    clash = tmp_path / "clash.py"
    clash.write_text(DAG.format(dag_id="dag_3", version="x"))
    done = opskit("deploy-dag", clash, env=three.environment(), check=False)
    assert done.returncode == 15 and "'dag_3' is defined by clash.py and by team1/dag_3.py" in done.stderr
    opskit("deploy-dag", "--rollback", env=three.environment())
    assert all(read_tree(node.dags) == read_tree(tmp_path / node.name) for node in three)


def test_old_releases_are_removed_and_some_are_kept(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    environment = {**three.environment(), "OPSKIT__DEPLOY__KEEP_RELEASES": "2"}
    for version in "abcde":
        opskit("deploy-dag", write_tree(tmp_path / "tree", version), env=environment)
    for node in three:
        kept = {path.read_text() for path in (node.root / ".opskit-releases").glob("*/version.txt")}
        assert kept == {"c", "d", "e"}


def test_odd_file_names_arrive_unchanged(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    names = [
        "with space.py",
        "-dash.py",
        "new\nline.txt",
        "ünï✓.py",
        "quote'\"$(x).txt",
        "back\\slash",
        ".airflowignore",
    ]
    for name in names:
        (tree / name).write_text("# nothing\n")
    (tree / "-folder -rf").mkdir()
    (tree / "-folder -rf" / "--help").write_text("x")
    (tree / os.fsdecode(b"latin-\xe9.txt")).write_text("x")
    opskit("deploy-dag", tree, env=three.environment())
    assert all(read_tree(node.dags) == read_tree(tree) for node in three)
    assert not (three[0].root / "x").exists()


def test_caches_and_repositories_are_left_out_and_links_that_lead_out_are_refused(
    three: Nodes, opskit: Opskit, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__" / "x.pyc").write_text("x")
    (tree / "alias.txt").symlink_to("version.txt")
    opskit("deploy-dag", tree, env=three.environment())
    assert sorted(set(read_tree(tree)) - set(read_tree(three[0].dags))) == ["__pycache__/x.pyc"]
    assert not (three[0].dags / "alias.txt").is_symlink()
    (tree / "secret.txt").symlink_to("/etc/passwd")
    done = opskit("deploy-dag", tree, env=three.environment(), check=False)
    assert done.returncode == 16 and "leads out" in done.stderr


def test_a_dry_run_changes_nothing_anywhere(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    done = opskit("deploy-dag", tree, "--dry-run", "-o", "json", env=three.environment())
    assert states(done) == {"planned"}
    assert [list(node.root.iterdir()) for node in three] == [[]] * 3
    done = opskit("deploy-dag", tree, "--dry-run", env=three.environment())
    assert "node1: + team0/dag_0.py" in done.stdout


def test_a_second_deployment_from_this_machine_is_refused(
    three: Nodes, opskit: Opskit, tmp_path: Path, home: Path
) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    with locked(home / "run", "deploy-dag"):
        done = opskit("deploy-dag", tree, env=three.environment(), check=False)
    assert done.returncode == 11 and "deploy-dag is running already" in done.stderr
    assert not three[0].dags.exists()


def test_a_second_deployment_from_another_machine_is_refused(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    other = NodeSession(connect("node2", ssh_config=str(three.ssh_config)), "python3", 30.0)
    other.open(node_program())
    policy = {"owner": "", "group": "", "file_mode": "0640", "dir_mode": "0750"}
    other.ask("hello", dags="~/dags", policy=policy, lock=True, who="ann@elsewhere (pid 7)")
    try:
        done = opskit("deploy-dag", tree, env=three.environment(), check=False)
    finally:
        other.close()
    assert done.returncode == 11
    assert "node2: another deployment is at work" in done.stderr and "ann@elsewhere (pid 7)" in done.stderr
    assert not any(node.dags.exists() for node in three)
    opskit("deploy-dag", tree, env=three.environment())


def start(folder: Path, environment: dict[str, str], *arguments: str, home: str) -> warm.Process:
    with (folder / "killed.log").open("ab") as log:
        env = {**os.environ, **environment, "OPSKIT_HOME": home}
        return warm.start(*arguments, env=env, output=log.fileno())


class Readers:
    """Read every node's tree in a loop; each reading must be one version, whole."""

    def __init__(self, nodes: Nodes, versions: list[dict[str, bytes]]) -> None:
        self._nodes, self._versions = nodes, versions
        self._stop = threading.Event()
        self.readings = 0
        self.wrong: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Readers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            for node in self._nodes:
                try:
                    tree = read_tree(node.dags)
                except OSError as error:
                    self.wrong.append(f"{node.name}: {error}")
                    continue
                self.readings += 1
                if tree not in self._versions:
                    self.wrong.append(f"{node.name}: a mixed or partial tree of {len(tree)} files")
            self._stop.wait(0.02)  # the deployments need a processor, too


@pytest.mark.parametrize("kills", [6, pytest.param(40, marks=pytest.mark.soak)])
def test_killed_at_random_no_node_ever_has_half_a_tree(
    nodes: Nodes, opskit: Opskit, tmp_path: Path, home: Path, kills: int
) -> None:
    chance = random.Random(1)
    sources = [write_tree(tmp_path / name, name, count=20) for name in ("old", "new")]
    versions = [read_tree(source) for source in sources]
    began = time.monotonic()
    opskit("deploy-dag", sources[0], env=nodes.environment())
    took = time.monotonic() - began
    with Readers(nodes, versions) as readers:
        for number in range(kills):
            source = sources[(number + 1) % 2]
            process = start(tmp_path, nodes.environment(), "deploy-dag", str(source), home=str(home))
            try:
                process.wait(timeout=chance.uniform(0.1, 1.1) * took)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            if number % 2:
                opskit("deploy-dag", source, env=nodes.environment())
                assert [read_tree(node.dags) for node in nodes] == [versions[(number + 1) % 2]] * 8
        opskit("deploy-dag", sources[1], env=nodes.environment())
    assert readers.wrong == []
    assert readers.readings > 100
    assert [leftovers(node.root) for node in nodes] == [[]] * 8
    assert not (home / "run" / "deploy-dag.journal.json").exists()


KILL_AT = """
import os, signal, sys, threading
from opskit.ops.deploy_session import NodeSession
op, count, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
post, answer, lock, seen, doomed = NodeSession.post, NodeSession.answer, threading.Lock(), [], []

def posting(self, name, **fields):
    with lock:
        if name == op:
            seen.append(name)
            if len(seen) == count:
                doomed.append(self)
                if when == "before":
                    os.kill(os.getpid(), signal.SIGKILL)
    post(self, name, **fields)

def answering(self):
    found = answer(self)
    if self in doomed:
        os.kill(os.getpid(), signal.SIGKILL)
    return found

NodeSession.post, NodeSession.answer = posting, answering
sys.argv = ["opskit", *sys.argv[4:]]
from opskit.cli import main
main()
"""


@pytest.mark.parametrize(
    ("start_from", "op", "count", "when", "ends"),
    [
        ("release", "hello", 2, "after", "undone"),
        ("release", "stage", 2, "after", "undone"),
        ("folder", "parse", 1, "after", "undone"),
        ("release", "prepare", 1, "after", "undone"),
        ("folder", "prepare", 3, "after", "undone"),
        ("nothing", "prepare", 2, "after", "undone"),
        ("release", "switch", 1, "before", "finished"),
        ("release", "switch", 1, "after", "finished"),
        ("folder", "switch", 1, "after", "finished"),
        ("nothing", "switch", 2, "after", "finished"),
        ("release", "finish", 1, "after", "finished"),
        ("folder", "finish", 2, "after", "finished"),
    ],
)
def test_a_killed_deployment_is_finished_or_undone_by_the_next(
    three: Nodes, opskit: Opskit, tmp_path: Path, start_from: str, op: str, count: int, when: str, ends: str
) -> None:
    old, new = write_tree(tmp_path / "old", "old"), write_tree(tmp_path / "new", "new")
    environment = three.environment()
    if start_from == "release":
        opskit("deploy-dag", old, env=environment)
    elif start_from == "folder":
        for node in three:
            write_tree(node.dags, "old")
    done = subprocess.run(
        [sys.executable, "-c", KILL_AT, op, str(count), when, "deploy-dag", str(new)],
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    allowed = [read_tree(old), read_tree(new)] if start_from != "nothing" else [{}, read_tree(new)]
    assert all(read_tree(node.dags) in allowed for node in three)
    # The next deployment is another one, to one host only: the others are put right all the same.
    other = tmp_path / "other.py"
    other.write_text(DAG.format(dag_id="other", version="x"))
    opskit("deploy-dag", other, "--host", "node1", env=environment)
    expected = read_tree(new) if ends == "finished" else read_tree(old) if start_from != "nothing" else {}
    assert {**expected, "other.py": other.read_bytes()} == read_tree(three[0].dags)
    for node in (three[1], three[2]):
        assert read_tree(node.dags) == expected
        if ends == "finished":  # else nothing was ordered, so nothing is known here: their next deployment clears up
            assert leftovers(node.root) == []
    opskit("deploy-dag", new, env=environment)
    assert [read_tree(node.dags) for node in three] == [read_tree(new)] * 3
    assert [leftovers(node.root) for node in three] == [[]] * 3


def test_a_host_that_fails_in_the_switch_takes_all_back(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    old, new = write_tree(tmp_path / "old", "old"), write_tree(tmp_path / "new", "new")
    environment = three.environment()
    opskit("deploy-dag", old, env=environment)
    fault = """
import sys
from opskit.errors import RemoteError
from opskit.ops.deploy_session import NodeSession
answer = NodeSession.answer

def answering(self):
    found = answer(self)
    if "at" in found and self.name == "node2":
        raise RemoteError("node2: the connection was lost")
    return found

NodeSession.answer = answering
sys.argv = ["opskit", *sys.argv[1:]]
from opskit.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", fault, "deploy-dag", str(new), "--output", "json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 13
    assert states(done) == {"switched back"}
    assert [read_tree(node.dags) for node in three] == [read_tree(old)] * 3
    assert [leftovers(node.root) for node in three] == [[]] * 3


def test_the_audit_log_tells_who_deployed_what_where(three: Nodes, opskit: Opskit, tmp_path: Path, home: Path) -> None:
    engine = open_engine(f"sqlite:///{home / 'opskit.db'}")
    schema.migrate(engine)
    engine.dispose()
    done = opskit("deploy-dag", write_tree(tmp_path / "tree", "one"), "-o", "json", env=three.environment())
    assert report_of(done)["notes"] == []
    import sqlite3

    with sqlite3.connect(home / "opskit.db") as connection:
        rows = connection.execute("SELECT owner, event, extra FROM log WHERE event = 'deploy-dag'").fetchall()
    connection.close()
    assert len(rows) == 1
    assert set(json.loads(rows[0][2])["hosts"]) == {"node1", "node2", "node3"}
