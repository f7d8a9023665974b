"""Single functions and classes of `airflow.utils.*` that stand alone there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shlex
import signal
import string
import subprocess
from collections.abc import Iterator
from types import TracebackType
from typing import Any

AIRFLOW_MOVED_TABLE_PREFIX = "_airflow_moved"
IS_WINDOWS = False


def get_random_string(length: int = 8, choices: str = string.ascii_letters + string.digits) -> str:
    """Letters and digits, not meant for secrets."""
    return "".join(random.choices(choices, k=length))


def to_boolean(astring: str | None) -> bool:
    """Whether the text says yes: true, t, yes, y, on, 1."""
    return astring is not None and astring.lower() in ("true", "t", "yes", "y", "on", "1")


def get_hostname() -> str:
    """The full name of this host."""
    import socket

    return socket.getfqdn()


getfqdn = get_hostname


def get_host_ip_address() -> str:
    import socket

    return socket.gethostbyname(socket.getfqdn())


def getuser() -> str:
    """The name of the user of this process. AirflowConfigException when it has none."""
    import getpass

    from opskit.compat.exceptions import AirflowConfigException

    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise AirflowConfigException("the user of this process has no name") from error


def is_tty() -> bool:
    import sys

    return all(stream.isatty() for stream in (sys.stdin, sys.stdout))


def md5(data: bytes = b"") -> Any:
    """A hash for names, not for security."""
    return hashlib.md5(data, usedforsecurity=False)


@contextlib.contextmanager
def patch_environ(new_env_variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables within the block."""
    before = {name: os.environ.get(name) for name in new_env_variables}
    os.environ.update(new_env_variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def execute_in_subprocess(cmd: list[str], cwd: str | None = None, env: dict[str, str] | None = None) -> None:
    """Run a program; what it prints is logged. CalledProcessError for an exit code other than 0."""
    execute_in_subprocess_with_kwargs(cmd, cwd=cwd, env=env)


def execute_in_subprocess_with_kwargs(cmd: list[str], **kwargs: Any) -> None:
    import logging

    log = logging.getLogger("airflow.utils.process_utils")
    log.info("Executing cmd: %s", shlex.join(cmd))
    with subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, **kwargs) as process:
        assert process.stdout is not None
        for line in process.stdout:
            log.info("%s", line.decode(errors="replace").rstrip())
        code = process.wait()
    if code != 0:
        raise subprocess.CalledProcessError(code, cmd)


class timeout:  # noqa: N801 - Airflow's name
    """`with timeout(seconds):` raises AirflowTaskTimeout in the block when it takes longer. For the main thread."""

    def __init__(self, seconds: float = 1, error_message: str = "Timeout") -> None:
        self.seconds = seconds
        self.error_message = f"{error_message}, PID: {os.getpid()}"
        self._before: Any = None

    def handle_timeout(self, *_: Any) -> None:
        from opskit.core.dag.exceptions import AirflowTaskTimeout

        raise AirflowTaskTimeout(self.error_message)

    def __enter__(self) -> timeout:
        self._before = signal.signal(signal.SIGALRM, self.handle_timeout)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


TimeoutPosix = timeout


def check_cycle(dag: Any) -> None:
    """AirflowDagCycleException when the tasks of this DAG depend on each other in a circle."""
    from opskit.compat.exceptions import AirflowDagCycleException
    from opskit.errors import DagInvalid

    try:
        dag.topological_sort()
    except DagInvalid as error:
        raise AirflowDagCycleException(str(error)) from error


test_cycle = check_cycle


def print_stuff() -> None:
    """What the example DAGs of Airflow 1.10 call."""
    print("annotated!")  # noqa: T201 - what a task prints is its log


class Resources:
    """How much of a machine an operator wants; told, and used by nobody here."""

    def __init__(self, cpus: float = 1, ram: int = 512, disk: int = 512, gpus: int = 0) -> None:
        for name, value in (("cpus", cpus), ("ram", ram), ("disk", disk), ("gpus", gpus)):
            if value < 0:
                from opskit.core.dag.exceptions import AirflowException

                raise AirflowException(f"{name} is {value}, it can't be below zero")
        self.cpus, self.ram, self.disk, self.gpus = cpus, ram, disk, gpus

    def to_dict(self) -> dict[str, float]:
        return {"cpus": self.cpus, "ram": self.ram, "disk": self.disk, "gpus": self.gpus}


def add_deprecated_classes(module_imports: dict[str, dict[str, str]], package: str, *_: Any, **__: Any) -> None:
    """Make modules of old names: {old module: {name: path of the new one}} below a package."""
    import sys
    from types import ModuleType

    from opskit.compat.modules_by_name import import_string

    def getter(names: dict[str, str], module: str) -> Any:
        def get(name: str) -> Any:
            path = names.get(name) or (f"{names['*']}.{name}" if "*" in names else "")
            if not path or name.startswith("__"):
                raise AttributeError(f"module {module!r} has no attribute {name!r}")
            return import_string(path)

        return get

    for module_name, names in module_imports.items():
        if module_name == "__init__" or module_name == package:
            full = package
            module = sys.modules[full]
        else:
            full = module_name if module_name.startswith(f"{package}.") else f"{package}.{module_name}"
            module = ModuleType(full)
            sys.modules[full] = module
        module.__getattr__ = getter(names, full)  # type: ignore[method-assign]
