"""Looks at everything the doctor judges: in parallel, read-only, and never longer than it was allowed to."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.config import SETTINGS, Config
from opskit.errors import OpskitError
from opskit.ops import watchdog_memory
from opskit.platforms import Platform
from opskit.platforms.watching import Pause, read_pause
from opskit.system.machine import Disk, disk_of, memory_bytes, resident_bytes

if TYPE_CHECKING:
    from opskit.ops.watchdog_findings import Decision
    from opskit.platforms.diagnosis import Store, Work
    from opskit.platforms.health import Observation


@dataclass(frozen=True, slots=True)
class LastRun:
    """What a verb's last runs left (see `telemetry/metrics.py`). None: it never ran, or never well."""

    at: datetime | None = None
    succeeded_at: datetime | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """The watchdog's look and judgement."""

    observation: Observation
    decision: Decision
    restarts_last_hour: int
    pause: Pause | None


@dataclass(frozen=True, slots=True)
class Backups:
    where: str
    count: int
    newest_verified: datetime | None
    newest_state: str = ""
    """Of the newest one, whatever its state."""


@dataclass(frozen=True, slots=True)
class Process:
    label: str
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Files:
    """What lies on this machine."""

    disks: tuple[Disk, ...]
    exposed: tuple[str, ...]
    """Files with secrets that others than their owner may read, a phrase each."""
    missing_logs: tuple[str, ...]
    """Attempts of this host that ended lately, whose log is not there."""
    changed: tuple[str, ...]
    """DAG files that differ from what was loaded, and have for more than a minute."""
    home_since: datetime | None
    """When OPSKIT_HOME was made, as far as the file system tells."""


@dataclass(frozen=True, slots=True)
class Units:
    running: bool
    """systemd is this machine's init."""
    installed: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Everything that was seen. A part that could not be seen is None, and `unseen` says why."""

    now: datetime
    config: Config
    ram_bytes: int
    runs: Mapping[str, LastRun]
    cluster: Cluster | None = None
    work: Work | None = None
    store: Store | None = None
    undecipherable: tuple[str, ...] | None = None
    backups: Backups | None = None
    files: Files | None = None
    processes: tuple[Process, ...] | None = None
    units: Units | None = None
    unseen: Mapping[str, str] = field(default_factory=dict)


def look(platform: Platform, now: datetime, *, seconds: float) -> Facts:
    """Look at everything at once. What takes longer than `seconds`, or fails, is left out and named."""
    config = platform.config
    hostname = socket.gethostname()
    parts: dict[str, Callable[[], Any]] = {
        "cluster": lambda: _cluster(platform, now),
        "work": lambda: platform.diagnosis.work(now, hostname),
        "store": lambda: platform.diagnosis.store(now),
        "undecipherable": platform.diagnosis.undecipherable,
        "backups": lambda: _backups(config),
        "units": lambda: _units(config),
    }
    seen, unseen = _together(parts, seconds * 0.7)
    work = seen.get("work")
    cluster: Cluster | None = seen.get("cluster")
    more, blind = _together(
        {
            "files": lambda: _files(config, now, work),
            "processes": lambda: _processes(cluster),
        },
        seconds * 0.3,
    )
    return Facts(
        now=now, config=config, ram_bytes=memory_bytes(), runs=_last_runs(config), **seen, **more, unseen=unseen | blind
    )


def _together(parts: Mapping[str, Callable[[], Any]], seconds: float) -> tuple[dict[str, Any], dict[str, str]]:
    seen: dict[str, Any] = {}
    unseen: dict[str, str] = {}

    def run(name: str, see: Callable[[], Any]) -> None:
        try:
            seen[name] = see()
        except OpskitError as error:
            unseen[name] = error.message
        except OSError as error:
            unseen[name] = str(error)
        except Exception as error:  # noqa: BLE001 -- one blind eye must not close the others
            unseen[name] = f"{type(error).__name__}: {error}"

    # Daemons: one that hangs (a dead NFS server, a silent database) must not hold the process.
    threads = {name: threading.Thread(target=run, args=(name, see), daemon=True) for name, see in parts.items()}
    for thread in threads.values():
        thread.start()
    until = time.monotonic() + seconds
    for name, thread in threads.items():
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            unseen[name] = f"no answer within {seconds:.0f} s"
    return {name: seen[name] for name in parts if name in seen and name not in unseen}, unseen


def _cluster(platform: Platform, now: datetime) -> Cluster:
    from opskit.ops import watchdog_findings, watchdog_rules

    observation = platform.health.observe(now)
    folder = platform.config.run_folder
    memory, pause = watchdog_memory.read_memory(folder), read_pause(folder)
    boot_now = watchdog_memory.boot_seconds()
    policy = watchdog_findings.Policy.of(platform.config)
    decision = watchdog_rules.decide(observation, memory, None, policy, boot_now)
    return Cluster(observation, decision, len(memory.recent(boot_now)), pause)


def _backups(config: Config) -> Backups:
    from opskit.ops.backup import store_of
    from opskit.ops.backup_catalog import FULL, list_backups

    store = store_of(config)
    found = [backup for backup in list_backups(store) if backup.tier == FULL]
    verified = [backup.taken_at for backup in found if backup.state == "verified"]
    return Backups(store.url, len(found), max(verified, default=None), found[0].state if found else "")


def _units(config: Config) -> Units:
    from opskit.ops import units
    from opskit.system import systemd

    folder = Path("/etc/systemd/system")
    if not systemd.is_running():
        return Units(False)
    report = units.install(units.made(config), folder, dry_run=True)
    present = tuple(change.name for change in report.changes if change.action != "create")
    return Units(True, present, tuple(change.name for change in report.changes if change.action == "update"))


def _files(config: Config, now: datetime, work: Work | None) -> Files:
    folders = [config.home, config.logs_folder, config.dags_folder]
    if "://" not in (to := str(config.get("backup", "to"))):
        folders.append(Path(to))
    disks = {disk.device: disk for disk in map(disk_of, folders)}
    logs = work.recent_logs if work else ()
    files = work.files if work else ()
    return Files(
        disks=tuple(disks.values()),
        exposed=tuple(_exposed(config)),
        missing_logs=tuple(what for what, path in logs if not (config.logs_folder / path).exists()),
        changed=tuple(file.path for file in files if _changed(config.dags_folder / file.path, file.content_hash, now)),
        home_since=_since(config.home),
    )


def _exposed(config: Config) -> list[str]:
    found = []
    candidates = [config.home / "fernet.key", config.home / "opskit.db"]
    if any(config.origins[row.name] == str(config.path) and config.values[row.name] for row in SETTINGS if row.secret):
        candidates.append(config.path)
    for path in candidates:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            continue
        if mode & 0o007:
            found.append(f"{path} (mode {mode:04o}) can be read by everybody")
    return found


def _changed(path: Path, content_hash: str, now: datetime) -> bool:
    try:
        if now.timestamp() - path.stat().st_mtime < 60:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() != content_hash
    except OSError:
        return False  # a file that has gone is what `vanished` is about


def _since(home: Path) -> datetime | None:
    times = []
    for name in ("fernet.key", "opskit.toml", "opskit.db"):
        try:
            found = os.stat(home / name)
        except OSError:
            continue
        times.append(found.st_mtime)
    return datetime.fromtimestamp(min(times), UTC) if times else None


def _processes(cluster: Cluster | None) -> tuple[Process, ...]:
    found = []
    for component in cluster.observation.components if cluster else ():
        if component.local and component.process not in ("gone", "unknown"):
            used = resident_bytes(component.pid)
            if used is not None:
                found.append(Process(component.label, used))
    return tuple(found)


def _last_runs(config: Config) -> dict[str, LastRun]:
    from opskit.telemetry import metrics

    folder = str(config.get("metrics", "textfile_directory"))
    runs = {}
    for path in Path(folder).expanduser().glob("opskit_*.prom") if folder else ():
        verb = path.stem.removeprefix("opskit_")
        families = metrics.read(path)

        def value(what: str, verb: str = verb, families: Any = families) -> float | None:
            name = f"opskit_{verb}_{what}"
            found: float | None = families.get(name, {}).get(name)
            return found

        runs[verb] = LastRun(
            _time(value("last_run_timestamp_seconds")),
            _time(value("last_success_timestamp_seconds")),
            None if (code := value("exit_code")) is None else int(code),
        )
    return runs


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
