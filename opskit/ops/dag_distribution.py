"""Pulls DAG files from a git repository or a bucket and deploys them. The dag_distribution maintenance DAG calls it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from opskit.errors import UsageError
from opskit.ops.deploy_dag import deploy
from opskit.ops.deploy_report import DeployReport
from opskit.ops.deployment import Progress
from opskit.platforms import Platform
from opskit.system import git, s3_mirror
from opskit.system.locks import locked


def deploy_from_git(
    platform: Platform,
    hosts: Sequence[str],
    *,
    now: datetime,
    url: str = "",
    ref: str | None = None,
    subdir: str | None = None,
    dry_run: bool = False,
    quorum: str = "",
    rolling: str = "",
    gate: str | None = None,
    strict: bool | None = None,
    progress: Progress = lambda *_: None,
) -> DeployReport:
    """Deploy the files of one commit as the whole DAG folder of all hosts. What is not given comes from [deploy] git_*.

    A commit that all hosts have already changes nothing. Raises as `deploy` does, and RemoteError for the repository.
    """
    config = platform.config
    url = url or str(config.get("deploy", "git_url"))
    if not url:
        raise UsageError("no repository to deploy from", hint="--from-git URL, or [deploy] git_url")
    ref = ref or str(config.get("deploy", "git_ref"))
    subdir = str(config.get("deploy", "git_subdir")) if subdir is None else subdir
    timeout = float(config.get("deploy", "timeout"))
    cache = config.run_folder / "git" / hashlib.sha256(url.encode()).hexdigest()[:16]
    progress("fetch", 0, 1)
    with tempfile.TemporaryDirectory(prefix="opskit-git-") as folder:
        with locked(config.run_folder, "dag-distribution"):
            commit = git.fetch(url, ref, cache, timeout=timeout)
            git.export(cache, commit, subdir, Path(folder), timeout=timeout)
        progress("fetch", 1, 1)
        place = f"{git.redacted(url)} {ref} {commit[:12]}" + (f" {subdir}" if subdir else "")
        return deploy(
            platform,
            [Path(folder)],
            hosts,
            now=now,
            description=place,
            dry_run=dry_run,
            quorum=quorum,
            rolling=rolling,
            gate=gate,
            strict=strict,
            progress=progress,
        )


def deploy_from_bucket(
    platform: Platform,
    hosts: Sequence[str],
    *,
    now: datetime,
    url: str,
    dry_run: bool = False,
    quorum: str = "",
    rolling: str = "",
    gate: str | None = None,
    strict: bool | None = None,
    progress: Progress = lambda *_: None,
) -> DeployReport:
    """Deploy the objects below `s3://bucket/prefix` as the whole DAG folder of all hosts; only those that have changed
    since the last time are fetched. Raises as `deploy` does, and RemoteError for the bucket."""
    config = platform.config
    cache = config.run_folder / "s3" / hashlib.sha256(url.encode()).hexdigest()[:16]
    with locked(config.run_folder, "dag-distribution"):
        progress("fetch", 0, 1)
        found = s3_mirror.mirror(url, cache, endpoint_url=str(config.get("deploy", "endpoint_url")))
        progress("fetch", 1, 1)
        return deploy(
            platform,
            [found.folder],
            hosts,
            now=now,
            description=f"{url} {found.version}",
            dry_run=dry_run,
            quorum=quorum,
            rolling=rolling,
            gate=gate,
            strict=strict,
            progress=progress,
        )
