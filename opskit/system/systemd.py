"""Asks and tells systemd about units, through systemctl and journalctl."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from opskit.errors import OpskitError

_PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "Result"),
    *("MainPID", "UnitFileState", "ExecStart", "RestartUSec"),
)


@dataclass(frozen=True, slots=True)
class UnitState:
    """A unit as systemd sees it; `load` is empty where there is no systemd."""

    load: str = ""
    active_state: str = ""
    sub: str = ""
    main_pid: int = 0
    file: str = ""
    exec_start: str = ""
    restart_seconds: float = 0.0
    result: str = ""

    @property
    def active(self) -> bool:
        return self.active_state in ("active", "reloading")

    @property
    def restarting(self) -> bool:
        """systemd starts it by itself at this moment, or will after its RestartSec."""
        return self.active_state in ("activating", "deactivating")

    @property
    def masked(self) -> bool:
        return self.load == "masked" or self.file.startswith("masked")

    def runs(self, program: str) -> bool:
        """Whether the unit is loaded and its command names `program`: a pid file may tell of cron's own unit."""
        return self.load == "loaded" and program in self.exec_start


def unit_state(unit: str) -> UnitState:
    """State of a unit; an empty one where there is no systemd, or it gives no answer."""
    try:
        done = _run("systemctl", "show", "--no-pager", *[f"--property={name}" for name in _PROPERTIES], "--", unit)
    except OSError:
        return UnitState()
    if done.returncode:
        return UnitState()
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    pid = found.get("MainPID", "0")
    return UnitState(
        load=found.get("LoadState", ""),
        active_state=found.get("ActiveState", ""),
        sub=found.get("SubState", ""),
        main_pid=int(pid) if pid.isdigit() else 0,
        file=found.get("UnitFileState", ""),
        exec_start=found.get("ExecStart", ""),
        restart_seconds=_seconds(found.get("RestartUSec", "")),
        result=found.get("Result", ""),
    )


def start_unit(unit: str) -> None:
    """Start a unit, or start it again, also after too many failures. OpskitError with systemd's own words."""
    try:
        _run("systemctl", "reset-failed", "--", unit)
        done = _run("systemctl", "--no-ask-password", "restart", "--", unit)
    except OSError as error:
        raise OpskitError(f"{unit} could not be started: {error}") from error
    if done.returncode:
        raise OpskitError(
            f"{unit} could not be started: {(done.stderr or done.stdout).strip()}",
            hint=f"systemctl status {unit}; whom systemd lets start it: systemd/polkit/50-opskit.rules",
        )


def journal(unit: str, lines: int) -> list[str]:
    """The last lines of a unit's journal; empty where there is none."""
    try:
        done = _run("journalctl", "--no-pager", "--output=short-iso", f"--lines={lines}", f"--unit={unit}")
    except OSError:
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def version() -> int:
    """The version of systemd here, such as 252; 0 where there is none."""
    try:
        words = _run("systemctl", "--version").stdout.split()
    except OSError:
        return 0
    return int(words[1]) if len(words) > 1 and words[0] == "systemd" and words[1].isdigit() else 0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise OpskitError(f"{' '.join(command)} gave no answer within 90 s") from error


def _seconds(text: str) -> float:
    """`1min 30s`, `100ms`, `5s` as seconds; 0 for anything else."""
    units = {"ms": 0.001, "min": 60.0, "s": 1.0, "h": 3600.0}
    total = 0.0
    for part in text.split():
        for unit, factor in units.items():
            number = part.removesuffix(unit)
            if part.endswith(unit) and number.replace(".", "", 1).isdigit():
                total += float(number) * factor
                break
    return total


def reload_units() -> None:
    """Let systemd read its unit files again. OpskitError with its own words."""
    try:
        done = _run("systemctl", "daemon-reload")
    except OSError as error:
        raise OpskitError(f"systemctl daemon-reload: {error}") from error
    if done.returncode:
        raise OpskitError(f"systemctl daemon-reload: {(done.stderr or done.stdout).strip()}")


def is_running() -> bool:
    """Whether systemd manages this machine (and not a container without it)."""
    return os.path.isdir("/run/systemd/system")
