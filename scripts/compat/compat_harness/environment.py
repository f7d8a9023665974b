"""Make the virtual environment that the corpus runs in: opskit, and what its DAG files import.

data/clients.txt has the ordinary packages, data/providers.txt those of Airflow's providers, which are installed without
what they ask for (Airflow itself). Both are requirements files; in an environment that is there they are brought up to
date. Then: `run CORPUS RESULTS --python FOLDER/bin/python`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from compat_harness import servers
from compat_harness.corpus import DATA


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path)


def run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder.resolve()
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary"]
    steps = (
        [*pip, "--editable", f"{servers.ROOT}[all,docker,google,kubernetes]"],
        [*pip, "--requirement", str(DATA / "clients.txt")],
        [*pip, "--no-deps", "--requirement", str(DATA / "providers.txt")],
    )
    for step in steps:
        if subprocess.run(step).returncode:
            print(f"pip failed: {' '.join(step)}", file=sys.stderr)
            return 1
    print(python)
    return 0
