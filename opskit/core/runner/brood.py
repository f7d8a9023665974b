"""The children of one process of the runner: who they are, who has ended, and who was left behind by one that ended."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from opskit.core.runner import processes

ATTEMPT_VARIABLE = "OPSKIT_ATTEMPT_PID"
"""Environment variable by which programs that an attempt starts are known as its own."""


@dataclass(slots=True)
class Child:
    number: int
    """What the controller calls it."""
    pid: int
    pidfd: int
    leads_group: bool


class Brood:
    """Children by number and by pidfd, registered with `poll`. Descendants whose parent has ended are adopted (call
    `processes.adopt_orphans` first) and killed, unless they belong to an attempt that lives."""

    def __init__(self, poll: select.poll, leave_alone: Callable[[], set[int]] | None = None) -> None:
        self._poll = poll
        self._by_fd: dict[int, Child] = {}
        self._by_number: dict[int, Child] = {}
        self._orphans: dict[int, int] = {}
        self._own: set[int] = set()
        self._leave_alone = leave_alone or set

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._by_number.values()))

    def get(self, number: int) -> Child | None:
        return self._by_number.get(number)

    def keep_present_children(self) -> None:
        """Children that are there already (started while a DAG file was loaded) are no orphans."""
        self._own = processes.children()

    def add(self, number: int, pid: int, *, leads_group: bool) -> Child:
        child = Child(number, pid, os.pidfd_open(pid), leads_group)
        self._by_fd[child.pidfd] = child
        self._by_number[number] = child
        self._poll.register(child.pidfd, select.POLLIN)
        return child

    def renumber(self, child: Child, number: int) -> None:
        """Call a child by another number from now on."""
        del self._by_number[child.number]
        child.number = number
        self._by_number[number] = child

    def reap(self, descriptors: list[int]) -> list[tuple[Child, int]]:
        """The children behind these readable descriptors, which have ended, with their wait status. What is left of
        their groups is killed, and so are the descendants that they orphaned."""
        ended = []
        checks = False
        for descriptor in descriptors:
            orphan = self._orphans.pop(descriptor, None)
            if orphan is not None:
                self._forget(descriptor)
                _wait(orphan)
                checks = True
                continue
            child = self._by_fd.pop(descriptor, None)
            if child is None:
                continue
            del self._by_number[child.number]
            if child.leads_group:
                # Before it is reaped: as long as it is a zombie, nobody else can have its pid.
                processes.kill_group(child.pid, 9)
            status = _wait(child.pid)
            self._forget(descriptor)
            ended.append((child, status))
        if ended or checks:
            self._kill_orphans()
        return ended

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        os.close(descriptor)

    def _kill_orphans(self) -> None:
        present = processes.children()
        known = len(self._by_number) + len(self._orphans)
        if len(present) <= known and not self._own:
            return
        tracked = {child.pid for child in self._by_number.values()} | set(self._orphans.values())
        self._own &= present
        alive = {child.pid for child in self._by_number.values()} | self._leave_alone()
        for pid in present - tracked - self._own:
            if self._belongs_to_living(pid, alive):
                continue
            processes.kill_orphan(pid)
            try:
                descriptor = os.pidfd_open(pid)
            except OSError:
                continue
            self._orphans[descriptor] = pid
            self._poll.register(descriptor, select.POLLIN)

    def _belongs_to_living(self, pid: int, alive: set[int]) -> bool:
        if not alive:
            return False
        if processes.session_of(pid) in alive:
            return True
        marker = processes.environment_value(pid, ATTEMPT_VARIABLE)
        return marker is not None and marker.isdigit() and int(marker) in alive

    def end_all(self, patience: float) -> None:
        """Kill all children and what they leave behind; wait for their end up to `patience` seconds."""
        import time

        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            for pid in processes.children():
                processes.kill_group(pid, 9)
                processes.kill(pid, 9)
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                time.sleep(0.002)


def _wait(pid: int) -> int:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return 0  # somebody (user code with its own wait) was faster
