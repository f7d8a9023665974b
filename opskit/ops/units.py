"""systemd units of this installation: made from `systemd/`, and written where the installed ones differ."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import opskit
from opskit.config import Config
from opskit.errors import OpskitError, UsageError
from opskit.system import systemd

# What the files in `systemd/` say, so that they are valid as they stand.
_PROGRAM, _USER, _HOME = "/usr/bin/opskit", "opskit", "/var/lib/opskit"
_PRIVATE_ROOTS = ("/home", "/root", "/run/user")
CRON = (
    ("* * * * *", "watchdog --quiet"),
    ("30 2 * * *", "backup"),
    ("30 3 * * *", "logs clean"),
    ("30 4 * * 0", "db clean"),
    ("0 5 * * *", "permissions fix"),
)
"""The timers as crontab lines, for machines without systemd."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What the units must name: how opskit is called, whose it is, where it lives."""

    program: str
    user: str
    group: str
    home: Path
    writable: tuple[Path, ...] = ()
    """Folders outside of the home that the services write to."""

    @classmethod
    def of(cls, config: Config, user: str | None = None) -> Installation:
        """This installation; the user is the owner of OPSKIT_HOME where none is given.

        UsageError for an unknown user, or a path that a unit can't name.
        """
        try:
            if user is None:
                entry = pwd.getpwuid(config.home.stat().st_uid if config.home.exists() else os.getuid())
            else:
                entry = pwd.getpwnam(user)
        except KeyError:
            raise UsageError(f"there is no user {user or 'with the owner id of ' + str(config.home)}") from None
        import grp

        outside = tuple(path for path in _written(config) if not path.is_relative_to(config.home))
        program = _program()
        for path in (program, config.home, *outside):
            if set(str(path)) & set("%\"'\\$") or (" " in str(path) and path != program):
                raise UsageError(f"{path}: such a path can't stand in a unit", hint="choose one of plain characters")
        return cls(program, entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name, config.home, outside)


def _written(config: Config) -> list[Path]:
    paths = [config.dags_folder, config.logs_folder]
    backups = str(config.get("backup", "to"))
    if "://" not in backups:
        paths.append(Path(backups))
    if config.database_url.startswith("sqlite:///"):
        paths.append(Path(config.database_url.removeprefix("sqlite:///").split("?", 1)[0]).parent)
    return list(dict.fromkeys(paths))


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


def render(installation: Installation) -> dict[str, str]:
    """All units by name, for this installation."""
    return {
        path.name: _render(path.read_text(), installation) for path in sorted(_sources().iterdir()) if path.is_file()
    }


def crontab(installation: Installation) -> str:
    """The same jobs as crontab lines."""
    lines = [f"OPSKIT_HOME={installation.home}"]
    lines += [f"{when}  {installation.program} {command}" for when, command in CRON]
    return "\n".join(lines) + "\n"


def install(config: Config, folder: Path, *, user: str | None = None, dry_run: bool = False) -> Report:
    """Write what differs into `folder`. Drop-ins (`*.d/`) and other people's units are never touched.

    OpskitError when a file can't be written: then none was written that systemd would use half.
    """
    units = render(Installation.of(config, user))
    report = Report([_compare(name, text, folder / name) for name, text in units.items()], dry_run)
    if dry_run or not report.drift:
        return report
    for change in report.changes:
        if change.action != "keep":
            _write(change.path, units[change.name])
    if folder == Path("/etc/systemd/system") and systemd.is_running():
        systemd.reload_units()
        report.notes.append("systemd has read its units again")
    report.notes.append("start all with: systemctl enable --now opskit.target")
    timers = [name for name in units if name.endswith(".timer") and name != "opskit-watchdog.timer"]
    report.notes.append(f"where no maintenance DAG does it: systemctl enable --now {' '.join(timers)}")
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
        temporary.write_text(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OpskitError(f"{path} can't be written: {error}", hint="run it as root, or give --directory") from error


def _render(text: str, installation: Installation) -> str:
    home = str(installation.home)
    lines = []
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key in ("User", "Group") and value == _USER:
            line = f"{key}={installation.user if key == 'User' else installation.group}"
        elif key in ("StateDirectory", "StateDirectoryMode") and home != _HOME:
            continue
        elif key == "ProtectHome" and _in_private_root(installation):
            # opskit itself or its home lies there: to be read, and written where ReadWritePaths says so.
            line = "ProtectHome=read-only"
        elif key == "PrivateTmp" and home.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108 -- compared, not used
            line = "PrivateTmp=no"
        elif key == "ReadWritePaths":
            # A leading minus: a folder that is not there yet is no error.
            line = " ".join([f"ReadWritePaths={home}", *(f"-{path}" for path in installation.writable)])
        elif key == "ExecStart":
            line = line.replace(_PROGRAM, installation.program, 1)
        else:
            line = line.replace(_HOME, home)
        lines.append(line)
    return "\n".join(lines) + "\n"


def _in_private_root(installation: Installation) -> bool:
    paths = (str(installation.home), installation.program)
    return any(path.startswith(f"{root}/") for path in paths for root in _PRIVATE_ROOTS)


def _program() -> str:
    """How this very opskit is called, by an absolute path and without a shell."""
    beside = Path(sys.executable).with_name("opskit")
    if os.access(beside, os.X_OK):
        return str(beside)
    return shutil.which("opskit") or f"{sys.executable} -m opskit"


def _sources() -> Path:
    package = Path(opskit.__file__).parent
    bundled = package / "_bundled" / "systemd"
    found = bundled if bundled.is_dir() else package.parent / "systemd"
    if not found.is_dir():
        raise OpskitError("this installation of opskit has no unit files", hint="install it again")
    return found
