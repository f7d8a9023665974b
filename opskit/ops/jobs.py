"""The maintenance verbs and when they run: one table for timers, crontab lines and the agent."""

from __future__ import annotations

import re
from dataclasses import dataclass

from opskit.errors import ConfigError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Every:
    """A fixed distance: `every 90 seconds`, `every minute`, `every 4 hours`."""

    seconds: int

    def __str__(self) -> str:
        for unit, length in (("hour", 3600), ("minute", 60), ("second", 1)):
            if self.seconds % length == 0:
                count = self.seconds // length
                return f"every {unit}" if count == 1 else f"every {count} {unit}s"
        raise AssertionError


@dataclass(frozen=True, slots=True)
class At:
    """A time of the day, in the machine's zone: `daily 02:30`, `weekly sun 04:30`."""

    hour: int
    minute: int
    day: str = ""

    def __str__(self) -> str:
        time = f"{self.hour:02d}:{self.minute:02d}"
        return f"weekly {self.day} {time}" if self.day else f"daily {time}"


When = Every | At


@dataclass(frozen=True, slots=True)
class Job:
    """A verb that runs by itself. `jitter`: seconds by which its start may be put off, so that hosts don't meet."""

    name: str
    command: tuple[str, ...]
    when: When
    does: str
    """What it does, for people."""
    limit: int
    """Seconds after which it is ended."""
    jitter: int = 900
    light: bool = False
    """It may run beside any other; of the rest the agent runs one at a time."""
    root: bool = False
    """It needs more rights than the user of the services has by himself."""
    well: tuple[int, ...] = (0,)
    """Exit codes that need no alert: the verb has told people itself, or has nothing to tell."""


JOBS = (
    Job("watchdog", ("watchdog", "--quiet"), Every(60), "Restart what hangs", 600, 0, light=True, well=(0, 4, 12)),
    Job(
        "capture",
        ("backup", "--tier", "config", "--quiet"),
        Every(60),
        "Keep connections, variables, pools and pause states",
        300,
        0,
        light=True,
    ),
    Job("dags-drift", ("dags-drift",), Every(3600), "Compare the DAG folders of all hosts", 900, 300),
    Job("backup", ("backup",), At(2, 30), "Back up the metastore and prove the backup by a restore", 6 * 3600),
    Job("logs-clean", ("logs", "clean"), At(3, 30), "Remove old task logs", 2 * 3600),
    Job("permissions", ("permissions", "fix"), At(5, 0), "Repair owners and modes below OPSKIT_HOME", 3600, root=True),
    Job("doctor", ("doctor",), At(6, 0), "Look for what hurts operators", 300),
    Job("drill", ("drill",), At(1, 0, "sun"), "Prove a stored backup by a restore", 6 * 3600),
    Job("db-clean", ("db", "clean"), At(4, 30, "sun"), "Remove old DagRuns from the metastore", 2 * 3600),
)

_EVERY = re.compile(r"every (?:(\d+) )?(second|minute|hour)s?")
_AT = re.compile(rf"(?:daily|weekly ({'|'.join(DAYS)})) (\d\d):(\d\d)")
_LENGTH = {"second": 1, "minute": 60, "hour": 3600}


def parse_when(text: str) -> When:
    """`every 5 minutes`, `daily 02:30` or `weekly sun 04:30`. ConfigError for anything else."""
    words = " ".join(text.lower().split())
    if found := _EVERY.fullmatch(words):
        seconds = int(found[1] or 1) * _LENGTH[found[2]]
        if seconds:
            return Every(seconds)
    if (found := _AT.fullmatch(words)) and int(found[2]) < 24 and int(found[3]) < 60:
        return At(int(found[2]), int(found[3]), found[1] or "")
    raise ConfigError(
        f"{text!r} is no time for a job", hint="write `every 5 minutes`, `daily 02:30` or `weekly sun 04:30`"
    )


def period(when: When) -> int:
    """Seconds from one start to the next."""
    if isinstance(when, Every):
        return when.seconds
    return 7 * 86400 if when.day else 86400


def on_calendar(when: At | Every) -> str:
    """The same for systemd's OnCalendar. An `Every` must be a part of an hour or of a day."""
    if isinstance(when, At):
        day = f"{when.day.capitalize()} " if when.day else ""
        return f"{day}*-*-* {when.hour:02d}:{when.minute:02d}:00"
    if when.seconds % 3600 == 0:
        hours = when.seconds // 3600
        return "hourly" if hours == 1 else f"*-*-* 0/{hours}:00:00"
    return f"*-*-* *:0/{when.seconds // 60}:00"


def cron(when: At | Every) -> str:
    """The five fields of a crontab line. An `Every` must be a part of an hour or of a day, in minutes."""
    if isinstance(when, At):
        day = str((DAYS.index(when.day) + 1) % 7) if when.day else "*"
        return f"{when.minute} {when.hour} * * {day}"
    if when.seconds % 3600 == 0:
        hours = when.seconds // 3600
        return "17 * * * *" if hours == 1 else f"17 */{hours} * * *"
    minutes = when.seconds // 60
    return "* * * * *" if minutes == 1 else f"*/{minutes} * * * *"
