"""Asks between two groups of hosts whether the new version is well: the scheduler, or a command of the operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from opskit.errors import VerificationFailed
from opskit.ops.node_tree import Files
from opskit.platforms import Platform
from opskit.platforms.dag_versions import LoadedVersion
from opskit.system.shell_command import run_command

SCHEDULER = "scheduler"
"""The gate that waits until the scheduler has loaded the new version of each DAG file without an error."""
_EVERY_SECONDS = 0.5

Gate = Callable[[Sequence[str]], None]
"""Given the hosts that have just switched; VerificationFailed when they should switch back."""


def make(platform: Platform, gate: str, files: Files, dag_files: Collection[str]) -> Gate | None:
    """The gate that [deploy] gate or --gate names; None for none. `dag_files`: those of the files that define DAGs."""
    if not gate:
        return None
    timeout = float(platform.config.get("deploy", "gate_timeout"))
    if gate == SCHEDULER:
        wanted = {path: str(files[path][0]) for path in dag_files}
        return lambda _: _await_scheduler(platform, wanted, timeout)
    return lambda hosts: _ask_command(gate, hosts, timeout)


def judge(wanted: Mapping[str, str], loaded: Mapping[str, LoadedVersion]) -> tuple[dict[str, str], list[str]]:
    """(path → import error, paths still waited for). `wanted`: path → sha256 of the new version."""
    errors, waiting = {}, []
    for path, digest in wanted.items():
        found = loaded.get(path)
        if found is None or found.content_hash != digest:
            waiting.append(path)
        elif found.error:
            errors[path] = found.error
    return errors, waiting


def _await_scheduler(platform: Platform, wanted: Mapping[str, str], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        errors, waiting = judge(wanted, platform.dag_versions.loaded(list(wanted)))
        if errors:
            path, text = next(iter(sorted(errors.items())))
            raise VerificationFailed(
                f"the scheduler can't load {len(errors)} of the new DAG files: {path}: {text.splitlines()[0]}",
                hint="the hosts of this group have been switched back",
            )
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise VerificationFailed(
                f"the scheduler has not loaded the new version of {len(waiting)} DAG files within {timeout:g} s: "
                f"{', '.join(sorted(waiting)[:5])}",
                hint="is the DAG processor running, and does it read a folder that was deployed to? "
                "The hosts of this group have been switched back",
            )
        time.sleep(_EVERY_SECONDS)


def _ask_command(command: str, hosts: Sequence[str], timeout: float) -> None:
    code, output = run_command(command, {"OPSKIT_HOSTS": " ".join(hosts)}, timeout=timeout)
    if code != 0:
        how = f"ended with {code}" if code is not None else f"took more than {timeout:g} s"
        last = output.splitlines()[-1] if output else "no message"
        raise VerificationFailed(
            f"the health gate {command!r} {how} after the switch of {', '.join(hosts)}: {last}",
            hint="the hosts of this group have been switched back",
        )
