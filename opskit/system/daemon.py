"""What every long-running process of opskit does: a pid file that tells a reused pid, and words to systemd."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PidFile:
    """`OPSKIT_HOME/run/<kind>.<instance id>.pid.json`, written by each instance of a daemon."""

    kind: str
    instance_id: str
    pid: int
    pid_started: float
    """As `process_started` gives it."""
    argv: list[str]
    started_at: str
    unit: str = ""
    """The systemd unit, where there is one."""


def process_started(pid: int) -> float | None:
    """Start of a process in seconds since boot; None when there is no such process (a zombie counts as none)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] in ("Z", "X"):
        return None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def is_alive(pid: int, pid_started: float) -> bool:
    """Whether this very process lives; another one with the same pid does not count."""
    started = process_started(pid)
    return started is not None and abs(started - pid_started) < 0.02


def write_pid_file(run_folder: Path, kind: str, instance_id: str, started_at: str) -> Path:
    run_folder.mkdir(parents=True, exist_ok=True)
    started = process_started(os.getpid())
    assert started is not None
    record = PidFile(kind, instance_id, os.getpid(), started, [sys.executable, *sys.orig_argv[1:]], started_at, _unit())
    path = run_folder / f"{kind}.{instance_id}.pid.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record)))
    temporary.rename(path)
    return path


def read_pid_files(run_folder: Path, kind: str = "*") -> list[tuple[Path, PidFile]]:
    """All pid files of a kind, readable ones only; their processes may be gone."""
    found = []
    for path in sorted(run_folder.glob(f"{kind}.*.pid.json")):
        try:
            found.append((path, PidFile(**json.loads(path.read_text()))))
        except (OSError, ValueError, TypeError):
            continue  # written by another version, or removed meanwhile
    return found


def enable_stack_dumps(run_folder: Path) -> Path:
    """From now on SIGUSR2 writes the stacks of all threads to `run/stacks.<pid>`, also while the interpreter hangs.

    Call it once, early, in the main thread of a daemon. Files of processes that are gone are removed.
    """
    import faulthandler
    import signal

    run_folder.mkdir(parents=True, exist_ok=True)
    for old in run_folder.glob("stacks.*"):
        number = old.suffix[1:]
        if number.isdigit() and process_started(int(number)) is None:
            old.unlink(missing_ok=True)
    path = stacks_path(run_folder, os.getpid())
    # Stays open for the life of the process: the handler may not open anything.
    faulthandler.register(signal.SIGUSR2, file=open(path, "w"), all_threads=True)  # noqa: SIM115
    return path


def stacks_path(run_folder: Path, pid: int) -> Path:
    return run_folder / f"stacks.{pid}"


def _unit() -> str:
    """The systemd service this process belongs to, from its control group."""
    if "INVOCATION_ID" not in os.environ:
        return ""
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            name = line.rsplit("/", 1)[-1]
            if name.endswith(".service"):
                return name
    except OSError:
        pass
    return ""


def notify(state: str) -> None:
    """Tell systemd (`READY=1`, `WATCHDOG=1`, `STATUS=…`, `STOPPING=1`); nothing without NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(0.5)  # a systemd that hangs must not hang us
        try:
            sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            pass  # systemd is not listening: its loss, not ours
