"""A place for foreign DAG files: no network but loopback, own processes, mounts and /tmp, an unprivileged user, low
priority. Some files of the corpus delete files or kill processes on purpose. Needs root and util-linux."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

HOME = Path("/tmp/compat")
"""Inside: an empty folder in a file system of its own."""

_INSIDE = f"""
ip link set lo up 2>/dev/null
mount -t tmpfs -o mode=1777 tmpfs /tmp && mkdir -m 777 {HOME}
mount -t tmpfs tmpfs /opt && mkdir -m 777 /opt/airflow
exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all "$@"
"""


def command(*inner: str) -> list[str]:
    """`inner`, to be run in a sandbox of its own. SystemExit when this machine can't."""
    for program in ("unshare", "setpriv"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing: install util-linux")
    if os.geteuid() != 0:
        raise SystemExit("a sandbox needs root: run this as root, on a machine that may lose something")
    namespaces = ["--net", "--pid", "--fork", "--kill-child", "--mount", "--ipc", "--uts", "--mount-proc"]
    return ["nice", "-n", "10", "unshare", *namespaces, "sh", "-c", _INSIDE, "sh", *inner]
