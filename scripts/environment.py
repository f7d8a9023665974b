"""Makes .venv from constraints.txt: pinned, with hashes, and only what is asked for."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from debian import install

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
EVERYTHING = "everything"


def make(*, development: bool) -> Path:
    """The interpreter of an up-to-date .venv: opskit with its core dependencies, or with all extras and test tools."""
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two scripts may be started at once
        return _make(EVERYTHING if development else "core")


def _make(scope: str) -> Path:
    python, stamp = VENV / "bin" / "python", VENV / "opskit-environment"
    wanted = _fingerprint()
    found = stamp.read_text().split() if stamp.exists() else []
    if python.exists() and found in ([wanted, scope], [wanted, EVERYTHING]):
        return python
    print(f"making .venv ({scope}) …", file=sys.stderr, flush=True)
    stamp.unlink(missing_ok=True)
    _create()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(select((ROOT / "constraints.txt").read_text(), _roots(scope)))
        requirements.flush()
        _pip("install", "--require-hashes", "--no-deps", "--requirement", requirements.name)
    _pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    _pip("check")
    stamp.write_text(f"{wanted} {scope}\n")
    return python


def _create() -> None:
    # --clear: what an older constraints.txt installed must not stay.
    command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    if subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        install({f"python{version}-venv": "the venv module of Python"})
    subprocess.run(command, check=True)


def _pip(*arguments: str) -> None:
    command = [str(VENV / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("PIP_CONSTRAINT", "PYTHONPATH")}
    subprocess.run(command, check=True, env=environment)


def _roots(scope: str) -> set[str] | None:
    """Names of the packages that are asked for; None: all of them."""
    if scope == EVERYTHING:
        return None
    project = _project()
    named = [*project["project"]["dependencies"], *project["dependency-groups"]["build"]]
    return {_canonical(re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0]) for text in named}


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def select(constraints: str, roots: set[str] | None) -> str:
    """The entries of these packages and of all that they need, by the `# via` notes; everything when roots is None."""
    if roots is None:
        return constraints
    entries: list[tuple[str, str, set[str]]] = []
    for block in re.split(r"(?m)^(?=[A-Za-z0-9])", constraints):
        if "==" not in block:
            continue
        name = _canonical(block.split("==", 1)[0].split("[")[0])
        notes = block.split("# via", 1)[1] if "# via" in block else ""
        entries.append((name, block, {_canonical(word) for word in re.findall(r"[A-Za-z0-9._-]+", notes)}))
    wanted = set(roots)
    while True:
        more = {name for name, _, parents in entries if parents & wanted} - wanted
        if not more:
            return "".join(block for name, block, _ in entries if name in wanted)
        wanted |= more


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _fingerprint() -> str:
    # Settings of linters and tests need no new environment.
    project = {name: part for name, part in _project().items() if name != "tool"}
    parts = [(ROOT / "constraints.txt").read_bytes(), json.dumps(project, sort_keys=True).encode()]
    parts += [sys.version.encode(), os.path.realpath(sys.executable).encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
