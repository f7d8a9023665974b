"""systemd units of this installation: printed, or written where the installed ones differ."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import opskit
from opskit.config import SETTINGS, Config
from opskit.errors import OpskitError, UsageError
from opskit.ops import unit_files
from opskit.ops.jobs import JOBS, cron
from opskit.ops.unit_files import LOOSE_WORKER, NEWEST, Installation
from opskit.system import systemd

SYSTEM_FOLDER = Path("/etc/systemd/system")
CREDENTIALS = Path("/etc/opskit/credentials")
"""A file for each secret, named as its setting."""
_PRIVATE_ROOTS = ("/home", "/root", "/run/user")
_BY_TARGET = ("opskit-watchdog.timer",)


def this_installation(
    config: Config, user: str | None = None, *, version: int | None = None, credentials: Path = CREDENTIALS
) -> Installation:
    """This installation; the user is the owner of OPSKIT_HOME where none is given, `version` that of systemd here.

    UsageError for an unknown user, or a path that a unit can't name.
    """
    import grp

    try:
        if user is None:
            entry = pwd.getpwuid(config.home.stat().st_uid if config.home.exists() else os.getuid())
        else:
            entry = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"there is no user {user or 'with the owner id of ' + str(config.home)}") from None
    outside = tuple(path for path in _written(config) if not path.is_relative_to(config.home))
    program = _program()
    secrets = _credentials(credentials)
    for path in (program, config.home, *outside, *secrets):
        if set(str(path)) & set("%\"'\\$") or (" " in str(path) and path != program):
            raise UsageError(f"{path}: such a path can't stand in a unit", hint="choose one of plain characters")
    return Installation(
        program,
        entry.pw_name,
        grp.getgrgid(entry.pw_gid).gr_name,
        config.home,
        outside,
        secrets,
        version or systemd.version() or NEWEST,
        any(path.startswith(f"{root}/") for path in (str(config.home), program) for root in _PRIVATE_ROOTS),
    )


def _written(config: Config) -> list[Path]:
    paths = [config.dags_folder, config.logs_folder]
    backups = str(config.get("backup", "to"))
    if "://" not in backups:
        paths.append(Path(backups))
    if config.database_url.startswith("sqlite:///"):
        paths.append(Path(config.database_url.removeprefix("sqlite:///").split("?", 1)[0]).parent)
    return list(dict.fromkeys(paths))


def _credentials(folder: Path) -> tuple[Path, ...]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UsageError(
            f"{folder} can't be read: {error.strerror}", hint="the units name the credentials in it: run it as root"
        ) from error
    known = {setting.name for setting in SETTINGS}
    for name in names:
        if name not in known:
            raise UsageError(f"{folder / name} has not the name of a setting", hint="for example core.fernet_key")
    return tuple(folder / name for name in names)


@dataclass(frozen=True, slots=True)
class Change:
    """One unit file: create, update or keep it, and why."""

    name: str
    action: str
    path: Path
    reason: str


@dataclass(slots=True)
class Report:
    changes: list[Change]
    dry_run: bool
    notes: list[str] = field(default_factory=list)

    @property
    def drift(self) -> bool:
        return any(change.action != "keep" for change in self.changes)


def crontab(installation: Installation) -> str:
    """The same jobs as crontab lines of the user of the services; what needs root is marked."""
    lines = [f"OPSKIT_HOME={installation.home}"]
    for job in JOBS:
        line = f"{cron(job.when)}  {installation.program} {' '.join(job.command)}"
        lines += ["# as root:", f"#{line}"] if job.root else [line]
    return "\n".join(lines) + "\n"


def made(
    config: Config, user: str | None = None, *, version: int | None = None, loose_worker: bool = False
) -> dict[str, str]:
    """All units of this installation by name. Errors as `this_installation`."""
    return unit_files.render(this_installation(config, user, version=version), loose_worker=loose_worker)


def install(units: Mapping[str, str], folder: Path, *, dry_run: bool = False) -> Report:
    """Write what differs into `folder`. Drop-ins (`*.d/`) and other people's units are never touched; ours for a worker
    with a looser sandbox is written when it is among `units`.

    OpskitError when a file can't be written: then none was written that systemd would use half.
    """
    report = Report([_compare(name, text, folder / name) for name, text in units.items()], dry_run)
    if dry_run or not report.drift:
        return report
    for change in report.changes:
        if change.action != "keep":
            _write(change.path, units[change.name])
    if folder == SYSTEM_FOLDER and systemd.is_running():
        systemd.reload_units()
        report.notes.append("systemd has read its units again")
    report.notes.append("start all with: systemctl enable --now opskit.target")
    timers = [name for name in units if name.endswith(".timer") and name not in _BY_TARGET]
    report.notes.append(f"where no maintenance DAG does it: systemctl enable --now {' '.join(timers)}")
    report.notes.append(f"let their user start them again: copy {polkit_rule()} to /etc/polkit-1/rules.d/")
    return report


def _compare(name: str, text: str, path: Path) -> Change:
    try:
        present = path.read_text()
    except FileNotFoundError:
        return Change(name, "create", path, "it is not there")
    except (OSError, UnicodeDecodeError) as error:
        raise OpskitError(f"{path} can't be read: {error}") from error
    if present == text:
        return Change(name, "keep", path, "it is as it should be")
    return Change(name, "update", path, "its text differs; local changes belong into a drop-in: systemctl edit")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.opskit")
    try:
        path.parent.mkdir(exist_ok=True)
        temporary.write_text(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OpskitError(f"{path} can't be written: {error}", hint="run it as root, or give --directory") from error


def polkit_rule() -> Path:
    """The rule that lets the user of the services start them again."""
    package = Path(opskit.__file__).parent
    for folder in (package / "_bundled" / "systemd", package.parent / "systemd"):
        if folder.is_dir():
            return folder / "polkit" / "50-opskit.rules"
    raise OpskitError("this installation of opskit has no polkit rule", hint="install it again")


def _program() -> str:
    """How this very opskit is called, by an absolute path and without a shell."""
    beside = Path(sys.executable).with_name("opskit")
    if os.access(beside, os.X_OK):
        return str(beside)
    return shutil.which("opskit") or f"{sys.executable} -m opskit"


def shipped() -> dict[str, str]:
    """The units as they lie in `systemd/`, for packagers and readers: /usr/bin/opskit, user opskit, newest systemd."""
    installation = Installation("/usr/bin/opskit", "opskit", "opskit", Path("/var/lib/opskit"))
    return {**unit_files.render(installation), f"{LOOSE_WORKER}.example": unit_files.loose()}
