"""The text of every systemd unit: made from a few lists, for one installation and one version of systemd."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from opskit.ops.jobs import JOBS, Every, Job, on_calendar

NEWEST = 999
"""A version of systemd that knows every option."""
LOOSE_WORKER = "opskit-worker.service.d/50-opskit-loose.conf"
"""The drop-in that takes the worker's sandbox away where user code needs it."""

# The version of systemd that first knew an option (systemd's NEWS); older ones would only warn, but we say what holds.
_SINCE = {
    "WatchdogSignal": 240,
    "ProtectHostname": 242,
    "RestrictSUIDSGID": 242,
    "OOMPolicy": 243,
    "ProtectKernelLogs": 244,
    "ProtectClock": 245,
    "FixedRandomDelay": 247,
    "LoadCredential": 247,
    "ProcSubset": 247,
    "ProtectProc": 247,
    "PrivateIPC": 248,
    "RestartMaxDelaySec": 254,
    "RestartSteps": 254,
}

Lines = Sequence[str]

# What no service of opskit needs. It scores about 1.5 of 10 in `systemd-analyze security`.
_LOCKED = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "PrivateMounts=yes",
    "DevicePolicy=closed",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    "KeyringMode=private",
    "RemoveIPC=yes",
    "UMask=0027",
)
# Signals to processes outside need users that mean the same there.
_ALONE = ("PrivateUsers=yes", "SystemCallFilter=~@privileged")
_DAEMON = (
    "NotifyAccess=main",
    "Restart=always",
    # A database that is away for minutes must not use the starts up; from version 254 on the pause grows to a minute.
    "RestartSec=5",
    "RestartSteps=5",
    "RestartMaxDelaySec=60",
    # 2: wrong usage, 10: wrong configuration. Another start would not help: the alert goes out at once.
    "RestartPreventExitStatus=2 10",
    "TimeoutStartSec=90",
    "WatchdogSec=90",
    "WatchdogSignal=SIGABRT",
    "KillMode=mixed",
    "MemoryAccounting=yes",
    "CPUAccounting=yes",
)
_DAEMON_UNIT = (
    "PartOf=opskit.target",
    "Wants=network-online.target",
    "After=network-online.target postgresql.service mariadb.service mysql.service",
    "StartLimitIntervalSec=30min",
    "StartLimitBurst=200",
    "OnFailure=opskit-alert@%n.service",
)
_JOB_UNIT = (
    "Wants=network-online.target",
    "After=network-online.target",
    "OnFailure=opskit-alert@%n.service",
)
# Attempts are user code. What breaks ordinary code is left out: PrivateUsers (owners of files), MemoryDenyWriteExecute
# (ctypes, numba, Java), @privileged and @resources (chown, nice), netlink (name resolution, network tools); with
# ProtectSystem=full everything outside of /usr, /boot and /etc can be written where its mode allows.
_WORKER = {
    "ProtectSystem=strict": "ProtectSystem=full",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6": "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
}
_LOOSE = """# For DAGs that need more than the sandbox of opskit-worker.service. Keep only what yours need:
[Service]
# sudo, su, run_as_user, setuid programs
NoNewPrivileges=no
RestrictSUIDSGID=no
CapabilityBoundingSet=~
SystemCallFilter=
# GPUs, /dev/fuse, serial ports
PrivateDevices=no
DevicePolicy=auto
# podman, bubblewrap, unshare, the sandbox of Chromium
RestrictNamespaces=no
PrivateMounts=no
# packet sockets (ping, tcpdump), vsock and others
RestrictAddressFamilies=
# files in /home, processes of others (ps, py-spy), files in /etc and /usr
ProtectHome=no
ProtectProc=default
ProtectSystem=no
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """What the units must name: how opskit is called, whose it is, where it lives."""

    program: str
    user: str
    group: str
    home: Path
    writable: tuple[Path, ...] = ()
    """Folders outside of the home that the services write to."""
    credentials: tuple[Path, ...] = ()
    """Files with a secret each, named as the setting (`core.fernet_key`): only systemd need be able to read them."""
    systemd: int = NEWEST
    """Its version; what is younger is left out."""
    private_home: bool = False
    """opskit or its home lies below /home, /root or /run/user."""
    environment: Path = Path("/etc/opskit/environment")


def render(installation: Installation, *, loose_worker: bool = False) -> dict[str, str]:
    """All units by name."""
    units = {
        "opskit.target": _text(
            ("Unit", _description("scheduler, DAG processor, worker, webserver and the watchdog", "opskit: ")),
            ("Unit", [f"Wants={' '.join(_TARGET)}"]),
            ("Install", ["WantedBy=multi-user.target"]),
        ),
        "opskit.slice": _text(
            ("Unit", ["Description=opskit"]), ("Slice", ["MemoryAccounting=yes", "CPUAccounting=yes"])
        ),
        "opskit-attempts.slice": _text(
            ("Unit", ["Description=Attempts of opskit's task instances"]),
            ("Slice", ["MemoryAccounting=yes", "CPUAccounting=yes"]),
            # Under pressure the scheduler goes first. Limits for all attempts belong into a drop-in (MemoryMax=80%).
            ("Slice", ["CPUWeight=80", "IOWeight=80"]),
        ),
        "opskit-scheduler.service": _daemon(
            installation,
            "opskit scheduler",
            "scheduler",
            ["OOMScoreAdjust=-500", "TimeoutStopSec=30", "TasksMax=256", "Slice=opskit.slice"],
            (*_LOCKED, *_ALONE),
        ),
        "opskit-dag-processor.service": _daemon(
            installation,
            "opskit DAG processor",
            "dag-processor",
            # A DAG file that the kernel kills for its memory is an import error, not a failed service.
            ["OOMPolicy=continue", "TimeoutStopSec=30", "TasksMax=512", "Slice=opskit.slice"],
            (*_LOCKED, *_ALONE),
        ),
        "opskit-worker.service": _daemon(
            installation,
            "opskit worker: runs the attempts",
            "worker",
            # While it stops, the worker asks for the time that running attempts have (core.worker_stop_grace).
            [
                "OOMPolicy=continue",
                "TimeoutStopSec=15min",
                "TasksMax=infinity",
                "Slice=opskit-attempts.slice",
            ],
            [_WORKER.get(line, line) for line in _LOCKED],
        ),
        "opskit-webserver.service": _daemon(
            installation,
            "opskit webserver: pages and REST API",
            "webserver",
            # People wait a little where the scheduler would have to.
            ["OOMPolicy=continue", "TimeoutStopSec=30", "TasksMax=512", "CPUWeight=50", "Slice=opskit.slice"],
            (*_LOCKED, *_ALONE),
        ),
        "opskit-watchdog-resident.service": _daemon(
            installation,
            "opskit watchdog: sees within seconds what hangs; in place of opskit-watchdog.timer",
            "watchdog --resident",
            ["TimeoutStopSec=30", "Slice=opskit.slice", *_WATCHDOG],
            _LOCKED,
            unit=["Conflicts=opskit-watchdog.timer opskit-watchdog.service"],
        ),
        "opskit-alert@.service": _alert(installation),
    }
    for job in JOBS:
        units[f"opskit-{job.name}.service"] = _job(installation, job)
        units[f"opskit-{job.name}.timer"] = _timer(installation, job)
    if loose_worker:
        units[LOOSE_WORKER] = _LOOSE
    return dict(sorted(units.items()))


def loose() -> str:
    """The drop-in `LOOSE_WORKER`."""
    return _LOOSE


_TARGET = (
    "opskit-scheduler.service",
    "opskit-dag-processor.service",
    "opskit-worker.service",
    "opskit-webserver.service",
    "opskit-watchdog.timer",
)
_WATCHDOG = (
    # Started by systemd alone, and never as a child of this unit.
    "Environment=OPSKIT__WATCHDOG__RESTART=systemd",
    "SupplementaryGroups=systemd-journal",
)


def _description(text: str, before: str = "") -> list[str]:
    return [f"Description={before}{text}"]


def _daemon(
    installation: Installation,
    description: str,
    command: str,
    service: Lines,
    sandbox: Iterable[str],
    unit: Lines = (),
) -> str:
    start = ["Type=notify", f"ExecStart={installation.program} {command}", *_DAEMON, *service]
    return _text(
        ("Unit", [*_description(description), *_DAEMON_UNIT, *unit]),
        ("Service", [*start, *_place(installation)]),
        ("Service", _fitting(installation, sandbox)),
        ("Install", ["WantedBy=opskit.target"] if "resident" not in command else ["WantedBy=multi-user.target"]),
        version=installation.systemd,
    )


def _job(installation: Installation, job: Job) -> str:
    start = [
        "Type=oneshot",
        f"ExecStart={installation.program} {' '.join(job.command)}",
        f"TimeoutStartSec={job.limit}",
    ]
    if not job.light:
        start += ["Nice=10", "IOSchedulingClass=idle"]
    if job.well != (0,):
        start.append(f"SuccessExitStatus={' '.join(str(code) for code in job.well if code)}")
    sandbox: list[str] = list(_LOCKED)
    if job.name == "watchdog":
        start += _WATCHDOG
    elif job.root:
        # It is not root: it has just the rights to change owners, and only its own folders to write to.
        rights = "CAP_CHOWN CAP_FOWNER CAP_FSETID CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE"
        given = {f"{key}=": f"{key}={rights}" for key in ("CapabilityBoundingSet", "AmbientCapabilities")}
        # A policy may ask for setgid on folders.
        sandbox = [given.get(line, line) for line in sandbox if line != "RestrictSUIDSGID=yes"]
        sandbox += [
            "SystemCallFilter=~@privileged @resources",
            "SystemCallFilter=@chown",
            "ProcSubset=pid",
            "MemoryDenyWriteExecute=yes",
            "InaccessiblePaths=-/etc/shadow -/etc/gshadow -/etc/ssh -/etc/ssl/private -/etc/sudoers",
        ]
    else:
        sandbox += _ALONE
    return _text(
        ("Unit", [*_description(job.does, "opskit: "), *_JOB_UNIT]),
        ("Service", [*start, "Slice=opskit.slice", *_place(installation)]),
        ("Service", _fitting(installation, sandbox)),
        version=installation.systemd,
    )


def _alert(installation: Installation) -> str:
    return _text(
        ("Unit", ["Description=Tell people that %i has failed"]),
        (
            "Service",
            [
                "Type=oneshot",
                f"ExecStart={installation.program} alert --unit %i",
                "TimeoutStartSec=2min",
                # It reads the journal of the unit that failed.
                "SupplementaryGroups=systemd-journal",
                "Slice=opskit.slice",
                *_place(installation),
            ],
        ),
        ("Service", _fitting(installation, [*_LOCKED, "SystemCallFilter=~@privileged @resources"])),
        version=installation.systemd,
    )


def _timer(installation: Installation, job: Job) -> str:
    if isinstance(job.when, Every) and job.when.seconds <= 60:
        # Counted from its end: never two at once, and none to catch up.
        timer = [f"OnActiveSec={job.when.seconds}s", f"OnUnitInactiveSec={job.when.seconds}s", "AccuracySec=1s"]
    else:
        timer = [f"OnCalendar={on_calendar(job.when)}", f"RandomizedDelaySec={job.jitter}", "Persistent=true"]
    return _text(
        ("Unit", _description(job.does, "opskit: ")),
        ("Timer", timer),
        ("Install", ["WantedBy=timers.target"]),
        version=installation.systemd,
    )


def _place(installation: Installation) -> list[str]:
    home = installation.home
    lines = [
        f"User={installation.user}",
        f"Group={installation.group}",
        f"Environment=OPSKIT_HOME={home}",
        f"EnvironmentFile=-{installation.environment}",
        f"WorkingDirectory={home}",
        # A leading minus: a folder that is not there yet is no error.
        " ".join([f"ReadWritePaths={home}", *(f"-{path}" for path in installation.writable)]),
        *(f"LoadCredential={path.name}:{path}" for path in installation.credentials),
    ]
    # systemd makes them and gives them to the user.
    for key, base, path in (
        ("StateDirectory", "/var/lib", home),
        *(("LogsDirectory", "/var/log", path) for path in installation.writable),
    ):
        if path.is_relative_to(base) and path != Path(base):
            lines += [f"{key}={path.relative_to(base)}", f"{key}Mode=0750"]
    return lines


def _fitting(installation: Installation, sandbox: Iterable[str]) -> list[str]:
    lines = list(sandbox)
    if installation.private_home:
        # opskit itself or its home lies there: to be read, and written where ReadWritePaths says so.
        lines = ["ProtectHome=read-only" if line == "ProtectHome=yes" else line for line in lines]
    if str(installation.home).startswith(("/tmp/", "/var/tmp/")):  # noqa: S108 -- compared, not used
        lines = ["PrivateTmp=no" if line == "PrivateTmp=yes" else line for line in lines]
    return lines


def _text(*sections: tuple[str, Lines], version: int = NEWEST) -> str:
    """Sections in their order; one that is named again goes on after an empty line."""
    found: list[str] = []
    last = ""
    for name, lines in sections:
        found += ["", f"[{name}]"] if name != last else [""]
        last = name
        found += [line for line in lines if _SINCE.get(line.partition("=")[0], 0) <= version]
    return "\n".join(found[1:]) + "\n"
