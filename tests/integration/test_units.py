"""The units are valid for the installed systemd, locked down, and installed without touching what others wrote."""

from __future__ import annotations

import itertools
import json
import os
import pwd
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from opskit.cli import cli
from opskit.config import load
from opskit.errors import UsageError
from opskit.ops import unit_files, units
from opskit.ops.jobs import JOBS
from opskit.ops.unit_files import LOOSE_WORKER, Installation
from opskit.system import systemd
from tests.services import program

SOURCES = Path(__file__).parents[2] / "systemd"
SERVICES = sorted(path.name for path in SOURCES.glob("*.service"))
SHIPPED = Installation("/usr/bin/opskit", "opskit", "opskit", Path("/var/lib/opskit"))
DAEMONS = [
    "opskit-scheduler.service",
    "opskit-dag-processor.service",
    "opskit-worker.service",
    "opskit-webserver.service",
    "opskit-watchdog-resident.service",
]


def directives(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (SOURCES / name).read_text().splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """All units, rendered for a program that exists."""
    stub = tmp_path / "opskit"
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    folder = tmp_path / "units"
    folder.mkdir()
    user = pwd.getpwuid(1).pw_name
    place = Installation(str(stub), user, user, Path("/srv/cluster"), systemd=systemd.version())
    for name, text in unit_files.render(place).items():
        (folder / name).write_text(text)
    return folder


def test_systemd_finds_nothing_wrong_with_any_unit(installed: Path) -> None:
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", *map(str, sorted(installed.glob("opskit*")))],
        env={
            "SYSTEMD_UNIT_PATH": f"{installed}:/lib/systemd/system:/usr/lib/systemd/system",
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def exposures(*paths: Path) -> dict[str, float]:
    command = [program("systemd-analyze"), "security", "--offline=true", "--no-pager", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "offline" in done.stderr:
        pytest.skip("this systemd-analyze knows no --offline")
    found = re.findall(r"Overall exposure level for (\S+): ([\d.]+)", done.stdout)
    assert len(found) == len(paths), done.stdout + done.stderr
    return {name: float(level) for name, level in found}


def test_every_service_is_locked_down(installed: Path) -> None:
    found = exposures(*sorted(installed.glob("*.service")))
    print(found)
    assert len(found) == len(SERVICES)
    assert {name: level for name, level in found.items() if level > 2.0} == {}


def test_the_drop_in_takes_the_sandbox_of_the_worker_away(installed: Path) -> None:
    (installed / LOOSE_WORKER).parent.mkdir()
    (installed / LOOSE_WORKER).write_text(unit_files.loose())
    (level,) = exposures(installed / "opskit-worker.service").values()
    assert level > 6


def test_the_files_in_the_repository_are_those_that_are_made() -> None:
    """Write them again with: opskit units install --shipped --directory systemd"""
    found = {
        str(path.relative_to(SOURCES)): path.read_text()
        for path in SOURCES.rglob("*")
        if path.is_file() and path.parent.name != "polkit"
    }
    assert found == units.shipped()


@pytest.mark.parametrize(("version", "known"), [(239, False), (252, True)])
def test_what_is_younger_than_systemd_here_is_left_out(version: int, known: bool) -> None:
    """RHEL 8 has 239: it would warn of each option that it does not know."""
    text = "".join(unit_files.render(replace(SHIPPED, systemd=version)).values())
    for option in ("ProtectClock=", "ProtectProc=", "WatchdogSignal=", "OOMPolicy=", "PrivateIPC="):
        assert (option in text) is known, option
    assert "RestartSteps=" not in text
    assert "NoNewPrivileges=yes" in text


def test_secrets_reach_the_services_as_credentials(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "core.fernet_key").touch()
    place = units.this_installation(load(environ={"OPSKIT_HOME": str(home)}), credentials=folder)
    text = unit_files.render(replace(place, systemd=252))["opskit-scheduler.service"]
    assert f"LoadCredential=core.fernet_key:{folder}/core.fernet_key\n" in text
    assert "LoadCredential" not in unit_files.render(replace(place, systemd=239))["opskit-scheduler.service"]
    (folder / "fernet").touch()
    with pytest.raises(UsageError, match="has not the name of a setting"):
        units.this_installation(load(environ={"OPSKIT_HOME": str(home)}), credentials=folder)


def test_the_settings_read_a_credential(tmp_path: Path) -> None:
    (tmp_path / "opskit.toml").write_text('[core]\nfernet_key = "from the file"\n')
    (tmp_path / "core.fernet_key").write_text("from systemd\n")
    environment = {"OPSKIT_HOME": str(tmp_path), "CREDENTIALS_DIRECTORY": str(tmp_path)}
    config = load(environ=environment)
    assert (config.get("core", "fernet_key"), config.origins["core.fernet_key"]) == (
        "from systemd",
        "credential core.fernet_key",
    )
    assert load(environ={**environment, "OPSKIT__CORE__FERNET_KEY": "given"}).get("core", "fernet_key") == "given"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a command as somebody else")
def test_root_runs_a_command_of_the_settings_as_whose_file_it_is(tmp_path: Path) -> None:
    (tmp_path / "opskit.toml").write_text('[core]\nfernet_key_cmd = "id -u"\n')
    assert load(tmp_path, environ={}).get("core", "fernet_key") == "0"
    os.chown(tmp_path / "opskit.toml", 1, 1)
    assert load(tmp_path, environ={}).get("core", "fernet_key") == "1"


def test_polkit_knows_the_units_of_the_user() -> None:
    rule = units.polkit_rule().read_text()
    found = re.search(r"/\^opskit-\(([a-z|-]+)\)", rule)
    assert found
    assert {f"opskit-{name}.service" for name in found[1].split("|")} == {*DAEMONS[:4], "opskit-permissions.service"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_calls_a_command_that_exists_and_no_shell(name: str) -> None:
    (command,) = directives(name)["ExecStart"]
    words = command.split()
    assert words[0] == "/usr/bin/opskit"
    assert not re.search(r"[;&|`$<>]", command)
    found: click.Command | None = cli
    for word in itertools.takewhile(lambda word: not word.startswith("-"), words[1:]):
        assert isinstance(found, click.Group), command
        found = found.get_command(click.Context(found), word)
    assert found is not None, command
    options = {name for parameter in found.params for name in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in options] == []


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "opskit-alert@.service"])
def test_a_failure_of_any_service_is_told(name: str) -> None:
    assert directives(name)["OnFailure"] == ["opskit-alert@%n.service"]


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_tells_when_it_is_ready_and_that_it_moves(name: str) -> None:
    found = directives(name)
    assert found["Type"] == ["notify"]
    assert float(found["WatchdogSec"][0]) > 0
    assert found["NotifyAccess"] == ["main"]
    assert found["Restart"] == ["always"]
    assert found["RestartPreventExitStatus"] == ["2 10"]


def test_attempts_live_in_a_slice_of_their_own() -> None:
    worker, scheduler = directives("opskit-worker.service"), directives("opskit-scheduler.service")
    assert worker["Slice"] == ["opskit-attempts.slice"]
    assert scheduler["Slice"] != worker["Slice"]
    assert worker["KillMode"] == ["mixed"]
    # Restarting the scheduler must not stop the worker.
    assert not {"Requires", "BindsTo", "Requisite"} & worker.keys()


def test_maintenance_catches_up_after_the_machine_was_off() -> None:
    for path in SOURCES.glob("*.timer"):
        text = path.read_text()
        assert path.with_suffix(".service").exists()
        if "OnCalendar" in text:
            assert "Persistent=true" in text
            assert "RandomizedDelaySec" in text


def test_no_service_is_root() -> None:
    assert {user for name in SERVICES for user in directives(name)["User"]} == {"opskit"}


def test_units_name_this_installation(home: Path, opskit: Callable[..., Any]) -> None:
    text = opskit("units", "print", "opskit-scheduler.service").stdout
    assert f"Environment=OPSKIT_HOME={home}" in text
    assert f"WorkingDirectory={home}" in text
    assert f"ReadWritePaths={home}" in text
    assert "/var/lib/opskit" not in text
    assert "User=" + pwd.getpwuid(home.stat().st_uid).pw_name in text
    assert "# ---" not in text


def test_folders_outside_of_the_home_stay_writable(home: Path) -> None:
    config = load(environ={"OPSKIT_HOME": str(home), "OPSKIT__LOGGING__BASE_LOG_FOLDER": "/var/log/opskit"})
    text = unit_files.render(units.this_installation(config))["opskit-scheduler.service"]
    assert f"ReadWritePaths={home} -/var/log/opskit" in text
    assert "LogsDirectory=opskit\n" in text


def test_a_home_that_a_unit_can_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't stand in a unit"):
        units.this_installation(load(tmp_path / "100% mine", environ={}))


def test_an_unknown_user_is_refused(opskit: Callable[..., Any]) -> None:
    done = opskit("units", "print", "--user", "nobody-of-that-name", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nobody-of-that-name" in done.stderr


def test_the_second_install_writes_nothing_and_drop_ins_stay(tmp_path: Path, opskit: Callable[..., Any]) -> None:
    folder = tmp_path / "etc"
    (folder / "opskit-scheduler.service.d").mkdir(parents=True)
    drop_in = folder / "opskit-scheduler.service.d" / "mine.conf"
    drop_in.write_text("[Service]\nCPUQuota=50%\n")
    arguments = ("units", "install", "--directory", folder, "--output", "json")
    planned = json.loads(opskit(*arguments, "--dry-run").stdout)
    assert {change["action"] for change in planned["changes"]} == {"create"}
    assert [path.name for path in folder.iterdir()] == ["opskit-scheduler.service.d"]
    assert opskit(*arguments, "--check", check=False).returncode == 5
    opskit(*arguments)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = json.loads(opskit(*arguments).stdout)
    assert {change["action"] for change in again["changes"]} == {"keep"}
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert opskit(*arguments, "--check").returncode == 0
    assert "CPUQuota" in drop_in.read_text()


def test_a_unit_that_someone_edited_is_written_again(tmp_path: Path, opskit: Callable[..., Any]) -> None:
    opskit("units", "install", "--directory", tmp_path)
    edited = tmp_path / "opskit.target"
    good = edited.read_text()
    edited.write_text("[Unit]\n")
    report = json.loads(opskit("units", "install", "--directory", tmp_path, "--output", "json").stdout)
    assert [change["name"] for change in report["changes"] if change["action"] == "update"] == ["opskit.target"]
    assert edited.read_text() == good


def test_the_timers_are_there_for_cron_too(home: Path, opskit: Callable[..., Any]) -> None:
    lines = opskit("units", "print", "--cron").stdout.splitlines()
    assert lines[0] == f"OPSKIT_HOME={home}"
    for job in JOBS:
        (line,) = [line for line in lines if line.endswith(" ".join(job.command))]
        assert re.fullmatch(r"#?(\S+ ){4}\S+  \S+opskit .*", line)
        assert line.startswith("#") is job.root
    assert {path.stem for path in SOURCES.glob("*.timer")} == {f"opskit-{job.name}" for job in JOBS}
