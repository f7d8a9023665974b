"""Attempts run the release that their DAG was scheduled with, however often and whenever the DAG folder is switched."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from pathlib import Path

from sqlalchemy import select

from opskit.core.metastore.engine import reading
from opskit.core.metastore.tables import dag
from opskit.ops import node_tree
from opskit.system import dag_releases
from tests.conftest import Opskit
from tests.e2e.cluster import Cluster
from tests.waiting import wait_until

DAG = """
import os, time
from opskit import DAG
from opskit.operators import PythonOperator
import flavour

VERSION = {number}

def taste(ti):
    if os.path.exists(os.environ["OPSKIT_HOME"] + "/hold"):
        open(os.environ["OPSKIT_HOME"] + "/holds", "w").close()
        while os.path.exists(os.environ["OPSKIT_HOME"] + "/hold"):
            time.sleep(0.01)
    import later_flavour
    versions = f"{{VERSION}} {{flavour.VERSION}} {{later_flavour.VERSION}}"
    line = f"{{versions}} {{ti.run_id}} {{ti.task_id}} {{ti.try_number}}\\n"
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND)
    os.write(fd, line.encode())
    os.close(fd)

with DAG("tastes", schedule=None, max_active_tasks=4):
    before = None
    for index in range(4):
        first = PythonOperator(task_id=f"first_{{index}}", python_callable=taste)
        first >> PythonOperator(task_id=f"second_{{index}}", python_callable=taste)
"""


class Folder:
    """The DAG folder as `deploy-dag` lays it out, without a deployment."""

    def __init__(self, home: Path) -> None:
        self.link = home / "dags"
        self.root = home / dag_releases.RELEASES
        self.root.mkdir()

    def switch(self, number: int) -> str:
        name = f"release{number}"
        release = self.root / name
        release.mkdir()
        (release / "tastes.py").write_text(DAG.format(number=number))
        (release / "flavour.py").write_text(f"VERSION = {number}\n")
        (release / "later_flavour.py").write_text(f"VERSION = {number}\n")
        (self.root / f"{name}.in-use").touch()
        fresh = self.root / "next.link"
        fresh.symlink_to(f"{dag_releases.RELEASES}/{name}")
        fresh.rename(self.link)
        return name


def release_in_metastore(cluster: Cluster) -> str | None:
    with reading(cluster.engine) as connection:
        return connection.execute(select(dag.c.release).where(dag.c.dag_id == "tastes")).scalar()


def is_free(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_no_attempt_mixes_two_releases(home: Path, opskit: Opskit) -> None:
    opskit("db", "migrate")
    (home / "dags").rmdir()
    folder = Folder(home)
    folder.switch(0)
    cluster = Cluster(home, f"sqlite:///{home}/opskit.db")
    try:
        for kind in ("scheduler", "dag-processor", "worker"):
            cluster.start(kind)
        cluster.wait_for_dags("tastes")
        (home / "hold").touch()
        cluster.trigger("tastes", 0)
        wait_until((home / "holds").exists, what=lambda: f"an attempt that runs; {cluster.story()}")
        assert not is_free(folder.root / "release0.in-use")
        newest = ""
        for number in range(1, 13):
            newest = folder.switch(number)
            if number == 2:
                (home / "hold").unlink()
            cluster.trigger("tastes", number)
        cluster.wait_for_runs()
        wait_until(lambda: release_in_metastore(cluster) == newest, what="the last release to be loaded")
        cluster.trigger("tastes", 99)
        cluster.wait_for_runs()
        lines = [line.split() for line in cluster.ledger.read_text().splitlines()]
        assert len(lines) == len({tuple(line[3:]) for line in lines}) == 14 * 8
        tastes = [line[:3] for line in lines]
        assert [line for line in tastes if len(set(line)) > 1] == []
        counted = Counter(line[0] for line in tastes)
        assert counted["0"] >= 4  # those that ran when the folder was switched
        assert counted["12"] >= 8
        cluster.kill("worker")
        assert is_free(folder.root / f"{newest}.in-use")
    finally:
        cluster.stop()


def test_a_release_that_is_gone_is_replaced_by_what_is_there(home: Path) -> None:
    (home / "dags").rmdir()
    folder = Folder(home)
    name = folder.switch(1)
    dags = str(home / "dags")
    assert dag_releases.release_of(dags) == name
    assert dag_releases.folder_of(dags, name) == str(folder.root / name)
    assert dag_releases.folder_of(dags, "release0") is None
    for hostile in ("../x", "", ".", "..", "a/b"):
        assert dag_releases.folder_of(dags, hostile) is None
    plain = home / "plain"
    plain.mkdir()
    assert dag_releases.release_of(str(plain)) == ""
    assert dag_releases.hold(str(plain)) is None


def test_both_sides_mean_the_same_folder() -> None:
    assert node_tree.RELEASES == dag_releases.RELEASES
