"""Virtual environments with real Airflow, one per release, made once and kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "2": (
        "apache-airflow=={release}",
        "apache-airflow-providers-common-sql",
        "apache-airflow-providers-http",
        "apache-airflow-providers-sqlite",
        "apache-airflow-providers-standard",
    ),
    "3": ("apache-airflow-core=={release}", "apache-airflow-providers-standard"),
}
RELEASES = ("2.11.2", "3.3.2")
FOLDER = Path(__file__).resolve().parents[3] / ".cache" / "airflow"


def python_of(release: str, folder: Path) -> Path:
    """The interpreter of `folder/release`; made with pip, from the package registry that it is configured for,
    when it is not there. SystemExit when that fails."""
    home = folder / release
    python = home / "bin" / "python"
    if not python.exists():
        print(f"making {home} …", file=sys.stderr, flush=True)
        wanted = [package.format(release=release) for package in PACKAGES[release[0]]]
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary"]
        if subprocess.run([*pip, *wanted]).returncode:
            raise SystemExit(f"pip can't install {', '.join(wanted)}; remove {home} before the next try")
    said = subprocess.run(
        [str(python), "-c", "import airflow; print(airflow.__version__)"], capture_output=True, text=True
    )
    if said.stdout.strip().rpartition("\n")[2] != release:
        raise SystemExit(f"{home} is no environment of Airflow {release}: {said.stdout[-100:]} {said.stderr[-300:]}")
    return python
