"""What the runner asks of Linux: die with the parent, adopt orphans, limit memory, say how a child ended."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
# Declared argument types and errno would make a call touch a hundred pages more of memory shared with the parent.
_prctl = ctypes.CDLL(None).prctl
_prctl.restype = None

# Made before they are needed: a fork would have to write to more of the memory that it shares.
_names = {name: ctypes.c_char_p(name.encode()) for name in ("opskit-attempt", "opskit-spare", "opskit-warm")}


class ParentGone(Exception):
    """The parent died before we could ask to die with it."""


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when `parent` dies. ParentGone when it has died already."""
    _prctl(_PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        raise ParentGone(f"parent {parent} is gone")


def outlive_parent() -> None:
    """Undo `die_with_parent`."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent dies, instead of init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """The name that `ps -o comm` and `top` show; at most 15 bytes."""
    text = _names.get(name)
    if text is None:
        text = _names[name] = ctypes.c_char_p(name.encode()[:15])
    _prctl(_PR_SET_NAME, text)


def children() -> set[int]:
    """Pids of the direct children of this (single-threaded) process, zombies included."""
    pid = os.getpid()
    try:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split()))
    except FileNotFoundError:
        return _children_by_scan(pid)


def _children_by_scan(pid: int) -> set[int]:
    """For kernels without /proc/…/children."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and _parent_of(name) == pid:
            found.add(int(name))
    return found


def _parent_of(name: str) -> int | None:
    try:
        text = Path(f"/proc/{name}/stat").read_text()
    except OSError:
        return None
    return int(text[text.rindex(")") + 2 :].split()[1])


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def environment_value(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with; None when it has none, or can't be read."""
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    wanted = name.encode() + b"="
    for part in data.split(b"\0"):
        if part.startswith(wanted):
            return part[len(wanted) :].decode(errors="replace")
    return None


def kill_group(pid: int, signal_number: int) -> None:
    """Signal a process group, as far as it is there."""
    try:
        os.killpg(pid, signal_number)
    except (ProcessLookupError, PermissionError):
        return


def kill_leader(pid: int, signal_number: int) -> None:
    """Signal the group that a child leads; or the child alone, when it has not come to make its group yet."""
    try:
        os.killpg(pid, signal_number)
    except ProcessLookupError:
        kill(pid, signal_number)


def kill(pid: int, signal_number: int) -> None:
    try:
        os.kill(pid, signal_number)
    except (ProcessLookupError, PermissionError):
        return


def kill_orphan(pid: int) -> None:
    """SIGKILL a process that was left to us, with its group when it leads one, and reap it when it ends."""
    try:
        if os.getpgid(pid) == pid:
            kill_group(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    kill(pid, signal.SIGKILL)


def limit_memory(mebibytes: int) -> None:
    """Bound the private memory of this process and of its future children; 0: no bound."""
    if mebibytes > 0:
        size = mebibytes * 1024 * 1024
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard != resource.RLIM_INFINITY:
            size = min(size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (size, hard))


def no_core_dumps() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def limits() -> tuple[tuple[int, int], tuple[int, int]]:
    """What the two functions above change, for `set_limits` to bring back."""
    return resource.getrlimit(resource.RLIMIT_DATA), resource.getrlimit(resource.RLIMIT_CORE)


def set_limits(before: tuple[tuple[int, int], tuple[int, int]]) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, before[0])
    resource.setrlimit(resource.RLIMIT_CORE, before[1])


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed since boot because memory ran out; 0 where it does not say."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def how_it_ended(wait_status: int) -> tuple[int | None, int | None]:
    """(exit code, signal) of a wait status; one of them is None."""
    code = os.waitstatus_to_exitcode(wait_status)
    return (None, -code) if code < 0 else (code, None)
