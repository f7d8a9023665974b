"""`opskit deploy-dag` from real repositories, and from a bucket."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opskit.system import s3_mirror
from tests.moto_server import S3

Opskit = Callable[..., "subprocess.CompletedProcess[str]"]

DAG = """from datetime import datetime
from opskit import DAG

DAG({dag_id!r}, start_date=datetime(2024, 1, 1), schedule=None)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "dags").mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "dags/a.py", DAG.format(dag_id="a"))
    return folder


def git(folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    names = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env={**environment, **names}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "change")
    return git(folder, "rev-parse", "HEAD")


def state(done: subprocess.CompletedProcess[str]) -> str:
    report: dict[str, Any] = json.loads(done.stdout)
    return str(report["hosts"][0]["state"])


def test_a_branch_is_pulled_into_the_local_dag_folder_and_again_only_when_it_has_moved(
    repository: Path, opskit: Opskit, home: Path
) -> None:
    settings = {
        "OPSKIT__DEPLOY__GIT_URL": str(repository),
        "OPSKIT__DEPLOY__GIT_REF": "main",
        "OPSKIT__DEPLOY__GIT_SUBDIR": "dags",
    }
    assert state(opskit("deploy-dag", "--from-git", "-o", "json", env=settings)) == "deployed"
    assert (home / "dags" / "a.py").read_text() == DAG.format(dag_id="a")
    assert state(opskit("deploy-dag", "--from-git", "-o", "json", env=settings)) == "unchanged"
    commit(repository, "dags/b.py", DAG.format(dag_id="b"))
    assert state(opskit("deploy-dag", "--from-git", "-o", "json", env=settings)) == "deployed"
    assert sorted(path.name for path in (home / "dags").glob("*.py")) == ["a.py", "b.py"]


def test_a_tag_and_a_commit_can_be_deployed_by_name(repository: Path, opskit: Opskit, home: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "tag", "v1")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    commit(repository, "dags/a.py", DAG.format(dag_id="changed"))
    for ref in ("v1", first):
        opskit("deploy-dag", "--from-git", str(repository), "--ref", ref, "--subdir", "dags")
        assert (home / "dags" / "a.py").read_text() == DAG.format(dag_id="a")
        opskit("deploy-dag", "--from-git", str(repository), "--ref", "main", "--subdir", "dags")
        assert (home / "dags" / "a.py").read_text() == DAG.format(dag_id="changed")


def test_a_broken_commit_changes_nothing(repository: Path, opskit: Opskit, home: Path) -> None:
    arguments = ("deploy-dag", "--from-git", str(repository), "--subdir", "dags")
    opskit(*arguments)
    commit(repository, "dags/broken.py", "def (\n")
    done = opskit(*arguments, check=False)
    assert done.returncode == 15 and "broken.py" in done.stderr
    assert [path.name for path in (home / "dags").iterdir()] == ["a.py"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--from-git", "https://user:hunter2@127.0.0.1:9/x.git"], 13, "https://***@127.0.0.1:9/x.git"),
        (["--from-git", "REPOSITORY", "--ref", "nowhere"], 13, "nowhere"),
        (["--from-git", "REPOSITORY", "--subdir", "nowhere"], 13, "nowhere"),
        (["--from-git", "--upload-pack=id"], 2, ""),
        (["--from-git", "ext::sh -c id"], 13, "ext"),
        (["--from-git"], 2, "no repository"),
    ],
)
def test_a_repository_that_can_not_be_had_is_an_error_without_secrets(
    repository: Path, opskit: Opskit, arguments: list[str], code: int, words: str
) -> None:
    given = [str(repository) if word == "REPOSITORY" else word for word in arguments]
    done = opskit("deploy-dag", *given, check=False)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "hunter2" not in done.stderr and "Traceback" not in done.stderr


def test_a_link_in_a_repository_that_leads_out_is_refused(repository: Path, opskit: Opskit, home: Path) -> None:
    (repository / "dags" / "passwd").symlink_to("/etc/passwd")
    commit(repository, "dags/c.py", DAG.format(dag_id="c"))
    done = opskit("deploy-dag", "--from-git", str(repository), "--subdir", "dags", check=False)
    assert done.returncode == 16 and "Traceback" not in done.stderr
    assert list((home / "dags").iterdir()) == []


def test_a_bucket_is_pulled_and_only_what_has_changed_is_fetched(
    s3: S3, opskit: Opskit, home: Path, tmp_path: Path
) -> None:
    import boto3

    s3.make_bucket("team")
    client = boto3.client("s3", endpoint_url=s3.endpoint_url)
    for name in ("a", "b"):
        client.put_object(Bucket="team", Key=f"dags/sub/{name}.py", Body=DAG.format(dag_id=name).encode())
    client.put_object(Bucket="team", Key="dags/empty/", Body=b"")
    client.put_object(Bucket="team", Key="other/x.py", Body=b"def (")
    settings = {"OPSKIT__DEPLOY__SOURCE_URL": "s3://team/dags", "OPSKIT__DEPLOY__ENDPOINT_URL": s3.endpoint_url}
    assert state(opskit("deploy-dag", "--pull", "-o", "json", env=settings)) == "deployed"
    assert (home / "dags" / "sub" / "a.py").read_text() == DAG.format(dag_id="a")
    assert state(opskit("deploy-dag", "--pull", "-o", "json", env=settings)) == "unchanged"

    def mirrored() -> tuple[int, int]:
        found = s3_mirror.mirror("s3://team/dags", tmp_path / "cache", endpoint_url=s3.endpoint_url)
        return found.objects, found.fetched

    assert [mirrored(), mirrored()] == [(2, 2), (2, 0)]
    client.put_object(Bucket="team", Key="dags/sub/a.py", Body=DAG.format(dag_id="c").encode())
    (tmp_path / "cache" / "tree" / "sub" / "b.py").write_text("edited here")
    assert mirrored() == (2, 2)
    client.delete_object(Bucket="team", Key="dags/sub/b.py")
    assert mirrored() == (1, 0)
    assert [path.name for path in (tmp_path / "cache" / "tree").rglob("*.py")] == ["a.py"]
    done = opskit("deploy-dag", "--from-s3", "s3://nowhere/dags", env=settings, check=False)
    assert done.returncode == 13 and "Traceback" not in done.stderr


def test_a_host_without_a_dag_folder_has_not_drifted_and_that_is_said(opskit: Opskit, home: Path) -> None:
    shutil.rmtree(home / "dags", ignore_errors=True)
    done = opskit("dags-drift", "-o", "json", check=False)
    assert done.returncode == 2 and "local: there is no DAG folder" in done.stderr
    [host] = json.loads(done.stdout)["hosts"]
    assert host["state"] == "no DAG folder" and str(home / "dags") in host["error"]
    assert not any(host[kind] for kind in ("missing", "extra", "edited", "modes"))
    assert opskit("dags-drift", "--repair", check=False).returncode == 2
    (home / "dags").mkdir()
    assert opskit("dags-drift").returncode == 0
