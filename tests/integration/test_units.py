"""The units are valid for the installed systemd, locked down, and installed without touching what others wrote."""

from __future__ import annotations

import json
import pwd
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opskit.cli import COMMANDS
from opskit.config import load
from opskit.errors import UsageError
from opskit.ops import units
from opskit.ops.units import Installation
from tests.services import program

SOURCES = Path(__file__).parents[2] / "systemd"
SERVICES = sorted(path.name for path in SOURCES.glob("*.service"))
# The worker runs user code: it has a laxer sandbox, in a slice of its own.
EXPOSURE_AT_MOST = {"opskit-worker.service": 5.5, "opskit-permissions.service": 2.6}


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
    user = pwd.getpwuid(0).pw_name
    for name, text in units.render(Installation(str(stub), user, user, Path("/srv/cluster"))).items():
        (folder / name).write_text(text)
    return folder


def test_systemd_finds_nothing_wrong_with_any_unit(installed: Path) -> None:
    analyze = program("systemd-analyze")
    for path in sorted(installed.iterdir()):
        done = subprocess.run(
            [analyze, "verify", "--man=no", str(path)],
            env={
                "SYSTEMD_UNIT_PATH": f"{installed}:/lib/systemd/system:/usr/lib/systemd/system",
                "PATH": "/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, ""), path.name


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_locked_down(name: str, installed: Path) -> None:
    done = subprocess.run(
        [program("systemd-analyze"), "security", "--offline=true", "--no-pager", str(installed / name)],
        capture_output=True,
        text=True,
    )
    if "offline" in done.stderr:
        pytest.skip("this systemd-analyze knows no --offline")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    print(f"{name}: {found[1]}")
    assert float(found[1]) <= EXPOSURE_AT_MOST.get(name, 2.0)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_calls_a_command_that_exists_and_no_shell(name: str) -> None:
    (command,) = directives(name)["ExecStart"]
    words = command.split()
    assert words[0] == "/usr/bin/opskit"
    assert words[1] in COMMANDS
    assert not re.search(r"[;&|`$<>]", command)


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "opskit-alert@.service"])
def test_a_failure_of_any_service_is_told(name: str) -> None:
    assert directives(name)["OnFailure"] == ["opskit-alert@%n.service"]


@pytest.mark.parametrize("name", ["opskit-scheduler.service", "opskit-dag-processor.service", "opskit-worker.service"])
def test_a_daemon_tells_when_it_is_ready_and_that_it_moves(name: str) -> None:
    found = directives(name)
    assert found["Type"] == ["notify"]
    assert float(found["WatchdogSec"][0]) > 0
    assert found["Restart"] == ["always"]


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


def test_systemd_never_chowns_the_home_for_the_service_that_runs_as_root() -> None:
    found = directives("opskit-permissions.service")
    assert found["User"] == ["root"]
    assert "StateDirectory" not in found


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
    text = units.render(Installation.of(config))["opskit-scheduler.service"]
    assert f"ReadWritePaths={home} -/var/log/opskit" in text


def test_a_home_that_a_unit_can_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't stand in a unit"):
        Installation.of(load(tmp_path / "100% mine", environ={}))


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
    timers = [path.stem.removeprefix("opskit-") for path in SOURCES.glob("*.timer")]
    in_cron = [command.split(" --")[0].replace(" fix", "").replace(" ", "-") for _, command in units.CRON]
    assert sorted(in_cron) == sorted(timers)
    assert len(lines) == len(timers) + 1
