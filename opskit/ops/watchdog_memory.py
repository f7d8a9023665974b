"""What the watchdog remembers from one run to the next, on the clock that no one can set."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.platforms.watching import Pause
from opskit.system.locks import boot_id

HOUR = 3600.0
_LEAST_SLEEP = 1.0
_LEAST_JUMP = 2.0
"""Smaller steps are the clock's own corrections."""
_LONGEST_BACKOFF = 900.0


def boot_seconds() -> float:
    """Seconds since boot, time in suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of this machine at one moment, in seconds."""

    boot: float
    """Since boot, time in suspend included."""
    asleep: float
    offset: float
    """The wall clock minus `boot`."""

    @classmethod
    def read(cls) -> Clocks:
        boot = boot_seconds()
        return cls(boot, boot - time.monotonic(), time.time() - boot)


@dataclass(frozen=True, slots=True)
class Restart:
    at: float
    """Boot seconds."""
    kind: str
    cause: str


@dataclass(frozen=True, slots=True)
class Memory:
    """All times are boot seconds; after a reboot only what is about alerts is kept."""

    boot_id: str = ""
    progress: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    """instance id → its progress counter, when it was first seen at that value, and its processor seconds then."""
    restarts: tuple[Restart, ...] = ()
    next_restart_at: float = 0.0
    upgrading_since: float | None = None
    blind_at: float | None = None
    """When the metastore was last found unreadable."""
    reset_at: float | None = None
    """When waiting work was last reset."""
    asleep: float = 0.0
    """Seconds that the machine has slept since boot."""
    clock_offset: float | None = None
    """The wall clock minus the boot clock."""
    disturbed_at: float | None = None
    """When a sleep of the machine or a jump of its clock was last noticed."""
    disturbance: str = ""
    verdict: str = ""
    """The last one, and since when it holds."""
    verdict_at: float = 0.0
    alerted: str = "healthy"
    """What the last alert said, as a key; no second one says the same."""
    trouble: str = ""
    """Why the file could not be used, when it could not."""

    def recent(self, now: float) -> list[Restart]:
        """Restarts of the last hour."""
        return [restart for restart in self.restarts if now - restart.at < HOUR]


def read_memory(run_folder: Path) -> Memory:
    """The memory of the last run; an empty one (that says so) when the file is missing or damaged."""
    try:
        data: dict[str, Any] = json.loads((run_folder / "watchdog.json").read_text())
        memory = Memory(
            boot_id=str(data["boot_id"]),
            progress={str(key): (int(n), float(at), float(cpu)) for key, (n, at, cpu) in data["progress"].items()},
            restarts=tuple(Restart(float(r["at"]), str(r["kind"]), str(r["cause"])) for r in data["restarts"]),
            next_restart_at=float(data["next_restart_at"]),
            upgrading_since=_seconds(data["upgrading_since"]),
            blind_at=_seconds(data["blind_at"]),
            reset_at=_seconds(data["reset_at"]),
            asleep=float(data["asleep"]),
            clock_offset=_seconds(data["clock_offset"]),
            disturbed_at=_seconds(data["disturbed_at"]),
            disturbance=str(data["disturbance"]),
            verdict=str(data["verdict"]),
            verdict_at=float(data["verdict_at"]),
            alerted=str(data["alerted"]),
        )
    except FileNotFoundError:
        return Memory(boot_id())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Memory(boot_id(), trouble=f"watchdog.json could not be read ({error}): earlier restarts are forgotten")
    return memory if memory.boot_id == boot_id() else Memory(boot_id(), alerted=memory.alerted)


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def noticed(memory: Memory, clocks: Clocks) -> Memory:
    """The memory with what the clocks tell: that the machine slept, or that its clock was set."""
    found = ""
    if memory.clock_offset is not None:
        slept, jumped = clocks.asleep - memory.asleep, clocks.offset - memory.clock_offset
        if slept > _LEAST_SLEEP:
            found = f"the machine slept for {slept:.0f} s"
        elif abs(jumped) > _LEAST_JUMP:
            found = f"the clock was set {'forward' if jumped > 0 else 'back'} by {abs(jumped):.0f} s"
    memory = replace(memory, asleep=clocks.asleep, clock_offset=clocks.offset)
    return replace(memory, disturbed_at=clocks.boot, disturbance=found) if found else memory


def write_memory(run_folder: Path, memory: Memory) -> None:
    _write(run_folder / "watchdog.json", asdict(memory))


def after_restart(memory: Memory, kind: str, cause: str, now: float, backoff: float, jitter: float) -> Memory:
    """The memory with one more restart. `jitter` is in 0..1 and moves the pause by up to a fifth either way."""
    recent = [*memory.recent(now), Restart(now, kind, cause)]
    pause = min(_LONGEST_BACKOFF, backoff * 2 ** (len(recent) - 1)) * (0.8 + 0.4 * jitter)
    return replace(memory, restarts=tuple(recent), next_restart_at=now + pause)


def pause(run_folder: Path, now: datetime, for_seconds: float | None, reason: str) -> Pause:
    import getpass

    until = None if for_seconds is None else (now + timedelta(seconds=for_seconds)).isoformat(timespec="seconds")
    made = Pause(getpass.getuser(), now.isoformat(timespec="seconds"), until, reason)
    _write(run_folder / "paused", asdict(made))
    return made


def resume(run_folder: Path) -> bool:
    """Whether it was paused."""
    try:
        (run_folder / "paused").unlink()
    except FileNotFoundError:
        return False
    return True


def _write(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(data))
    temporary.replace(path)
