"""Makes the environment, starts servers that write to the disk, and runs benchmarks one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import environment
import servers
from debian import Missing

FOLDER = Path(__file__).resolve().parent / "bench"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    known = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
    arguments = sys.argv[1:]
    first_option = next((index for index, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    wanted, options = arguments[:first_option] or known, arguments[first_option:]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"there is no benchmark {unknown[0]}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        python = environment.make(development=True)
    except Missing as error:
        print(error, file=sys.stderr)
        return 1
    for sentence in servers.require_programs():
        print(f"{sentence}; what needs it is left out or fails", file=sys.stderr)
    failed = []
    with servers.running(durable=True) as variables:
        for name in wanted:
            print(f"== {name}", flush=True)
            command = [str(python), str(FOLDER / f"{name}.py"), *options]
            place = {**os.environ, **variables, **_database(variables.get("OPSKIT_TEST_POSTGRES_URL"), name)}
            if subprocess.run(command, cwd=environment.ROOT, env=place, check=False).returncode:
                failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _database(server: str | None, name: str) -> dict[str, str]:
    """An empty PostgreSQL database for one benchmark, unless one is named already."""
    if server is None or "OPSKIT_BENCH_DATABASE" in os.environ:
        return {}
    port = server.rstrip("/").rsplit(":", 1)[1]
    subprocess.run(
        [servers.find("createdb"), "-h", "127.0.0.1", "-p", port, "-U", "postgres", f"bench_{name}"], check=True
    )
    return {"OPSKIT_BENCH_DATABASE": f"{server}bench_{name}"}


if __name__ == "__main__":
    sys.exit(main())
