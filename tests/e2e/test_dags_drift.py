"""`opskit dags-drift`, hosts that were away, rolling groups and their gate, releases in use: with real SSH servers."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_deploy_dag import DAG, leftovers, read_tree, report_of, start, states, write_tree
from tests.sshd import Nodes

Opskit = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def three(sshd_nodes: Callable[[int], Nodes]) -> Nodes:
    return sshd_nodes(3)


def drift_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {host["host"]: host for host in json.loads(done.stdout)["hosts"]}
    return found


def versions(nodes: Nodes) -> list[str]:
    return [(node.dags / "version.txt").read_text() for node in nodes]


def test_drift_is_named_file_by_file_and_repaired_without_the_source(
    three: Nodes, opskit: Opskit, tmp_path: Path
) -> None:
    tree = write_tree(tmp_path / "tree", "one")
    environment = three.environment()
    opskit("deploy-dag", tree, env=environment)
    expected = read_tree(tree)
    (three[0].dags / "version.txt").write_text("two")  # of the same length: only its content tells
    (three[0].dags / "team0" / "dag_0.py").unlink()
    (three[1].dags / "extra file.py").write_text("x")
    (three[1].dags / "team1" / "dag_1.py").chmod(0o600)
    for path in sorted(tree.rglob("*.py")):
        path.unlink()
    done = opskit("dags-drift", "-o", "json", env=environment, check=False)
    assert done.returncode == 5, done.stderr
    found = drift_of(done)
    assert (found["node1"]["edited"], found["node1"]["missing"]) == (["version.txt"], ["team0/dag_0.py"])
    assert found["node2"]["extra"] == ["extra file.py"]
    assert found["node2"]["modes"] == ["team1/dag_1.py: mode 600 and not 640"]
    assert [host["state"] for host in found.values()] == ["drifted", "drifted", "in sync"]
    done = opskit("dags-drift", "--repair", "-o", "json", env=environment)
    assert [host["state"] for host in drift_of(done).values()] == ["repaired", "repaired", "in sync"]
    assert [read_tree(node.dags) for node in three] == [expected] * 3
    assert {host["state"] for host in drift_of(opskit("dags-drift", "-o", "json", env=environment)).values()} == {
        "in sync"
    }
    assert [leftovers(node.root) for node in three] == [[]] * 3


def test_a_host_that_was_away_gets_the_release_when_it_is_back(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    environment = three.environment()
    opskit("deploy-dag", write_tree(tmp_path / "tree", "one"), env=environment)
    three[2].stop()
    write_tree(tmp_path / "tree", "two")
    refused = opskit("deploy-dag", tmp_path / "tree", "--quorum", "100%", env=environment, check=False)
    assert refused.returncode == 13 and versions(three) == ["one"] * 3
    done = opskit("deploy-dag", tmp_path / "tree", "--quorum", "60%", env=environment, check=False)
    assert done.returncode == 3 and versions(three) == ["two", "two", "one"]
    # On top of it one file, whose tree the host that is away never had.
    extra = tmp_path / "extra.py"
    extra.write_text(DAG.format(dag_id="extra", version="x"))
    assert opskit("deploy-dag", extra, "--quorum", "2", env=environment, check=False).returncode == 3
    done = opskit("dags-drift", "-o", "json", env=environment, check=False)
    assert done.returncode == 13 and drift_of(done)["node3"]["state"] == "unreachable"
    three[2].start()
    done = opskit("dags-drift", "-o", "json", env=environment, check=False)
    assert done.returncode == 5 and drift_of(done)["node3"]["state"] == "other release"
    opskit("dags-drift", "--repair", env=environment)
    assert [read_tree(node.dags) for node in three] == [read_tree(three[0].dags)] * 3
    assert (three[2].dags / "extra.py").exists()
    history = json.loads(opskit("deploy-dag", "--history", "-o", "json", env=environment).stdout)
    assert [line["action"] for line in history] == ["repair", "deploy", "deploy", "deploy"]


def test_a_gate_that_fails_takes_its_group_back_and_stops(three: Nodes, opskit: Opskit, tmp_path: Path) -> None:
    environment = three.environment()
    opskit("deploy-dag", write_tree(tmp_path / "tree", "one"), env=environment)
    write_tree(tmp_path / "tree", "two")
    asked = tmp_path / "asked"
    gate = f'echo "$OPSKIT_HOSTS" >> {asked}; test "$OPSKIT_HOSTS" != node2'
    done = opskit(
        "deploy-dag", tmp_path / "tree", "--rolling", "1", "--gate", gate, "-o", "json", env=environment, check=False
    )
    assert done.returncode == 14 and "health gate" in done.stderr
    assert [host["state"] for host in report_of(done)["hosts"]] == ["deployed", "switched back", "not switched"]
    assert asked.read_text().split() == ["node1", "node2"]
    assert versions(three) == ["two", "one", "one"]
    assert [leftovers(node.root) for node in three] == [[]] * 3
    again = opskit("deploy-dag", tmp_path / "tree", "--rolling", "50%", "--gate", "true", "-o", "json", env=environment)
    assert states(again) == {"unchanged", "deployed"} and versions(three) == ["two"] * 3


def test_a_release_that_is_in_use_outlives_its_time(opskit: Opskit, tmp_path: Path, home: Path) -> None:
    environment = {"OPSKIT__DEPLOY__KEEP_RELEASES": "1"}
    opskit("deploy-dag", write_tree(tmp_path / "tree", "a"), env=environment)
    release = Path(os.path.realpath(home / "dags"))
    # As a worker does with the release that its zygotes have loaded.
    holder = os.open(f"{release}.in-use", os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_SH)
    try:
        for version in "bcd":
            done = opskit("deploy-dag", write_tree(tmp_path / "tree", version), "-o", "json", env=environment)
        assert (release / "version.txt").read_text() == "a"
        assert "still in use" in report_of(done)["hosts"][0]["notes"][0]
    finally:
        os.close(holder)
    opskit("deploy-dag", write_tree(tmp_path / "tree", "e"), env=environment)
    kept = {path.read_text() for path in (home / ".opskit-releases").glob("*/version.txt")}
    assert kept == {"d", "e"}
    assert leftovers(home) == []


def test_a_transfer_that_broke_off_is_resumed(opskit: Opskit, tmp_path: Path, home: Path) -> None:
    tree = write_tree(tmp_path / "tree", "one", count=20)
    for number in range(6):
        (tree / f"data{number}.bin").write_bytes(os.urandom(200_000))
    fault = """
import os, signal, sys
from opskit.system.ssh_programs import ChildProcess
send, sent = ChildProcess.send, []

def sending(self, data, *, timeout):
    send(self, data, timeout=timeout)
    sent.append(len(data))
    if sum(size == 1 << 18 for size in sent) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

ChildProcess.send = sending
sys.argv = ["opskit", *sys.argv[1:]]
from opskit.cli import main
main()
"""
    import sys

    killed = subprocess.run(
        [sys.executable, "-c", fault, "deploy-dag", str(tree)], env=dict(os.environ), capture_output=True, check=False
    )
    assert killed.returncode == -9, killed.stderr
    whole = sum(path.stat().st_size for path in tree.glob("*.bin"))
    report = report_of(opskit("deploy-dag", tree, "-o", "json"))["hosts"][0]
    assert report["state"] == "deployed" and 0 < report["sent_bytes"] < 0.8 * whole
    assert read_tree(home / "dags") == read_tree(tree)
    assert leftovers(home) == []


def test_the_scheduler_gate_waits_for_the_dag_processor_and_takes_back_what_it_can_not_load(
    opskit: Opskit, tmp_path: Path, home: Path
) -> None:
    opskit("db", "migrate")
    tree = write_tree(tmp_path / "tree", "one", count=2)
    opskit("deploy-dag", tree)
    gate = ["--gate", "scheduler", "-o", "json"]
    # Nobody loads: the gate must not let it pass.
    write_tree(tree, "two", count=2)
    done = opskit("deploy-dag", tree, *gate, env={"OPSKIT__DEPLOY__GATE_TIMEOUT": "1"}, check=False)
    assert done.returncode == 14 and "has not loaded" in done.stderr and states(done) == {"switched back"}
    processor = start(tmp_path, {}, "dag-processor", home=str(home))
    try:
        assert states(opskit("deploy-dag", tree, *gate)) == {"deployed"}
        # It loads here, and not where the DAG processor runs.
        marker = "import os\nassert 'OPSKIT_TEST_HERE' in os.environ\n"
        path = tree / "team0" / "dag_0.py"
        path.write_text(marker + path.read_text().replace("'two'", "'three'"))
        done = opskit("deploy-dag", tree, *gate, env={"OPSKIT_TEST_HERE": "1"}, check=False)
        assert done.returncode == 14 and "can't load 1 of the new DAG files: team0/dag_0.py" in done.stderr
        assert (home / "dags" / "team0" / "dag_0.py").read_text() == DAG.format(dag_id="dag_0", version="two")
    finally:
        processor.terminate()
        processor.wait(30)
