"""Spare processes of a zygote: forked ahead and made ready, so that an attempt that comes finds its process waiting.

A spare runs one attempt and ends, like a process that is forked for an attempt that is there already. While attempts
come faster than processes can be made ready there are none: then to fork for each is less work.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from opskit.core.runner import forking, packets
from opskit.core.runner.brood import Brood, Child
from opskit.core.runner.zygote_spec import Spec

KEPT = max(1, min(2, os.cpu_count() or 1))
IDLE_SECONDS = 5.0
"""After so long without an attempt the spares end, and the next attempt is forked for."""
_REST_SECONDS = 0.001
"""What waits for the processor goes first: a spare is only made when there has been nothing else to do for so long."""
_BURST_SECONDS = 0.05


@dataclass(slots=True, eq=False)
class _Spare:
    child: Child
    channel: socket.socket


class Spares:
    """The spares of one zygote. They are children in its brood with negative numbers, until they get an attempt."""

    def __init__(self, spec: Spec, dags: list[Any], channel: socket.socket, brood: Brood) -> None:
        self._spec = spec
        self._dags = dags
        self._channel = channel
        self._brood = brood
        self._idle: list[_Spare] = []
        self._made = 0
        self._wanted = 0
        self._arrivals: deque[float] = deque(maxlen=KEPT + 2)

    def hand_over(self, number: int, data: bytes) -> int | None:
        """Let a spare run this attempt; its pid, None when there is no spare."""
        self._arrivals.append(time.monotonic())
        self._wanted = KEPT
        while self._idle:
            spare = self._idle.pop(0)
            try:
                packets.send(spare.channel, b"R", number, data)
            except (BrokenPipeError, ConnectionResetError):
                continue  # it has died, and had no work yet
            finally:
                spare.channel.close()
            self._brood.renumber(spare.child, number)
            return spare.child.pid
        return None

    def ended(self, child: Child) -> None:
        """A spare has died without work. The next attempt lets a new one be made: not before, or one that can't live
        would be made again and again."""
        for spare in self._idle:
            if spare.child is child:
                spare.channel.close()
                self._idle.remove(spare)
                self._wanted = len(self._idle)
                return

    def patience(self) -> float | None:
        """For how many milliseconds `tend` has nothing to do; None: for ever."""
        if self._wanted > len(self._idle):
            return _REST_SECONDS * 1000 if not self._is_burst() else _BURST_SECONDS * 1000
        if self._idle:
            return max(0.0, self._arrivals[-1] + IDLE_SECONDS - time.monotonic()) * 1000 + 1
        return None

    def tend(self) -> None:
        """Make a spare, or let those go that have waited for long. To be called when there is nothing else to do."""
        if not self._arrivals:
            return
        if time.monotonic() - self._arrivals[-1] > IDLE_SECONDS:
            self._wanted = 0
            self.close()
        elif self._wanted > len(self._idle) and not self._is_burst():
            self._fork()

    def close(self) -> None:
        """Let go of all: they end. In a fork of the zygote: close what belongs to the zygote."""
        for spare in self._idle:
            spare.channel.close()
        self._idle.clear()

    def _is_burst(self) -> bool:
        if len(self._brood) - len(self._idle) <= KEPT or len(self._arrivals) < KEPT + 2:
            return False
        return time.monotonic() - self._arrivals[0] < _BURST_SECONDS

    def _fork(self) -> None:
        zygote = os.getpid()
        ours, theirs = packets.pair()
        try:
            pid = forking.fork()
        except OSError:
            # Attempts will say so themselves.
            self._wanted = len(self._idle)
            ours.close()
            theirs.close()
            return
        if pid == 0:
            try:
                ours.close()
                self.close()
                from opskit.core.runner import attempt

                attempt.main_spare(self._spec, self._dags, theirs, self._channel, zygote)
            finally:
                os._exit(70)
        theirs.close()
        self._made += 1
        self._idle.append(_Spare(self._brood.add(-self._made, pid, leads_group=True), ours))
