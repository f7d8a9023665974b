"""Reads repositories with the git program: fetch one commit, write its files to a folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from opskit.errors import GuardRefused, RemoteError, UsageError

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NO_SURPRISES = (
    # ext:: would run any program; a repository has no business in other folders of ours.
    ("protocol.ext.allow", "never"),
    ("core.hooksPath", "/dev/null"),
    ("gc.auto", "0"),
)


def fetch(url: str, ref: str, cache: Path, *, timeout: float) -> str:
    """Fetch a branch, tag or commit into the bare repository `cache` (made when missing); the commit's id.

    RemoteError when the repository can't be reached or has no such ref. Nobody is asked for a password.
    """
    if url.startswith("-") or not url:
        raise UsageError(f"{url!r} is not the address of a repository")
    if ref.startswith("-") or not ref or any(character.isspace() for character in ref):
        raise UsageError(f"{ref!r} is not a branch, tag or commit")
    if not (cache / "HEAD").exists():
        cache.mkdir(parents=True, exist_ok=True)
        _git(["init", "--quiet", "--bare", str(cache)], timeout=timeout, what="git init")
    what = f"{redacted(url)} {ref}"
    _git(
        ["-C", str(cache), "fetch", "--quiet", "--no-tags", "--depth=1", "--force", "--", url, ref],
        timeout=timeout,
        what=what,
    )
    commit = _git(
        ["-C", str(cache), "rev-parse", "--verify", "FETCH_HEAD^{commit}"], timeout=timeout, what=what
    ).strip()
    if not _COMMIT.fullmatch(commit):
        raise RemoteError(f"{what}: git names the commit {commit!r}")
    return commit


def export(cache: Path, commit: str, subdir: str, target: Path, *, timeout: float) -> None:
    """Write the files of a commit (below `subdir`) to a folder. RemoteError when there is no such folder in it,
    GuardRefused for a link in it that leads out."""
    tree = f"{commit}:{subdir.strip('/')}" if subdir.strip("/") else commit
    what = f"the folder {subdir or '/'} of {commit[:12]}"
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        _git(
            ["-C", str(cache), "archive", "--format=tar", f"--output={archive.name}", tree], timeout=timeout, what=what
        )
        with tarfile.open(archive.name) as tar:
            _write_out(tar, os.path.realpath(target), what)


def _write_out(tar: tarfile.TarFile, target: str, what: str) -> None:
    """Files first and links last, so that nothing is written through a link. (The `filter` of tarfile that refuses what
    leads out came with Python 3.11.4.)"""
    links = []
    for member in tar:
        place = os.path.normpath(os.path.join(target, member.name))
        if os.path.commonpath((target, place)) != target:
            raise GuardRefused(f"{what}: {member.name!r} leads out of it")
        if member.isdir():
            os.makedirs(place, exist_ok=True)
        elif member.issym():
            links.append((place, member.linkname))
        elif (content := tar.extractfile(member)) is not None:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with content, open(place, "wb") as file:
                shutil.copyfileobj(content, file)
                os.fchmod(file.fileno(), 0o755 if member.mode & 0o100 else 0o644)
    for place, goal in links:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.symlink(goal, place)
        inside = os.path.realpath(place)
        if goal.startswith("/") or os.path.commonpath((target, inside)) != target:
            raise GuardRefused(
                f"{what}: {os.path.relpath(place, target)} is a link to {goal}",
                hint="links must stay inside the folder",
            )


def redacted(url: str) -> str:
    """The address without a password or token."""
    return re.sub(r"(://)[^/@]*@", r"\1***@", url)


def _git(arguments: list[str], *, timeout: float, what: str) -> str:
    options = [word for key, value in _NO_SURPRISES for word in ("-c", f"{key}={value}")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment["GIT_TERMINAL_PROMPT"] = "0"
    environment["GIT_ASKPASS"] = "true"
    ssh = os.environ.get("GIT_SSH_COMMAND", "ssh")
    environment["GIT_SSH_COMMAND"] = f"{ssh} -o BatchMode=yes -o StrictHostKeyChecking=yes"
    try:
        done = subprocess.run(
            ["git", *options, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise RemoteError("the program git is not installed", hint="install git") from error
    except subprocess.TimeoutExpired as error:
        raise RemoteError(f"{what}: git took more than {timeout:g} s") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
        raise RemoteError(f"{what}: {redacted('; '.join(fatal)) or 'git failed without a word'}")
    return done.stdout
