"""Processes of this machine: their state, their families, what they hang in, and their end. psutil loads on demand."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from opskit.system.daemon import is_alive, process_started

_STATES = {"T": "frozen", "t": "traced", "D": "blocked"}
_LONGEST = 65_536
"""Bytes of one piece of evidence."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that a reused pid can't be mistaken for."""

    pid: int
    started: float
    """As `daemon.process_started` gives it."""

    @property
    def alive(self) -> bool:
        return is_alive(self.pid, self.started)


def process_state(pid: int, pid_started: float) -> str:
    """running, frozen (stopped by a signal), traced (a debugger holds it), blocked (uninterruptible) or gone."""
    if not is_alive(pid, pid_started):
        return "gone"
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return _STATES.get(text[text.rindex(")") + 2], "running")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far, its children's not included; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wanted_seconds(pid: int) -> float:
    """Processor time that a process has used, and that its main thread has waited for while others had it."""
    fields = _read(Path(f"/proc/{pid}/schedstat")).split()
    return cpu_seconds(pid) + (int(fields[1]) / 1e9 if len(fields) == 3 else 0.0)


@dataclass(frozen=True, slots=True)
class TcpSocket:
    port: int
    """The local one."""
    listens: bool
    inode: str


def tcp_sockets(pid: int) -> list[TcpSocket]:
    """The TCP sockets that a process holds, as far as we may look; empty when it is gone."""
    folder = Path(f"/proc/{pid}/fd")
    held = set()
    for name in _listed(folder):
        try:
            target = os.readlink(folder / name)
        except OSError:
            continue
        if target.startswith("socket:["):
            held.add(target[8:-1])
    return [one for one in _all_tcp_sockets(pid) if one.inode in held] if held else []


def still_listening(sockets: Collection[TcpSocket]) -> list[TcpSocket]:
    """Those that some process keeps open although their owner has ended."""
    present = {one.inode for one in _all_tcp_sockets(os.getpid()) if one.listens}
    return [one for one in sockets if one.listens and one.inode in present]


def _all_tcp_sockets(pid: int) -> list[TcpSocket]:
    """Every TCP socket in the network namespace of a process."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in _read(Path(f"/proc/{pid}/net/{name}")).splitlines()[1:]:
            fields = line.split()
            # proc_pid_net(5): sl local_address rem_address st … uid timeout inode; state 0A is LISTEN.
            found.append(TcpSocket(int(fields[1].rpartition(":")[2], 16), fields[3] == "0A", fields[9]))
    return found


def family(pid: int, spare: Collection[int]) -> list[Process]:
    """A process, its descendants and, where it leads a process group, the members of that group; itself first.

    Processes whose pid is in `spare` are left out with what descends from them, and so are we.
    """
    import psutil

    spared = {os.getpid(), *spare} - {pid}
    parents: dict[int, int] = {}
    group: set[int] = set()
    for process in psutil.process_iter():
        try:
            parents[process.pid] = process.ppid()
            if os.getpgid(process.pid) == pid:
                group.add(process.pid)
        except (psutil.Error, OSError):
            continue  # it ended meanwhile
    found = []
    for member in (pid, *sorted(parents.keys() - {pid})):
        if member != pid and not _belongs(member, pid, group, spared, parents):
            continue
        started = process_started(member)
        if started is not None:
            found.append(Process(member, started))
    return found


def _belongs(member: int, pid: int, group: set[int], spared: set[int], parents: dict[int, int]) -> bool:
    """Whether the way up from `member` meets `pid` or its group before it meets a spared process."""
    ours = False
    while member and member not in spared:
        ours = ours or member in group
        if member == pid:
            return True
        member = parents.get(member, 0)
    # A spared ancestor of the group's leader (its supervisor) is no reason to spare a member that was orphaned.
    return ours and member == 0


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal; False when the process is gone. PermissionError when it is somebody else's."""
    try:
        # The descriptor pins the process: its pid can't be reused between the look and the signal.
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not process.alive:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_gone(processes: Collection[Process], seconds: float) -> list[Process]:
    """Those that still live after at most so many seconds."""
    deadline = time.monotonic() + seconds
    while left := [process for process in processes if process.alive]:
        if time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    return left


def handles_signal(pid: int, number: signal.Signals) -> bool:
    """Whether a process has installed a handler for a signal: without one, most signals would end it."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except OSError:
        pass
    return False


def describe(process: Process) -> list[str]:
    """Kernel's view of a process for an evidence file: status, where each thread waits, open descriptors."""
    root = Path(f"/proc/{process.pid}")
    lines = [f"command: {_read(root / 'cmdline').replace(chr(0), ' ').strip()}"]
    wanted = ("State", "PPid", "TracerPid", "Threads", "VmRSS", "VmSwap", "SigPnd", "ShdPnd", "SigBlk", "SigCgt")
    lines += [line for line in _read(root / "status").splitlines() if line.split(":")[0] in wanted]
    for thread in _listed(root / "task"):
        task = root / "task" / thread
        lines.append(
            f"thread {thread} {_read(task / 'comm').strip()}: waits in {_read(task / 'wchan').strip() or '?'},"
            f" system call {_read(task / 'syscall').strip() or '?'}"
        )
        lines += [f"    {line}" for line in _read(task / "stack").splitlines()]
    descriptors = _listed(root / "fd")
    lines.append(f"open descriptors: {len(descriptors)}")
    for name in descriptors[:200]:
        try:
            lines.append(f"    {name} -> {os.readlink(root / 'fd' / name)}")
        except OSError:
            continue
    return lines


def python_stacks(process: Process, dump: Path, patience: float = 2.0) -> list[str]:
    """Stacks of all threads: by py-spy where it is installed, and by the process itself into `dump` (SIGUSR2)."""
    lines = []
    try:
        done = subprocess.run(
            ["py-spy", "dump", "--nonblocking", "--pid", str(process.pid)], capture_output=True, text=True, timeout=20
        )
        lines += ["py-spy:", *(done.stdout or done.stderr).splitlines()]
    except FileNotFoundError:
        pass
    except subprocess.TimeoutExpired:
        lines.append("py-spy gave no answer within 20 s")
    if process_state(process.pid, process.started) == "frozen":
        return [*lines, "the process is frozen: it can't tell its stacks"]
    if not dump.exists() or not handles_signal(process.pid, signal.SIGUSR2):
        return [*lines, "the process has not enabled stack dumps"]
    before = dump.stat().st_size
    if not send(process, signal.SIGUSR2):
        return [*lines, "the process is gone"]
    deadline = time.monotonic() + patience
    size = before
    while time.monotonic() < deadline:
        time.sleep(0.05)
        last, size = size, dump.stat().st_size
        if size > before and size == last:
            break
    if size == before:
        return [*lines, f"no stacks within {patience:g} s after SIGUSR2: it hangs in the kernel"]
    return [*lines, *tail(dump, size - before)]


def tail(path: Path, size: int = _LONGEST) -> list[str]:
    """The lines in the last `size` bytes of a file; empty when there is no such file."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - min(size, _LONGEST)))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder), key=lambda name: int(name) if name.isdigit() else 0)
    except OSError:
        return []
