"""What it costs to find a tree as it should be: `opskit permissions fix` against `chown -R` and `find`.

Prints CPU seconds per million entries and, where strace is installed, how many inodes each writes to. A second part
repairs a tree that is wrong throughout. `--entries N`.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WRITES = "fchownat,fchown,chown,lchown,fchmodat,?fchmodat2,fchmod,chmod,setxattr,fsetxattr,lsetxattr,utimensat"
POLICY = '[permissions.policy.dags]\nfile_mode = "0644"\ndir_mode = "0755"\n'


def make(folder: Path, entries: int) -> None:
    """So many entries, a hundredth of them folders."""
    folder.chmod(0o755)
    for number in range(entries // 100):
        below = folder / f"team{number % 20}" / f"dag{number}"
        below.mkdir(parents=True)
        for file in range(99):
            os.close(os.open(below / f"{file}.py", os.O_CREAT | os.O_WRONLY, 0o644))


def processor(command: list[str], environment: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def writes(command: list[str], environment: dict[str, str], folder: Path) -> int:
    """Calls that write to an inode below the folder."""
    with tempfile.NamedTemporaryFile("r") as log:
        traced = ["strace", "-f", "-qq", "-y", "-e", f"trace={WRITES}", "-o", log.name, *command]
        subprocess.run(traced, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return sum(str(folder) in line or "/proc/self/fd" in line or "AT_FDCWD" not in line for line in log)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        dags = home / "dags"
        dags.mkdir()
        (home / "opskit.toml").write_text(POLICY)
        environment = {**os.environ, "OPSKIT_HOME": name, "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/m"}
        opskit = [sys.executable, "-m", "opskit", "permissions"]
        who = f"{os.getuid()}:{os.getgid()}"
        wrong = ["(", "-type", "f", "!", "-perm", "0644", ")", "-o", "(", "-type", "d", "!", "-perm", "0755", ")"]
        rows = {
            "chown -R": ["chown", "-R", who, str(dags)],
            "find, looking only": ["find", str(dags), *wrong],
            "opskit permissions check": [*opskit, "check"],
            "opskit permissions fix": [*opskit, "fix"],
        }
        dags.chmod(0o755)
        start = statistics.median(processor([*opskit, "check"], environment) for _ in range(options.rounds))
        make(dags, options.entries)
        count = sum(1 for _ in dags.rglob("*")) + 1
        print(f"{count} entries, all as they should be; CPU without that for an empty tree ({start:.2f} s)")
        base = 0.0
        for title, command in rows.items():
            seconds = statistics.median(processor(command, environment) for _ in range(options.rounds))
            seconds -= start if command[0] == sys.executable else 0.0
            base = base or seconds
            wrote = writes(command, environment, dags) if shutil.which("strace") else -1
            print(
                f"  {title:26} {seconds:6.2f} s ({seconds / base:4.1f} x)  {seconds / count * 1e6:6.2f} s per million  "
                f"{wrote if wrote >= 0 else '?':>6} inode writes"
            )
        subprocess.run(["chmod", "-R", "0777", str(dags)], check=True)
        repair = processor([*opskit, "fix"], environment) - start
        print(
            f"  repairing all of them      {repair:6.2f} s, {repair / count * 1e6:.1f} s per million, with an undo file"
        )
        undo = processor([*opskit, "undo"], environment) - start
        print(f"  taking it all back         {undo:6.2f} s, {undo / count * 1e6:.1f} s per million")
    print("aims: 0 inode writes, 6 s per million")


if __name__ == "__main__":
    main()
