"""Makes the environment, starts the servers, runs pytest with the arguments given, and stops everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import environment
import servers
from debian import Missing


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    try:
        python = environment.make(development=True)
    except Missing as error:
        print(error, file=sys.stderr)
        return 1
    missing = servers.require_programs()
    if missing:
        print("\n".join(missing), file=sys.stderr)
        if os.environ.get("OPSKIT_REQUIRE_SERVICES", "") not in ("", "0"):
            return 1
        print("the tests that need it are skipped", file=sys.stderr)
    with servers.running() as variables:
        everything = {**os.environ, **variables}
        # Else each of some thousand processes compiles all that it imports.
        everything.pop("PYTHONDONTWRITEBYTECODE", None)
        return _pytest([str(python), "-m", "pytest", *_parallel(sys.argv[1:])], everything)


def _parallel(arguments: list[str]) -> list[str]:
    """Three tests at once, since many wait, unless the arguments say how many, or want a terminal."""
    if any(
        word.startswith(("-n", "--numprocesses", "--pdb", "-s", "--capture", "--collect-only")) for word in arguments
    ):
        return arguments
    return ["-n", "3", "--dist", "worksteal", *arguments]


def _pytest(command: list[str], variables: dict[str, str]) -> int:
    process = subprocess.Popen(command, cwd=environment.ROOT, env=variables)
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # pytest got it too, and ends by itself
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
