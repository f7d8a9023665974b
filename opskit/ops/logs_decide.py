"""Decides which logs go: by their age, and, where room is short, the oldest first until there is enough.

Age is counted against what a log's own policy grants: a failure that may stay for 90 days is as old after 45 days as a
success that may stay for 30 is after 15. A histogram of that share holds what a tree of any size has to tell.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from opskit.ops.logs_policy import Policy

BUCKETS = 1 << 16
"""Steps of the share of its granted age that a log has reached."""
STAYS = -1
GOES = BUCKETS
"""Past its age."""
EMPTY = BUCKETS + 1
"""Of a directory in which there is nothing."""
AGE = "past its age"
MAX_SIZE = "the logs took too much room"
MIN_FREE = "the disk was too full"
MIN_FREE_INODES = "inodes ran short"


def bucket(written: float, now: float, max_age: float) -> int:
    """How old a log is, in seconds since the epoch and seconds: GOES when it is older than `max_age`, else a step below
    BUCKETS, the higher the older."""
    if written < now - max_age:
        return GOES
    if max_age <= 0:
        return 0
    return min(BUCKETS - 1, max(0, int((now - written) / max_age * BUCKETS)))


class Histogram:
    """Room and names that would be won, by age. Of constant size."""

    def __init__(self) -> None:
        self.logs = array("q", bytes(8 * (BUCKETS + 1)))
        self.disk_bytes = array("q", bytes(8 * (BUCKETS + 1)))
        self.inodes = array("q", bytes(8 * (BUCKETS + 1)))

    def add(self, step: int, disk_bytes: int, logs: int) -> None:
        self.logs[step] += logs
        self.disk_bytes[step] += disk_bytes
        self.inodes[step] += 1


@dataclass(frozen=True, slots=True)
class Room:
    """Of a file system, and what all logs take of it."""

    logs_disk_bytes: int
    free_bytes: int
    size_bytes: int
    free_inodes: int
    inodes: int
    """0: the file system does not count them."""


@dataclass(frozen=True, slots=True)
class Need:
    """What has to go, beyond what is past its age."""

    why: str
    disk_bytes: int = 0
    inodes: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """Logs of a higher step go, and of this step the share `share` (spread over the tree)."""

    why: str
    step: int
    share: float


def needs(histogram: Histogram, room: Room, policy: Policy) -> list[Need]:
    """What the limits ask for once all that is past its age has gone."""
    due, due_inodes = histogram.disk_bytes[GOES], histogram.inodes[GOES]
    found = []
    if policy.max_size:
        found.append(Need(MAX_SIZE, room.logs_disk_bytes - due - policy.max_size.of(room.size_bytes)))
    if policy.min_free:
        found.append(Need(MIN_FREE, policy.min_free.of(room.size_bytes) - room.free_bytes - due))
    if policy.min_free_inodes and room.inodes:
        wanted = policy.min_free_inodes.of(room.inodes) - room.free_inodes - due_inodes
        found.append(Need(MIN_FREE_INODES, inodes=wanted))
    return [need for need in found if need.disk_bytes > 0 or need.inodes > 0]


def cut(histogram: Histogram, need: Need) -> Cut:
    """Where the oldest logs that meet a need end. When all together do not meet it, all of them go."""
    amounts, wanted = (histogram.inodes, need.inodes) if need.inodes > 0 else (histogram.disk_bytes, need.disk_bytes)
    for step in range(BUCKETS - 1, -1, -1):
        amount = amounts[step]
        if amount >= wanted:
            return Cut(need.why, step, wanted / amount)
        wanted -= amount
    return Cut(need.why, STAYS, 0.0)


class Chooser:
    """Says of one log after the other whether it goes, and why. Of the step where a cut lies, each log adds its share
    to what is owed, so that the choice is spread evenly over all DAGs."""

    def __init__(self, cuts: Sequence[Cut]) -> None:
        self._cuts = list(cuts)
        self._owed = {entry.why: 0.0 for entry in cuts}

    def why(self, step: int, amount: int) -> str:
        """The reason to remove a log of `amount` bytes on the disk (at least 1); empty when it stays."""
        if step >= GOES:
            return AGE
        chosen = ""
        for entry in self._cuts:
            if step > entry.step:
                chosen = chosen or entry.why
            elif step == entry.step:
                weight = 1 if entry.why == MIN_FREE_INODES else amount
                owed = self._owed[entry.why] + entry.share * weight
                if owed > 0 or chosen:
                    chosen = chosen or entry.why
                    owed -= weight
                self._owed[entry.why] = owed
        return chosen

    def enough(self, why: str) -> None:
        """This limit is met: it takes no more."""
        self._cuts = [entry for entry in self._cuts if entry.why != why]

    @property
    def limits(self) -> list[str]:
        return [entry.why for entry in self._cuts]


def why_not(logs: int, going: int, future: int, max_percent: float) -> str:
    """Why a clean-up that would remove `going` of `logs` logs looks like a mistake; empty when it does not."""
    if future:
        return f"{future} of {logs} logs were written in the future: the clock is or was wrong"
    if logs and 100 * going > max_percent * logs:
        return f"{going} of {logs} logs would go, which is more than {max_percent:g} %"
    return ""


def going(histogram: Histogram, cuts: Sequence[Cut]) -> int:
    """How many logs would go, to within the spread of the last step."""
    lowest = min((entry.step for entry in cuts), default=BUCKETS)
    share = max((entry.share for entry in cuts if entry.step == lowest), default=0.0)
    count = sum(histogram.logs[lowest + 1 : BUCKETS]) + histogram.logs[GOES]
    return count + (round(histogram.logs[lowest] * share) if 0 <= lowest < BUCKETS else 0)
